/* key_elsewhere: an EVP_PKEY whose private half is somewhere else, in a token or a TPM: it signs whatever libcrypto signs (TLS, requests, certificates), and what it
 * asks for that is one digest at a time.  Elliptic curves P-256 and P-384. */
#ifndef MUSTER_PKI_KEY_ELSEWHERE_H
#define MUSTER_PKI_KEY_ELSEWHERE_H

#include "pki/key.h"

#define KEY_ELSEWHERE_WIDTH_MAX 48

struct key_elsewhere_ops {
    /* digest: as long as the curve's order (`width` bytes), whatever was hashed by: truncated or filled up as ECDSA has it (FIPS 186-4, 6.4).  rs: r and s, 2 * width
     * bytes.  0, or a MUSTER_E… code with its reason.  May be called by several threads at once, where the key is used by several. */
    int (*sign)(void *arg, struct span digest, uint8_t *rs, size_t width, struct err *err);
    void (*bad)(void *arg); /* a signature was not one of the key; may be NULL */
    void (*free)(void *arg);
};

/* public: the public half, which is copied.  The new key owns arg, in the case of an error too.  Each signature is held against the public half before anybody gets
 * it: MUSTER_EKEYGONE where it is another key's. */
int key_elsewhere_new(const EVP_PKEY *public, const struct key_elsewhere_ops *ops, void *arg, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
bool key_is_elsewhere(const EVP_PKEY *key);
/* Why the last signature of such a key came to nothing, which libcrypto does not pass on: *err and its code; 0 (and *err as it was) where it did not fail, or the key
 * is no such one.  Forgets it. */
int key_elsewhere_fault(const EVP_PKEY *key, struct err *err);

#endif
