/* refusal_ring: the refusals of one second on one loop, before they are written down together.  Pure: no clock, no store, no loop.
 *
 * It bounds what a second's refusals cost, however many there are: RING_MAX records, of which those who are not known get at most
 * RING_UNKNOWN, those of them who name no account RING_STRANGERS, those who name one RING_ACCOUNT each, and one source RING_SOURCE.  Beside them
 * there is room for RING_SHADOW of whom what is tried would have refused: a fleet that comes back at once takes no room from who is refused.  What
 * does not fit is counted and forgotten.  A refusal that is in already costs a count and nothing else. */
#ifndef MUSTER_GATEWAY_REFUSAL_RING_H
#define MUSTER_GATEWAY_REFUSAL_RING_H

#include "registry/refusal.h"

#define RING_MAX 128
#define RING_UNKNOWN 64
#define RING_ACCOUNT 32
#define RING_STRANGERS 16
#define RING_SOURCE 8
#define RING_SHADOW 128
#define RING_BATCH (RING_MAX + RING_SHADOW)
#define RING_CHAIN_BYTES (256 * 1024)         /* of certificates in all; what goes beyond is left out of its record */
#define RING_CHAIN_BYTES_UNKNOWN (128 * 1024) /* of those who are not known; and beside it as much of those whom what is tried would have refused */

struct refusal_ring {
    struct refusal *at[RING_BATCH];
    size_t n, n_shadow; /* n: all; n_shadow: of them */
    size_t chain_bytes, chain_bytes_shadow; /* each without the other */
    int64_t dropped; /* since it was last read */
};

/* Counts one more of the refusal with this id; false: it is not in. */
bool refusal_ring_count(struct refusal_ring *r, const struct uuid *id, int64_t now);
enum ring_whose { RING_WHO_IS_UNKNOWN, RING_WHO_IS_KNOWN, RING_WHO_IS_TRIED };
/* Whether one of these would fit; where not, it is counted as dropped.  account and name as in struct refusal. */
bool refusal_ring_has_room(struct refusal_ring *r, enum ring_whose whose, int64_t account, const char *name, const char *source);
/* Takes x over, for which there was room. */
void refusal_ring_put(struct refusal_ring *r, struct refusal *x);
/* Moves everything out; the number. */
size_t refusal_ring_take(struct refusal_ring *r, struct refusal *out[RING_BATCH]);
void refusal_ring_clear(struct refusal_ring *r);

#endif
