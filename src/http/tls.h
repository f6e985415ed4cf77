/* tls: the server side of TLS 1.2 and 1.3 (libssl).
 *
 * A tls_server is shared by all loops: it owns the session cache and a set of identities (certificate, chain and key) chosen by
 * SNI.  Identities are replaced whole (tls_server_set) without touching connections that are open or sessions in the cache.
 *
 * It judges no client certificate: any that the client proves to hold is accepted, so that the layer above can refuse it with
 * a reason.  A session is resumed under whatever SNI name the client sends then; the layer above judges every connection,
 * resumed or not, by tls_sni() and the certificate. */
#ifndef MUSTER_HTTP_TLS_H
#define MUSTER_HTTP_TLS_H

#include <openssl/ssl.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/span.h"

#define TLS_CLIENT_CERTS_MAX 24576 /* bytes of a Certificate message; more ends the handshake */

struct tls_identity {
    const char *name;   /* host name for SNI, lower case; "" is the one used where no other matches */
    struct span chain;  /* PEM, leaf first */
    struct span key;    /* PEM, not encrypted */
};

struct tls_options {
    bool client_certificates; /* ask for one (optional at this layer: any is accepted, the layer above judges it) */
    size_t sessions;          /* stateful cache, entries; 0: no resumption.  No stateless tickets, ever: they cost as much as a full handshake and cannot be forgotten */
    int session_seconds;      /* at least 1 where sessions is not 0 */
    bool cleanse;             /* what was read is wiped behind it, each time in a whole buffer: for those who hear tokens */
};

struct tls_server;
struct tls_server *tls_server_new(const struct tls_options *o, struct err *err);
void tls_server_free(struct tls_server *t); /* after every SSL made from it; NULL accepted */
/* Replaces all identities; all or nothing: on failure the old ones stay.  One of them has to be "".  From any thread. */
int tls_server_set(struct tls_server *t, const struct tls_identity *ids, size_t n, struct err *err) MUSTER_MUST_CHECK;
/* A new server-side connection; NULL when out of memory. */
SSL *tls_server_accept(struct tls_server *t);
/* The SNI host name that the client sent on this connection (also when resumed), lower case; "" none. */
const char *tls_sni(const SSL *ssl);
/* Drops the connection's session so that it cannot be resumed.  Sessions of earlier connections of the same client, which TLS 1.3
 * makes one a connection, stay: a verdict is never taken from a session alone. */
void tls_forget(SSL *ssl);
/* Sessions in the cache, for metrics and tests. */
size_t tls_server_sessions(struct tls_server *t);

DEFINE_CLEANUP(tls_server_free, struct tls_server *)

#endif
