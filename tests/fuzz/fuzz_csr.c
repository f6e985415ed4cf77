/* Certificate requests as `muster ca sign` gets them: what is accepted has a key that is acceptable and its own signature, says one device ID
 * or none, and reads back as the same. */
#include "fuzz.h"
#include "pki/csr.h"
#include "pki/pki.h"

#include <openssl/pem.h>

static void check_id(const struct csr *c) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(512);
    struct err err = ERR_INIT;
    int rc = csr_device_id(c, &id, &err);
    MUST(rc == 0 || rc == MUSTER_EIDNONE || rc == MUSTER_EIDSEVERAL || rc == MUSTER_EIDUNDECODABLE);
    MUST(rc ? err.code == rc && span_is_utf8(span_str(err.text)) : id.n >= 1 && id.n <= 128 && span_is_utf8(buf_span(&id)) && !span_has_control(buf_span(&id)));
}

static void check_again(const struct csr *c) {
    CLEANUP(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());
    CLEANUP(csr_free) struct csr *same = NULL;
    MUST(bio && PEM_write_bio_X509_REQ(bio, c->r) == 1);
    int rc = csr_from_file(bio_span(bio), &same, NULL);
    MUST(rc == 0 ? hash_eq(&same->key.spki, &c->key.spki) : bio_span(bio).n > 16 * 1024); /* what was read in another encoding can be longer in DER */
}

/* The input as the texts of a request: refused, or made so that it is accepted and has that device ID, where it can be one. */
static void check_made(struct span in) {
    static const uint8_t seed[32] = {1};
    static EVP_PKEY *key;
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    CLEANUP(buf_fini) struct buf id = BUF_INIT(512);
    CLEANUP(csr_free) struct csr *csr = NULL;
    char text[300];
    if (in.n == 0 || in.n >= sizeof text || memchr(in.p, '\0', in.n))
        return;
    if (!key)
        key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
    memcpy(text, in.p, in.n);
    text[in.n] = '\0';
    const char *const names[] = {text, NULL};
    struct csr_request rq = {.subject = {.common_name = in}, .uris = in.p[0] & 1 ? names : NULL, .dns = in.p[0] & 2 ? names : NULL};
    int rc = csr_make(&rq, key, &pem, NULL);
    MUST(rc == 0 || (rc == MUSTER_EINVALID && pem.n == 0));
    if (rc)
        return;
    MUST(csr_from_file(buf_span(&pem), &csr, NULL) == 0);
    rc = csr_device_id(csr, &id, NULL);
    MUST(in.n <= 128 ? rc == 0 && span_eq(buf_span(&id), in) : rc == MUSTER_EIDUNDECODABLE); /* a CA's name may be longer: 64 characters */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    CLEANUP(csr_free) struct csr *c = NULL;
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(32 * 1024);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    struct err err = ERR_INIT;
    check_made(span_of(data, n));
    int rc = csr_from_file(span_of(data, n), &c, &err);
    MUST(rc == 0 ? c != NULL : rc == MUSTER_ECSR && rc == err.code && err.text[0] && !c && span_is_utf8(span_str(err.text)));
    if (rc)
        return 0;
    MUST(key_acceptable(&c->key, NULL) == 0 && X509_REQ_verify(c->r, X509_REQ_get0_pubkey(c->r)) == 1);
    MUST(csr_public_der(c, &spki, NULL) == 0 && key_from_public_der(buf_span(&spki), &key, NULL) == 0);
    check_id(c);
    check_again(c);
    return 0;
}
