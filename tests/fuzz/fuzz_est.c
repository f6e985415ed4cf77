/* Requests as EST brings them: the body in base64, or, where the input begins as DER does, what was in it; behind a T, what is to be signed,
 * which gets a good signature, because nothing is read behind a bad one.  What the strict reader accepts the library accepts, and reads the
 * same in it.  Errors of the contract only; what
 * is accepted names one clean device ID, and has a key that is acceptable and reads back; line breaks change nothing, and neither does the
 * armour of PEM, which is never accepted. */
#include "base/hex.h"
#include "fuzz.h"
#include "gateway/est_request.c"
#include "pki/csr.h"
#include "pki/csr_fast.h"
#include "pki/device_uri.h"

static int read_it(struct span body, struct csr_claim *out) {
    struct err err = ERR_INIT;
    *out = CSR_CLAIM_INIT;
    int rc = est_request_read(body, out, &err);
    MUST(rc == 0 ? !err.code : rc == MUSTER_ECSR && err.code == rc && err.text[0] && span_is_utf8(span_str(err.text)) && !span_has_control(span_str(err.text)));
    return rc;
}

static void check(const struct csr_claim *c) {
    CLEANUP(buf_fini) struct buf uri = BUF_INIT(1024);
    CLEANUP(buf_fini) struct buf id = BUF_INIT(1024);
    struct key_facts facts;
    struct span name = buf_span(&c->device_id);
    MUST(name.n >= 1 && name.n <= 128 && span_is_utf8(name) && !span_has_control(name));
    MUST(!c->other_cn.n || !span_eq(buf_span(&c->other_cn), name));
    MUST(key_acceptable(&c->key, NULL) == 0 && key_facts_from_public_der(buf_span(&c->public_der), &facts, NULL) == 0);
    MUST(facts.kind == c->key.kind && facts.bits == c->key.bits && hash_eq(&facts.spki, &c->key.spki));
    device_uri_add(&uri, name);
    MUST(device_uri_read(buf_span(&uri), &id) == 0 && span_eq(buf_span(&id), name));
}

static void same(int rc, const struct csr_claim *a, struct span body) {
    CLEANUP(csr_claim_fini) struct csr_claim b;
    MUST(read_it(body, &b) == rc);
    MUST(rc || (span_eq(buf_span(&a->device_id), buf_span(&b.device_id)) && span_eq(buf_span(&a->other_cn), buf_span(&b.other_cn)) && hash_eq(&a->key.spki, &b.key.spki)));
}

static void fuzz_body(struct span body) {
    CLEANUP(csr_claim_fini) struct csr_claim c;
    CLEANUP(buf_fini) struct buf spread = BUF_INIT(2 * body.n + 1);
    int rc = read_it(body, &c);
    if (rc == 0)
        check(&c);
    for (size_t i = 0; i < body.n; i++) {
        buf_addc(&spread, body.p[i]);
        buf_addc(&spread, (uint8_t) "\n \t\r"[i % 4]);
    }
    if (rc == 0)
        same(rc, &c, buf_span(&spread));
    MUST(rc || !memmem(body.p, body.n, "-----", 5));
}

static void hold_against_the_library(struct span der) {
    CLEANUP(csr_free) struct csr *c = NULL;
    CLEANUP(buf_fini) struct buf id = BUF_INIT(1024);
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    CLEANUP(csr_claim_fini) struct csr_claim claim = CSR_CLAIM_INIT;
    struct csr_fast fast;
    if (!csr_fast_read(der, &fast))
        return;
    MUST(span_inside(fast.public_der, der) && span_inside(fast.common_name, der));
    MUST(csr_from_der(der, &c, NULL) == 0 && csr_device_id(c, &id, NULL) == 0 && csr_public_der(c, &spki, NULL) == 0);
    MUST(span_eq(buf_span(&id), fast.common_name) && span_eq(buf_span(&spki), fast.public_der));
    MUST(c->key.kind == fast.key.kind && c->key.bits == fast.key.bits && hash_eq(&c->key.spki, &fast.key.spki));
    MUST(X509_REQ_get_attr_count(c->r) == 0 && csr_claim_read(der, &claim, NULL) == 0 && span_eq(buf_span(&claim.device_id), fast.common_name));
}

/* For a key that the server makes: the names of what is good are the same ones, and it has no key. */
static void names_alone(struct span der, int rc, const struct csr_claim *whole) {
    CLEANUP(csr_claim_fini) struct csr_claim c = CSR_CLAIM_INIT;
    CLEANUP(buf_fini) struct buf body = BUF_INIT(1 << 17);
    struct err err = ERR_INIT;
    base64_add_lines(&body, der);
    int names = est_request_read_names(buf_span(&body), &c, &err);
    MUST(names == 0 ? !err.code : names == MUSTER_ECSR && err.code == names && err.text[0] && !span_has_control(span_str(err.text)));
    MUST(names || (c.device_id.n >= 1 && c.device_id.n <= 128 && !c.public_der.n));
    MUST(rc || (names ? strstr(err.text, "encrypted") != NULL : span_eq(buf_span(&c.device_id), buf_span(&whole->device_id)) && span_eq(buf_span(&c.other_cn), buf_span(&whole->other_cn))));
}

static void fuzz_der(struct span der) {
    hold_against_the_library(der);
    CLEANUP(csr_claim_fini) struct csr_claim c = CSR_CLAIM_INIT;
    CLEANUP(buf_fini) struct buf text = BUF_INIT(2 * der.n + 16);
    struct err err = ERR_INIT;
    int rc = csr_claim_read(der, &c, &err);
    MUST(rc == 0 ? !err.code : rc == MUSTER_ECSR && rc == err.code);
    names_alone(der, rc, &c);
    base64_add(&text, der);
    same(rc, &c, buf_span(&text));
    buf_clear(&text);
    base64_add_lines(&text, der);
    same(rc, &c, buf_span(&text));
}

/* What is to be signed, with the key that the seeds have. */
static void fuzz_signed(struct span content) {
    static const uint8_t seed[32] = {1};
    static EVP_PKEY *key;
    CLEANUP(buf_fini) struct buf signature = BUF_INIT(256);
    uint8_t tbs[8192], whole[8448];
    struct der_writer w = der_writer_of(tbs, sizeof tbs), all = der_writer_of(whole, sizeof whole);
    der_element(&w, DER_SEQUENCE, content);
    if (w.failed)
        return;
    if (!key)
        key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
    MUST(key && key_sign(key, der_written(&w), &signature, NULL) == 0);
    der_bits(&all, buf_span(&signature));
    der_put(&all, DER_BYTES(0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70));
    der_put(&all, der_written(&w));
    der_wrap(&all, DER_SEQUENCE, sizeof whole);
    fuzz_der(der_written(&all));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n && data[0] == DER_SEQUENCE)
        fuzz_der(span_of(data, n));
    else if (n && data[0] == 'T')
        fuzz_signed(span_of(data + 1, n - 1));
    else
        fuzz_body(span_of(data, n));
    return 0;
}
