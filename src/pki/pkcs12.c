/* pkcs12: make_pkcs12 of make.h. */
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
