/* courier/sign: the signature of a webhook's request, which receivers verify (doc/webhooks.md). */
#ifndef MUSTER_COURIER_SIGN_H
#define MUSTER_COURIER_SIGN_H

#include "base/buf.h"

/* Appends "t=UNIX,v1=HEX", HMAC-SHA256 with the secret's text over "UNIX.body"; with a second secret (NULL or "": none) ",v1=HEX" once more. */
int courier_sign(int64_t at, struct span body, const char *secret, const char *second, struct buf *out) MUSTER_MUST_CHECK;

#endif
