/* client: see client.h. */
#include "sim/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "agent/http.h"
#include "http/chunked.h"
#include "http/tls_client.h"
#include "json/json.h"

#define SLOW_MS 1000 /* a byte so often */
#define LISTENS_MS 3000
#define PIECE 16384
#define PIECES 4 /* that one connection sends before the others have their turn */

enum state { CONNECTING, SHAKING, WRITING, READING };

struct conn {
    struct conn *next, **link;
    struct client *client;
    struct event *event, *deadline;
    int fd;
    SSL *ssl; /* NULL: bytes as they are */
    enum state state;
    enum how how;
    struct buf request, answer;
    size_t sent, filling;
    struct head_scan scan;
    struct http_response head;
    struct chunked chunked;
    struct buf body; /* of an answer in chunks */
    size_t read;     /* bytes of the answer that were looked at */
    bool have_head, refused; /* refused: at once */
    answered_fn *done;
    void *arg;
};

struct client {
    struct event_base *base;
    SSL_CTX *tls;
    struct sockaddr_storage to;
    socklen_t to_n;
    char host[256], host_port[300];
    int64_t timeout_ms;
    struct conn *conns;
    size_t open;
};

static const struct head_limits LIMITS = {.bytes = 32768, .target = 8192, .fields = 64};

/* --- the gateway -------------------------------------------------------------------------------------------------------------------- */

static bool is_here(const struct sockaddr *a) {
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
    return a->sa_family == AF_INET6 && (IN6_IS_ADDR_LOOPBACK(six) || (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127));
}

/* https://HOST[:PORT] */
static int take_apart(struct client *c, const char *url, char port[8], struct err *err) {
    const char *at = strncmp(url, "https://", 8) ? "" : url + 8, *end = at + strcspn(at, "/"), *colon;
    bool six = *at == '[';
    const char *host_end = six ? strchr(at, ']') : NULL;
    colon = memchr(host_end ? host_end : at, ':', (size_t)(end - (host_end ? host_end : at)));
    const char *host = six ? at + 1 : at, *stop = six ? host_end : colon ? colon : end;
    snprintf(port, 8, "%.*s", colon ? (int)(end - colon - 1) : 3, colon ? colon + 1 : "443");
    bool good = *at && stop && stop > host && (size_t)(stop - host) < sizeof c->host && (*end == '\0' || end[1] == '\0') && port[0] && strspn(port, "0123456789") == strlen(port) && (!colon || end - colon - 1 < 8);
    for (const char *p = at; good && p < end; p++)
        good = *p > ' ' && *p <= '~' && *p != '@';
    if (!good)
        return err_set(err, MUSTER_EUSAGE, "\"%s\" is no gateway: https://HOST:PORT, without a path.", url);
    snprintf(c->host, sizeof c->host, "%.*s", (int)(stop - host), host);
    snprintf(c->host_port, sizeof c->host_port, "%.*s", (int)(end - at), at);
    return 0;
}

static bool listens(const struct addrinfo *a) {
    int failed = 0;
    socklen_t size = sizeof failed;
    CLEANUP(fd_close) int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, a->ai_addr, a->ai_addrlen) == 0)
        return fd >= 0;
    return errno == EINPROGRESS && poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, LISTENS_MS) == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) == 0 && !failed;
}

/* A name may have addresses at which nobody is, like ::1 of localhost.  Where nobody is at any of them it is the first, and each device hears why. */
static void choose(struct client *c, const struct addrinfo *found) {
    const struct addrinfo *a = found;
    while (a && !listens(a))
        a = a->ai_next;
    a = a ? a : found;
    memcpy(&c->to, a->ai_addr, a->ai_addrlen);
    c->to_n = a->ai_addrlen;
}

static int look_up(struct client *c, const char *url, const char *mine, struct err *err) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char port[8], shown[INET6_ADDRSTRLEN] = "";
    int rc = take_apart(c, url, port, err);
    if (rc)
        return rc;
    int failed = getaddrinfo(c->host, port, &hints, &found);
    if (failed || !found)
        return err_set(err, MUSTER_ENETWORK, "The gateway %s is not found: %s.", c->host, gai_strerror(failed));
    for (struct addrinfo *a = found; a && !rc; a = a->ai_next)
        if (!is_here(a->ai_addr) && (!mine || strcmp(mine, c->host) != 0)) {
            getnameinfo(a->ai_addr, a->ai_addrlen, shown, sizeof shown, NULL, 0, NI_NUMERICHOST);
            rc = err_set(err, MUSTER_EUSAGE, "The gateway %s is not on this machine (%s), and whoever runs it has to agree to be loaded. If it is yours, say so: --my-gateway %s.", c->host, shown, c->host);
        }
    if (!rc)
        choose(c, found);
    freeaddrinfo(found);
    return rc;
}

