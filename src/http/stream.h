/* stream: a request's body and its answer piece by piece, for who passes them on (routes with `stream`).
 *
 * The handler of such a route runs once the request is admitted and before any of its body is read.  It takes the body with
 * http_body_start() and answers with http_stream_begin() … http_stream_end(), or with an ordinary reply where nothing was begun.
 * Nothing grows: a body that is paused is not read, and an answer has at most STREAM_HIGH bytes waiting before http_stream_room()
 * says no.  All functions run on the server's loop.
 *
 * An exchange is owed an end in any case: a reply, http_stream_end() or http_exchange_drop(), also after `gone` was called. */
#ifndef MUSTER_HTTP_STREAM_H
#define MUSTER_HTTP_STREAM_H

#include "http/server.h"

#define STREAM_HIGH (128 * 1024) /* bytes of an answer that wait for the client: above, the source has to pause */

struct http_stream_ops {
    /* A piece of the request's body, decoded, the source's memory: copy it before anything else is called.  last: the body is complete with
     * it.  err: the body is at fault or too slow; nothing more comes, and the exchange is still to be answered. */
    void (*body)(struct http_exchange *x, struct span part, bool last, const struct err *err, void *arg);
    /* http_stream_room() said no, and what waited for the client has gone. */
    void (*drained)(struct http_exchange *x, void *arg);
    /* The client has gone, or was cut off, before the answer was complete.  Called once. */
    void (*gone)(struct http_exchange *x, void *arg);
};

/* ops is kept by reference.  Also begins to watch the client, which an exchange that waits does not do otherwise. */
void http_stream_ops_set(struct http_exchange *x, const struct http_stream_ops *ops, void *arg);

/* The request's body. */
bool http_body_announced(const struct http_exchange *x, bool *chunked, uint64_t *length); /* false: the request has none */
void http_body_start(struct http_exchange *x); /* at most once; answers an expected 100 Continue */
void http_body_pause(struct http_exchange *x);
void http_body_resume(struct http_exchange *x); /* may call body() before it returns */

/* The answer.  length: Content-Length; -1: unknown, sent in chunks.  Fields by http_reply_field() before; none of the framing, and no Date
 * where `source_date` is true.  A body that was not read to its end is not read any more.  A method or status that has no body sends none. */
void http_stream_begin(struct http_exchange *x, int status, int64_t length, bool source_date);
void http_stream_add(struct http_exchange *x, struct span part); /* copies */
bool http_stream_room(const struct http_exchange *x);            /* false: pause the source; `drained` follows */
void http_stream_flush(struct http_exchange *x);                 /* sends what was added; once a turn.  May call drained() or gone() */
/* The answer is whole.  One that is shorter than its length cuts the connection, so that the client sees that something is missing. */
void http_stream_end(struct http_exchange *x);
/* Ends the exchange in whatever phase, the connection with it where an answer had begun or was still owed; `gone` is not called. */
void http_exchange_drop(struct http_exchange *x);

#endif
