/* refusal_ring: see refusal_ring.h. */
#include "gateway/refusal_ring.h"

bool refusal_ring_count(struct refusal_ring *r, const struct uuid *id, int64_t now) {
    for (size_t i = 0; i < r->n; i++) {
        if (!uuid_eq(&r->at[i]->id, id))
            continue;
        r->at[i]->count++;
        r->at[i]->last = now;
        return true;
    }
    return false;
}

static bool fits(const struct refusal_ring *r, enum ring_whose whose, int64_t account, const char *name, const char *source) {
    size_t unknown = 0, of_account = 0, of_source = 0;
    if (whose == RING_WHO_IS_TRIED)
        return r->n_shadow < RING_SHADOW;
    if (r->n - r->n_shadow == RING_MAX)
        return false;
    if (whose == RING_WHO_IS_KNOWN) /* its key was proved, and it makes no more records than there are reasons */
        return true;
    for (size_t i = 0; i < r->n; i++) {
        const struct refusal *x = r->at[i];
        if (x->device || x->code == MUSTER_ESHADOW)
            continue;
        unknown++;
        of_account += x->account == account && strcmp(x->account_name, name) == 0;
        of_source += strcmp(x->source, source) == 0;
    }
    return unknown < RING_UNKNOWN && of_account < (account || *name ? RING_ACCOUNT : RING_STRANGERS) && of_source < RING_SOURCE;
}

bool refusal_ring_has_room(struct refusal_ring *r, enum ring_whose whose, int64_t account, const char *name, const char *source) {
    if (fits(r, whose, account, name, source))
        return true;
    r->dropped++;
    return false;
}

void refusal_ring_put(struct refusal_ring *r, struct refusal *x) {
    const bool shadow = x->code == MUSTER_ESHADOW;
    size_t *bytes = shadow ? &r->chain_bytes_shadow : &r->chain_bytes, most = x->device && !shadow ? RING_CHAIN_BYTES : RING_CHAIN_BYTES_UNKNOWN;
    if (*bytes + x->chain.n > most)
        buf_fini(&x->chain);
    *bytes += x->chain.n;
    r->n_shadow += shadow;
    r->at[r->n++] = x;
}

size_t refusal_ring_take(struct refusal_ring *r, struct refusal *out[RING_BATCH]) {
    size_t n = r->n;
    memcpy(out, r->at, n * sizeof *out);
    r->n = r->n_shadow = r->chain_bytes = r->chain_bytes_shadow = 0;
    return n;
}

void refusal_ring_clear(struct refusal_ring *r) {
    for (size_t i = 0; i < r->n; i++)
        refusal_free(r->at[i]);
    r->n = r->n_shadow = r->chain_bytes = r->chain_bytes_shadow = 0;
}