int client_new(struct loop *l, const char *gateway, const struct certs *anchors, const char *mine, int64_t timeout_ms, struct client **out, struct err *err) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(1u << 20);
    CLEANUP(client_free) struct client *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, MUSTER_ENOMEM, NULL);
    c->base = loop_base(l);
    c->timeout_ms = timeout_ms;
    int rc = look_up(c, gateway, mine, err);
    if (rc)
        return rc;
    if (certs_pem(anchors, &pem))
        return err_set(err, MUSTER_ENOMEM, NULL);
    if ((rc = tls_client_new(buf_span(&pem), SPAN_NONE, SPAN_NONE, &c->tls, err)))
        return rc;
    SSL_CTX_set_mode(c->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_session_cache_mode(c->tls, SSL_SESS_CACHE_OFF);
    *out = TAKE(c);
    return 0;
}

const char *client_host(const struct client *c) { return c->host_port; }
size_t client_open(const struct client *c) { return c->open; }

/* --- the end of a connection ---------------------------------------------------------------------------------------------------------- */

static void conn_free(struct conn *k) {
    if (k->link) {
        *k->link = k->next;
        if (k->next)
            k->next->link = k->link;
        k->client->open--;
    }
    if (k->event)
        event_free(k->event);
    if (k->deadline)
        event_free(k->deadline);
    if (k->ssl)
        SSL_shutdown(k->ssl);
    SSL_free(k->ssl);
    ERR_clear_error();
    fd_close(k->fd);
    free(k->head.fields);
    buf_wipe(&k->request);
    buf_wipe(&k->answer);
    buf_wipe(&k->body);
    free(k);
}

void client_free(struct client *c) {
    for (struct conn *k; (k = c->conns);) {
        c->conns = k->next;
        k->link = NULL; /* it is in no list any more */
        conn_free(k);
    }
    SSL_CTX_free(c->tls);
    free(c);
}

/* Muster's own refusals are JSON objects with a code. */
static void read_code(struct span body, char code[64]) {
    CLEANUP_JSON json_t *o = body.n && body.p[0] == '{' ? json_parse(body, NULL) : NULL;
    const char *is = json_string_value(json_object_get(o, "code"));
    snprintf(code, 64, "%s", is ? is : "");
}

static void finish(struct conn *k, const char *fault) {
    struct answer a = {.fault = fault};
    if (!fault) {
        a.status = k->head.status;
        a.body = k->head.body == RESPONSE_CHUNKED ? buf_span(&k->body) : span_sub(buf_span(&k->answer), k->scan.end, k->answer.n);
        for (size_t i = 0; i < k->head.n_fields; i++) {
            if (span_eq_nocase(k->head.fields[i].name, SPAN_LIT("Retry-After")))
                a.retry_after = http_retry_after(k->head.fields[i].value, clock_now());
            if (span_eq_nocase(k->head.fields[i].name, SPAN_LIT("Allow")))
                a.allows_post = a.allows_post || http_names_post(k->head.fields[i].value);
        }
        read_code(a.body, a.code);
    }
    k->done(k->arg, &a);
    conn_free(k);
}

/* --- the connection, step by step -------------------------------------------------------------------------------------------------------- */

static void drive(evutil_socket_t fd, short what, void *arg);

static void watch(struct conn *k, short what) {
    event_del(k->event);
    event_assign(k->event, k->client->base, k->fd, what, drive, k);
    event_add(k->event, NULL);
}

/* What it waits for; false: the connection has ended. */
static bool waits(struct conn *k, int result, int failed) {
    int why = k->ssl ? SSL_get_error(k->ssl, result) : failed == EAGAIN || failed == EWOULDBLOCK ? SSL_ERROR_WANT_READ : SSL_ERROR_SYSCALL;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        short what = why == SSL_ERROR_WANT_READ ? EV_READ : EV_WRITE;
        watch(k, k->state == WRITING ? (short)(EV_READ | EV_WRITE) : what); /* an answer may come before all is sent */
        return true;
    }
    return false;
}

