/* exchange: one request: its head, its body, and who is asked about it; see server.h.  Answers are reply.c's. */
#include "base/secret.h"
#include "http/conn.h"
#include "http/uri.h"
#include "metrics/metrics.h"

#define ARENA_MAX (256 * 1024)
#define HEAD_CLAIMED_MAX 256

static struct http_exchange *exchange_new(struct http_conn *c) {
    struct http_exchange *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->arena = arena_new(ARENA_MAX);
    if (!x->arena) {
        free(x);
        return NULL;
    }
    x->refs = 2; /* the connection's, and that of whoever owes the answer */
    x->conn = c;
    x->fields = BUF_INIT(8192);
    x->began = clock_mono_us();
    c->refs++;
    c->x = x;
    return x;
}

void http_exchange_ref(struct http_exchange *x) { x->refs++; }

void http_exchange_unref(struct http_exchange *x) {
    if (--x->refs)
        return;
    if (x->peer)
        x->conn->server->o.peer_ops->gone(x->peer, x->conn->server->o.arg);
    arena_free(x->arena);
    buf_wipe(&x->head_bytes);
    buf_wipe(&x->body);
    buf_fini(&x->fields);
    conn_unref(x->conn);
    free(x);
}

void exchange_detach(struct http_exchange *x, bool owed) {
    if (owed && !x->answered) {
        x->answered = true;
        http_exchange_unref(x);
    }
    http_exchange_unref(x);
}

/* The text between the first two blanks, up to the query. */
static void take_claimed(struct http_exchange *x, struct span bytes) {
    const size_t most = HEAD_METHOD_MAX + 1 + HEAD_CLAIMED_MAX;
    struct span rest = span_sub(bytes, 0, most);
    long blank = span_index(rest, ' ');
    if (blank < 0)
        return;
    rest = span_sub(rest, (size_t)blank + 1, rest.n);
    size_t n = 0;
    while (n < rest.n && rest.p[n] > ' ' && rest.p[n] < 0x7f && rest.p[n] != '?')
        n++;
    x->claimed = arena_copy(x->arena, span_sub(rest, 0, n));
    if (!uri_normalise(x->arena, &x->claimed))
        x->claimed = SPAN_NONE;
}

bool exchange_refuse(struct http_conn *c, const struct err *err) {
    struct http_exchange *x = exchange_new(c);
    if (!x)
        return false;
    take_claimed(x, buf_span(&c->in));
    conn_wait(c);
    x->close = true;
    http_reply_err(x, err);
    return true;
}

/* --- the head ------------------------------------------------------------------------------------------------------------------ */

static bool media_fits(struct http_exchange *x, const char *media) {
    struct span type = http_field(x, "Content-Type");
    long end = span_index(type, ';');
    return span_eq_nocase(span_trim(end < 0 ? type : span_sub(type, 0, (size_t)end)), span_str(media));
}

/* What the head alone shows to be at fault; answered once somebody has said who is asking. */
static void find_fault(struct http_exchange *x) {
    const struct http_route *r = x->match.row;
    bool has_body = x->head.chunked || x->head.length > 0;
    x->complete = !has_body;
    if (!r || !has_body || r->stream)
        return;
    if (r->body_max == 0)
        err_set(&x->fault, MUSTER_EHTTPBODY, "This resource takes no body.");
    else if (x->head.length > r->body_max)
        err_set(&x->fault, MUSTER_EHTTPBODY, "The body has %llu bytes; this resource takes at most %zu.", (unsigned long long)x->head.length, r->body_max);
    else if (r->media && !media_fits(x, r->media))
        err_set(&x->fault, MUSTER_EHTTPMEDIA, "This resource takes a body of the media type %s.", r->media);
}

static bool decode_params(struct http_exchange *x) {
    for (size_t i = 0; i < x->match.n; i++) {
        x->params[i] = uri_decode(x->arena, x->match.params[i].raw, false);
        if (!x->params[i].p)
            return false;
    }
    return true;
}

