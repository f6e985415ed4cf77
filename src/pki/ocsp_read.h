/* ocsp_read: the reader of OCSP requests (RFC 6960, 4.1), which anybody may send.
 *
 * Strict: DER, nothing behind it, and nothing critical that is not known.  A signature is passed over, whatever is in it: nobody is
 * answered differently for one.  Nothing is allocated or copied.  Fuzzed. */
#ifndef MUSTER_PKI_OCSP_READ_H
#define MUSTER_PKI_OCSP_READ_H

#include "pki/ocsp.h"

#define OCSP_REQUEST_MAX 4096 /* bytes */

/* Which certificate: CertID. */
struct ocsp_id {
    enum ocsp_hash hash;      /* OCSP_OTHER: one that is not known here, or not of its length */
    bool null;
    struct span name, key;    /* hashes of the issuer's name and key */
    struct span serial;       /* 1..OCSP_SERIAL_MAX bytes */
};

struct ocsp_request {
    struct ocsp_id at[OCSP_SINGLES_MAX];
    size_t n;                 /* 1..OCSP_SINGLES_MAX */
    struct span nonce;        /* 1..OCSP_NONCE_MAX bytes; empty: there is none */
};

/* MUSTER_EINVALID: malformedRequest. */
int ocsp_request_read(struct span der, struct ocsp_request *out, struct err *err) MUSTER_MUST_CHECK;

#endif
