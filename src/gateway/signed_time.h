/* signed_time: GET /time?nonce=HEX, for devices that have no clock: {"time", "nonce", "signature", "certificate"} (doc/time.md).
 *
 * Anybody may ask, whatever is wrong with his certificate: who has no clock cannot judge the server's, and the server cannot ask that he
 * has one that has not ended.  What is signed is the vault's (vault.h): the gateway cannot say another time.  Nothing is answered while the clock
 * is known to be behind the log.  A source asks so often as `limit_time` says, and few are asked of the vault at once, so that however many ask
 * for the time, nobody's enrolment waits behind more than those. */
#ifndef MUSTER_GATEWAY_SIGNED_TIME_H
#define MUSTER_GATEWAY_SIGNED_TIME_H

#include "http/router.h"

extern const struct http_route SIGNED_TIME_ROUTE;

#endif
