/* proxy: see proxy.h. */
#include "gateway/proxy.h"

#include "base/log.h"
#include "gateway/identity_headers.h"
#include "gateway/internal.h"
#include "http/client.h"
#include "http/stream.h"

#define HEAD_MAX (48 * 1024)
#define SHARE 4       /* a device has at most a fourth of a route's connections */
#define SHARE_LEAST 4 /* or so many */

struct proxied {
    LIST_ENTRY(proxied) under_way;
    int64_t device_row;
    struct http_exchange *x;
    struct worker *worker;
    const struct route *route;
    struct http_call *call; /* NULL: over */
    bool begun;             /* the answer's head has left */
};

/* --- fields ------------------------------------------------------------------------------------------------------------------------- */

/* Fields that end here (RFC 9110, 7.6.1), that frame the message, or that say what only the gateway can know. */
static const char *const ENDING[] = {
    "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
    "content-length", "host", "expect", "http2-settings", "forwarded", "via", "x-forwarded", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip",
    "cf-connecting-ip", "x-host", "x-scheme", "x-request-id", "early-data",
};
/* How such fields begin.  x-original-url and x-rewrite-url name another path than the one that was judged, to servers that heed them. */
static const char *const ENDING_BEGINS[] = {"x-forwarded-", "x-original-", "x-rewrite-", "client-cert", "x-client-cert", "ssl-client-", "x-ssl-"};
/* Of an answer; Server and Date are those of the server behind. */
static const char *const ENDING_BACK[] = {"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade",
                                          "content-length", "x-request-id", "alt-svc"};

static bool in_table(struct span name, const char *const *table, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (head_names_alike(name, span_str(table[i])))
            return true;
    return false;
}

static bool ends_here(struct span name) {
    for (size_t i = 0; i < sizeof ENDING_BEGINS / sizeof *ENDING_BEGINS; i++)
        if (head_names_alike(span_sub(name, 0, strlen(ENDING_BEGINS[i])), span_str(ENDING_BEGINS[i])))
            return true;
    return in_table(name, ENDING, sizeof ENDING / sizeof *ENDING);
}

/* Whether a Connection field, of which there may be several, names the field. */
static bool is_named(const struct http_field *fields, size_t n, struct span name) {
    for (size_t i = 0; i < n; i++) {
        struct span list = span_eq_nocase(fields[i].name, SPAN_LIT("Connection")) ? fields[i].value : SPAN_NONE;
        for (struct span one; head_list_next(&list, &one);)
            if (span_eq_nocase(one, name))
                return true;
    }
    return false;
}

static struct span field_of(const struct http_field *fields, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (span_eq_nocase(fields[i].name, span_str(name)))
            return fields[i].value;
    return SPAN_NONE;
}

static void put_field(struct buf *out, struct span name, struct span value) {
    buf_add(out, name);
    buf_adds(out, ": ");
    buf_add(out, value);
    buf_adds(out, "\r\n");
}

static void put_fields(struct http_exchange *x, const struct identity_headers *identity, struct buf *out) {
    size_t n;
    const struct http_field *f = http_fields(x, &n);
    for (size_t i = 0; i < n; i++)
        if (!ends_here(f[i].name) && !is_named(f, n, f[i].name) && !identity_headers_claim(identity, f[i].name))
            put_field(out, f[i].name, f[i].value);
}

static void put_identity(void *arg, const char *name, const char *value) { put_field(arg, span_str(name), span_str(value)); }

/* The same values for the template of the path. */
struct who {
    struct arena *arena;
    struct route_device device;
};
static const struct identity_headers WHO = {{[IDENTITY_ACCOUNT] = "account", [IDENTITY_UUID] = "uuid", [IDENTITY_DEVICE_ID] = "device_id"}};

static void take_identity(void *arg, const char *name, const char *value) {
    struct who *w = arg;
    struct span copy = arena_copy(w->arena, span_str(value));
    if (!strcmp(name, WHO.name[IDENTITY_ACCOUNT]))
        w->device.account = copy;
    else if (!strcmp(name, WHO.name[IDENTITY_UUID]))
        w->device.uuid = copy;
    else
        w->device.device_id = copy;
}

/* --- the request --------------------------------------------------------------------------------------------------------------------------- */

/* What the device asked for, where that is a name of the gateway: among the servers that an upstream may be by name it has no choice. */
static struct span host_of(struct http_exchange *x, const struct gateway *g) {
    char account[ACCOUNT_NAME_MAX + 1];
    struct span host = http_host(x);
    verifier_account_of(g->verifier, host, account);
    for (size_t i = 0; i < g->n_hosts; i++)
        if (span_eq_nocase(host, span_str(g->hosts[i])) || account[0])
            return http_field(x, "Host");
    return span_str(g->hosts[0]);
}

