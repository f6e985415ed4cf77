/* library: the OpenSSL library context in which certificates and requests are read.
 *
 * To read the key in a certificate OpenSSL 3.0 tries every decoder of every provider in the context, and to find them it goes through all
 * algorithms that the context has ever had, ciphers too: about 170 µs in the default context, about 40 where only those are that a TLS
 * server and a public key in a certificate need.  Each handshake with a client certificate pays that, and so does whoever reads
 * certificates by the thousand.  So they have a context of their own, whose one provider is the default provider with fewer decoders,
 * kinds of keys and ciphers; everything else of it, digests, groups, random numbers, is the default provider's.  With OpenSSL 3.2 and
 * later it gains little and costs nothing. */
#ifndef MUSTER_PKI_LIBRARY_H
#define MUSTER_PKI_LIBRARY_H

#include <openssl/types.h>

/* Made by the first call, for the life of the process; from any thread.  NULL, which to OpenSSL is the default context and does the same
 * for more, if it cannot be made. */
OSSL_LIB_CTX *pki_library(void);

#endif
