/* conn_timer: how long each state of a connection may last; see conn_step.h.  One timer a connection, moved as seldom as can be. */
#include "http/conn_step.h"

#include <poll.h>

#define WATCH_MS 250
#define LINGER_ON_MS 500 /* and then it is looked at again */
#define DRAIN_GRACE_MS 1000 /* for a first request of a client that came just before the drain */

static void arm(struct http_conn *c, int64_t now) {
    int64_t left = c->deadline > now ? c->deadline - now : 0;
    struct timeval tv = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
    event_add(&c->ev_timer, &tv);
    c->armed = c->deadline;
}

/* The timer is moved only where it would fire too late; one that fires early looks again. */
void conn_deadline(struct http_conn *c, int ms) {
    int64_t now = clock_mono_ms();
    c->deadline = now + ms;
    if (!c->armed || c->armed > c->deadline)
        arm(c, now);
}

/* The next step is somebody else's.  A client that goes meanwhile is noticed where the exchange wants to know: nothing is read, and no event
 * tells of it without telling of what he sends as well. */
void conn_no_deadline(struct http_conn *c) {
    c->deadline = INT64_MAX;
    if (c->x && c->x->stream)
        conn_deadline(c, WATCH_MS);
}

static void leave_idle(struct http_conn *c) {
    if (c->state == CONN_IDLE)
        TAILQ_REMOVE(&c->server->idle, c, idle);
}

void conn_enter(struct http_conn *c, enum conn_state state) {
    const struct http_limits *l = &c->server->o.limits;
    leave_idle(c);
    c->state = state;
    c->want_write = false; /* what the last state waited for is over; left standing it would keep the loop spinning */
    c->began = clock_mono_ms();
    switch (state) {
    case CONN_HANDSHAKE:
        conn_deadline(c, l->handshake_ms);
        return;
    case CONN_HEAD:
        conn_deadline(c, c->server->draining ? DRAIN_GRACE_MS : l->head_ms);
        return;
    case CONN_BODY:
        c->drained = 0;
        conn_deadline(c, l->body_ms);
        return;
    case CONN_WRITE:
        c->sent = 0;
        c->starved = false;
        conn_deadline(c, l->write_ms);
        return;
    case CONN_IDLE:
        TAILQ_INSERT_TAIL(&c->server->idle, c, idle);
        conn_deadline(c, l->idle_ms);
        return;
    case CONN_LINGER:
        conn_deadline(c, l->linger_ms);
        return;
    case CONN_WAIT:
        conn_no_deadline(c);
        return;
    }
}

bool conn_waits(const struct http_conn *c) {
    return c->state == CONN_WAIT || (c->state == CONN_BODY && c->paused) || (c->state == CONN_WRITE && c->starved);
}

void conn_wait(struct http_conn *c) { conn_enter(c, CONN_WAIT); }

void conn_hurry(struct http_conn *c) { conn_deadline(c, DRAIN_GRACE_MS); }

void conn_watch(struct http_conn *c) {
    if (!c->dead && conn_waits(c))
        conn_no_deadline(c);
}

static bool has_gone(const struct http_conn *c) {
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && p.revents;
}

/* Whether the client keeps the least rate: then the phase goes on, second by second.  Bytes that it was ahead count for as long as an idle
 * connection lives: who has sent a gigabyte may not stand still for days. */
static bool fast_enough(const struct http_conn *c, size_t *bytes, int64_t now) {
    const struct http_limits *l = &c->server->o.limits;
    int64_t owed = l->body_rate * (now - c->began) / 1000, most = owed + l->body_rate * (int64_t)l->idle_ms / 1000;
    if ((int64_t)*bytes > most)
        *bytes = (size_t)most;
    return (int64_t)*bytes >= owed;
}

void conn_on_timer(evutil_socket_t fd, short what, void *arg) {
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
    if (conn_waits(c) && c->x && c->x->stream && !has_gone(c)) {
        conn_deadline(c, WATCH_MS);
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
        conn_refuse(c, &err);
        conn_run(c);
        break;
    case CONN_BODY:
        if (c->paused) {
            conn_close(c);
            break;
        }
        if (fast_enough(c, &c->drained, now)) {
            conn_deadline(c, 1000);
            break;
        }
        err_set(&err, MUSTER_EHTTPTIMEOUT, "The body did not arrive in time.");
        conn_enter(c, CONN_WAIT);
        c->x->close = true;
        if (c->x->stream)
            stream_body(c->x, SPAN_NONE, &err);
        else
            http_reply_err(c->x, &err);
        break;
    case CONN_WRITE:
        if (!c->starved && fast_enough(c, &c->sent, now))
            conn_deadline(c, 1000);
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
        conn_tell_fault(c, TLS_END_TIMEOUT);
        conn_close(c);
        break;
    case CONN_LINGER: /* a body that was refused by its head is on its way all the same, and no client hears before it has sent it */
        if (!c->server->draining && now - c->began < c->server->o.limits.body_ms && fast_enough(c, &c->drained, now))
            conn_deadline(c, LINGER_ON_MS);
        else
            conn_close(c);
        break;
    case CONN_WAIT:
        conn_close(c);
        break;
    }
    conn_unref(c);
}
