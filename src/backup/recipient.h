/* recipient: X25519 keys to which a backup can be encrypted, as files in PEM (RFC 8410): `openssl genpkey -algorithm X25519` makes one, and
 * `openssl pkey -pubout` its public half, the only one that the server ever sees. */
#ifndef MUSTER_BACKUP_RECIPIENT_H
#define MUSTER_BACKUP_RECIPIENT_H

#include "base/buf.h"
#include "base/secret.h"

#define RECIPIENT_KEY_LEN 32

/* MUSTER_EINVALID: no public key of that kind. */
int recipient_read_public(struct span pem, uint8_t out[RECIPIENT_KEY_LEN], struct err *err) MUSTER_MUST_CHECK;
/* Likewise of the private half, which may not be under a passphrase. */
int recipient_read_private(struct span pem, struct secret *out, struct err *err) MUSTER_MUST_CHECK;

#endif