/* Whether the answer is whole; a fault: *fault. */
static bool complete(struct conn *k, bool ended, const char **fault) {
    struct err err = ERR_INIT;
    struct http_field *fields = k->head.fields;
    *fault = NULL;
    if (!k->have_head) {
        if (head_scan(&k->scan, buf_span(&k->answer), &LIMITS, &err))
            *fault = "no HTTP";
        if (*fault || !k->scan.end)
            return false;
        k->head = (struct http_response){.fields = fields ? fields : calloc(LIMITS.fields, sizeof *fields)};
        if (!k->head.fields || response_read(span_sub(buf_span(&k->answer), 0, k->scan.end), &LIMITS, false, &k->head, &err))
            *fault = "no HTTP";
        k->have_head = !*fault;
        k->read = k->scan.end;
    }
    if (*fault)
        return false;
    size_t body = k->answer.n - k->scan.end, used = 0;
    if (k->head.body == RESPONSE_CHUNKED) {
        if (chunked_feed(&k->chunked, span_sub(buf_span(&k->answer), k->read, k->answer.n), &used, &k->body, &err))
            *fault = "no HTTP";
        k->read += used;
        return !*fault && k->chunked.state == CHUNKED_DONE;
    }
    return k->head.body == RESPONSE_NONE || (k->head.body == RESPONSE_LENGTH && body >= (size_t)k->head.length) || (k->head.body == RESPONSE_UNTIL_CLOSE && ended);
}

enum after { MORE, WAITS, GONE };

/* What comes next; GONE: the connection is over, and freed. */
static enum after read_some(struct conn *k) {
    uint8_t bytes[PIECE];
    const char *fault;
    size_t most = k->how == HOW_SLOW ? 1 : sizeof bytes;
    int n = k->ssl ? SSL_read(k->ssl, bytes, (int)most) : (int)recv(k->fd, bytes, most, 0);
    if (n <= 0) {
        int failed = n < 0 ? errno : 0;
        if (waits(k, n, failed))
            return WAITS;
        bool whole = complete(k, true, &fault);
        finish(k, whole ? NULL : fault ? fault : "closed");
        return GONE;
    }
    if (k->how == HOW_NO_TLS) /* whatever it says, an alert most likely */
        return MORE;
    buf_add(&k->answer, span_of(bytes, (size_t)n));
    if (!buf_ok(&k->answer)) {
        finish(k, "answer too long");
        return GONE;
    }
    bool whole = complete(k, false, &fault);
    if (whole || fault) {
        finish(k, fault);
        return GONE;
    }
    if (k->how != HOW_SLOW)
        return MORE;
    event_del(k->event);
    event_assign(k->event, k->client->base, -1, EV_TIMEOUT, drive, k);
    event_add(k->event, &(struct timeval){.tv_sec = SLOW_MS / 1000});
    return WAITS;
}

static enum after read_all(struct conn *k) {
    enum after next;
    while ((next = read_some(k)) == MORE)
        continue;
    return next;
}

/* False: it waits. */
static bool write_some(struct conn *k) {
    static const uint8_t filling[PIECE];
    bool own = k->sent < k->request.n;
    const uint8_t *from = own ? k->request.p + k->sent : filling;
    size_t left = own ? k->request.n - k->sent : k->request.n + k->filling - k->sent, n = own || left < sizeof filling ? left : sizeof filling;
    int done = k->ssl ? SSL_write(k->ssl, from, (int)n) : (int)send(k->fd, from, n, MSG_NOSIGNAL);
    if (done > 0) {
        k->sent += (size_t)done;
        return true;
    }
    int failed = errno;
    bool again = waits(k, done, failed);
    k->state = again ? WRITING : READING; /* whoever does not want the rest may have said why */
    return !again;
}

