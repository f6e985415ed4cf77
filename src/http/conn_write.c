/* conn_write: the steps that send an answer and then let the client go; see conn_step.h. */
#include "http/conn_step.h"

#include <errno.h>

#include "http/stream.h"

#define DRAINED_MAX (32 * 1024 * 1024) /* thrown away while lingering: the largest body that any route takes, twice.  One byte that is left unread
                                        * when the socket is closed makes it a RST, and the client loses an answer that it had already got. */
#define READS_A_STEP 4

void conn_drop_answer(struct http_conn *c) {
    if (c->secret) {
        buf_wipe(&c->out);
        buf_wipe(&c->body);
    }
    buf_fini(&c->out);
    buf_fini(&c->body);
    c->secret = false;
}

/* Writes a buffer from *at on; true: all of it has gone. */
static bool write_some(struct http_conn *c, const struct buf *b, size_t *at) {
    while (*at < b->n) {
        size_t part = b->n - *at, n = 0;
        enum transport_result r = transport_write(&c->transport, b->p + *at, part > CONN_READ_MAX ? CONN_READ_MAX : part, &n);
        if (r != TRANSPORT_DONE) {
            if (!conn_transport_wait(c, r) && !c->dead) /* close_notify: the client reads no more */
                conn_close(c);
            return false;
        }
        *at += n;
        c->sent += n;
    }
    c->want_write = false;
    return true;
}

static void start_linger(struct http_conn *c) {
    transport_end(&c->transport);
    shutdown(c->fd, SHUT_WR);
    conn_enter(c, CONN_LINGER);
    c->drained = 0;
}

enum progress conn_step_write(struct http_conn *c) {
    if (!write_some(c, &c->out, &c->out_at) || !write_some(c, &c->body, &c->body_at))
        return WAIT;
    if (c->x && c->x->answer == STREAM_OPEN) {
        buf_clear(&c->out);
        buf_clear(&c->body);
        c->out_at = c->body_at = 0;
        c->starved = true;
        conn_no_deadline(c);
        return stream_written(c->x) && !c->dead ? GO_ON : WAIT;
    }
    bool close_now = c->asked_close || c->server->draining; /* a drain may have begun since the head of the answer was made */
    struct http_exchange *x = TAKE(c->x);
    conn_drop_answer(c);
    if (x)
        exchange_detach(x, false);
    if (close_now) {
        buf_wipe(&c->in);
        start_linger(c);
        return GO_ON;
    }
    if (c->in.n) { /* pipelined */
        conn_enter(c, CONN_HEAD);
        return GO_ON;
    }
    buf_wipe(&c->in);
    conn_enter(c, CONN_IDLE);
    return transport_pending(&c->transport) ? GO_ON : WAIT;
}

enum progress conn_step_linger(struct http_conn *c) {
    for (int i = 0;; i++) {
        if (i == READS_A_STEP)
            return GO_ON;
        ssize_t n = recv(c->fd, c->server->scratch, sizeof c->server->scratch, 0);
        if (n > 0) {
            c->drained += (size_t)n;
            if (c->drained < DRAINED_MAX)
                continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return WAIT;
        conn_close(c);
        return WAIT;
    }
}

void conn_stream(struct http_conn *c, struct buf *head, bool close_after) {
    c->out = *head;
    *head = (struct buf){0};
    c->body = BUF_INIT(2 * STREAM_HIGH + CONN_READ_MAX);
    c->out_at = c->body_at = 0;
    c->asked_close = close_after;
    conn_enter(c, CONN_WRITE);
}

void conn_stream_more(struct http_conn *c) {
    if (c->starved)
        conn_enter(c, CONN_WRITE);
    if (c->out.n && !c->out_at && !c->body_at && c->out.n + c->body.n <= CONN_READ_MAX) { /* the head and what follows leave in one record */
        buf_add(&c->out, buf_span(&c->body));
        buf_clear(&c->body);
    }
    conn_run(c);
}

void conn_send(struct http_conn *c, struct buf *head, struct buf *body, bool secret, bool close_after) {
    c->out = *head;
    *head = (struct buf){0};
    c->body = *body;
    *body = (struct buf){0};
    c->out_at = c->body_at = 0;
    c->secret = secret;
    c->asked_close = close_after;
    /* A small answer leaves in one record. */
    if (c->body.n && c->out.n + c->body.n <= CONN_READ_MAX) {
        c->out.max = CONN_READ_MAX;
        buf_add(&c->out, buf_span(&c->body));
        if (buf_ok(&c->out))
            buf_wipe(&c->body);
        else
            c->out.failed = false; /* the head is whole; the body follows by itself */
    }
    conn_enter(c, CONN_WRITE);
    conn_run(c);
}
