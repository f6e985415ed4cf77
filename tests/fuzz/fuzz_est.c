/* Requests as EST brings them: the body in base64, or, where the input begins as DER does, what was in it.  Errors of the contract only; what
 * is accepted names one clean device ID, and has a key that is acceptable and reads back; line breaks change nothing, and neither does the
 * armour of PEM, which is never accepted. */
#include "base/hex.h"
#include "fuzz.h"
#include "gateway/est_request.c"
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

static void fuzz_der(struct span der) {
    CLEANUP(csr_claim_fini) struct csr_claim c = CSR_CLAIM_INIT;
    CLEANUP(buf_fini) struct buf text = BUF_INIT(2 * der.n + 16);
    struct err err = ERR_INIT;
    int rc = csr_claim_read(der, &c, &err);
    MUST(rc == 0 ? !err.code : rc == MUSTER_ECSR && rc == err.code);
    base64_add(&text, der);
    same(rc, &c, buf_span(&text));
    buf_clear(&text);
    base64_add_lines(&text, der);
    same(rc, &c, buf_span(&text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n && data[0] == DER_SEQUENCE)
        fuzz_der(span_of(data, n));
    else
        fuzz_body(span_of(data, n));
    return 0;
}