static int put_head(struct proxied *p, bool chunked, uint64_t length, bool body, struct buf *out, struct err *err) {
    struct http_exchange *x = p->x;
    const struct identity_headers *headers = &p->worker->gateway->headers;
    const struct identity *id = http_exchange_peer(x);
    struct who who = {.arena = http_exchange_arena(x)};
    identity_headers_each(&WHO, &id->admit, take_identity, &who);
    buf_add(out, http_method(x));
    buf_adds(out, " ");
    int rc = route_path(p->route, http_path(x), &who.device, out, err);
    if (rc)
        return rc;
    if (http_query(x).n) {
        buf_adds(out, "?");
        buf_add(out, http_query(x));
    }
    buf_adds(out, " HTTP/1.1\r\n");
    put_field(out, SPAN_LIT("Host"), p->route->settings->keep_host ? host_of(x, p->worker->gateway) : span_str(p->route->authority));
    put_fields(x, headers, out);
    identity_headers_each(headers, &id->admit, put_identity, out);
    put_field(out, SPAN_LIT("X-Forwarded-For"), span_str(id->address));
    put_field(out, SPAN_LIT("X-Forwarded-Proto"), SPAN_LIT("https"));
    put_field(out, SPAN_LIT("X-Forwarded-Host"), http_field(x, "Host"));
    put_field(out, SPAN_LIT("X-Request-Id"), span_str(http_exchange_id(x)));
    if (chunked)
        buf_adds(out, "Transfer-Encoding: chunked\r\n");
    else if (body)
        buf_addf(out, "Content-Length: %llu\r\n", (unsigned long long)length);
    buf_adds(out, "\r\n");
    return buf_ok(out) ? 0 : err_set(err, MUSTER_EHTTPHEAD, "The request's header is too large to be passed on.");
}

/* --- the device's side ------------------------------------------------------------------------------------------------------------------------ */

static void proxied_end(struct proxied *p) {
    LIST_REMOVE(p, under_way);
    free(p);
}

static void proxied_free(struct proxied *p) {
    http_call_cancel(p->call);
    proxied_end(p);
}

static void on_device_body(struct http_exchange *x, struct span part, bool last, const struct err *err, void *arg) {
    struct proxied *p = arg;
    if (err) {
        http_reply_err(x, err);
        proxied_free(p);
        return;
    }
    http_call_body(p->call, part);
    if (last)
        http_call_body_end(p->call);
    else if (!http_call_room(p->call))
        http_body_pause(x);
}

static void on_device_drained(struct http_exchange *x, void *arg) { http_call_resume(((struct proxied *)arg)->call); }

static void on_device_gone(struct http_exchange *x, void *arg) {
    proxied_free(arg);
    http_exchange_drop(x);
}

static const struct http_stream_ops DEVICE = {on_device_body, on_device_drained, on_device_gone};

/* --- the upstream's side ----------------------------------------------------------------------------------------------------------------------- */

static void copy_field(struct http_exchange *x, const struct http_field *f) {
    char *name = arena_strdup(http_exchange_arena(x), f->name), *value = arena_strdup(http_exchange_arena(x), f->value);
    for (char *c = value; c && *c; c++) /* a tab is a blank */
        *c = *c == '\t' ? ' ' : *c;
    http_reply_field(x, name ? name : "", value);
}

/* An error where a file is expected would end up in the file. */
static void answer_empty(struct proxied *p, const struct http_response *head) {
    static const char *const kept[] = {"Retry-After", "Content-Range"}; /* when to ask again, and from where */
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        struct span value = field_of(head->fields, head->n_fields, kept[i]);
        if (value.n)
            http_reply_field(p->x, kept[i], arena_strdup(http_exchange_arena(p->x), value));
    }
    http_reply_empty(p->x, head->status);
    proxied_free(p);
}

static void on_head(struct http_call *call, const struct http_response *head, void *arg) {
    struct proxied *p = arg;
    if (head->status >= 400 && refusal_is_empty(p->x)) {
        answer_empty(p, head);
        return;
    }
    for (size_t i = 0; i < head->n_fields; i++)
        if (!in_table(head->fields[i].name, ENDING_BACK, sizeof ENDING_BACK / sizeof *ENDING_BACK) && !is_named(head->fields, head->n_fields, head->fields[i].name))
            copy_field(p->x, &head->fields[i]);
    p->begun = true;
    http_stream_begin(p->x, head->status, head->body == RESPONSE_CHUNKED || head->body == RESPONSE_UNTIL_CLOSE ? -1 : head->length,
                      field_of(head->fields, head->n_fields, "Date").p != NULL);
}

static void on_body(struct http_call *call, struct span part, void *arg) {
    struct proxied *p = arg;
    http_stream_add(p->x, part);
    if (!http_stream_room(p->x))
        http_call_pause(call);
}

static void on_turn(struct http_call *call, void *arg) { http_stream_flush(((struct proxied *)arg)->x); }
static void on_room(struct http_call *call, void *arg) { http_body_resume(((struct proxied *)arg)->x); }

