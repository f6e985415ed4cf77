/* tls_cache: the stateful session cache of a tls_server: bounded, sharded, shared by all loops.
 *
 * It holds SSL_SESSION objects themselves: their serialised form loses the client's chain, and parsing one again costs as
 * much as the handshake that resumption saves.  First in, first out: all sessions live equally long, so the oldest is the one
 * that ends next.
 *
 * One client holds a few of them at a time, whatever it does: a device that opens connections without end neither pushes the
 * sessions of the others out nor keeps memory from the heap, in which each session lies in many pieces. */
#ifndef MUSTER_HTTP_TLS_CACHE_H
#define MUSTER_HTTP_TLS_CACHE_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "base/span.h"

struct tls_cache;

/* `entries`: at most so many sessions, whose client certificates together take at most entries * 4 KiB of DER. */
struct tls_cache *tls_cache_new(size_t entries);
void tls_cache_free(struct tls_cache *c); /* NULL accepted */
/* All from any thread. */
/* Takes over one reference to the session where it returns true; false: not kept (no ID, or too large).  `weight`: bytes of DER
 * of the client certificates that it holds.  `owner`: the client's public key, whose oldest sessions go
 * where it has more than 2 in one of the 16 shards, so that it never has more than 32; empty: nobody's, not counted. */
bool tls_cache_put(struct tls_cache *c, SSL_SESSION *s, struct span owner, size_t weight);
/* A new reference, or NULL. */
SSL_SESSION *tls_cache_get(struct tls_cache *c, const unsigned char *id, size_t n);
void tls_cache_remove(struct tls_cache *c, const SSL_SESSION *s);
size_t tls_cache_count(struct tls_cache *c);

#endif
