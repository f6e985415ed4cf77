/* key_digest: public keys as a user names them. */
#ifndef MUSTER_MUSTER_KEY_DIGEST_H
#define MUSTER_MUSTER_KEY_DIGEST_H

#include "pki/key.h"

/* The SHA-256 of a SubjectPublicKeyInfo: 64 hex digits of either case, with or without colons; or a file ("-": standard input) with a certificate, a request
 * or a public key, in PEM or DER, the first that there is in it, whose key it is of.  MUSTER_EINVALID, or why the file cannot be read. */
int key_digest_named(const char *text, struct hash *out, struct err *err) MUSTER_MUST_CHECK;

#endif
