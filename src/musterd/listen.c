/* listen: see listen.h. */
#include "musterd/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"

#define BACKLOG 4096
#define PICKS 16 /* tries to get a picked port for all sockets */

DEFINE_CLEANUP(freeaddrinfo, struct addrinfo *)

int listen_parse(const char *text, const char *what, struct listen_address *out, struct err *err) {
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    const char *colon = strrchr(text, ':');
    char host[64];
    uint64_t port;
    size_t n = colon ? (size_t)(colon - text) : 0;
    bool bracket = n >= 2 && text[0] == '[' && text[n - 1] == ']';
    if (!colon || n == 0 || n >= sizeof host || (!bracket && memchr(text, ':', n)) || !span_to_u64(span_str(colon + 1), &port) || port > 65535)
        return err_set(err, MUSTER_ECONFIG, "%s: `%s` is not ADDR:PORT, or [ADDR]:PORT for IPv6.", what, text);
    snprintf(host, sizeof host, "%.*s", (int)(bracket ? n - 2 : n), text + bracket);
    CLEANUP(freeaddrinfo) struct addrinfo *found = NULL;
    if (getaddrinfo(host, colon + 1, &hints, &found) || found->ai_addrlen > sizeof out->at)
        return err_set(err, MUSTER_ECONFIG, "%s: `%s` is not an IP address.", what, host);
    *out = (struct listen_address){.n = found->ai_addrlen};
    memcpy(&out->at, found->ai_addr, found->ai_addrlen);
    return 0;
}

unsigned listen_port(const struct listen_address *a) {
    return ntohs(a->at.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)&a->at)->sin6_port : ((const struct sockaddr_in *)&a->at)->sin_port);
}

static int failed(struct err *err, const char *what, const struct listen_address *a) {
    int code = errno;
    return err_retry(err, MUSTER_ELISTEN, code == EADDRINUSE, "%s: nothing can listen on port %u: %s.", what, listen_port(a), strerror(code));
}

/* -1 with errno. */
static int bound(const struct listen_address *a, bool share) {
    int on = 1, off = 0;
    CLEANUP(fd_close) int fd = socket(a->at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) || (share && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on)) ||
        (a->at.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off)) || bind(fd, (const struct sockaddr *)&a->at, a->n))
        return -1;
    return TAKE_FD(fd);
}

static int listen_all(const struct listen_address *a, int *fds, size_t n, bool share) {
    size_t made = 0;
    while (made < n && (fds[made] = bound(a, share)) >= 0 && listen(fds[made], BACKLOG) == 0)
        made++;
    if (made == n)
        return 0;
    int code = errno;
    for (size_t i = 0; i <= made; i++)
        fd_close(TAKE_FD(fds[i]));
    errno = code;
    return -1;
}

/* A socket that does not share the port finds out whether anybody listens there: with SO_REUSEPORT, a second server of the same user would
 * silently get half of the connections.  It has to listen: sockets that are only bound do not get in each other's way. */
int listen_open(struct listen_address *a, const char *what, int *fds, size_t n, struct err *err) {
    bool pick = listen_port(a) == 0;
    for (size_t i = 0; i < n; i++)
        fds[i] = -1;
    for (int tries = 0; tries < PICKS; tries++) {
        struct listen_address at = *a;
        CLEANUP(fd_close) int probe = bound(a, false);
        if (probe < 0 || listen(probe, 1) || getsockname(probe, (struct sockaddr *)&at.at, &at.n))
            return failed(err, what, a);
        fd_close(TAKE_FD(probe));
        if (listen_all(&at, fds, n, n > 1) == 0) {
            *a = at;
            return 0;
        }
        if (!pick)
            break;
    }
    return failed(err, what, a);
}

/* By way of /proc, because the path of a socket has 107 bytes at most. */
int listen_local(int dirfd, const char *name, int *fd, struct err *err) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "/proc/self/fd/%d/%s", dirfd, name);
    CLEANUP(fd_close) int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlinkat(dirfd, name, 0);
    mode_t old = umask(0177);
    int rc = s < 0 || bind(s, (const struct sockaddr *)&at, sizeof at) || listen(s, 8);
    int code = errno;
    umask(old);
    if (rc)
        return err_set(err, MUSTER_EIO, "%s in the data directory cannot be made: %s.", name, strerror(code));
    *fd = TAKE_FD(s);
    return 0;
}

static int put_url(const char *scheme, const char *host, unsigned port, char *out, size_t max, struct err *err) {
    bool v6 = strchr(host, ':') != NULL;
    if (snprintf(out, max, "%s://%s%s%s:%u", scheme, v6 ? "[" : "", host, v6 ? "]" : "", port) >= (int)max)
        return err_set(err, MUSTER_ECONFIG, "host: `%s` is too long.", host);
    return 0;
}

int listen_url(const struct listen_address *a, const char *host, char *out, size_t max, struct err *err) {
    return put_url("https", host, listen_port(a), out, max, err);
}

int listen_url_plain(const struct listen_address *a, const char *host, char *out, size_t max, struct err *err) {
    return put_url("http", host, listen_port(a), out, max, err);
}

int listen_url_local(const struct listen_address *a, const char *host, char *out, size_t max, struct err *err) {
    char text[64];
    bool named = getnameinfo((const struct sockaddr *)&a->at, a->n, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0 &&
                 (!strcmp(text, "127.0.0.1") || !strcmp(text, "::1"));
    return put_url("https", named ? text : host, listen_port(a), out, max, err);
}
