/* ocsp: what the reader of requests and the maker of answers of OCSP (RFC 6960) share. */
#ifndef MUSTER_PKI_OCSP_H
#define MUSTER_PKI_OCSP_H

#include "base/err.h"
#include "base/span.h"

#define OCSP_SINGLES_MAX 16  /* certificates that one request may ask about */
#define OCSP_SERIAL_MAX 32   /* bytes of a serial number; a CA's have 20 at most */
#define OCSP_NONCE_MAX 32    /* bytes (RFC 8954, 2.1) */
#define OCSP_HASH_MAX 32

/* By which the issuer of a certificate is named (CertID.hashAlgorithm). */
enum ocsp_hash { OCSP_OTHER = 0, OCSP_SHA1 = 1, OCSP_SHA256 = 2 };
#define OCSP_HASHES 3 /* those and 0 */

/* OCSPResponseStatus (4.2.1) */
enum ocsp_answer { OCSP_SUCCESSFUL = 0, OCSP_MALFORMED = 1, OCSP_INTERNAL = 2, OCSP_LATER = 3, OCSP_UNAUTHORIZED = 6 };

/* CertStatus, by its tag. */
enum ocsp_status { OCSP_GOOD = 0, OCSP_REVOKED = 1, OCSP_UNKNOWN = 2 };

/* One certificate, and what is said of it. */
struct ocsp_single {
    enum ocsp_hash hash; /* never OCSP_OTHER */
    bool null;           /* the parameters of the hash are NULL, and not absent: what is answered names the certificate as it was asked about */
    uint8_t serial[OCSP_SERIAL_MAX], serial_n; /* the INTEGER's content */
    enum ocsp_status status;
    int64_t revoked;     /* when; 0: nobody knows better than the answer's own thisUpdate */
    uint8_t reason;      /* CRLReason; 0: unspecified, which is left out */
};

#endif
