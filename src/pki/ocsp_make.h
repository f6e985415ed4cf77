/* ocsp_make: OCSP answers (RFC 6960, 4.2): built out of what is to be said of each certificate, and signed.
 *
 * Only the vault's process signs, with the key of a delegated responder that it made; the issuer's hashes are worked out here from the CA's
 * certificate and never taken from who asks.  What is not signed (malformedRequest and the like) anybody may say. */
#ifndef MUSTER_PKI_OCSP_MAKE_H
#define MUSTER_PKI_OCSP_MAKE_H

#include "pki/key.h"
#include "pki/ocsp.h"

#define OCSP_KEY_HASH_LEN 20

/* How a CertID names an issuer, by each hash. */
struct ocsp_issuer {
    uint8_t name[OCSP_HASHES][OCSP_HASH_MAX], key[OCSP_HASHES][OCSP_HASH_MAX];
};
size_t ocsp_hash_length(enum ocsp_hash hash); /* 0: OCSP_OTHER */
/* By the CA's certificate.  MUSTER_ECERTMALFORMED, _ECRYPTO. */
int ocsp_issuer_of(struct span ca_der, struct ocsp_issuer *out, struct err *err) MUSTER_MUST_CHECK;

/* Who signs: a key of its own, certified by the CA for nothing else. */
struct ocsp_responder {
    EVP_PKEY *key;                       /* P-256 */
    struct span cert;                    /* DER; goes with each answer */
    uint8_t key_hash[OCSP_KEY_HASH_LEN]; /* responderID byKey: SHA-1 */
};
int ocsp_key_hash(struct span spki, uint8_t out[OCSP_KEY_HASH_LEN], struct err *err) MUSTER_MUST_CHECK;

struct ocsp_plan {
    int64_t produced, this_update, next_update;
    struct span nonce; /* at most OCSP_NONCE_MAX bytes; empty: none */
    const struct ocsp_single *at;
    size_t n;          /* 1..OCSP_SINGLES_MAX */
};
/* The whole OCSPResponse.  MUSTER_EINVALID: a plan without sense. */
int ocsp_make(const struct ocsp_issuer *ca, const struct ocsp_responder *by, const struct ocsp_plan *plan, struct buf *der, struct err *err) MUSTER_MUST_CHECK;

#define OCSP_ERROR_LEN 5
/* Any answer but OCSP_SUCCESSFUL. */
void ocsp_error(enum ocsp_answer why, uint8_t out[OCSP_ERROR_LEN]);

#endif
