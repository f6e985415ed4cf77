/* Uploaded certificates, PEM or DER: what was read is written in both forms and read again as the same certificate. */
#include "fuzz.h"
#include "pki/cert.h"

#define CERTS_MAX 8

static void check_names(const struct cert *c) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(256 * 1024);
    cert_subject_text(c, &text);
    cert_issuer_text(c, &text);
    for (size_t i = 0; i < text.n; i++)
        MUST(text.p[i] >= 0x20 && text.p[i] != 0x7f);
    buf_clear(&text);
    cert_serial_hex(c, &text);
    buf_addc(&text, ' ');
    cert_ski_hex(c, &text);
    MUST(buf_ok(&text));
}

/* As the certificates that Muster made say it: in a URI, where it is too long for the name. */
static void check_own_id(const struct cert *c) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(200);
    struct err err = ERR_INIT;
    int rc = cert_own_device_id(c, &id, &err);
    if (rc == 0)
        MUST(id.n >= 1 && id.n <= 128 && span_is_utf8(buf_span(&id)) && !span_has_control(buf_span(&id)));
    else
        MUST(rc == err.code && (rc == MUSTER_EIDNONE || rc == MUSTER_EIDSEVERAL || rc == MUSTER_EIDUNDECODABLE));
}

static void check_cert(const struct cert *c) {
    struct cert *same = NULL;
    CLEANUP(buf_fini) struct buf der = BUF_INIT(64 * 1024);
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(128 * 1024);
    struct err err = ERR_INIT;
    MUST(c->x && cert_der(c, &der) == 0 && cert_pem(c, &pem) == 0);
    MUST(cert_from_x509_known(c->x, c, &same) == 0 && same->x == c->x && hash_eq(&same->fingerprint, &c->fingerprint) && hash_eq(&same->key.spki, &c->key.spki));
    cert_free(same);
    same = NULL;
    check_names(c);
    check_own_id(c);
    if (der.n > 16 * 1024) /* what was read in another encoding can be longer in DER */
        return;
    MUST(cert_from_der(buf_span(&der), &same, &err) == 0 && hash_eq(&same->fingerprint, &c->fingerprint) && hash_eq(&same->key.spki, &c->key.spki));
    MUST(same->ca == c->ca && same->self_signed == c->self_signed && same->not_before == c->not_before && same->not_after == c->not_after);
    cert_free(same);
    same = NULL;
    MUST(cert_from_file(buf_span(&pem), &same, &err) == 0 && hash_eq(&same->fingerprint, &c->fingerprint));
    cert_free(same);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n);
    struct err err = ERR_INIT;
    struct cert *one = NULL, *certs[CERTS_MAX] = {NULL};
    size_t count = 0;
    int rc = cert_from_file(in, &one, &err);
    MUST(rc == 0 ? one != NULL : rc == err.code && err.text[0] && !one);
    MUST(span_is_utf8(span_str(err.text)));
    err = ERR_INIT;
    int many = cert_chain_from_file(in, certs, CERTS_MAX, &count, &err);
    MUST(many == 0 ? count >= 1 && count <= CERTS_MAX : many == err.code && err.text[0]);
    if (rc == 0)
        MUST(many == 0 && count == 1 && hash_eq(&one->fingerprint, &certs[0]->fingerprint));
    if (many == 0 && count > 1)
        MUST(rc == MUSTER_EINVALID);
    for (size_t i = 0; many == 0 && i < count; i++) {
        check_cert(certs[i]);
        cert_free(certs[i]);
    }
    cert_free(one);
    return 0;
}