static void step(struct conn *k, short what) {
    int failed = 0;
    socklen_t size = sizeof failed;
    if (k->state == CONNECTING) {
        if (k->refused || getsockopt(k->fd, SOL_SOCKET, SO_ERROR, &failed, &size) || failed) {
            finish(k, "unreachable");
            return;
        }
        k->state = k->ssl ? SHAKING : WRITING;
    }
    if (k->state == SHAKING) {
        int result = SSL_do_handshake(k->ssl);
        if (result != 1) {
            if (!waits(k, result, 0))
                finish(k, SSL_get_verify_result(k->ssl) != X509_V_OK ? "gateway not trusted" : "TLS failed");
            return;
        }
        k->state = WRITING;
    }
    if (k->state == WRITING && what & EV_READ && k->sent) {
        k->state = READING;
        if (read_all(k) == GONE)
            return;
        k->state = WRITING;
    }
    int pieces = 0;
    while (k->state == WRITING && k->sent < k->request.n + k->filling) {
        if (pieces++ == PIECES) {
            watch(k, EV_READ | EV_WRITE);
            return;
        }
        if (!write_some(k))
            return;
    }
    if (k->state == WRITING) {
        k->state = READING;
        watch(k, EV_READ);
    }
    read_all(k);
}

static void drive(evutil_socket_t fd, short what, void *arg) {
    ERR_clear_error();
    step(arg, what);
}

static void too_late(evutil_socket_t fd, short what, void *arg) { finish(arg, "timed out"); }

static int open_socket(struct conn *k, struct err *err) {
    const struct client *c = k->client;
    int one = 1, small = 4096;
    k->fd = socket(c->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (k->fd < 0)
        return err_set(err, MUSTER_EIO, "This machine can make no more connections: %s.", strerror(errno));
    setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (k->how == HOW_SLOW)
        setsockopt(k->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    bool refused = connect(k->fd, (const struct sockaddr *)&c->to, c->to_n) && errno != EINPROGRESS;
    if (refused && (errno == EADDRNOTAVAIL || errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)) /* of this machine's ports or memory */
        return err_set(err, MUSTER_EIO, "This machine can make no more connections: %s.", strerror(errno));
    k->refused = refused;
    return 0;
}

static int open_tls(struct conn *k, const struct credential *by, struct err *err) {
    const struct client *c = k->client;
    struct in6_addr address;
    bool name = inet_pton(AF_INET, c->host, &address) != 1 && inet_pton(AF_INET6, c->host, &address) != 1;
    k->ssl = SSL_new(c->tls);
    if (!k->ssl || SSL_set_fd(k->ssl, k->fd) != 1 || (name && SSL_set_tlsext_host_name(k->ssl, c->host) != 1) ||
        (name ? SSL_set1_host(k->ssl, c->host) : X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(k->ssl), c->host)) != 1)
        return pki_err(err, MUSTER_ENOMEM, "TLS cannot be set up");
    SSL_set_connect_state(k->ssl);
    return by && by->chain_n ? credential_use(by, k->ssl, err) : 0;
}

DEFINE_CLEANUP(conn_free, struct conn *)

int client_send(struct client *c, struct ask *a, answered_fn *done, void *arg, struct err *err) {
    CLEANUP(conn_free) struct conn *k = calloc(1, sizeof *k);
    if (!k)
        return err_set(err, MUSTER_ENOMEM, NULL);
    *k = (struct conn){.client = c, .fd = -1, .how = a->how, .request = a->request, .answer = BUF_INIT(ANSWER_MAX), .body = BUF_INIT(ANSWER_MAX), .chunked = {.skip_trailers = true}, .filling = a->filling, .done = done, .arg = arg};
    a->request = BUF_INIT(0);
    int rc = open_socket(k, err);
    if (rc || (a->how != HOW_NO_TLS && (rc = open_tls(k, a->by, err))))
        return rc;
    const struct timeval until = {.tv_sec = c->timeout_ms / 1000, .tv_usec = c->timeout_ms % 1000 * 1000};
    k->event = event_new(c->base, k->fd, EV_WRITE, drive, k);
    k->deadline = evtimer_new(c->base, too_late, k);
    if (!k->event || !k->deadline || event_add(k->event, NULL) || event_add(k->deadline, &until))
        return err_set(err, MUSTER_ENOMEM, NULL);
    k->next = c->conns;
    k->link = &c->conns;
    if (k->next)
        k->next->link = &k->next;
    c->conns = k;
    c->open++;
    (void)TAKE(k);
    return 0;
}
