/* router: a table of routes, matched by method and path segments. */
#ifndef MUSTER_HTTP_ROUTER_H
#define MUSTER_HTTP_ROUTER_H

#include "base/err.h"
#include "base/span.h"

struct http_exchange;

struct http_route {
    const char *method;   /* "GET"; GET answers HEAD too */
    const char *path;     /* "/api/v1/accounts/{account}/keys"; a last segment {*rest} takes what is left */
    size_t body_max;      /* bytes; 0: the route takes no body */
    const char *media;    /* required media type of a body, NULL: any */
    void (*handler)(struct http_exchange *x, void *arg); /* arg: http_server_options.arg */
    const void *data;     /* the layer's own row about this route (its authorisation, documentation) */
};

struct http_router;
/* The table is kept by reference.  Two rows that can match the same request are refused. */
struct http_router *http_router_new(const struct http_route *rows, size_t n, struct err *err);
void http_router_free(struct http_router *r);

#endif
