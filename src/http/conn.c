/* conn: the state machine of one connection; see conn.h.  It knows TLS, deadlines and framing, and nothing of what requests mean.
 *
 * conn_run() is the only place that moves a connection on, by the steps of conn_read.c and conn_write.c.  Whatever ends it early calls
 * conn_close(), after which only the memory is left; every loop here asks `dead` after anything that could have called out. */
#include "http/conn_step.h"

#include "metrics/metrics.h"

#define STEPS_A_TURN 8 /* then the loop's other connections have their turn, however fast this client pipelines */

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

static void drop_buffers(struct http_conn *c) {
    buf_wipe(&c->in); /* may hold a token */
    conn_drop_answer(c);
}

void conn_close(struct http_conn *c) {
    if (c->dead)
        return;
    c->dead = true;
    if (!c->handshaken && c->transport.tls)
        metrics_count(METRIC_HANDSHAKES_FAILED, metrics_code(c->fault ? c->fault : MUSTER_ETLSENDED), 0);
    server_conn_gone(c);
    event_del(&c->ev_read);
    event_del(&c->ev_write);
    event_del(&c->ev_timer);
    event_del(&c->ev_again);
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

void conn_end(struct http_conn *c) {
    if (c->dead)
        return;
    transport_end(&c->transport);
    conn_close(c);
}

/* --- the transport --------------------------------------------------------------------------------------------------------------------- */

void conn_tell_fault(struct http_conn *c, enum tls_end how) {
    const struct peer_ops *ops = c->server->o.peer_ops;
    struct transport *t = &c->transport;
    struct err why = ERR_INIT;
    if (!t->tls || transport_start(t) || !tls_fault(t->ssl, how, t->fault, !c->handshaken, &why))
        return;
    c->fault = why.code;
    if (ops && ops->tls_failed)
        ops->tls_failed(c, t->ssl, &why, c->peer, c->server->o.arg);
}

bool conn_transport_wait(struct http_conn *c, enum transport_result result) {
    switch (result) {
    case TRANSPORT_WANT_READ:
    case TRANSPORT_WANT_WRITE:
        c->want_write = result == TRANSPORT_WANT_WRITE;
        return true;
    case TRANSPORT_END:
        if (!c->handshaken)
            conn_tell_fault(c, TLS_END_CLOSED);
        c->eof = true;
        return false;
    case TRANSPORT_BROKEN:
        conn_tell_fault(c, c->transport.fault ? TLS_END_ERROR : TLS_END_CLOSED);
        break;
    case TRANSPORT_DONE:
        break;
    }
    conn_close(c);
    return false;
}

/* --- moving on ----------------------------------------------------------------------------------------------------------------------------- */

void conn_set_events(struct http_conn *c) {
    bool read_on = !conn_waits(c) && !c->want_write; /* not both: input that TLS does not take would spin */
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

void conn_run(struct http_conn *c) {
    if (c->running || c->dead)
        return;
    c->running = true;
    c->refs++;
    enum progress p = GO_ON;
    for (int step = 0; p == GO_ON && !c->dead && step < STEPS_A_TURN; step++) {
        switch (c->state) {
        case CONN_HANDSHAKE:
            p = conn_step_handshake(c);
            break;
        case CONN_HEAD:
        case CONN_IDLE:
            p = conn_step_head(c);
            break;
        case CONN_WAIT:
            p = WAIT;
            break;
        case CONN_BODY:
            p = conn_step_body(c);
            break;
        case CONN_WRITE:
            p = conn_step_write(c);
            break;
        case CONN_LINGER:
            p = conn_step_linger(c);
            break;
        }
    }
    c->running = false;
    if (!c->dead) {
        conn_set_events(c);
        if (p == GO_ON) /* what it goes on with is in memory: no socket would wake it.  Not event_active(), which libevent runs before it
                         * looks at any other socket: a client that pipelines faster than it is answered would have the loop to itself */
            event_add(&c->ev_again, &(struct timeval){0});
    }
    conn_unref(c);
}

static void on_event(evutil_socket_t fd, short what, void *arg) { conn_run(arg); }

/* --- a new one --------------------------------------------------------------------------------------------------------------------------- */

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

bool conn_turned_away(const struct http_conn *c) {
    const struct http_server_options *o = &c->server->o;
    return o->turns_away && o->turns_away(&c->address.sa, o->arg);
}

void conn_spoke(struct http_conn *c) {
    if (c->silent)
        TAILQ_REMOVE(&c->server->silent, c, idle);
    c->silent = false;
}

struct http_conn *conn_new(struct http_server *s, int fd, const struct sockaddr *address) {
    struct http_conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->server = s;
    conn_set_address(c, address);
    bool balancer = s->o.is_balancer && s->o.is_balancer(&c->address.sa, s->o.arg);
    if (!balancer && conn_turned_away(c)) {
        free(c);
        return NULL;
    }
    transport_init(&c->transport, s->o.tls, fd);
    struct event_base *base = loop_base(s->o.loop);
    c->refs = 1;
    c->fd = fd;
    c->in = BUF_INIT(s->o.limits.head_bytes + 2 * CONN_READ_MAX);
    c->since = clock_mono_ms();
    c->silent = true;
    c->awaits_header = balancer;
    event_assign(&c->ev_read, base, fd, EV_READ | EV_PERSIST, on_event, c);
    event_assign(&c->ev_write, base, fd, EV_WRITE | EV_PERSIST, on_event, c);
    event_assign(&c->ev_timer, base, -1, 0, conn_on_timer, c);
    event_assign(&c->ev_again, base, -1, 0, on_event, c);
    s->refs++;
    if (++s->n > s->most)
        s->most = s->n;
    metrics_add(METRIC_OPEN, 0, 0, 1);
    TAILQ_INSERT_TAIL(&s->all, c, all);
    TAILQ_INSERT_TAIL(&s->silent, c, idle);
    conn_enter(c, CONN_HANDSHAKE);
    conn_set_events(c);
    return c;
}

const struct sockaddr *http_conn_address(const struct http_conn *c) { return &c->address.sa; }
void http_conn_forget(struct http_conn *c) {
    c->sessionless = true;
    transport_forget(&c->transport);
}
SSL *http_conn_ssl(struct http_conn *c) { return c->transport.ssl; }
void *http_conn_peer(struct http_conn *c) { return c->peer; }
struct loop *http_conn_loop(struct http_conn *c) { return c->server->o.loop; }
void *http_conn_arg(struct http_conn *c) { return c->server->o.arg; }
struct http_exchange *http_conn_exchange(struct http_conn *c) { return c->x; }
