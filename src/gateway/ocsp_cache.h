/* ocsp_cache: OCSP answers that were signed lately, by what was asked.  Bounded; the one not asked for for longest goes.  From any
 * thread: whoever asks is given the same bytes, whichever loop he comes to.
 *
 * It does not know whether an answer still holds: that the registry's word of trust (registry/trust.h) and what was said in it tell. */
#ifndef MUSTER_GATEWAY_OCSP_CACHE_H
#define MUSTER_GATEWAY_OCSP_CACHE_H

#include "pki/key.h"

struct ocsp_kept {
    struct hash said;                 /* stands for what the registry said, of each certificate */
    uint64_t trust;                   /* the word under which it said so last */
    int64_t made, this_update, next_update;
    struct hash der_hash;
    struct span der;
};

struct ocsp_cache;
struct ocsp_cache *ocsp_cache_new(size_t most); /* at least 1; NULL: out of memory */
void ocsp_cache_free(struct ocsp_cache *c);     /* NULL accepted */
/* *out's der is in `der`, which is cleared first.  False: not there. */
bool ocsp_cache_get(struct ocsp_cache *c, const struct hash *asked, struct ocsp_kept *out, struct buf *der);
/* The registry has said the same again, under that word. */
void ocsp_cache_trust(struct ocsp_cache *c, const struct hash *asked, const struct hash *said, uint64_t trust);
/* Copies it, in the place of one that is there; nothing happens where memory is short. */
void ocsp_cache_put(struct ocsp_cache *c, const struct hash *asked, const struct ocsp_kept *kept);

DEFINE_CLEANUP(ocsp_cache_free, struct ocsp_cache *)

#endif
