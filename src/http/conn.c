/* conn: the state machine of one connection; see conn.h.  It knows TLS, deadlines and framing, and nothing of what requests mean.
 *
 * conn_run() is the only place that moves a connection on.  Whatever ends it early calls conn_close(), after which only the memory is
 * left; every loop here asks `dead` after anything that could have called out. */
#include "http/conn.h"

#include "http/stream.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>

#include "base/log.h"
#include "http/tls_fault.h"
#include "metrics/metrics.h"

#define DRAINED_MAX (1024 * 1024) /* thrown away while lingering */
#define WATCH_MS 250
#define DRAIN_GRACE_MS 1000 /* for a first request of a client that came just before the drain */
#define READS_A_STEP 4            /* of a body */
#define STEPS_A_TURN 64           /* then the loop's other connections have their turn, however fast this client pipelines */

/* --- deadlines ------------------------------------------------------------------------------------------------------------------- */

static void arm(struct http_conn *c, int64_t now) {
    int64_t left = c->deadline > now ? c->deadline - now : 0;
    struct timeval tv = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
    event_add(&c->ev_timer, &tv);
    c->armed = c->deadline;
}

/* The timer is moved only where it would fire too late; one that fires early looks again. */
static void set_deadline(struct http_conn *c, int ms) {
    int64_t now = clock_mono_ms();
    c->deadline = now + ms;
    if (!c->armed || c->armed > c->deadline)
        arm(c, now);
}

/* The next step is somebody else's.  A client that goes meanwhile is noticed where the exchange wants to know: nothing is read, and no event
 * tells of it without telling of what he sends as well. */
static void no_deadline(struct http_conn *c) {
    c->deadline = INT64_MAX;
    if (c->x && c->x->stream)
        set_deadline(c, WATCH_MS);
}

static void leave_idle(struct http_conn *c) {
    if (c->state == CONN_IDLE)
        TAILQ_REMOVE(&c->server->idle, c, idle);
}

static void enter(struct http_conn *c, enum conn_state state) {
    const struct http_limits *l = &c->server->o.limits;
    leave_idle(c);
    c->state = state;
    c->want_write = false; /* what the last state waited for is over; left standing it would keep the loop spinning */
    c->began = clock_mono_ms();
    switch (state) {
    case CONN_HANDSHAKE:
        set_deadline(c, l->handshake_ms);
        return;
    case CONN_HEAD:
        set_deadline(c, c->server->draining ? DRAIN_GRACE_MS : l->head_ms);
        return;
    case CONN_BODY:
        c->drained = 0;
        set_deadline(c, l->body_ms);
        return;
    case CONN_WRITE:
        c->sent = 0;
        c->starved = false;
        set_deadline(c, l->write_ms);
        return;
    case CONN_IDLE:
        TAILQ_INSERT_TAIL(&c->server->idle, c, idle);
        set_deadline(c, l->idle_ms);
        return;
    case CONN_LINGER:
        set_deadline(c, l->linger_ms);
        return;
    case CONN_WAIT:
        no_deadline(c);
        return;
    }
}

/* Whether the next step is not the client's: nothing of him is read then. */
static bool waits(const struct http_conn *c) {
    return c->state == CONN_WAIT || (c->state == CONN_BODY && c->paused) || (c->state == CONN_WRITE && c->starved);
}

static void set_events(struct http_conn *c) {
    bool read_on = !waits(c) && !c->want_write; /* not both: input that TLS does not take would spin */
    bool write_on = c->want_write;
    if (read_on != c->read_on) {
        read_on ? event_add(&c->ev_read, NULL) : event_del(&c->ev_read);
        c->read_on = read_on;
    }
    if (write_on != c->write_on) {
        write_on ? event_add(&c->ev_write, NULL) : event_del(&c->ev_write);
        c->write_on = write_on;
    }
}

/* --- life --------------------------------------------------------------------------------------------------------------------------- */

void conn_unref(struct http_conn *c) {
    if (--c->refs)
        return;
    const struct peer_ops *ops = c->server->o.peer_ops;
    if (c->peer && ops && ops->gone)
        ops->gone(c->peer, c->server->o.arg);
    server_unref(c->server);
    free(c);
}

static void drop_answer(struct http_conn *c) {
    if (c->secret) {
        buf_wipe(&c->out);
        buf_wipe(&c->body);
    }
    buf_fini(&c->out);
    buf_fini(&c->body);
    c->secret = false;
}

static void drop_buffers(struct http_conn *c) {
    buf_wipe(&c->in); /* may hold a token */
    drop_answer(c);
}

