/* auth_cache: the peers that a proxy has asked about lately, by what it said of them: judging a chain again for each request of a device
 * would cost as much as a handshake.  Bounded; the one not asked about for longest goes.  Of one loop.
 *
 * It keeps identities, not verdicts: whether one still counts, its epoch says (verifier.h). */
#ifndef MUSTER_GATEWAY_AUTH_CACHE_H
#define MUSTER_GATEWAY_AUTH_CACHE_H

#include "verifier/verifier.h"

struct auth_cache;
struct auth_cache *auth_cache_new(size_t max); /* at least 1; NULL: out of memory */
void auth_cache_free(struct auth_cache *c);    /* NULL accepted */
/* Borrowed until the next call; NULL: not there. */
struct identity *auth_cache_get(struct auth_cache *c, const struct hash *key);
/* Takes a reference of its own; nothing happens where memory is short.  The key is not there yet. */
void auth_cache_put(struct auth_cache *c, const struct hash *key, struct identity *id);

#endif