static void find_route(struct http_exchange *x) {
    CLEANUP(buf_fini) struct buf allow = BUF_INIT(256);
    const struct http_route *fallback = x->conn->server->o.fallback;
    int rc = route_find(x->conn->server->o.router, x->head.method, x->head.path, &x->match, &allow);
    if (!rc && !decode_params(x))
        rc = MUSTER_ENOMEM;
    if (!rc)
        return;
    if (rc == MUSTER_EHTTPMETHOD)
        x->allow = arena_strdup(x->arena, buf_span(&allow)); /* nothing of it for whom admit() refuses */
    if (fallback && !x->match.sole && rc != MUSTER_ENOMEM)
        x->match.row = fallback;
    else
        x->fault.code = rc;
}

bool exchange_begin(struct http_conn *c, struct buf *bytes, size_t head_n) {
    const struct http_limits *l = &c->server->o.limits;
    const struct head_limits limits = {.bytes = l->head_bytes, .target = l->target_bytes, .fields = l->fields, .names_in_path = l->names_in_path, .old_version = l->old_version};
    struct http_exchange *x = exchange_new(c);
    if (!x)
        return false;
    x->head_bytes = *bytes;
    *bytes = BUF_INIT(x->head_bytes.max);
    buf_add(bytes, span_sub(buf_span(&x->head_bytes), head_n, x->head_bytes.n));
    x->head.fields = arena_alloc(x->arena, l->fields * sizeof *x->head.fields);
    if (!buf_ok(bytes) || !x->head.fields) {
        x->answered = true;
        http_exchange_unref(x); /* the connection's reference goes with the connection */
        return false;
    }
    struct err err = ERR_INIT;
    if (head_read(span_of(x->head_bytes.p, head_n), &limits, &x->head, &err)) {
        x->head = (struct http_head){0}; /* nothing of it is to be believed */
        take_claimed(x, span_of(x->head_bytes.p, head_n));
        x->close = true;
        http_reply_err(x, &err);
        return true;
    }
    if (!l->names_in_path && !uri_normalise(x->arena, &x->head.path))
        err_set(&x->fault, MUSTER_ENOMEM, NULL);
    else
        find_route(x);
    find_fault(x);
    const struct peer_ops *ops = c->server->o.peer_ops;
    if (ops && ops->admit)
        ops->admit(x, c->peer, c->server->o.arg);
    else
        http_exchange_admit(x);
    return true;
}

/* --- after admission ------------------------------------------------------------------------------------------------------------- */

bool exchange_fault(struct http_exchange *x) {
    if (!x->fault.code)
        return false;
    if (x->allow)
        http_reply_field(x, "Allow", x->allow);
    http_reply_err(x, &x->fault);
    return true;
}

void http_exchange_admit(struct http_exchange *x) {
    struct http_conn *c = x->conn;
    if (c->dead) { /* nobody is there to hear the answer */
        x->answered = true;
        http_exchange_unref(x);
        return;
    }
    if (exchange_fault(x))
        return;
    if (x->complete || x->match.row->stream) {
        exchange_handle(x);
        return;
    }
    x->body = BUF_INIT(x->match.row->body_max);
    conn_read_body(c, x->head.expect_continue && c->in.n == 0);
}

void http_reply_unrouted(struct http_exchange *x) {
    const struct err err = {.code = x->allow ? MUSTER_EHTTPMETHOD : MUSTER_ENOTFOUND};
    if (x->allow)
        http_reply_field(x, "Allow", x->allow);
    http_reply_err(x, &err);
}

int exchange_feed(struct http_exchange *x, struct span in, size_t *used, struct err *err) {
    *used = 0;
    if (x->head.chunked) {
        int rc = chunked_feed(&x->chunked, in, used, &x->body, err);
        x->complete = !rc && x->chunked.state == CHUNKED_DONE;
        return rc;
    }
    uint64_t left = x->head.length - x->taken;
    size_t part = in.n < left ? in.n : (size_t)left;
    buf_add(&x->body, span_sub(in, 0, part));
    *used = part;
    x->taken += part;
    if (!buf_ok(&x->body))
        return err_set(err, MUSTER_ENOMEM, NULL);
    x->complete = x->taken == x->head.length;
    return 0;
}

void exchange_handle(struct http_exchange *x) {
    x->match.row->handler(x, x->conn->server->o.arg);
}

