/* client_wire: the connections of the client, busy or kept for another request; see client.h. */
#include <openssl/x509v3.h>
#include <poll.h>

#include "http/client_part.h"

#define IDLE_MAX 32       /* wires kept for another request, of one client */
#define IDLE_MS 15000

/* --- wires ------------------------------------------------------------------------------------------------------------------------ */

void client_wire_free(struct wire *w) {
    if (w->call)
        w->call->wire = NULL;
    TAILQ_REMOVE(w->call ? &w->client->busy : &w->client->idle, w, entry);
    w->client->n_idle -= w->call ? 0 : 1;
    loop_timer_free(w->timer);
    bufferevent_free(w->bev);
    free(w);
}

void client_wire_borrow(struct wire *w, struct http_call *call) {
    if (!w->call && w->used) {
        TAILQ_REMOVE(&w->client->idle, w, entry);
        w->client->n_idle--;
        TAILQ_INSERT_TAIL(&w->client->busy, w, entry);
    }
    w->call = call;
    call->wire = w;
}

/* Kept for the next one. */
void client_wire_return(struct wire *w) {
    struct http_client *c = w->client;
    if (c->n_idle >= IDLE_MAX)
        client_wire_free(TAILQ_FIRST(&c->idle));
    w->call->wire = NULL;
    TAILQ_REMOVE(&c->busy, w, entry);
    w->call = NULL;
    w->used = true;
    TAILQ_INSERT_TAIL(&c->idle, w, entry);
    c->n_idle++;
    loop_timer_set(w->timer, IDLE_MS);
}

static bool is_address(const char *host) {
    uint8_t any[16];
    return evutil_inet_pton(AF_INET, host, any) == 1 || evutil_inet_pton(AF_INET6, host, any) == 1;
}

static SSL *tls_for(const struct http_origin *to) {
    SSL *ssl = SSL_new(to->tls);
    bool address = is_address(to->tls_name);
    if (ssl) /* the names that a certificate is for stand in subjectAltName (RFC 9525, 6.3) */
        SSL_set_hostflags(ssl, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    bool ok = ssl && (address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), to->tls_name) == 1
                              : SSL_set1_host(ssl, to->tls_name) == 1 && SSL_set_tlsext_host_name(ssl, to->tls_name) == 1);
    if (ok)
        return ssl;
    SSL_free(ssl);
    return NULL;
}

struct bufferevent *client_bev_new(struct http_client *c, const struct http_origin *to) {
    const int options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS;
    struct event_base *base = loop_base(c->loop);
    if (!to->tls)
        return bufferevent_socket_new(base, -1, options);
    SSL *ssl = tls_for(to);
    struct bufferevent *bev = ssl ? bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_CONNECTING, options) : NULL;
    if (!bev)
        SSL_free(ssl);
    return bev;
}

size_t client_busy_with(const struct http_client *c, const struct http_origin *to) {
    size_t n = 0;
    struct wire *w;
    TAILQ_FOREACH(w, &c->busy, entry) n += w->to == to;
    return n;
}

/* Bytes that nobody asked for would be taken for the answer; and an end that has come is one that need not be learnt from a failure. */
static bool is_quiet(const struct wire *w) {
    struct pollfd p = {.fd = bufferevent_getfd(w->bev), .events = POLLIN | POLLRDHUP};
    return evbuffer_get_length(bufferevent_get_input(w->bev)) == 0 && poll(&p, 1, 0) == 0;
}

/* The newest that is fit to be used again. */
struct wire *client_wire_idle(struct http_client *c, const struct http_origin *to) {
    for (;;) {
        struct wire *w, *newest = NULL;
        TAILQ_FOREACH(w, &c->idle, entry) newest = w->to == to ? w : newest;
        if (!newest || is_quiet(newest))
            return newest;
        client_wire_free(newest);
    }
}

/* --- the client ------------------------------------------------------------------------------------------------------------------------------------- */

struct http_client *http_client_new(struct loop *l, bool names, struct err *err) {
    struct http_client *c = calloc(1, sizeof *c);
    if (!c) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    c->loop = l;
    TAILQ_INIT(&c->busy);
    TAILQ_INIT(&c->idle);
    if (!names)
        return c;
    c->names = evdns_base_new(loop_base(l), 0);
    if (!c->names) {
        free(c);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    /* Without the file it asks 127.0.0.1, as the C library does. */
    evdns_base_resolv_conf_parse(c->names, DNS_OPTIONS_ALL, "/etc/resolv.conf");
    return c;
}

void http_client_free(struct http_client *c) {
    struct wire *w;
    if (!c)
        return;
    while ((w = TAILQ_FIRST(&c->idle)))
        client_wire_free(w);
    if (c->names)
        evdns_base_free(c->names, 0);
    free(c);
}
