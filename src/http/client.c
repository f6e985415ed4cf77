/* client: see client.h.  A wire is one connection; a call borrows one.  Callbacks are deferred by libevent, so that none runs inside a call
 * of the layer above; whatever ends a call early leaves a wire without one, which nobody hears of any more. */
#include <netinet/tcp.h>
#include <openssl/err.h>

#include "http/client_part.h"

#define READ_HIGH (64 * 1024) /* more than a head */
#define PIECE_MAX (16 * 1024)
#define HEAD_BYTES (32 * 1024)
#define HEAD_FIELDS HEAD_FIELDS_MAX

static const struct head_limits LIMITS = {.bytes = HEAD_BYTES, .target = HEAD_TARGET_MAX, .fields = HEAD_FIELDS};

/* --- the end of a call ------------------------------------------------------------------------------------------------------------------ */

static void call_unref(struct http_call *call) {
    if (--call->refs)
        return;
    if (call->request)
        evbuffer_free(call->request);
    buf_fini(&call->piece);
    free(call);
}

static void call_end(struct http_call *call) {
    call->over = true;
    call_unref(call);
}

void http_call_cancel(struct http_call *call) {
    if (!call)
        return;
    if (call->wire)
        client_wire_free(call->wire);
    call_end(call);
}

static void fail(struct http_call *call, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void fail(struct http_call *call, int code, const char *fmt, ...) {
    const struct http_call_ops *ops = call->ops;
    void *arg = call->arg;
    struct err err = ERR_INIT;
    va_list ap;
    va_start(ap, fmt);
    err_vset(&err, code, fmt, ap);
    va_end(ap);
    http_call_cancel(call);
    ops->failed(&err, arg);
}

static void finish(struct http_call *call) {
    const struct http_call_ops *ops = call->ops;
    void *arg = call->arg;
    struct wire *w = call->wire;
    if (!call->head.close && call->sent && !call->ended && !call->deaf && evbuffer_get_length(bufferevent_get_input(w->bev)) == 0 &&
        evbuffer_get_length(bufferevent_get_output(w->bev)) == 0)
        client_wire_return(w);
    else
        client_wire_free(w);
    call_end(call);
    ops->end(arg);
}

/* --- deadlines ---------------------------------------------------------------------------------------------------------------------------- */

static void set_deadline(struct http_call *call) {
    const struct http_origin *to = call->to;
    if (!call->wire)
        return;
    if (call->paused && call->state == CALL_BODY)
        loop_timer_clear(call->wire->timer); /* the time is not the server's */
    else
        loop_timer_set(call->wire->timer, call->state == CALL_CONNECT ? to->connect_ms : call->state == CALL_HEAD && call->sent ? to->response_ms : to->idle_ms);
}

/* Whether some of the request has left since this was asked last. */
static bool has_moved(struct http_call *call) {
    size_t n = evbuffer_get_length(bufferevent_get_output(call->wire->bev)), before = call->waiting;
    call->waiting = n;
    return n != before && call->state == CALL_HEAD;
}

static void on_time(void *arg) {
    struct wire *w = arg;
    struct http_call *call = w->call;
    if (!call)
        client_wire_free(w);
    else if (call->state == CALL_CONNECT)
        fail(call, MUSTER_EUPSTREAMTIME, "No connection to the server behind was made within %d seconds.", call->to->connect_ms / 1000);
    else if (has_moved(call) || (call->state == CALL_HEAD && !call->sent && !call->full))
        loop_timer_set(w->timer, call->to->idle_ms); /* the client is the slow one; his own deadline ends it */
    else
        fail(call, MUSTER_EUPSTREAMTIME, "The server behind did not %s in time.", call->state == CALL_BODY ? "go on with its answer" : call->sent ? "answer" : "take the request");
}

/* --- reading the answer --------------------------------------------------------------------------------------------------------------------- */

enum step { AGAIN, MORE, OVER }; /* again at once; more bytes are needed; the call is gone */

static enum step read_head(struct http_call *call, struct evbuffer *in) {
    struct err err = ERR_INIT;
    size_t n = evbuffer_get_length(in) < HEAD_BYTES + 4 ? evbuffer_get_length(in) : HEAD_BYTES + 4;
    const uint8_t *p = n ? evbuffer_pullup(in, (ev_ssize_t)n) : NULL;
    if (!p)
        return MORE;
    call->got = true;
    if (head_scan(&call->scan, span_of(p, n), &LIMITS, &err)) {
        fail(call, MUSTER_EUPSTREAM, "The answer from behind is not well-formed: %.300s", err_text(&err));
        return OVER;
    }
    if (!call->scan.end)
        return MORE;
    size_t end = call->scan.end;
    call->scan = (struct head_scan){0};
    call->head.fields = call->fields;
    if (response_read(span_of(p, end), &LIMITS, call->rq.to_head, &call->head, &err) || call->head.status == 101) {
        fail(call, MUSTER_EUPSTREAM, "%s", err.code ? err_text(&err) : "The server behind wants to change the protocol.");
        return OVER;
    }
    if (call->head.status < 200) {
        evbuffer_drain(in, end);
        return AGAIN;
    }
    call->state = CALL_BODY;
    call->left = call->head.length;
    call->ops->head(call, &call->head, call->arg);
    if (call->over)
        return OVER;
    evbuffer_drain(in, end);
    return AGAIN;
}

static bool body_done(const struct http_call *call) {
    enum response_body b = call->head.body;
    return b == RESPONSE_NONE || (b == RESPONSE_LENGTH && call->left == 0) || (b == RESPONSE_CHUNKED && call->chunked.state == CHUNKED_DONE);
}

/* One piece.  The bytes are taken off `in` before anybody sees them. */
static enum step read_body(struct http_call *call, struct evbuffer *in) {
    uint8_t bytes[PIECE_MAX];
    struct err err = ERR_INIT;
    if (body_done(call)) {
        finish(call);
        return OVER;
    }
    size_t most = call->head.body == RESPONSE_LENGTH && call->left < (int64_t)sizeof bytes ? (size_t)call->left : sizeof bytes, used;
    if (call->paused)
        return MORE;
    ev_ssize_t n = evbuffer_copyout(in, bytes, most);
    if (n <= 0)
        return MORE;
    struct span part = span_of(bytes, (size_t)n);
    used = part.n;
    if (call->head.body == RESPONSE_CHUNKED) {
        buf_clear(&call->piece);
        if (chunked_feed(&call->chunked, part, &used, &call->piece, &err)) {
            fail(call, MUSTER_EUPSTREAM, "The answer from behind is not well-formed: %.300s", err_text(&err));
            return OVER;
        }
        part = buf_span(&call->piece);
    }
    evbuffer_drain(in, used);
    if (call->head.body == RESPONSE_LENGTH)
        call->left -= (int64_t)used;
    if (part.n)
        call->ops->body(call, part, call->arg);
    return call->over ? OVER : AGAIN;
}

/* Gives what has come; false: the call is gone. */
static bool give(struct http_call *call) {
    struct evbuffer *in = bufferevent_get_input(call->wire->bev);
    enum step s = AGAIN;
    call->refs++;
    while (s == AGAIN)
        s = call->state == CALL_HEAD ? read_head(call, in) : read_body(call, in);
    if (!call->over) {
        if (call->state == CALL_BODY) { /* the head has one deadline, which no byte of it moves */
            set_deadline(call);
            call->ops->turn(call, call->arg);
        }
    }
    bool over = call->over;
    call_unref(call);
    return !over;
}

static void conclude(struct http_call *call);

/* An end is an end once everything that came before it was taken. */
static void go_on(struct http_call *call) {
    if (give(call) && call->ended && !(call->state == CALL_BODY && call->paused))
        conclude(call);
}

static void on_read(struct bufferevent *bev, void *arg) {
    struct wire *w = arg;
    if (!w->call) /* idle: nobody asked anything */
        client_wire_free(w);
    else if (w->call->state != CALL_CONNECT)
        go_on(w->call);
}

/* --- connecting and sending -------------------------------------------------------------------------------------------------------------------- */

/* A request with a gap in it would be read as another one: better none. */
static void lose(struct http_call *call) {
    call->lost = true;
    bufferevent_trigger_event(call->wire->bev, BEV_EVENT_WRITING | BEV_EVENT_ERROR, BEV_TRIG_DEFER_CALLBACKS);
}

static void send_what_waits(struct http_call *call) {
    struct evbuffer *out = bufferevent_get_output(call->wire->bev);
    if (call->rq.repeatable ? evbuffer_add_buffer_reference(out, call->request) : evbuffer_add_buffer(out, call->request))
        lose(call);
    set_deadline(call);
}

static void on_write(struct bufferevent *bev, void *arg) {
    struct wire *w = arg;
    struct http_call *call = w->call;
    if (!call || call->state == CALL_CONNECT)
        return;
    set_deadline(call);
    if (call->full && http_call_room(call)) {
        call->full = false;
        call->ops->room(call, call->arg);
    }
}

static int wire_open(struct http_call *call, struct err *err);

/* A used connection that ended before it said anything: the server closed it while the request was on its way. */
static bool try_again(struct http_call *call) {
    struct wire *w = call->wire;
    struct err err = ERR_INIT;
    if (!w->used || call->got || !call->rq.repeatable)
        return false;
    client_wire_free(w);
    call->state = CALL_CONNECT;
    call->ended = 0;
    call->deaf = false;
    if (wire_open(call, &err))
        fail(call, err.code, "%s", err_text(&err));
    return true;
}

/* The connection has ended, and all that came on it was given. */
static void conclude(struct http_call *call) {
    struct bufferevent *bev = call->wire->bev;
    unsigned long tls = call->to->tls ? bufferevent_get_openssl_error(bev) : 0;
    if (call->state == CALL_BODY && call->head.body == RESPONSE_UNTIL_CLOSE && (call->ended & BEV_EVENT_EOF)) {
        finish(call);
        return;
    }
    if (try_again(call))
        return;
    if (call->state == CALL_CONNECT && bufferevent_socket_get_dns_error(bev))
        fail(call, MUSTER_EUPSTREAM, "The name of the server behind, %s, cannot be resolved: %s.", call->to->host, evutil_gai_strerror(bufferevent_socket_get_dns_error(bev)));
    else if (call->state == CALL_CONNECT)
        fail(call, MUSTER_EUPSTREAM, "The server behind, %s port %u, cannot be reached: %s.", call->to->host, call->to->port,
             tls && ERR_reason_error_string(tls) ? ERR_reason_error_string(tls) : evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    else
        fail(call, MUSTER_EUPSTREAM, "The server behind ended the connection before its answer was complete.");
}

static void on_event(struct bufferevent *bev, short what, void *arg) {
    struct wire *w = arg;
    struct http_call *call = w->call;
    if (what & BEV_EVENT_CONNECTED) {
        int on = 1;
        w->connected = true;
        setsockopt(bufferevent_getfd(bev), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (call) {
            call->state = CALL_HEAD;
            send_what_waits(call);
        }
        return;
    }
    if (!call) {
        client_wire_free(w);
    } else if ((what & BEV_EVENT_WRITING) && !(what & BEV_EVENT_READING) && !call->to->tls && !call->deaf && !call->lost && call->state != CALL_CONNECT) {
        call->deaf = true; /* its answer, perhaps a refusal of this very request, may be there to be read; so is its end */
    } else {
        call->ended = what;
        call->state == CALL_CONNECT ? conclude(call) : go_on(call);
    }
    ERR_clear_error();
}

/* A new connection for the call. */
static int wire_open(struct http_call *call, struct err *err) {
    struct http_client *c = call->client;
    const struct http_origin *to = call->to;
    struct wire *w = calloc(1, sizeof *w);
    struct bufferevent *bev = w ? client_bev_new(c, to) : NULL;
    struct loop_timer *timer = bev ? loop_timer_new(c->loop, on_time, w) : NULL;
    if (!timer) {
        if (bev)
            bufferevent_free(bev);
        free(w);
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    *w = (struct wire){.client = c, .to = to, .bev = bev, .timer = timer};
    TAILQ_INSERT_TAIL(&c->busy, w, entry);
    client_wire_borrow(w, call);
    bufferevent_setcb(bev, on_read, on_write, on_event, w);
    bufferevent_setwatermark(bev, EV_READ, 0, READ_HIGH);
    bufferevent_setwatermark(bev, EV_WRITE, CLIENT_HIGH / 4, 0);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
    set_deadline(call);
    const char *host = strcmp(to->host, "localhost") ? to->host : "127.0.0.1"; /* is no matter of a name server */
    if (bufferevent_socket_connect_hostname(bev, c->names, AF_UNSPEC, host, to->port) == 0)
        return 0;
    client_wire_free(w);
    return err_set(err, MUSTER_EUPSTREAM, "The server behind, %s port %u, cannot be reached.", to->host, to->port);
}

struct http_call *http_call_new(struct http_client *c, const struct http_origin *to, const struct http_request *rq, const struct http_call_ops *ops, void *arg,
                                struct err *err) {
    struct http_call *call = calloc(1, sizeof *call);
    if (call)
        *call = (struct http_call){.refs = 1, .client = c, .to = to, .ops = ops, .arg = arg, .rq = *rq, .sent = !rq->body, .request = evbuffer_new(),
                                   .piece = BUF_INIT(PIECE_MAX), .chunked = {.max = UINT64_MAX, .skip_trailers = true}};
    if (!call || !call->request || evbuffer_add(call->request, rq->head.p, rq->head.n)) {
        if (call)
            call_end(call);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    if (client_busy_with(c, to) >= to->connections) {
        call_end(call);
        (void)!err_retry(err, MUSTER_EBUSY, 2, "All connections to the server behind are in use.");
        return NULL;
    }
    struct wire *w = rq->repeatable ? client_wire_idle(c, to) : NULL;
    if (w) {
        client_wire_borrow(w, call);
        call->state = CALL_HEAD;
        send_what_waits(call);
        return call;
    }
    if (wire_open(call, err)) {
        call_end(call);
        return NULL;
    }
    return call;
}

/* --- the request's body ------------------------------------------------------------------------------------------------------------------------- */

static struct evbuffer *outlet(struct http_call *call) { return call->state == CALL_CONNECT ? call->request : bufferevent_get_output(call->wire->bev); }

void http_call_body(struct http_call *call, struct span part) {
    struct evbuffer *out = outlet(call);
    if (part.n == 0 || call->lost)
        return;
    if ((call->rq.chunked && evbuffer_add_printf(out, "%zx\r\n", part.n) < 0) || evbuffer_add(out, part.p, part.n) ||
        (call->rq.chunked && evbuffer_add(out, "\r\n", 2)))
        lose(call);
}

void http_call_body_end(struct http_call *call) {
    if (!call->lost && call->rq.chunked && evbuffer_add(outlet(call), "0\r\n\r\n", 5))
        lose(call);
    call->sent = !call->lost;
    set_deadline(call);
}

bool http_call_room(struct http_call *call) {
    if (evbuffer_get_length(outlet(call)) < CLIENT_HIGH)
        return true;
    call->full = true;
    return false;
}

/* Reading is switched off: as long as it is on, libevent calls on_read() again and again while what it has is left there. */
void http_call_pause(struct http_call *call) {
    call->paused = true;
    bufferevent_disable(call->wire->bev, EV_READ);
    set_deadline(call);
}

void http_call_resume(struct http_call *call) {
    if (!call->paused)
        return;
    call->paused = false;
    set_deadline(call);
    if (!call->ended)
        bufferevent_enable(call->wire->bev, EV_READ);
    bufferevent_trigger(call->wire->bev, EV_READ, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
}
