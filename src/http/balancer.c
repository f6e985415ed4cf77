/* balancer: connections that come from a balancer of the operator's own: who is behind it (PROXY protocol v2); see conn.h.
 *
 * Only whom options.is_balancer names may say so; from anybody else the header is no TLS, and the handshake fails on it. */
#include <errno.h>

#include "http/conn.h"
#include "http/proxy_header.h"

#define REFUSALS_LOGGED 5 /* lines a second and loop */

/* A balancer that is set up wrong says it with every connection. */
void conn_refuse_balancer(struct http_conn *c, const struct err *why) {
    struct http_server *s = c->server;
    char address[HTTP_ADDRESS_MAX];
    http_address_text(&c->address.sa, address);
    if (log_within(&s->balancers, REFUSALS_LOGGED, "proxy_headers_not_logged"))
        log_err(LOG_WARN, "proxy_header_refused", why, "address", address, NULL);
    conn_close(c);
}

static void take(struct http_conn *c) {
    struct proxy_header header;
    struct err err = ERR_INIT;
    if (proxy_header_read(buf_span(&c->in), &header, &err)) {
        conn_refuse_balancer(c, &err);
        return;
    }
    if (!header.local)
        conn_set_address(c, &header.source.sa);
    buf_fini(&c->in);
    c->awaits_header = false;
    if (conn_turned_away(c))
        http_conn_abort(c);
}

/* Never a byte more than the header has: what follows is TLS's, which reads the socket by itself. */
void conn_read_balancer(struct http_conn *c) {
    struct err err = ERR_INIT;
    while (!c->dead && c->awaits_header) {
        size_t total;
        if (proxy_header_scan(buf_span(&c->in), &total, &err)) {
            conn_refuse_balancer(c, &err);
            return;
        }
        if (c->in.n == total) {
            take(c);
            return;
        }
        ssize_t n = recv(c->fd, c->server->scratch, total - c->in.n, 0);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return;
        if (n <= 0 && c->in.n == 0) { /* opened and closed: that is how balancers look whether anybody is there */
            conn_close(c);
            return;
        }
        if (n <= 0) {
            err_set(&err, MUSTER_EINVALID, "The PROXY header is cut off after %zu bytes.", c->in.n);
            conn_refuse_balancer(c, &err);
            return;
        }
        buf_add(&c->in, span_of(c->server->scratch, (size_t)n));
        if (!buf_ok(&c->in))
            conn_close(c);
    }
}