/* --- what handlers read ---------------------------------------------------------------------------------------------------------------- */

struct span http_method(const struct http_exchange *x) { return x->head.method; }
struct span http_target(const struct http_exchange *x) { return x->head.target; }
struct span http_path(const struct http_exchange *x) { return x->head.path; }
struct span http_claimed_path(const struct http_exchange *x) { return x->head.path.n ? x->head.path : x->claimed; }
struct span http_query(const struct http_exchange *x) { return x->head.query; }
struct span http_host(const struct http_exchange *x) { return x->head.host; }
struct span http_body(const struct http_exchange *x) { return buf_span(&x->body); }
const struct http_route *http_exchange_route(const struct http_exchange *x) { return x->match.row; }
struct http_conn *http_exchange_conn(const struct http_exchange *x) { return x->conn->dead ? NULL : x->conn; }
void *http_exchange_peer(const struct http_exchange *x) { return x->peer ? x->peer : x->conn->peer; }
void http_exchange_set_peer(struct http_exchange *x, void *peer) { x->peer = peer; }
void *http_exchange_arg(const struct http_exchange *x) { return x->conn->server->o.arg; }
struct arena *http_exchange_arena(struct http_exchange *x) { return x->arena; }
int64_t http_exchange_ms(const struct http_exchange *x) { return (clock_mono_us() - x->began) / 1000; }

const char *http_exchange_id(struct http_exchange *x) {
    if (!x->id[0]) {
        struct uuid id = uuid_new();
        uuid_text(&id, x->id);
    }
    return x->id;
}

void http_exchange_set_id(struct http_exchange *x, const struct uuid *id) {
    if (!x->id[0])
        uuid_text(id, x->id);
}

void exchange_answered(struct http_exchange *x, int status, uint64_t bytes, const struct err *refusal) {
    const struct http_server *s = x->conn->server;
    metrics_add(METRIC_RECEIVED, 0, 0, (int64_t)x->body.n);
    metrics_add(METRIC_SENT, 0, 0, (int64_t)bytes);
    metrics_observe(METRIC_REQUEST_TIME, clock_mono_us() - x->began);
    if (s->o.answered)
        s->o.answered(x, status, bytes, refusal);
}

void http_exchange_set_data(struct http_exchange *x, void *data) { x->data = data; }
void *http_exchange_data(const struct http_exchange *x) { return x->data; }

const struct http_field *http_fields(const struct http_exchange *x, size_t *n) {
    *n = x->head.n_fields;
    return x->head.fields;
}

struct span http_field(const struct http_exchange *x, const char *name) {
    const struct http_field *first = NULL;
    size_t times = 0, n = 0;
    for (size_t i = 0; i < x->head.n_fields; i++)
        if (span_eq_nocase(x->head.fields[i].name, span_str(name))) {
            first = first ? first : &x->head.fields[i];
            times++;
            n += x->head.fields[i].value.n + 2;
        }
    if (times < 2)
        return !first ? SPAN_NONE : first->value.p ? first->value : SPAN_LIT("");
    /* Joined in one piece: a client that repeats a field must not use up the arena. */
    uint8_t *joined = arena_alloc(x->arena, n), *at = joined;
    for (size_t i = 0; joined && i < x->head.n_fields; i++) {
        const struct http_field *f = &x->head.fields[i];
        if (!span_eq_nocase(f->name, span_str(name)))
            continue;
        if (at != joined)
            at = (uint8_t *)mempcpy(at, ", ", 2);
        at = f->value.n ? (uint8_t *)mempcpy(at, f->value.p, f->value.n) : at;
    }
    return span_of(joined, (size_t)(at - joined));
}

struct span http_param(const struct http_exchange *x, const char *name) {
    for (size_t i = 0; i < x->match.n; i++)
        if (span_eq_str(x->match.params[i].name, name))
            return x->params[i];
    return SPAN_NONE;
}

bool http_query_param(const struct http_exchange *x, const char *name, struct span *value) {
    struct span raw;
    if (!uri_query_find(x->head.query, name, &raw))
        return false;
    *value = uri_decode(x->arena, raw, true);
    return value->p != NULL;
}
