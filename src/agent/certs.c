/* certs: see certs.h. */
#include "agent/certs.h"

#include <openssl/pkcs7.h>

DEFINE_CLEANUP(PKCS7_free, PKCS7 *)

int certs_read(struct span file, struct certs *out, struct err *err) {
    out->n = 0;
    return cert_chain_from_file(file, out->cert, CERTS_MAX, &out->n, err);
}

void certs_fini(struct certs *a) {
    for (size_t i = 0; i < a->n; i++)
        cert_free(a->cert[i]);
    a->n = 0;
}

int certs_read_pkcs7(struct span der, struct certs *out, struct err *err) {
    const unsigned char *p = der.p;
    CLEANUP(PKCS7_free) PKCS7 *p7 = d2i_PKCS7(NULL, &p, (long)der.n);
    out->n = 0;
    STACK_OF(X509) *certs = p7 && p == der.p + der.n && PKCS7_type_is_signed(p7) && p7->d.sign ? p7->d.sign->cert : NULL;
    if (!certs || sk_X509_num(certs) < 1 || sk_X509_num(certs) > CERTS_MAX)
        return pki_err(err, MUSTER_EINVALID, "Reading the certificates of an answer (PKCS#7)");
    for (int i = 0; i < sk_X509_num(certs); i++) {
        int rc = cert_from_x509(sk_X509_value(certs, i), &out->cert[out->n], err);
        if (rc) {
            certs_fini(out);
            return rc;
        }
        out->n++;
    }
    return 0;
}

int certs_pem(const struct certs *a, struct buf *out) {
    for (size_t i = 0; i < a->n; i++) {
        int rc = cert_pem(a->cert[i], out);
        if (rc)
            return rc;
    }
    return buf_ok(out) ? 0 : MUSTER_ENOMEM;
}

bool certs_have(const struct certs *a, const struct cert *c) {
    for (size_t i = 0; i < a->n; i++)
        if (hash_eq(&a->cert[i]->fingerprint, &c->fingerprint))
            return true;
    return false;
}

static const struct cert *issuer_in(const struct certs *a, const struct cert *of) {
    for (size_t i = 0; i < a->n; i++)
        if (a->cert[i]->ca && !a->cert[i]->self_signed && X509_NAME_cmp(X509_get_issuer_name(of->x), X509_get_subject_name(a->cert[i]->x)) == 0 && cert_signed_by(of, a->cert[i]))
            return a->cert[i];
    return NULL;
}

int certs_above(const struct cert *leaf, const struct certs *first, const struct certs *second, struct certs *out, struct err *err) {
    const struct cert *at = leaf;
    while (out->n < CERTS_MAX) {
        const struct cert *next = issuer_in(first, at);
        if (!next)
            next = issuer_in(second, at);
        if (!next || certs_have(out, next))
            return 0;
        int rc = cert_from_x509(next->x, &out->cert[out->n], err);
        if (rc)
            return rc;
        at = out->cert[out->n++];
    }
    return 0;
}

struct cert *certs_shift(struct certs *a) {
    struct cert *first = a->n ? a->cert[0] : NULL;
    if (first)
        memmove(a->cert, a->cert + 1, --a->n * sizeof *a->cert);
    return first;
}
