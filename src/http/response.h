/* response: the strict reader of an answer's head (RFC 9112), from a server behind the gateway.
 *
 * A pure function over bytes.  What has two meanings is refused: an answer that two readers end at different places is how the next
 * client's answer is stolen.  Called by client.c, the fuzz target and the unit tests. */
#ifndef MUSTER_HTTP_RESPONSE_H
#define MUSTER_HTTP_RESPONSE_H

#include "http/head.h"

enum response_body {
    RESPONSE_NONE,        /* 204, 304, 1xx, an answer to HEAD */
    RESPONSE_LENGTH,
    RESPONSE_CHUNKED,
    RESPONSE_UNTIL_CLOSE,
};

struct http_response {
    int status;                /* 100 to 599 */
    enum response_body body;
    int64_t length;            /* Content-Length, also where there is no body; -1: absent */
    bool close;                /* the connection ends with this answer */
    struct http_field *fields; /* the caller's array, of at least limits->fields */
    size_t n_fields;
};

/* Reads a complete head (exactly the bytes up to head_scan.end); spans point into it.  to_head: it answers a HEAD request.
 * MUSTER_EUPSTREAM: it is not well-formed. */
int response_read(struct span bytes, const struct head_limits *limits, bool to_head, struct http_response *out, struct err *err) MUSTER_MUST_CHECK;

#endif
