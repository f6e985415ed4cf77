/* hardware: this device's keys in a PKCS#11 token or a TPM 2.0 (keyring/keyring.h): made for an identity on its way, and removed once no identity needs them.
 *
 *   DIR/keys                  the URIs of the keys that were made here, or were about to be, and were not removed yet; one a line, durable before the key is made
 *   DIR/identity-N/pkey.uri   the URI of the identity's key; there is no pkey.pem then
 *   DIR/identity-N/pkey.pub   its public half, so that nobody has to ask the token for it
 *
 * A power cut at any instant leaves a key that is in use, or one that stands in DIR/keys and is removed at the next pass.  Keys that somebody else made, those of a
 * factory, do not stand there and are never removed. */
#ifndef MUSTER_AGENT_HARDWARE_H
#define MUSTER_AGENT_HARDWARE_H

#include "agent/session.h"

/* The place where this device's next key is made: what the options say, or where the key that it has lies; "" for pkey.pem. */
void hardware_place(const struct session *s, char out[KEYRING_URI_MAX]);
/* A new key in that place, for the identity on its way. */
int hardware_make(struct session *s, const char *place, unsigned number, struct err *err) MUSTER_MUST_CHECK;
/* Names a key that is there in an identity. */
int hardware_put(const struct session *s, unsigned number, const char *uri, const EVP_PKEY *public, struct err *err) MUSTER_MUST_CHECK;
/* Removes the keys that no identity needs; what cannot be removed now is left for the next pass, and said. */
int hardware_settle(struct session *s, struct err *err) MUSTER_MUST_CHECK;
/* Where the key in use cannot be opened by its name, and can by the module and PIN that `key` names for that token: they are written down for it. */
int hardware_follow(struct session *s, struct err *err) MUSTER_MUST_CHECK;
/* How many of them there are. */
size_t hardware_left(const struct place *p);

#endif
