/* ocsp: the plain listener's answers to OCSP requests (RFC 6960, RFC 5019; crl.h is the other half of that listener).
 *
 *   POST      /ocsp/ACCOUNT            application/ocsp-request
 *   GET, HEAD /ocsp/ACCOUNT/REQUEST    in base64, percent-encoded; its answer may be kept by caches
 *
 * What is said comes from the registry (registry/ocsp.h), signed by the vault.  Anybody may ask, so everything is bounded: an answer that was
 * signed before is given again as long as the registry says the same and half of its life is not over, without a signature, and where nothing
 * at all has changed without the registry; signatures have a rate (limit_ocsp), and a bounded number is at the vault at a time, so that
 * issuing waits for milliseconds.  Beyond, the answer is tryLater.  With a nonce nothing is given again. */
#ifndef MUSTER_GATEWAY_OCSP_H
#define MUSTER_GATEWAY_OCSP_H

#include "gateway/internal.h"

#define OCSP_KEPT_MAX 16384 /* answers that are kept: a kilobyte each */

void ocsp_get(struct http_exchange *x, void *arg);
void ocsp_post(struct http_exchange *x, void *arg);

/* Takes one more signature, where the rate of so many a second allows it: at most a second's worth at once.  *due: when all that was taken would be
 * over at the even rate; shared between threads.  now: microseconds, monotonic. */
bool ocsp_rate_take(_Atomic int64_t *due, int64_t a_second, int64_t now);

#endif
