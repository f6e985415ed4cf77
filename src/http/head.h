/* head: the strict reader of a request's head (RFC 9112, the accepted subset and nothing else).
 *
 * A pure function over bytes: no socket, no allocation, no state but the caller's.  conn_read.c feeds it what a client sent; the
 * fuzz target and the unit tests feed it anything.  Whatever it does not know for certain it refuses, because two readers of
 * one request that disagree are how requests are smuggled; it must never repair or guess. */
#ifndef MUSTER_HTTP_HEAD_H
#define MUSTER_HTTP_HEAD_H

#include "base/err.h"
#include "base/span.h"

#define HEAD_FIELDS_MAX 128    /* hard maximum of head_limits.fields */
#define HEAD_TARGET_MAX 8192   /* hard maximum of head_limits.target, bytes */
#define HEAD_METHOD_MAX 32     /* bytes */

struct http_field {
    struct span name, value; /* value without the blanks around it */
};

struct head_limits {
    size_t bytes;  /* request line and fields, with the empty line */
    size_t target; /* bytes of the request target */
    size_t fields;
    bool names_in_path; /* uri_check_path_of_names() */
    bool old_version;   /* HTTP/1.0 is taken as well, by one request a connection; it may lack a Host and has no coding (RFC 9112, 6.1) */
};

/* Looks for the end of a head in bytes that arrive piece by piece.  Start with zeros. */
struct head_scan {
    size_t at;    /* bytes looked at */
    size_t line;  /* where the line under way begins */
    size_t lines; /* complete lines */
    size_t end;   /* bytes of the whole head once it is complete, else 0 */
};

/* `bytes` is all that came so far, from the first byte of the head; each byte is looked at once.  0 with st->end == 0: more is
 * needed; of what is refused it stays 0.  Refuses as early as it can: bare CR or LF, control bytes, an empty line in front, more than
 * the limits allow. */
int head_scan(struct head_scan *st, struct span bytes, const struct head_limits *limits, struct err *err) MUSTER_MUST_CHECK;

struct http_head {
    struct span method;
    struct span target, path, query; /* as sent; path begins with '/', query without '?' */
    struct span host;                /* Host without its port, brackets kept; empty: HTTP/1.0 without one */
    bool has_length, chunked;        /* never both */
    uint64_t length;                 /* Content-Length */
    bool expect_continue;
    bool old;                        /* HTTP/1.0 */
    bool close;                      /* Connection: close, or HTTP/1.0 */
    struct http_field *fields;       /* the caller's array, of at least head_limits.fields */
    size_t n_fields;
};

/* Reads a complete head (exactly the bytes up to head_scan.end).  All spans point into it.  MUSTER_EHTTP…: the answer, after
 * which the connection has to be closed; `out` is then undefined. */
int head_read(struct span bytes, const struct head_limits *limits, struct http_head *out, struct err *err) MUSTER_MUST_CHECK;

/* The lines between a start line and the empty line that ends a head, that one included; `fields` has room for limits->fields. */
int head_read_fields(struct span lines, const struct head_limits *limits, struct http_field *fields, size_t *n, struct err *err) MUSTER_MUST_CHECK;
/* The line up to CR LF; *rest is what follows.  SPAN_NONE with a NULL pointer: there is none. */
struct span head_line(struct span *rest);
/* A decimal number without sign, of at most 18 digits. */
bool head_read_length(struct span v, uint64_t *length);
/* The next member of a list with commas, trimmed; false: there is no more.  Empty ones are given as they are. */
bool head_list_next(struct span *list, struct span *member);

/* Character classes, for whoever else checks HTTP text. */
bool head_is_token(struct span s); /* RFC 9110, 5.6.2; not empty */
/* Whether a server that makes variables of field names, as CGI and its like do, could take the one for the other: letters of either case are
 * alike, and so is all that is neither letter nor digit. */
bool head_names_alike(struct span a, struct span b);

#endif
