/* tls_fault: why a TLS connection ended, as an error that a person can act on.  conn.c asks; nothing here changes a connection. */
#ifndef MUSTER_HTTP_TLS_FAULT_H
#define MUSTER_HTTP_TLS_FAULT_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "base/err.h"

enum tls_end {
    TLS_END_ERROR,   /* libssl says why */
    TLS_END_CLOSED,  /* the client closed, or the network did */
    TLS_END_TIMEOUT,
};

/* Fills *why and returns true; e: libssl's error, for TLS_END_ERROR.  False where there is nothing to tell: nobody sent a byte, or (handshake false) the connection ended
 * after its handshake otherwise than by an alert of the client's. */
bool tls_fault(SSL *ssl, enum tls_end how, unsigned long e, bool handshake, struct err *why);

#endif
