/* tls_cache: the stateful session cache of a tls_server: bounded, sharded, shared by all loops.
 *
 * It holds SSL_SESSION objects themselves: their serialised form loses the client's chain, and parsing one again costs as
 * much as the handshake that resumption saves.  First in, first out: all sessions live equally long, so the oldest is the one
 * that ends next. */
#ifndef MUSTER_HTTP_TLS_CACHE_H
#define MUSTER_HTTP_TLS_CACHE_H

#include <openssl/ssl.h>
#include <stdbool.h>

struct tls_cache;

/* `entries`: at most so many sessions, whose client certificates together take at most entries * 4 KiB of DER. */
struct tls_cache *tls_cache_new(size_t entries);
void tls_cache_free(struct tls_cache *c); /* NULL accepted */
/* All from any thread. */
/* Takes over one reference to the session where it returns true; false: not kept (no ID, or too large).  `weight`: bytes of DER
 * of the client certificates that it holds. */
bool tls_cache_put(struct tls_cache *c, SSL_SESSION *s, size_t weight);
/* A new reference, or NULL. */
SSL_SESSION *tls_cache_get(struct tls_cache *c, const unsigned char *id, size_t n);
void tls_cache_remove(struct tls_cache *c, const SSL_SESSION *s);
size_t tls_cache_count(struct tls_cache *c);

#endif