void conn_close(struct http_conn *c) {
    if (c->dead)
        return;
    c->dead = true;
    if (!c->handshaken && c->transport.ssl)
        metrics_count(METRIC_HANDSHAKES_FAILED, metrics_code(c->fault ? c->fault : MUSTER_ETLSENDED), 0);
    server_conn_gone(c);
    event_del(&c->ev_read);
    event_del(&c->ev_write);
    event_del(&c->ev_timer);
    transport_close(&c->transport, c->handshaken);
    close(c->fd);
    c->fd = -1;
    drop_buffers(c);
    struct http_exchange *x = TAKE(c->x);
    if (x) {
        bool owed = c->state == CONN_BODY && !x->stream;
        stream_gone(x);
        exchange_detach(x, owed);
    }
    conn_unref(c);
}

void http_conn_abort(struct http_conn *c) {
    const struct linger at_once = {.l_onoff = 1};
    if (c->dead)
        return;
    (void)!setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once); /* what the kernel still holds is not sent either */
    transport_forget(&c->transport);
    conn_close(c);
}

/* --- the transport --------------------------------------------------------------------------------------------------------------------- */

/* Tells the layer above why TLS is at its end, where that is worth telling. */
static void tell_fault(struct http_conn *c, enum tls_end how) {
    const struct peer_ops *ops = c->server->o.peer_ops;
    const struct transport *t = &c->transport;
    struct err why = ERR_INIT;
    if (!t->ssl || !tls_fault(t->ssl, how, t->fault, !c->handshaken, &why))
        return;
    c->fault = why.code;
    if (ops && ops->tls_failed)
        ops->tls_failed(c, t->ssl, &why, c->peer, c->server->o.arg);
}

/* What a call that is not done means: true: wait; false: the connection was closed, or eof is set. */
static bool transport_wait(struct http_conn *c, enum transport_result result) {
    switch (result) {
    case TRANSPORT_WANT_READ:
    case TRANSPORT_WANT_WRITE:
        c->want_write = result == TRANSPORT_WANT_WRITE;
        return true;
    case TRANSPORT_END:
        if (!c->handshaken)
            tell_fault(c, TLS_END_CLOSED);
        c->eof = true;
        return false;
    case TRANSPORT_BROKEN:
        tell_fault(c, c->transport.fault ? TLS_END_ERROR : TLS_END_CLOSED);
        break;
    case TRANSPORT_DONE:
        break;
    }
    conn_close(c);
    return false;
}

enum progress { GO_ON, WAIT };

