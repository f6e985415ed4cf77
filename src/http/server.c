/* server: accepts connections on one loop and bounds their number; see server.h.  What happens on a connection is conn.c's. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <time.h>

#include "base/log.h"
#include "http/conn.h"
#include "metrics/metrics.h"

#define ACCEPTS_A_TURN 64 /* so that a flood of connections does not starve those that are there */
#define UNSENT_MAX (128 * 1024) /* bytes that the kernel takes of an answer beyond what is under way: a client that does not read has that, not megabytes */
#define PAUSE_MS 100      /* where descriptors have run out */
#define TRIM_AFTER 64     /* connections fewer than there were */
#define TRIM_MS 2000

const struct http_limits HTTP_LIMITS_DEFAULT = {
    .handshake_ms = 10000,
    .head_ms = 10000,
    .body_ms = 30000,
    .body_rate = 1000,
    .idle_ms = 300000,
    .write_ms = 30000,
    .linger_ms = 2000,
    .head_bytes = 16384,
    .target_bytes = 4096,
    .fields = 64,
    .connections = 4096,
};

static struct timeval from_ms(int64_t ms) { return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000}; }

void server_unref(struct http_server *s) {
    if (--s->refs)
        return;
    free(s);
}

void http_date(int64_t t, char out[HTTP_DATE_MAX]) {
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    int y, mo, d, h, mi, sec;
    clock_to_civil(t, &y, &mo, &d, &h, &mi, &sec);
    snprintf(out, HTTP_DATE_MAX, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[(t / CLOCK_DAY + 4) % 7], d, months[mo - 1], y, h, mi, sec);
}

const char *server_date(struct http_server *s) {
    int64_t now = clock_now();
    if (now != s->date_at) {
        http_date(now, s->date);
        s->date_at = now;
    }
    return s->date;
}

void server_warn(struct http_server *s, const char *event) {
    int64_t now = clock_mono_ms();
    if (s->warned_at && now - s->warned_at < 10000)
        return;
    s->warned_at = now;
    log_event(LOG_WARN, event, "connections", log_num((long long)s->n), NULL);
}

static void finish_drain(struct http_server *s) {
    loop_fn drained = TAKE(s->drained);
    event_del(&s->ev_drain);
    if (drained)
        drained(s->drained_arg);
}

/* --- memory ------------------------------------------------------------------------------------------------------------------------ */

/* What many connections took lies in pieces between what lives on, where libc keeps it for good. */
static void on_trim(evutil_socket_t fd, short what, void *arg) {
    struct http_server *s = arg;
    malloc_trim(0);
    s->most = s->n;
}

static void trim_later(struct http_server *s) {
    struct timeval later = from_ms(TRIM_MS);
    if (s->n + TRIM_AFTER <= s->most && !event_pending(&s->ev_trim, EV_TIMEOUT, NULL))
        event_add(&s->ev_trim, &later);
}

void server_conn_gone(struct http_conn *c) {
    struct http_server *s = c->server;
    TAILQ_REMOVE(&s->all, c, all);
    if (c->state == CONN_IDLE)
        TAILQ_REMOVE(&s->idle, c, idle);
    conn_spoke(c);
    s->n--;
    trim_later(s);
    metrics_add(METRIC_OPEN, 0, 0, -1);
    if (s->draining && s->n == 0 && s->drained) /* from a turn of its own: the caller is deep inside the connection */
        event_active(&s->ev_drain, EV_TIMEOUT, 1);
}

/* --- accepting -------------------------------------------------------------------------------------------------------------------- */

/* Descriptors have run out: gives one up to take the connection and close it, so that the client learns at once. */
static void refuse_one(struct http_server *s) {
    fd_close(TAKE_FD(s->spare_fd));
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    fd_close(fd);
    metrics_count(METRIC_TURNED_AWAY, 0, 0);
    s->spare_fd = fcntl(s->listen_fd, F_DUPFD_CLOEXEC, 0);
    server_warn(s, "descriptors_exhausted");
    struct timeval pause = from_ms(PAUSE_MS);
    event_del(&s->ev_accept);
    event_add(&s->ev_resume, &pause);
}

static void on_accept(evutil_socket_t listen_fd, short what, void *arg) {
    struct http_server *s = arg;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage from;
        socklen_t n = sizeof from;
        int fd = accept4(listen_fd, (struct sockaddr *)&from, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            refuse_one(s);
            return;
        }
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (fd < 0) /* that connection is gone already */
            continue;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* not on a Unix socket, which waits for nothing */
        struct http_conn *c = server_make_room(s) ? conn_new(s, fd, (struct sockaddr *)&from) : NULL;
        metrics_count(METRIC_ACCEPTED, 0, 0);
        if (!c) {
            metrics_count(METRIC_TURNED_AWAY, 0, 0);
            close(fd);
        }
    }
}

