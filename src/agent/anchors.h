/* anchors: the CA certificates by which this device knows the gateway, and the one rule by which others join them.
 *
 * What TLS says of a gateway is not enough to take another anchor over: a gateway's certificate may have been stolen, or issued by somebody else,
 * and an anchor outlives it by decades.  A new one counts where an anchor that the device has already has certified its key (NewWithOld, RFC 4210,
 * 4.4, RFC 7030, 4.1.3). */
#ifndef MUSTER_AGENT_ANCHORS_H
#define MUSTER_AGENT_ANCHORS_H

#include "agent/certs.h"

/* Takes over each certificate of `offered` that is a CA's own, good for TLS servers (EKU serverAuth) and valid now, and whose subject and key stand in
 * another one of `offered`, likewise a CA's for TLS servers and valid now, that an anchor of `mine` has signed, which is for servers itself.  Unless it has the
 * name of that anchor, the new one ends no later than what vouches for it; constraints of names and paths are not shed.  Where there is no room those of `mine` give way that
 * ended before `passed`: what has ended by a time that only waits may be what the device needs tomorrow.  *taken: how many. */
int anchors_take(struct certs *mine, const struct certs *offered, int64_t now, int64_t passed, size_t *taken, struct err *err) MUSTER_MUST_CHECK;

/* Whether a CA is good for servers at all: it may sign certificates, and its EKU, where there is one, has serverAuth. */
bool anchor_for_servers(const struct cert *a);

#endif
