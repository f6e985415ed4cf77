/* tls_client: the client side of TLS 1.2 and 1.3, towards servers behind the gateway.  The other side is always verified. */
#ifndef MUSTER_HTTP_TLS_CLIENT_H
#define MUSTER_HTTP_TLS_CLIENT_H

#include <openssl/ssl.h>

#include "base/err.h"
#include "base/span.h"

/* ca: PEM, what the server is verified with.  chain, key: PEM, the own certificate, leaf first; empty: none.  Nobody's name is checked
 * here: whoever makes a connection says which one it has to be.  The caller frees with SSL_CTX_free(). */
int tls_client_new(struct span ca, struct span chain, struct span key, SSL_CTX **out, struct err *err) MUSTER_MUST_CHECK;

#endif
