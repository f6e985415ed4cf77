/* crl_sign: a certificate revocation list (RFC 5280, 5) of a CA with any key, whole and at once: of a fleet CA on a build machine, whose lists
 * are made by one process and for nobody who waits.  The vault's are crl_make.h's. */
#ifndef MUSTER_PKI_CRL_SIGN_H
#define MUSTER_PKI_CRL_SIGN_H

#include "pki/crl_make.h"

#define CRL_SIGN_MAX (256u << 20) /* bytes */

struct crl_sign {
    const struct cert *ca;
    EVP_PKEY *key; /* the CA's */
    uint64_t number;
    int64_t this_update, next_update;
    const struct crl_entry *entries;
    size_t n;
};
/* Appends it, in DER or PEM. */
int crl_sign(const struct crl_sign *rq, bool pem, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

#endif
