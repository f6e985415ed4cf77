/* stream: bodies and answers piece by piece; see stream.h.  conn.c moves the bytes and asks here what they mean. */
#include "http/stream.h"

#include "http/conn.h"

#define COMPACT (64 * 1024)      /* bytes that have gone before the rest is moved to the front */
#define FIELDS_MAX (48 * 1024)  /* of an answer that comes from elsewhere */

void http_stream_ops_set(struct http_exchange *x, const struct http_stream_ops *ops, void *arg) {
    x->fields.max = FIELDS_MAX;
    x->stream = ops;
    x->stream_arg = arg;
    conn_watch(x->conn);
}

void stream_gone(struct http_exchange *x) {
    const struct http_stream_ops *ops = TAKE(x->stream);
    if (ops)
        ops->gone(x, x->stream_arg);
}

/* --- the request's body ----------------------------------------------------------------------------------------------------------- */

bool http_body_announced(const struct http_exchange *x, bool *chunked, uint64_t *length) {
    *chunked = x->head.chunked;
    *length = x->head.length;
    return x->head.chunked || x->head.length > 0;
}

void http_body_start(struct http_exchange *x) {
    struct http_conn *c = x->conn;
    if (c->dead || x->complete)
        return;
    x->chunked.max = UINT64_MAX;
    x->body = BUF_INIT(c->in.max + CONN_READ_MAX);
    conn_read_body(c, x->head.expect_continue && c->in.n == 0);
}

void http_body_pause(struct http_exchange *x) { conn_pause(x->conn, true); }
void http_body_resume(struct http_exchange *x) { conn_pause(x->conn, false); }

void stream_body(struct http_exchange *x, struct span part, const struct err *err) {
    if (x->stream && x->answer == STREAM_NONE)
        x->stream->body(x, part, x->complete, err, x->stream_arg);
}

/* --- the answer ---------------------------------------------------------------------------------------------------------------------- */

static bool is_there(const struct http_exchange *x) { return !x->conn->dead && x->conn->x == x; }

void http_stream_begin(struct http_exchange *x, int status, int64_t length, bool source_date) {
    struct http_conn *c = x->conn;
    if (x->answered)
        abort(); /* two answers to one request */
    x->answered = true;
    x->answer = STREAM_OPEN;
    x->status = status;
    if (!is_there(x))
        return;
    bool body = reply_has_body(status) && !span_eq_str(x->head.method, "HEAD"), closes = reply_closes(x);
    CLEANUP(buf_fini) struct buf head = BUF_INIT(65536);
    x->chunks = body && length < 0;
    x->counted = body && length >= 0;
    x->left = body ? length : 0;
    if (x->chunks)
        buf_adds(&x->fields, "Transfer-Encoding: chunked\r\n");
    reply_head(x, status, NULL, reply_has_body(status) ? length : -1, closes, !source_date, &head);
    if (x->bad_field || !buf_ok(&x->fields) || !buf_ok(&head)) {
        conn_close(c);
        return;
    }
    conn_stream(c, &head, closes);
}

void http_stream_add(struct http_exchange *x, struct span part) {
    struct http_conn *c = x->conn;
    if (!is_there(x) || part.n == 0 || (!x->chunks && !x->counted))
        return;
    if (x->counted && (int64_t)part.n > x->left) /* more than was announced would be read as the next answer */
        part.n = (size_t)x->left;
    x->left -= x->counted ? (int64_t)part.n : 0;
    x->moved += part.n;
    if (c->body_at >= COMPACT) {
        buf_consume(&c->body, c->body_at);
        c->body_at = 0;
    }
    if (x->chunks)
        buf_addf(&c->body, "%zx\r\n", part.n);
    buf_add(&c->body, part);
    if (x->chunks)
        buf_adds(&c->body, "\r\n");
    if (!buf_ok(&c->body))
        conn_close(c);
}

static size_t waiting(const struct http_exchange *x) { return x->conn->body.n - x->conn->body_at; }

bool http_stream_room(const struct http_exchange *x) {
    if (!is_there(x) || waiting(x) < STREAM_HIGH)
        return true;
    ((struct http_exchange *)x)->full = true;
    return false;
}

void http_stream_flush(struct http_exchange *x) {
    if (is_there(x))
        conn_stream_more(x->conn);
}

bool stream_written(struct http_exchange *x) {
    bool more;
    http_exchange_ref(x); /* drained() may end it */
    if (x->full) {
        x->full = false;
        if (x->stream)
            x->stream->drained(x, x->stream_arg);
    }
    more = is_there(x) && (waiting(x) > 0 || x->answer == STREAM_ENDED);
    http_exchange_unref(x);
    return more;
}

void http_stream_end(struct http_exchange *x) {
    x->stream = NULL;
    exchange_answered(x, x->status, x->moved, NULL);
    if (is_there(x)) {
        if (x->counted && x->left > 0) {
            conn_close(x->conn);
        } else {
            if (x->chunks)
                buf_adds(&x->conn->body, "0\r\n\r\n");
            x->answer = STREAM_ENDED;
            conn_stream_more(x->conn);
        }
    }
    http_exchange_unref(x); /* the one that was owed */
}

void http_exchange_drop(struct http_exchange *x) {
    x->stream = NULL;
    if (!x->answered || x->answer == STREAM_OPEN) {
        x->answered = true;
        exchange_answered(x, x->status, x->moved, NULL);
        x->answer = STREAM_ENDED;
        if (is_there(x))
            conn_close(x->conn);
        http_exchange_unref(x);
    }
}