static void on_end(void *arg) {
    struct proxied *p = arg;
    p->call = NULL;
    http_stream_end(p->x);
    proxied_end(p);
}

static void on_failed(const struct err *err, void *arg) {
    struct proxied *p = arg;
    p->call = NULL;
    log_event(LOG_WARN, "upstream_failed", "route", p->route->settings->prefix, "upstream", p->route->settings->upstream, "code", err_code(err->code), "request",
              http_exchange_id(p->x), "text", err_text(err), NULL);
    if (p->begun)
        http_exchange_drop(p->x);
    else
        http_reply_err(p->x, err);
    proxied_end(p);
}

static const struct http_call_ops UPSTREAM = {on_head, on_body, on_turn, on_room, on_end, on_failed};

/* --- both ----------------------------------------------------------------------------------------------------------------------------------------- */

static bool is_safe(struct span method) { return span_eq_str(method, "GET") || span_eq_str(method, "HEAD") || span_eq_str(method, "OPTIONS"); }

/* A tunnel, and an echo of what the gateway adds, are nothing for devices. */
static bool is_for_servers_alone(struct span method) { return span_eq_nocase(method, SPAN_LIT("CONNECT")) || span_eq_nocase(method, SPAN_LIT("TRACE")); }

static const struct route *route_of(struct http_exchange *x, struct worker *w) {
    const struct identity *id = http_exchange_peer(x);
    return upstreams_find(w->gateway->behind, http_path(x), span_str(id->admit.account_name));
}

/* One that asks and does not read, again and again, leaves connections for the others. */
static int check_share(const struct worker *w, const struct route *route, int64_t device_row, struct err *err) {
    size_t most = route->origin.connections / SHARE > SHARE_LEAST ? route->origin.connections / SHARE : SHARE_LEAST, n = 0;
    const struct proxied *p;
    LIST_FOREACH(p, &w->proxied, under_way) n += p->route == route && p->device_row == device_row;
    return n < most ? 0 : err_retry(err, MUSTER_EBUSY, 2, "The device has %zu requests to the server behind under way, as many as it may.", n);
}

/* whole: the body is in http_body() already. */
static void forward(struct http_exchange *x, struct worker *w, const struct route *route, bool whole) {
    CLEANUP(buf_fini) struct buf head = BUF_INIT(HEAD_MAX);
    struct err err = ERR_INIT;
    bool chunked, body;
    uint64_t length;
    if (!http_exchange_conn(x)) { /* gone, or cut off, while its request was being kept */
        http_exchange_drop(x);
        return;
    }
    struct proxied *p = calloc(1, sizeof *p);
    if (!p) {
        err.code = MUSTER_ENOMEM;
        http_reply_err(x, &err);
        return;
    }
    *p = (struct proxied){.x = x, .worker = w, .route = route, .device_row = ((const struct identity *)http_exchange_peer(x))->admit.device_row};
    body = http_body_announced(x, &chunked, &length);
    if (whole) {
        chunked = false;
        length = http_body(x).n;
    }
    /* A method that usually has a body and has none says so (RFC 9110, 8.6). */
    int rc = check_share(w, route, p->device_row, &err);
    if (!rc)
        rc = put_head(p, chunked, length, body || (!is_safe(http_method(x)) && !span_eq_str(http_method(x), "DELETE")), &head, &err);
    const struct http_request rq = {.head = buf_span(&head), .repeatable = is_safe(http_method(x)) && !body, .to_head = span_eq_str(http_method(x), "HEAD"),
                                    .body = body, .chunked = chunked};
    if (!rc)
        p->call = http_call_new(w->client, &route->origin, &rq, &UPSTREAM, p, &err);
    if (!p->call) {
        free(p);
        http_reply_err(x, &err);
        return;
    }
    LIST_INSERT_HEAD(&w->proxied, p, under_way);
    http_stream_ops_set(x, &DEVICE, p);
    if (body && whole) {
        http_call_body(p->call, http_body(x));
        http_call_body_end(p->call);
    } else if (body) {
        http_body_start(x);
    }
}

bool proxy_forward(struct http_exchange *x, struct worker *w) {
    const struct route *route = route_of(x, w);
    if (route)
        forward(x, w, route, true);
    return route != NULL;
}

void proxy_handle(struct http_exchange *x, void *arg) {
    struct worker *w = arg;
    const struct route *route = route_of(x, w);
    struct err err = ERR_INIT;
    if (!route) {
        http_reply_unrouted(x);
    } else if (is_for_servers_alone(http_method(x))) {
        err_set(&err, MUSTER_EHTTPNOTIMPL, "The method %.*s is not passed on.", SPAN_FMT(http_method(x)));
        http_reply_err(x, &err);
    } else {
        forward(x, w, route, false);
    }
}
