/* auth: answers proxies of the operator's own: may this request go on, and whose is it?  See internal.h.
 *
 * A plain listener on a Unix socket.  Any method, /auth and any path below it, no body; the certificate is in the header
 * (forwarded_cert.h).  200 with the device's identity in the header, or a refusal: 403 whatever the reason, because nginx's auth_request
 * knows no other, and the reason in X-Muster-Code.  An outage stays 5xx.  Judged by what judges the gateway's own requests (judge.c), and
 * like there the answer is a use of the certificate. */
#include <arpa/inet.h>

#include "base/log.h"
#include "gateway/auth_cache.h"
#include "gateway/forwarded_cert.h"
#include "gateway/internal.h"

#define CACHED 2048           /* peers a loop */
#define HEAD_BYTES (64 * 1024) /* a chain of CHAIN_MAX_BYTES, escaped, and once more its leaf */
#define STRANGERS_LOGGED 5    /* lines a second and loop */

static char asked; /* the mark of an exchange of this listener */

bool auth_is_asked(const struct http_exchange *x) { return http_exchange_data(x) == &asked; }

/* --- who may ask ------------------------------------------------------------------------------------------------------------------ */

static bool may_ask(const struct gateway_options *o, uid_t uid) {
    for (size_t i = 0; i < o->n_auth_uids; i++)
        if (o->auth_uids[i] == uid)
            return true;
    return uid == 0;
}

static void identify(struct http_conn *c, SSL *ssl, void **peer, void *arg) {
    struct worker *w = arg;
    uid_t uid;
    if (http_conn_user(c, &uid) && may_ask(w->gateway->o, uid))
        return;
    if (log_within(&w->auth_strangers, STRANGERS_LOGGED, "auth_refusals_not_logged"))
        log_event(LOG_WARN, "auth_user_refused", "uid", log_num(uid), "fix", "name the proxy's user in auth_users", NULL);
    http_conn_abort(c);
}

/* --- what is asked ------------------------------------------------------------------------------------------------------------------- */

static struct span below_auth(const struct http_exchange *x) { return span_sub(http_claimed_path(x), sizeof "/auth" - 1, (size_t)-1); }

struct span auth_asked_path(const struct http_exchange *x) {
    struct span original = http_field(x, "X-Original-URI");
    long query = span_index(original, '?');
    return !original.n ? below_auth(x) : query < 0 ? original : span_sub(original, 0, (size_t)query);
}

/* The client's address, if the proxy says it, in the one spelling that addresses have here. */
static int take_address(const struct http_exchange *x, char out[HTTP_ADDRESS_MAX], struct err *err) {
    struct span given = http_field(x, "X-Muster-Client-Address");
    char text[HTTP_ADDRESS_MAX];
    uint8_t bytes[16];
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    out[0] = '\0';
    if (!given.n)
        return 0;
    snprintf(text, sizeof text, "%.*s", SPAN_FMT(given));
    if (inet_pton(AF_INET, text, bytes) == 1)
        inet_ntop(AF_INET, bytes, out, HTTP_ADDRESS_MAX);
    else if (inet_pton(AF_INET6, text, bytes) == 1)
        inet_ntop(memcmp(bytes, mapped, sizeof mapped) ? AF_INET6 : AF_INET, memcmp(bytes, mapped, sizeof mapped) ? bytes : bytes + 12, out, HTTP_ADDRESS_MAX);
    return *out ? 0 : err_set(err, MUSTER_EINVALID, "X-Muster-Client-Address is not an address.");
}

struct question {
    struct forwarded_field from;
    char name[256]; /* the host name that the client asked for */
    char address[HTTP_ADDRESS_MAX];
    struct hash key;
};

/* All that the identity depends on. */
static int make_key(struct question *q, struct err *err) {
    CLEANUP(buf_fini) struct buf all = BUF_INIT(2 * HEAD_BYTES);
    buf_addf(&all, "%d %zu %zu %s %s ", q->from.form, q->from.value.n, q->from.more.n, q->name, q->address);
    buf_add(&all, q->from.value);
    buf_add(&all, q->from.more);
    hash_of(buf_span(&all), &q->key);
    return buf_ok(&all) ? 0 : err_set(err, MUSTER_ENOMEM, NULL);
}

