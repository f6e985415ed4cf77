/* proxy: what an admitted device asks of a server behind the gateway.
 *
 * Called by the gateway's routes, after admission: the identity is proven and the registry has said yes.  The device's fields are passed on
 * without those that end here (RFC 9110, 7.6.1) and without any that could be taken for an identity; the proven one is added.  Bodies stream
 * both ways.  What a device's cut-off ends, ends here as well: within the second, whatever the server behind is doing. */
#ifndef MUSTER_GATEWAY_PROXY_H
#define MUSTER_GATEWAY_PROXY_H

#include "http/server.h"

struct worker;

/* The handler of all paths that the gateway has no row for: passed on, or 404. */
void proxy_handle(struct http_exchange *x, void *arg);
/* For a path that Muster keeps a copy of, once it is kept: passes the request with its whole body (http_body) on.  False: no route covers
 * it; the caller answers. */
bool proxy_forward(struct http_exchange *x, struct worker *w);

#endif
