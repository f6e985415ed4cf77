/* audit_invited: see audit_invited.h.  Open addressing; nothing is removed. */
#include "registry/audit_invited.h"

#include <stdlib.h>

#define FIRST 256U

void audit_invitations_begin(struct audit_invitations *t) {
    t->used = 0;
    if (t->at)
        memset(t->at, 0, t->places * sizeof *t->at);
}

void audit_invitations_fini(struct audit_invitations *t) {
    free(t->at);
    *t = (struct audit_invitations){.places_max = t->places_max};
}

static struct audit_invited *place_of(const struct audit_invitations *t, uint64_t id) {
    uint32_t i = (uint32_t)id & (t->places - 1);
    while (t->at[i].id && t->at[i].id != id)
        i = (i + 1) & (t->places - 1);
    return &t->at[i];
}

struct audit_invited *audit_invited_find(struct audit_invitations *t, uint64_t id) {
    struct audit_invited *i = t->places ? place_of(t, id) : NULL;
    return i && i->id ? i : NULL;
}

static bool grow(struct audit_invitations *t) {
    struct audit_invitations larger = *t;
    larger.places = t->places ? 2 * t->places : FIRST;
    if (larger.places > t->places_max || !(larger.at = calloc(larger.places, sizeof *larger.at)))
        return false;
    for (uint32_t i = 0; i < t->places; i++)
        if (t->at[i].id)
            *place_of(&larger, t->at[i].id) = t->at[i];
    free(t->at);
    *t = larger;
    return true;
}

struct audit_invited *audit_invited_add(struct audit_invitations *t, uint64_t id) {
    struct audit_invited *i = audit_invited_find(t, id);
    if (i)
        return i;
    if (t->used >= t->places / 4 * 3 && !grow(t))
        return NULL;
    i = place_of(t, id);
    *i = (struct audit_invited){.id = id};
    t->used++;
    return i;
}

struct audit_invited *audit_invited_next(struct audit_invitations *t, struct audit_invited *i) {
    for (uint32_t at = i ? (uint32_t)(i - t->at) + 1 : 0; at < t->places; at++)
        if (t->at[at].id)
            return &t->at[at];
    return NULL;
}
