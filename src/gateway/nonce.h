/* nonce: what a client of GET /time made for its question alone.  A pure function over what was sent. */
#ifndef MUSTER_GATEWAY_NONCE_H
#define MUSTER_GATEWAY_NONCE_H

#include <stdint.h>

#include "base/err.h"
#include "base/span.h"

#define NONCE_MIN 16 /* bytes */
#define NONCE_MAX 64

/* Of hexadecimal digits of either case, two a byte; MUSTER_EINVALID. */
int nonce_read(struct span text, uint8_t out[NONCE_MAX], size_t *n, struct err *err) MUSTER_MUST_CHECK;

#endif
