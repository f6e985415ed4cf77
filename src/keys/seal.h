/* seal: authenticated encryption of what rests on disk (XChaCha20-Poly1305, RFC 8439 with the extended nonce of libsodium).
 *
 * A sealed box is nonce (24 bytes), ciphertext, tag (16 bytes).  `bound` is authenticated and not stored: a box opened under
 * another name, version or vault than it was sealed for does not open.  Nonces are random; 192 bits make that safe. */
#ifndef MUSTER_KEYS_SEAL_H
#define MUSTER_KEYS_SEAL_H

#include "base/buf.h"
#include "base/secret.h"

#define SEAL_KEY_LEN 32
#define SEAL_OVERHEAD 40 /* bytes that a box is longer than its content */

/* key has SEAL_KEY_LEN bytes.  Appends the box to out. */
int seal_close(struct span key, struct span bound, struct span content, struct buf *out) MUSTER_MUST_CHECK;
/* MUSTER_ECORRUPT where the box was not made with this key and bound, or was changed. */
int seal_open(struct span key, struct span bound, struct span box, struct secret *content) MUSTER_MUST_CHECK;

#endif