static void on_resume(evutil_socket_t fd, short what, void *arg) {
    struct http_server *s = arg;
    if (!s->draining)
        event_add(&s->ev_accept, NULL);
}

static void close_all(struct http_server *s) {
    struct http_conn *c, *next;
    TAILQ_FOREACH_SAFE(c, &s->all, all, next)
    conn_close(c);
}

static void on_drain(evutil_socket_t fd, short what, void *arg) {
    struct http_server *s = arg;
    close_all(s);
    finish_drain(s);
}

struct http_server *http_server_new(const struct http_server_options *o, struct err *err) {
    struct http_server *s = calloc(1, sizeof *s);
    if (!s) {
        fd_close(o->listen_fd);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    signal(SIGPIPE, SIG_IGN);
    s->o = *o;
    s->refs = 1;
    s->listen_fd = o->listen_fd;
    s->spare_fd = fcntl(o->listen_fd, F_DUPFD_CLOEXEC, 0);
    TAILQ_INIT(&s->all);
    TAILQ_INIT(&s->idle);
    TAILQ_INIT(&s->silent);
    struct event_base *base = loop_base(o->loop);
    int flags = fcntl(s->listen_fd, F_GETFL), unsent = UNSENT_MAX;
    setsockopt(s->listen_fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent); /* inherited; not on a Unix socket */
    event_assign(&s->ev_accept, base, s->listen_fd, EV_READ | EV_PERSIST, on_accept, s);
    event_assign(&s->ev_resume, base, -1, 0, on_resume, s);
    event_assign(&s->ev_drain, base, -1, 0, on_drain, s);
    event_assign(&s->ev_trim, base, -1, 0, on_trim, s);
    if (flags < 0 || fcntl(s->listen_fd, F_SETFL, flags | O_NONBLOCK) || event_add(&s->ev_accept, NULL)) {
        err_set(err, MUSTER_EIO, "The listening socket cannot be used: %s.", strerror(errno));
        http_server_free(s);
        return NULL;
    }
    return s;
}

void http_server_drain(struct http_server *s, int after_ms, loop_fn drained, void *arg) {
    struct http_conn *c, *next;
    s->draining = true;
    s->drained = drained;
    s->drained_arg = arg;
    event_del(&s->ev_accept);
    event_del(&s->ev_resume);
    fd_close(TAKE_FD(s->listen_fd));
    fd_close(TAKE_FD(s->spare_fd)); /* a duplicate, which would keep the socket listening with nobody to accept */
    TAILQ_FOREACH_SAFE(c, &s->all, all, next) {
        if (c->state == CONN_IDLE)
            conn_end(c);
        else if (c->state == CONN_HANDSHAKE || c->state == CONN_HEAD)
            conn_hurry(c);
    }
    struct timeval at_most = from_ms(s->n ? after_ms : 0);
    event_add(&s->ev_drain, &at_most);
}

void http_server_free(struct http_server *s) {
    if (!s)
        return;
    event_del(&s->ev_accept);
    event_del(&s->ev_resume);
    event_del(&s->ev_drain);
    s->drained = NULL;
    s->draining = true;
    close_all(s);
    event_del(&s->ev_drain);
    event_del(&s->ev_trim);
    fd_close(TAKE_FD(s->listen_fd));
    fd_close(TAKE_FD(s->spare_fd));
    server_unref(s);
}

void http_address_text(const struct sockaddr *a, char out[HTTP_ADDRESS_MAX]) {
    const void *bytes = a->sa_family == AF_INET ? (const void *)&((const struct sockaddr_in *)(const void *)a)->sin_addr
                                                : (const void *)&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
    if (a->sa_family == AF_UNIX || !inet_ntop(a->sa_family, bytes, out, HTTP_ADDRESS_MAX))
        out[0] = '\0';
}

void http_conn_address_text(const struct http_conn *c, char out[HTTP_ADDRESS_MAX]) {
    out[0] = '\0';
    if (c)
        http_address_text(&c->address.sa, out);
}

bool http_conn_user(const struct http_conn *c, uid_t *uid) {
    struct ucred who;
    socklen_t n = sizeof who;
    if (c->dead || c->address.sa.sa_family != AF_UNIX || getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &who, &n) || n != sizeof who)
        return false;
    *uid = who.uid;
    return true;
}

size_t http_server_connections(const struct http_server *s) { return s->n; }

void http_server_each(struct http_server *s, void (*fn)(struct http_conn *c, void *peer, void *arg), void *arg) {
    struct http_conn *c, *next;
    TAILQ_FOREACH_SAFE(c, &s->all, all, next) {
        if (c->identified)
            fn(c, c->peer, arg);
    }
}
