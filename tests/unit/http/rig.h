/* rig: a real server on a loop in a thread of its own, and a blocking libssl client; for the tests of http that need both.
 * Keys and certificates are made on the spot.  Included by one test file a program. */
#ifndef MUSTER_TESTS_HTTP_RIG_H
#define MUSTER_TESTS_HTTP_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "http/server.h"

#define BIG (8 * 1024 * 1024)
#define BODY_MAX 100

/* --- certificates ------------------------------------------------------------------------------------------------- */

struct made {
    EVP_PKEY *key;
    X509 *cert;
};

static inline struct made make_cert(const char *cn) {
    struct made m = {EVP_EC_gen("P-256"), X509_new()};
    X509_set_version(m.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(m.cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(m.cert), -86400);
    X509_gmtime_adj(X509_getm_notAfter(m.cert), 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(m.cert), "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(m.cert, X509_get_subject_name(m.cert));
    X509_set_pubkey(m.cert, m.key);
    assert_true(X509_sign(m.cert, m.key, EVP_sha256()) > 0);
    return m;
}

static inline void made_free(struct made *m) {
    EVP_PKEY_free(m->key);
    X509_free(m->cert);
}

static inline void cn_of(X509 *x, char out[64]) {
    out[0] = '\0';
    if (x)
        X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, out, 64);
}

/* --- the server ------------------------------------------------------------------------------------------------------ */

struct peer {
    char sni[64], cn[64];
    bool resumed;
};

struct rig {
    struct loop *loop;
    struct http_server *server; /* of the loop's thread */
    struct http_router *router;
    struct tls_server *tls;
    pthread_t thread;
    sem_t done, got;            /* on_loop() is done; somebody holds an exchange */
    struct sockaddr_in at;
    struct http_exchange *held; /* by /hold's handler, or by admit() of /park */
    bool abort_in_identify;
    atomic_int identified, gone, handled, drained;
};

static inline void rig_identify(struct http_conn *c, SSL *ssl, void **peer, void *arg) {
    struct rig *r = arg;
    struct peer *p = calloc(1, sizeof *p);
    if (ssl) {
        snprintf(p->sni, sizeof p->sni, "%s", tls_sni(ssl));
        cn_of(SSL_get0_peer_certificate(ssl), p->cn);
        p->resumed = SSL_session_reused(ssl);
    }
    *peer = p;
    r->identified++;
    if (r->abort_in_identify)
        http_conn_abort(c);
}

static inline void rig_admit(struct http_exchange *x, void *peer, void *arg) {
    struct rig *r = arg;
    struct err err = ERR_INIT;
    if (!peer || peer != http_exchange_peer(x)) /* never before identify() */
        abort();
    if (span_starts(http_path(x), SPAN_LIT("/refused"))) {
        err_set(&err, MUSTER_EREVOKED, NULL);
        http_reply_err(x, &err);
    } else if (span_eq_str(http_path(x), "/park")) {
        r->held = x;
        http_exchange_ref(x);
        sem_post(&r->got);
    } else {
        http_exchange_admit(x);
    }
}

static inline void rig_gone(void *peer, void *arg) {
    struct rig *r = arg;
    r->gone++;
    free(peer);
}

static const struct peer_ops rig_ops = {rig_identify, rig_admit, rig_gone};

static inline void on_hello(struct http_exchange *x, void *arg) {
    ((struct rig *)arg)->handled++;
    http_reply(x, 200, "text/plain", SPAN_LIT("hello"));
}
static inline void on_echo(struct http_exchange *x, void *arg) {
    ((struct rig *)arg)->handled++;
    http_reply(x, 200, "application/octet-stream", http_body(x));
}
static inline void on_hold(struct http_exchange *x, void *arg) {
    struct rig *r = arg;
    r->held = x;
    http_exchange_ref(x);
    sem_post(&r->got);
}
static inline void on_who(struct http_exchange *x, void *arg) {
    const struct peer *p = http_exchange_peer(x);
    char text[256];
    snprintf(text, sizeof text, "%s %s %s %s", p->sni[0] ? p->sni : "-", p->cn[0] ? p->cn : "-", p->resumed ? "resumed" : "full",
             http_conn_address(http_exchange_conn(x))->sa_family == AF_INET ? "IPv4" : "IPv6");
    http_reply(x, 200, "text/plain", span_str(text));
}
static inline void on_address(struct http_exchange *x, void *arg) {
    struct http_conn *c = http_exchange_conn(x);
    char address[HTTP_ADDRESS_MAX], text[128];
    uid_t uid = 0;
    bool local = http_conn_user(c, &uid);
    http_address_text(http_conn_address(c), address);
    snprintf(text, sizeof text, "%s %s%u", *address ? address : "-", local ? "uid " : "", local ? uid : 0);
    http_reply(x, 200, "text/plain", span_str(text));
}
static inline void on_item(struct http_exchange *x, void *arg) {
    struct span id = http_param(x, "id"), q = SPAN_LIT("-"), many = http_field(x, "x-many");
    bool has = http_query_param(x, "q", &q);
    char text[512];
    snprintf(text, sizeof text, "%.*s|%s%.*s|%.*s|%.*s|%.*s", SPAN_FMT(id), has ? "=" : "", SPAN_FMT(q), SPAN_FMT(many), SPAN_FMT(http_target(x)),
             SPAN_FMT(http_host(x)));
    http_reply(x, 200, "text/plain", span_str(text));
}
static inline void on_big(struct http_exchange *x, void *arg) {
    struct buf b = BUF_INIT(BIG);
    memset(buf_extend(&b, BIG), 'b', BIG);
    http_reply_buf(x, 200, "text/plain", &b, true);
}
static inline void on_secret(struct http_exchange *x, void *arg) {
    struct buf b = BUF_INIT(6);
    buf_adds(&b, "secret");
    http_reply_buf(x, 200, "text/plain", &b, true);
}
static inline void on_empty(struct http_exchange *x, void *arg) { http_reply_empty(x, 204); }
static inline void on_split(struct http_exchange *x, void *arg) {
    http_reply_field(x, "Location", "/a\r\nSet-Cookie: b");
    http_reply(x, 201, "text/plain", SPAN_LIT("split"));
}
static inline void on_busy(struct http_exchange *x, void *arg) {
    struct err err = ERR_INIT;
    err_retry(&err, MUSTER_EBUSY, 7, NULL);
    http_reply_err(x, &err);
}
static inline void on_last(struct http_exchange *x, void *arg) {
    http_reply_close(x);
    http_reply(x, 200, "text/plain", SPAN_LIT("last"));
}
static inline void on_abort(struct http_exchange *x, void *arg) {
    http_conn_abort(http_exchange_conn(x));
    if (http_exchange_conn(x))
        abort();
    http_reply(x, 200, "text/plain", SPAN_LIT("never seen"));
}

static const struct http_route rig_routes[] = {
    {"GET", "/hello", 0, NULL, on_hello, NULL},
    {"POST", "/echo", BODY_MAX, NULL, on_echo, NULL},
    {"POST", "/json", BODY_MAX, "application/json", on_echo, NULL},
    {"POST", "/park", BODY_MAX, NULL, on_echo, NULL},
    {"POST", "/refused/post", BODY_MAX, NULL, on_echo, NULL},
    {"GET", "/hold", 0, NULL, on_hold, NULL},
    {"GET", "/who", 0, NULL, on_who, NULL},
    {"GET", "/address", 0, NULL, on_address, NULL},
    {"GET", "/item/{id}", 0, NULL, on_item, NULL},
    {"GET", "/big", 0, NULL, on_big, NULL},
    {"GET", "/secret", 0, NULL, on_secret, NULL},
    {"GET", "/empty", 0, NULL, on_empty, NULL},
    {"GET", "/split", 0, NULL, on_split, NULL},
    {"GET", "/busy", 0, NULL, on_busy, NULL},
    {"GET", "/last", 0, NULL, on_last, NULL},
    {"GET", "/abort", 0, NULL, on_abort, NULL},
};

static inline void *rig_thread(void *arg) {
    loop_run(((struct rig *)arg)->loop);
    return NULL;
}

static inline int set_identities(struct tls_server *t, const char *const *names, size_t n) {
    struct tls_identity ids[4] = {0};
    BIO *chain[4] = {NULL}, *key[4] = {NULL};
    for (size_t i = 0; i < n; i++) {
        struct made m = make_cert(*names[i] ? names[i] : "default");
        char *p, *q;
        chain[i] = BIO_new(BIO_s_mem());
        key[i] = BIO_new(BIO_s_mem());
        PEM_write_bio_X509(chain[i], m.cert);
        PEM_write_bio_PrivateKey(key[i], m.key, NULL, NULL, 0, NULL, NULL);
        long np = BIO_get_mem_data(chain[i], &p), nq = BIO_get_mem_data(key[i], &q);
        ids[i] = (struct tls_identity){names[i], span_of(p, (size_t)np), span_of(q, (size_t)nq)};
        made_free(&m);
    }
    int rc = tls_server_set(t, ids, n, NULL);
    for (size_t i = 0; i < n; i++) {
        BIO_free(chain[i]);
        BIO_free(key[i]);
    }
    return rc;
}

/* What a test changes about the server before it is made. */
static void (*rig_adjust)(struct http_server_options *o) __attribute__((unused));

/* limits NULL: the default.  dual: listens on IPv6 for both families. */
static inline struct rig *rig_open(const struct http_limits *limits, bool dual) {
    struct rig *r = calloc(1, sizeof *r);
    struct err err = ERR_INIT;
    sem_init(&r->done, 0, 0);
    sem_init(&r->got, 0, 0);
    r->loop = loop_new(&err);
    r->router = http_router_new(rig_routes, sizeof rig_routes / sizeof *rig_routes, &err);
    r->tls = tls_server_new(&(struct tls_options){.client_certificates = true, .sessions = 64, .session_seconds = 300}, &err);
    if (!r->loop || !r->router || !r->tls)
        fail_msg("%s", err_text(&err));
    assert_int_equal(set_identities(r->tls, (const char *const[]){"", "a.test", "b.test"}, 3), 0);
    int fd = socket(dual ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), off = 0;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
    if (dual)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    assert_int_equal(dual ? bind(fd, (struct sockaddr *)&v6, sizeof v6) : bind(fd, (struct sockaddr *)&v4, sizeof v4), 0);
    assert_int_equal(listen(fd, 64), 0);
    socklen_t n = sizeof v6; /* the port is at the same place in both */
    assert_int_equal(getsockname(fd, (struct sockaddr *)&v6, &n), 0);
    r->at = v4;
    r->at.sin_port = v6.sin6_port;
    struct http_server_options o = {
        .loop = r->loop, .listen_fd = fd, .tls = r->tls, .router = r->router, .limits = limits ? *limits : HTTP_LIMITS_DEFAULT,
        .peer_ops = &rig_ops, .arg = r, .server_name = "rig",
    };
    if (rig_adjust)
        rig_adjust(&o);
    r->server = http_server_new(&o, &err);
    assert_non_null(r->server);
    assert_int_equal(pthread_create(&r->thread, NULL, rig_thread, r), 0);
    return r;
}

struct rig_call {
    struct rig *r;
    void (*fn)(struct rig *r);
};
static inline void rig_run(void *arg) {
    struct rig_call *call = arg;
    call->fn(call->r);
    sem_post(&call->r->done);
}
/* Runs fn on the server's loop and waits for it. */
static inline void on_loop(struct rig *r, void (*fn)(struct rig *r)) {
    struct rig_call call = {r, fn};
    assert_int_equal(loop_post(r->loop, rig_run, &call), 0);
    while (sem_wait(&r->done))
        continue;
}

static inline void wait_held(struct rig *r) {
    while (sem_wait(&r->got))
        continue;
}

static inline void do_release(struct rig *r) {
    struct http_exchange *x = TAKE(r->held);
    http_reply(x, 200, "text/plain", SPAN_LIT("released"));
    http_exchange_unref(x);
}
static inline void do_admit(struct rig *r) {
    struct http_exchange *x = TAKE(r->held);
    http_exchange_admit(x);
    http_exchange_unref(x);
}
static inline void do_nothing(struct rig *r) {}
static inline void do_free(struct rig *r) { http_server_free(TAKE(r->server)); }

static atomic_size_t rig_count;
static inline void do_count(struct rig *r) { rig_count = http_server_connections(r->server); }
/* Waits until the server has n connections. */
static inline void wait_connections(struct rig *r, size_t n) {
    int64_t end = clock_mono_ms() + 10000;
    do {
        on_loop(r, do_count);
        if (rig_count == n)
            return;
        poll(NULL, 0, 5);
    } while (clock_mono_ms() < end);
    fail_msg("%zu connections instead of %zu", rig_count, n);
}

/* Nothing may be held any more.  Every peer that was identified has to have been let go. */
static inline void rig_close(struct rig *r) {
    if (r->server)
        on_loop(r, do_free);
    loop_stop(r->loop);
    pthread_join(r->thread, NULL);
    assert_int_equal(r->identified, r->gone);
    loop_free(r->loop);
    tls_server_free(r->tls);
    http_router_free(r->router);
    sem_destroy(&r->done);
    sem_destroy(&r->got);
    free(r);
}

/* --- the client -------------------------------------------------------------------------------------------------------- */

struct client_options {
    int version;             /* 0: TLS 1.3 */
    const char *sni;
    const struct made *cert;
    SSL_SESSION *session;
};

struct client {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    struct buf in;
    size_t records; /* of application data, received (TLS 1.2 only) */
    /* of the last answer */
    int status;
    char head[4096];
    struct buf body;
};

static inline void count_records(int write_p, int version, int type, const void *p, size_t n, SSL *ssl, void *arg) {
    if (!write_p && type == SSL3_RT_HEADER && n && *(const uint8_t *)p == SSL3_RT_APPLICATION_DATA)
        ((struct client *)arg)->records++;
}

static inline int client_socket(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return fd;
}

static inline int client_connect(const struct rig *r) {
    int fd = client_socket();
    assert_int_equal(connect(fd, (const struct sockaddr *)&r->at, sizeof r->at), 0);
    return fd;
}

static inline bool client_try(struct rig *r, struct client *c, struct client_options o) {
    int version = o.version ? o.version : TLS1_3_VERSION;
    *c = (struct client){.fd = client_connect(r), .in = BUF_INIT(BIG + 65536), .body = BUF_INIT(BIG + 1)};
    c->ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(c->ctx, version);
    SSL_CTX_set_max_proto_version(c->ctx, version);
    c->ssl = SSL_new(c->ctx);
    SSL_set_options(c->ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_set_msg_callback(c->ssl, count_records);
    SSL_set_msg_callback_arg(c->ssl, c);
    if (o.sni)
        SSL_set_tlsext_host_name(c->ssl, o.sni);
    if (o.cert)
        assert_int_equal(SSL_use_cert_and_key(c->ssl, o.cert->cert, o.cert->key, NULL, 1), 1);
    if (o.session)
        SSL_set_session(c->ssl, o.session);
    SSL_set_fd(c->ssl, c->fd);
    return SSL_connect(c->ssl) == 1;
}

static inline void client_open(struct rig *r, struct client *c, struct client_options o) { assert_true(client_try(r, c, o)); }

static inline void client_close(struct client *c) {
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    close(c->fd);
    buf_fini(&c->in);
    buf_fini(&c->body);
    ERR_clear_error();
}

/* As a device does whose network fails: no close_notify, no FIN, a RST. */
static inline void client_vanish(struct client *c) {
    struct linger now = {.l_onoff = 1};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    client_close(c);
}

static inline void client_send_n(struct client *c, struct span s) {
    size_t n;
    if (s.n)
        assert_int_equal(SSL_write_ex(c->ssl, s.p, s.n, &n), 1);
}
static inline void client_send(struct client *c, const char *text) { client_send_n(c, span_str(text)); }

/* More bytes; false: the server has closed. */
static inline bool client_more(struct client *c) {
    uint8_t piece[16384];
    size_t n = 0;
    if (SSL_read_ex(c->ssl, piece, sizeof piece, &n) != 1) {
        if (errno == EAGAIN && SSL_get_error(c->ssl, 0) == SSL_ERROR_WANT_READ)
            fail_msg("The server does not answer.");
        return false;
    }
    buf_add(&c->in, span_of(piece, n));
    return true;
}

static inline bool client_closed(struct client *c) { return c->in.n == 0 && !client_more(c); }

static inline const char *client_field(const struct client *c, const char *name) {
    static char value[512];
    char key[64];
    snprintf(key, sizeof key, "\r\n%s: ", name);
    const char *at = strstr(c->head, key);
    if (!at)
        return NULL;
    at += strlen(key);
    snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\r"), at);
    return value;
}

/* Reads one answer; its status, or 0 where the server closed instead. */
static inline int client_answer(struct client *c, bool no_body) {
    const char *end;
    while (!c->in.n || !(end = strstr((const char *)c->in.p, "\r\n\r\n")))
        if (!client_more(c))
            return c->status = 0;
    size_t n = (size_t)(end - (const char *)c->in.p) + 4;
    assert_true(n < sizeof c->head);
    snprintf(c->head, sizeof c->head, "%.*s", (int)n, (const char *)c->in.p);
    buf_consume(&c->in, n);
    buf_clear(&c->body);
    assert_int_equal(strncmp(c->head, "HTTP/1.1 ", 9), 0);
    c->status = (int)strtol(c->head + 9, NULL, 10);
    const char *length = client_field(c, "Content-Length");
    if (no_body || c->status < 200 || c->status == 204) {
        assert_true(c->status >= 200 ? (c->status == 204) == !length : !length);
        return c->status;
    }
    size_t left = (size_t)strtoul(length, NULL, 10);
    while (c->in.n < left)
        assert_true(client_more(c));
    buf_add(&c->body, span_sub(buf_span(&c->in), 0, left));
    buf_consume(&c->in, left);
    return c->status;
}

static inline int client_ask(struct client *c, const char *request) {
    client_send(c, request);
    return client_answer(c, false);
}

#define H " HTTP/1.1\r\nHost: a.test\r\n"
#define GET(path) "GET " path H "\r\n"

#define assert_body(c, text) assert_string_equal(buf_str(&(c)->body), text)
#define assert_field(c, name, text) ({ assert_non_null(client_field(c, name)); assert_string_equal(client_field(c, name), text); })

#endif
