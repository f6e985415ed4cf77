/* pkcs12: make_pkcs12 and make_pkcs12_read of make.h. */
#include <openssl/err.h>
#include <openssl/pkcs12.h>

#include "pki/make.h"
#include "pki/pki.h"

#define ITERATIONS 1 /* the password is empty: iterations would protect nothing, and 2048 of them cost five times an enrolment */

DEFINE_CLEANUP(PKCS12_free, PKCS12 *)
static inline void stack_free(STACK_OF(X509) *s) { sk_X509_free(s); }
DEFINE_CLEANUP(stack_free, STACK_OF(X509) *)

int make_pkcs12(EVP_PKEY *key, const struct cert *leaf, struct cert *const *cas, size_t n_cas, struct buf *out, struct err *err) {
    CLEANUP(stack_free) STACK_OF(X509) *more = sk_X509_new_null();
    if (!more)
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (size_t i = 0; i < n_cas; i++)
        if (sk_X509_push(more, cas[i]->x) <= 0)
            return err_set(err, MUSTER_ENOMEM, NULL);
    CLEANUP(PKCS12_free) PKCS12 *p12 =
        PKCS12_create("", NULL, key, leaf->x, more, NID_aes_256_cbc, NID_aes_256_cbc, ITERATIONS, -1, 0);
    /* The MAC of its own accord: older clients insist on one, and the library's default digest differs between versions. */
    if (!p12 || PKCS12_set_mac(p12, "", -1, NULL, 0, ITERATIONS, EVP_sha256()) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Making a PKCS#12");
    unsigned char *der = NULL;
    int n = i2d_PKCS12(p12, &der);
    if (n <= 0)
        return pki_err(err, MUSTER_ECRYPTO, "Encoding a PKCS#12");
    buf_add(out, span_of(der, (size_t)n));
    OPENSSL_clear_free(der, (size_t)n);
    return buf_check(out, err);
}

static inline void stack_free_all(STACK_OF(X509) *s) { sk_X509_pop_free(s, X509_free); }
DEFINE_CLEANUP(stack_free_all, STACK_OF(X509) *)

int make_pkcs12_read(struct span der, EVP_PKEY **key, struct cert **leaf, size_t *n_cas, struct err *err) {
    const unsigned char *p = der.p;
    CLEANUP(PKCS12_free) PKCS12 *p12 = d2i_PKCS12(NULL, &p, (long)der.n);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *private_key = NULL;
    CLEANUP(X509_free) X509 *x = NULL;
    CLEANUP(stack_free_all) STACK_OF(X509) *more = NULL;
    if (!p12 || p != der.p + der.n || PKCS12_parse(p12, "", &private_key, &x, &more) != 1)
        return pki_err(err, MUSTER_EINVALID, "Reading a PKCS#12 with the empty password");
    if (!private_key || !x)
        return err_set(err, MUSTER_EINVALID, "The PKCS#12 has no private key, or no certificate of it.");
    int rc = cert_from_x509(x, leaf, err);
    if (rc)
        return rc;
    *n_cas = more ? (size_t)sk_X509_num(more) : 0;
    *key = TAKE(private_key);
    return 0;
}
