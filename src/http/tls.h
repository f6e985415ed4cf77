/* tls: the server side of TLS 1.2 and 1.3 (libssl).
 *
 * A tls_server is shared by all loops: it owns the session cache and a set of identities (certificate, chain and key) chosen by
 * SNI.  Identities are replaced whole (tls_server_set) without touching connections that are open. */
#ifndef MUSTER_HTTP_TLS_H
#define MUSTER_HTTP_TLS_H

#include <openssl/ssl.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

struct tls_identity {
    const char *name;   /* host name for SNI, lower case; "" is the one used where no other matches */
    struct span chain;  /* PEM, leaf first */
    struct span key;    /* PEM */
};

struct tls_options {
    bool client_certificates; /* ask for one (optional at this layer: any is accepted, the layer above judges it); at most 24 KiB */
    size_t sessions;          /* stateful cache, entries; 0: no resumption.  No stateless tickets, ever: they cost as much as a full handshake and cannot be forgotten */
    int session_seconds;
};

struct tls_server;
struct tls_server *tls_server_new(const struct tls_options *o, struct err *err);
void tls_server_free(struct tls_server *t);
/* Replaces all identities; all or nothing: on failure the old ones stay.  From any thread. */
int tls_server_set(struct tls_server *t, const struct tls_identity *ids, size_t n, struct err *err) MUSTER_MUST_CHECK;
/* A new server-side connection. */
SSL *tls_server_accept(struct tls_server *t);
/* The SNI host name that the client sent on this connection (also when resumed), lower case; "" none. */
const char *tls_sni(const SSL *ssl);
/* Drops a session so that it cannot be resumed. */
void tls_forget(SSL *ssl);

#endif