static int take_question(const struct http_exchange *x, struct question *q, struct err *err) {
    size_t n;
    const struct http_field *fields = http_fields(x, &n);
    struct span sni = http_field(x, "X-Muster-SNI");
    if (!span_starts(http_path(x), SPAN_LIT("/auth")) || (below_auth(x).n && below_auth(x).p[0] != '/'))
        return err_set(err, MUSTER_ENOTFOUND, NULL);
    int rc = forwarded_cert_find(fields, n, &q->from, err);
    if (rc || (rc = take_address(x, q->address, err)))
        return rc;
    if (!sni.n) /* then what the request names counts for both */
        sni = http_host(x);
    if (snprintf(q->name, sizeof q->name, "%.*s", SPAN_FMT(sni)) >= (int)sizeof q->name)
        return err_set(err, MUSTER_EINVALID, "The host name that the proxy passes on is too long.");
    return make_key(q, err);
}

/* --- who it is -------------------------------------------------------------------------------------------------------------------------- */

static int make_identity(struct worker *w, const struct question *q, struct identity **out, struct err *err) {
    CLEANUP(forwarded_cert_fini) struct forwarded_cert certs = {.n = 0};
    int rc = forwarded_cert_read(&q->from, &certs, err);
    if (rc)
        return rc;
    STACK_OF(X509) *more = sk_X509_new_null();
    bool ok = more != NULL;
    for (size_t i = 1; ok && i < certs.n; i++)
        ok = sk_X509_push(more, certs.at[i]->x) > 0;
    *out = ok ? identity_new(w->gateway->verifier, certs.at[0]->x, more, q->name, q->address) : NULL;
    sk_X509_free(more);
    return *out ? 0 : err_set(err, MUSTER_ENOMEM, NULL);
}

/* A reference.  Strangers are not kept: whoever has many certificates that are good for nothing would push the devices out. */
static int find_identity(struct worker *w, const struct question *q, struct identity **out, struct err *err) {
    *out = auth_cache_get(w->auth_cache, &q->key);
    if (*out) {
        identity_ref(*out);
        return 0;
    }
    int rc = make_identity(w, q, out, err);
    if (!rc && !(*out)->chain.code)
        auth_cache_put(w->auth_cache, &q->key, *out);
    return rc;
}

static void admit(struct http_exchange *x, void *peer, void *arg) {
    struct worker *w = arg;
    struct identity *id = NULL;
    struct question q;
    struct err err = ERR_INIT;
    http_exchange_set_data(x, &asked);
    if (take_question(x, &q, &err) || find_identity(w, &q, &id, &err)) {
        http_reply_err(x, &err);
        return;
    }
    http_exchange_set_peer(x, id); /* takes the reference over */
    judge_request(x, w, id);
}

static void gone(void *peer, void *arg) { identity_unref(peer); }

/* --- answers --------------------------------------------------------------------------------------------------------------------------------- */

static void add_field(void *arg, const char *name, const char *value) { http_reply_field(arg, name, value); }

void auth_pass(struct http_exchange *x, struct worker *w, const struct admit *a) {
    identity_headers_each(&w->gateway->headers, a, add_field, x);
    http_reply_empty(x, 200);
}

static void error_body(struct http_exchange *x, const struct err *err, struct buf *body, const char **content_type) {
    http_exchange_set_data(x, &asked); /* one whose head was refused never came to admit() */
    http_reply_field(x, "X-Muster-Code", err_code(err->code));
    refusal_body(x, err, body, content_type);
}

static int error_status(const struct http_exchange *x, const struct err *err) {
    int status = err_http(err->code);
    return auth_is_asked(x) && status < 500 && err->code != MUSTER_ENOTFOUND ? 403 : status;
}

static const struct peer_ops OPS = {.identify = identify, .admit = admit, .gone = gone};

int auth_open(struct worker *w, int listen_fd, struct err *err) {
    struct http_server_options o = {.loop = w->loop, .listen_fd = listen_fd, .router = w->gateway->auth_router, .limits = HTTP_LIMITS_DEFAULT, .peer_ops = &OPS, .arg = w,
                                    .server_name = "muster", .error_body = error_body, .error_status = error_status, .answered = gateway_answered};
    o.limits.connections = (size_t)w->gateway->o->settings->connections;
    o.limits.head_bytes = HEAD_BYTES;
    w->auth_cache = auth_cache_new(CACHED);
    if (!w->auth_cache) {
        fd_close(listen_fd);
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    w->auth = http_server_new(&o, err);
    return w->auth ? 0 : err->code;
}