static enum progress run_handshake(struct http_conn *c) {
    conn_read_balancer(c);
    if (c->dead || c->awaits_header)
        return WAIT;
    enum transport_result r = transport_handshake(&c->transport);
    if (r != TRANSPORT_DONE) {
        if (!transport_wait(c, r) && !c->dead)
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
    enter(c, CONN_HEAD);
    return GO_ON;
}

/* Reads once, into the server's scratch. 0: nothing there. */
static size_t read_once(struct http_conn *c) {
    size_t n = 0;
    enum transport_result r = transport_read(&c->transport, c->server->scratch, sizeof c->server->scratch, &n);
    if (r == TRANSPORT_DONE)
        return n;
    transport_wait(c, r);
    return 0;
}

/* --- requests ---------------------------------------------------------------------------------------------------------------------------- */

static void refuse(struct http_conn *c, const struct err *err) {
    if (!exchange_refuse(c, err))
        conn_close(c);
}

static enum progress take_head(struct http_conn *c) {
    const struct http_limits *l = &c->server->o.limits;
    const struct head_limits limits = {.bytes = l->head_bytes, .target = l->target_bytes, .fields = l->fields, .names_in_path = l->names_in_path};
    struct err err = ERR_INIT;
    if (head_scan(&c->scan, buf_span(&c->in), &limits, &err)) {
        refuse(c, &err);
        return c->dead ? WAIT : GO_ON;
    }
    if (!c->scan.end)
        return WAIT;
    size_t end = c->scan.end;
    c->scan = (struct head_scan){0};
    enter(c, CONN_WAIT);
    if (!exchange_begin(c, &c->in, end))
        conn_close(c);
    return c->dead ? WAIT : GO_ON;
}

static enum progress run_head(struct http_conn *c) {
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
            enter(c, CONN_HEAD);
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
        enter(c, CONN_WAIT);
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
    enter(c, CONN_WAIT);
    if (rc) {
        x->close = true;
        http_reply_err(x, &err);
    } else {
        exchange_handle(x);
    }
}

static enum progress run_body(struct http_conn *c) {
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

/* --- answers ---------------------------------------------------------------------------------------------------------------------------------- */

/* Writes a buffer from *at on; true: all of it has gone. */
static bool write_some(struct http_conn *c, const struct buf *b, size_t *at) {
    while (*at < b->n) {
        size_t part = b->n - *at, n = 0;
        enum transport_result r = transport_write(&c->transport, b->p + *at, part > CONN_READ_MAX ? CONN_READ_MAX : part, &n);
        if (r != TRANSPORT_DONE) {
            if (!transport_wait(c, r) && !c->dead) /* close_notify: the client reads no more */
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
    enter(c, CONN_LINGER);
    c->drained = 0;
}

static enum progress run_write(struct http_conn *c) {
    if (!write_some(c, &c->out, &c->out_at) || !write_some(c, &c->body, &c->body_at))
        return WAIT;
    if (c->x && c->x->answer == STREAM_OPEN) {
        buf_clear(&c->out);
        buf_clear(&c->body);
        c->out_at = c->body_at = 0;
        c->starved = true;
        no_deadline(c);
        return stream_written(c->x) && !c->dead ? GO_ON : WAIT;
    }
    bool close_now = c->asked_close || c->server->draining; /* a drain may have begun since the head of the answer was made */
    struct http_exchange *x = TAKE(c->x);
    drop_answer(c);
    if (x)
        exchange_detach(x, false);
    if (close_now) {
        buf_wipe(&c->in);
        start_linger(c);
        return GO_ON;
    }
    if (c->in.n) { /* pipelined */
        enter(c, CONN_HEAD);
        return GO_ON;
    }
    buf_wipe(&c->in);
    enter(c, CONN_IDLE);
    return transport_pending(&c->transport) ? GO_ON : WAIT;
}

static enum progress run_linger(struct http_conn *c) {
    for (;;) {
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

void conn_run(struct http_conn *c) {
    if (c->running || c->dead)
        return;
    c->running = true;
    c->refs++;
    enum progress p = GO_ON;
    for (int step = 0; p == GO_ON && !c->dead && step < STEPS_A_TURN; step++) {
        switch (c->state) {
        case CONN_HANDSHAKE:
            p = run_handshake(c);
            break;
        case CONN_HEAD:
        case CONN_IDLE:
            p = run_head(c);
            break;
        case CONN_WAIT:
            p = WAIT;
            break;
        case CONN_BODY:
            p = run_body(c);
            break;
        case CONN_WRITE:
            p = run_write(c);
            break;
        case CONN_LINGER:
            p = run_linger(c);
            break;
        }
    }
    c->running = false;
    if (!c->dead) {
        set_events(c);
        if (p == GO_ON) /* what it goes on with is in memory: no socket would wake it */
            event_active(&c->ev_read, EV_READ, 0);
    }
    conn_unref(c);
}

void conn_wait(struct http_conn *c) { enter(c, CONN_WAIT); }

void conn_read_body(struct http_conn *c, bool invite) {
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    size_t n;
    enter(c, CONN_BODY); /* first: a connection that ends in this state takes the exchange with it */
    c->paused = false;
    /* 25 bytes into a socket from which everything earlier has gone: what does not fit here fits nowhere. */
    if (invite && transport_write(&c->transport, go_on, sizeof go_on - 1, &n) != TRANSPORT_DONE) {
        conn_close(c);
        return;
    }
    conn_run(c);
}

void conn_hurry(struct http_conn *c) { set_deadline(c, DRAIN_GRACE_MS); }

void conn_pause(struct http_conn *c, bool pause) {
    if (c->dead || c->state != CONN_BODY || c->paused == pause)
        return;
    c->paused = pause;
    if (pause) {
        no_deadline(c); /* the time is not the client's */
        if (!c->running)
            set_events(c);
    } else {
        enter(c, CONN_BODY);
        conn_run(c);
    }
}

void conn_watch(struct http_conn *c) {
    if (!c->dead && waits(c))
        no_deadline(c);
}

static bool has_gone(const struct http_conn *c) {
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && p.revents;
}

void conn_stream(struct http_conn *c, struct buf *head, bool close_after) {
    c->out = *head;
    *head = (struct buf){0};
    c->body = BUF_INIT(2 * STREAM_HIGH + CONN_READ_MAX);
    c->out_at = c->body_at = 0;
    c->asked_close = close_after;
    enter(c, CONN_WRITE);
}

void conn_stream_more(struct http_conn *c) {
    if (c->starved)
        enter(c, CONN_WRITE);
    if (c->out.n && !c->out_at && !c->body_at && c->out.n + c->body.n <= CONN_READ_MAX) { /* the head and what follows leave in one record */
        buf_add(&c->out, buf_span(&c->body));
        buf_clear(&c->body);
    }
    conn_run(c);
}

void conn_end(struct http_conn *c) {
    if (c->dead)
        return;
    transport_end(&c->transport);
    conn_close(c);
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
    enter(c, CONN_WRITE);
    conn_run(c);
}

/* --- events -------------------------------------------------------------------------------------------------------------------------------------- */

static void on_event(evutil_socket_t fd, short what, void *arg) { conn_run(arg); }

/* Whether the client keeps the least rate: then the phase goes on, second by second.  Bytes that it was ahead count for as long as an idle
 * connection lives: who has sent a gigabyte may not stand still for days. */
static bool fast_enough(const struct http_conn *c, size_t *bytes, int64_t now) {
    const struct http_limits *l = &c->server->o.limits;
    int64_t owed = l->body_rate * (now - c->began) / 1000, most = owed + l->body_rate * (int64_t)l->idle_ms / 1000;
    if ((int64_t)*bytes > most)
        *bytes = (size_t)most;
    return (int64_t)*bytes >= owed;
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    struct http_conn *c = arg;
    int64_t now = clock_mono_ms();
    struct err err = ERR_INIT;
    c->armed = 0;
    if (c->deadline == INT64_MAX)
        return;
    if (now < c->deadline) {
        arm(c, now);
        return;
    }
    if (waits(c) && c->x && c->x->stream && !has_gone(c)) {
        set_deadline(c, WATCH_MS);
        return;
    }
    c->refs++;
    switch (c->state) {
    case CONN_HEAD:
        if (c->in.n == 0) {
            conn_end(c);
            break;
        }
        err_set(&err, MUSTER_EHTTPTIMEOUT, "The header did not arrive in time.");
        refuse(c, &err);
        conn_run(c);
        break;
    case CONN_BODY:
        if (c->paused) {
            conn_close(c);
            break;
        }
        if (fast_enough(c, &c->drained, now)) {
            set_deadline(c, 1000);
            break;
        }
        err_set(&err, MUSTER_EHTTPTIMEOUT, "The body did not arrive in time.");
        enter(c, CONN_WAIT);
        c->x->close = true;
        if (c->x->stream)
            stream_body(c->x, SPAN_NONE, &err);
        else
            http_reply_err(c->x, &err);
        break;
    case CONN_WRITE:
        if (!c->starved && fast_enough(c, &c->sent, now))
            set_deadline(c, 1000);
        else
            conn_close(c);
        break;
    case CONN_IDLE:
        conn_end(c);
        break;
    case CONN_HANDSHAKE:
        if (c->awaits_header) {
            err_set(&err, MUSTER_EHTTPTIMEOUT, "The PROXY header did not arrive in time.");
            conn_refuse_balancer(c, &err);
            break;
        }
        tell_fault(c, TLS_END_TIMEOUT);
        conn_close(c);
        break;
    case CONN_LINGER:
    case CONN_WAIT:
        conn_close(c);
        break;
    }
    conn_unref(c);
}

void conn_set_address(struct http_conn *c, const struct sockaddr *a) {
    if (a->sa_family == AF_INET) {
        memcpy(&c->address.in4, a, sizeof c->address.in4);
        return;
    }
    if (a->sa_family != AF_INET6) { /* a Unix socket's end has none */
        c->address.sa = (struct sockaddr){.sa_family = AF_UNIX};
        return;
    }
    memcpy(&c->address.in6, a, sizeof c->address.in6);
    if (IN6_IS_ADDR_V4MAPPED(&c->address.in6.sin6_addr)) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = c->address.in6.sin6_port};
        memcpy(&v4.sin_addr, c->address.in6.sin6_addr.s6_addr + 12, 4);
        c->address.in4 = v4;
    }
}

struct http_conn *conn_new(struct http_server *s, int fd, const struct sockaddr *address) {
    struct http_conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    if (transport_open(&c->transport, s->o.tls, fd)) {
        free(c);
        return NULL;
    }
    struct event_base *base = loop_base(s->o.loop);
    c->server = s;
    c->refs = 1;
    c->fd = fd;
    c->in = BUF_INIT(s->o.limits.head_bytes + 2 * CONN_READ_MAX);
    conn_set_address(c, address);
    c->awaits_header = s->o.is_balancer && s->o.is_balancer(&c->address.sa, s->o.arg);
    event_assign(&c->ev_read, base, fd, EV_READ | EV_PERSIST, on_event, c);
    event_assign(&c->ev_write, base, fd, EV_WRITE | EV_PERSIST, on_event, c);
    event_assign(&c->ev_timer, base, -1, 0, on_timer, c);
    s->refs++;
    s->n++;
    metrics_add(METRIC_OPEN, 0, 0, 1);
    TAILQ_INSERT_TAIL(&s->all, c, all);
    enter(c, CONN_HANDSHAKE);
    return c;
}

const struct sockaddr *http_conn_address(const struct http_conn *c) { return &c->address.sa; }
SSL *http_conn_ssl(struct http_conn *c) { return c->transport.ssl; }
void *http_conn_peer(struct http_conn *c) { return c->peer; }
struct loop *http_conn_loop(struct http_conn *c) { return c->server->o.loop; }
void *http_conn_arg(struct http_conn *c) { return c->server->o.arg; }
struct http_exchange *http_conn_exchange(struct http_conn *c) { return c->x; }
