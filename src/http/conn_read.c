/* conn_read: the steps that take bytes of a client: the handshake, heads and bodies; see conn_step.h. */
#include "http/conn_step.h"

#include "http/stream.h"
#include "metrics/metrics.h"

#define READS_A_STEP 4 /* of a body */

enum progress conn_step_handshake(struct http_conn *c) {
    conn_read_balancer(c);
    if (c->dead || c->awaits_header)
        return WAIT;
    enum transport_result r = transport_handshake(&c->transport);
    if (r != TRANSPORT_DONE) {
        if (!conn_transport_wait(c, r) && !c->dead)
            conn_close(c);
        return WAIT;
    }
    c->handshaken = true;
    if (c->transport.ssl)
        metrics_count(METRIC_HANDSHAKES, SSL_session_reused(c->transport.ssl) ? HANDSHAKE_RESUMED : HANDSHAKE_FULL, 0);
    const struct peer_ops *ops = c->server->o.peer_ops;
    if (ops && ops->identify)
        ops->identify(c, c->transport.ssl, &c->peer, c->server->o.arg);
    if (c->dead)
        return WAIT;
    c->identified = true;
    if (!c->sessionless)
        transport_offer(&c->transport);
    conn_enter(c, CONN_HEAD);
    return GO_ON;
}

/* Reads once, into the server's scratch. 0: nothing there. */
static size_t read_once(struct http_conn *c) {
    size_t n = 0;
    enum transport_result r = transport_read(&c->transport, c->server->scratch, sizeof c->server->scratch, &n);
    if (r == TRANSPORT_DONE)
        return n;
    conn_transport_wait(c, r);
    return 0;
}

void conn_refuse(struct http_conn *c, const struct err *err) {
    conn_spoke(c);
    if (!exchange_refuse(c, err))
        conn_close(c);
}

static enum progress take_head(struct http_conn *c) {
    const struct http_limits *l = &c->server->o.limits;
    const struct head_limits limits = {.bytes = l->head_bytes, .target = l->target_bytes, .fields = l->fields, .names_in_path = l->names_in_path, .old_version = l->old_version};
    struct err err = ERR_INIT;
    if (head_scan(&c->scan, buf_span(&c->in), &limits, &err)) {
        conn_refuse(c, &err);
        return c->dead ? WAIT : GO_ON;
    }
    if (!c->scan.end)
        return WAIT;
    size_t end = c->scan.end;
    c->scan = (struct head_scan){0};
    conn_spoke(c);
    conn_enter(c, CONN_WAIT);
    if (!exchange_begin(c, &c->in, end))
        conn_close(c);
    return c->dead ? WAIT : GO_ON;
}

enum progress conn_step_head(struct http_conn *c) {
    if (c->in.n && take_head(c) == GO_ON)
        return GO_ON;
    while (!c->dead) {
        size_t n = read_once(c);
        if (c->dead)
            return WAIT;
        if (!n && c->eof) {
            conn_end(c);
            return c->dead ? WAIT : GO_ON;
        }
        if (!n)
            return WAIT;
        if (c->state == CONN_IDLE)
            conn_enter(c, CONN_HEAD);
        buf_add(&c->in, span_of(c->server->scratch, n));
        secret_wipe(c->server->scratch, n);
        if (!buf_ok(&c->in)) {
            conn_close(c);
            return WAIT;
        }
        if (take_head(c) == GO_ON)
            return GO_ON;
    }
    return WAIT;
}

/* What follows the part that was used is kept; false: the connection is closed, for to lose bytes here would be to take the middle of a
 * request for its beginning. */
static bool keep_rest(struct http_conn *c, struct span in, size_t used) {
    if (in.p == c->in.p)
        buf_consume(&c->in, used);
    else if (used < in.n)
        buf_add(&c->in, span_sub(in, used, in.n));
    if (!buf_ok(&c->in))
        conn_close(c);
    return !c->dead;
}

/* The body's decoded bytes are in x->body. */
static void feed_stream(struct http_conn *c, struct span in, size_t used, const struct err *err) {
    struct http_exchange *x = c->x;
    c->drained += used;
    if (!keep_rest(c, in, used))
        return;
    if (err || x->complete)
        conn_enter(c, CONN_WAIT);
    if (err)
        x->close = true;
    http_exchange_ref(x);
    stream_body(x, buf_span(&x->body), err);
    buf_clear(&x->body);
    http_exchange_unref(x);
}

/* `in` lies in c->in or in the server's scratch, which any callback may overwrite: what follows the body, the next request, is put
 * by before the handler runs. */
static void feed(struct http_conn *c, struct span in) {
    struct err err = ERR_INIT;
    struct http_exchange *x = c->x;
    size_t used = 0;
    int rc = exchange_feed(x, in, &used, &err);
    if (x->stream) {
        feed_stream(c, in, used, rc ? &err : NULL);
        return;
    }
    c->drained += used;
    if (!keep_rest(c, in, used) || (!rc && !x->complete))
        return;
    conn_enter(c, CONN_WAIT);
    if (rc) {
        x->close = true;
        http_reply_err(x, &err);
    } else {
        exchange_handle(x);
    }
}

enum progress conn_step_body(struct http_conn *c) {
    if (c->in.n && !c->paused)
        feed(c, buf_span(&c->in));
    for (int i = 0; !c->dead && c->state == CONN_BODY && !c->paused; i++) {
        if (i == READS_A_STEP)
            return GO_ON;
        size_t n = read_once(c);
        if (!n && c->eof && !c->dead)
            conn_close(c); /* half a request is none */
        if (!n)
            return WAIT;
        feed(c, span_of(c->server->scratch, n));
        secret_wipe(c->server->scratch, n); /* the server outlives this: conn_run holds the connection */
    }
    return c->dead || c->paused ? WAIT : GO_ON;
}

void conn_read_body(struct http_conn *c, bool invite) {
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    size_t n;
    conn_enter(c, CONN_BODY); /* first: a connection that ends in this state takes the exchange with it */
    c->paused = false;
    /* 25 bytes into a socket from which everything earlier has gone: what does not fit here fits nowhere. */
    if (invite && transport_write(&c->transport, go_on, sizeof go_on - 1, &n) != TRANSPORT_DONE) {
        conn_close(c);
        return;
    }
    conn_run(c);
}

void conn_pause(struct http_conn *c, bool pause) {
    if (c->dead || c->state != CONN_BODY || c->paused == pause)
        return;
    c->paused = pause;
    if (pause) {
        conn_no_deadline(c); /* the time is not the client's */
        if (!c->running)
            conn_set_events(c);
    } else {
        conn_enter(c, CONN_BODY);
        conn_run(c);
    }
}
