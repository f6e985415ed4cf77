/* route: what exchange.c asks of a router; router.h is for the layers above. */
#ifndef MUSTER_HTTP_ROUTE_H
#define MUSTER_HTTP_ROUTE_H

#include "base/buf.h"
#include "http/router.h"

#define ROUTE_PARAMS_MAX 8

struct route_param {
    struct span name; /* in the router's table */
    struct span raw;  /* in the path: still percent-encoded */
};

struct route_match {
    const struct http_route *row;
    struct route_param params[ROUTE_PARAMS_MAX];
    size_t n;
    bool sole;
};

/* 0, MUSTER_ENOTFOUND, or MUSTER_EHTTPMETHOD with the methods that the path has in `allow` ("GET, HEAD, POST") and m->sole where a row
 * keeps the path to itself. */
int route_find(const struct http_router *r, struct span method, struct span path, struct route_match *m, struct buf *allow) MUSTER_MUST_CHECK;

#endif
