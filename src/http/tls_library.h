/* tls_library: the OpenSSL library context of TLS servers.
 *
 * To read the key in a certificate OpenSSL 3.0 tries every decoder of every provider in the context: about 170 µs with the default
 * provider's 40 decoders, about 60 with the few that can read a public key in a certificate.  Each handshake with a client certificate pays
 * that.  So TLS servers have a context of their own, whose one provider is the default provider with fewer decoders; everything else of it,
 * algorithms, groups, random numbers, is the default provider's.  With OpenSSL 3.2 and later it gains little and costs nothing. */
#ifndef MUSTER_HTTP_TLS_LIBRARY_H
#define MUSTER_HTTP_TLS_LIBRARY_H

#include <openssl/types.h>

/* Made by the first call, for the life of the process; from any thread.  NULL, which to libssl is the default context and does the same
 * for more, if it cannot be made. */
OSSL_LIB_CTX *tls_library(void);

#endif
