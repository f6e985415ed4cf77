/* router: a table of routes, matched by method and path segments. */
#ifndef MUSTER_HTTP_ROUTER_H
#define MUSTER_HTTP_ROUTER_H

#include "base/cleanup.h"
#include "base/err.h"
#include "base/span.h"

struct http_exchange;

struct http_route {
    const char *method;   /* "GET"; GET answers HEAD too, and there are no rows for HEAD */
    const char *path;     /* "/api/v1/accounts/{account}/keys"; a last segment {*rest} takes what is left, at least one byte */
    size_t body_max;      /* bytes; 0: the route takes no body */
    const char *media;    /* required media type of a body, NULL: any */
    void (*handler)(struct http_exchange *x, void *arg); /* arg: http_server_options.arg */
    bool stream;          /* the handler runs before the body is read, and takes it by http/stream.h; body_max and media do not count */
    bool sole;            /* other methods of this path get the 405; otherwise they fall to http_server_options.fallback, where there is one */
    const void *data;     /* the layer's own row about this route (its authorisation, documentation) */
};

struct http_router;
/* The table is kept by reference.  Refused (MUSTER_EINVALID): rows that are not of the form above, and two rows that can match
 * the same request.  Literal segments are compared byte for byte with what was sent: "%61" does not match "a". */
struct http_router *http_router_new(const struct http_route *rows, size_t n, struct err *err);
void http_router_free(struct http_router *r); /* NULL accepted */

DEFINE_CLEANUP(http_router_free, struct http_router *)

#endif
