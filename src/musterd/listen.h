/* listen: listening sockets, made by the supervisor before anything is confined, and kept by it while processes come and go. */
#ifndef MUSTER_MUSTERD_LISTEN_H
#define MUSTER_MUSTERD_LISTEN_H

#include <stddef.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/span.h"

struct listen_address {
    struct sockaddr_storage at;
    socklen_t n;
};

/* "ADDR:PORT", "[ADDR]:PORT" for IPv6; numbers alone.  what: the setting's name for the error, MUSTER_ECONFIG. */
int listen_parse(const char *text, const char *what, struct listen_address *out, struct err *err) MUSTER_MUST_CHECK;
unsigned listen_port(const struct listen_address *a);
/* n sockets on the same address, close-on-exec and non-blocking; with n > 1 they share the port (SO_REUSEPORT).  Port 0 is replaced in
 * *a by the one that was picked.  MUSTER_ELISTEN, also where somebody else, of whatever user, listens there: then with retry_after set. */
int listen_open(struct listen_address *a, const char *what, int *fds, size_t n, struct err *err) MUSTER_MUST_CHECK;
/* A Unix stream socket `name` in the directory, mode 0600; a stale one is replaced. */
int listen_local(int dirfd, const char *name, int *fd, struct err *err) MUSTER_MUST_CHECK;
/* https://… of a gateway or admin listener: host is the name to use where the address is not one that every certificate holds. */
int listen_url(const struct listen_address *a, const char *host, char *out, size_t max, struct err *err) MUSTER_MUST_CHECK;
/* The same, http://…, of a listener without TLS. */
int listen_url_plain(const struct listen_address *a, const char *host, char *out, size_t max, struct err *err) MUSTER_MUST_CHECK;
/* As listen_url, with the address itself where it is 127.0.0.1 or ::1. */
int listen_url_local(const struct listen_address *a, const char *host, char *out, size_t max, struct err *err) MUSTER_MUST_CHECK;

#endif
