/* audit_devices: see audit_devices.h.  Open addressing; what is removed closes the gap behind it. */
#include "registry/audit_devices.h"

#include <sodium.h>
#include <stdlib.h>

#define FIRST 1024U

struct audit_devices {
    uint8_t key[crypto_shorthash_KEYBYTES];
    uint64_t part, parts;
    struct audit_device *at;
    uint32_t places, used, places_max;
};

struct audit_devices *audit_devices_new(uint32_t places_max) {
    struct audit_devices *t = calloc(1, sizeof *t);
    if (t) {
        t->places_max = places_max;
        crypto_shorthash_keygen(t->key);
    }
    return t;
}

void audit_devices_free(struct audit_devices *t) {
    if (!t)
        return;
    free(t->at);
    free(t);
}

void audit_devices_begin(struct audit_devices *t, uint64_t part, uint64_t parts) {
    t->part = part;
    t->parts = parts;
    t->used = 0;
    if (t->at)
        memset(t->at, 0, t->places * sizeof *t->at);
}

uint64_t audit_devices_hash(const struct audit_devices *t, struct span bytes) {
    uint64_t hash;
    _Static_assert(sizeof hash == crypto_shorthash_BYTES, "SipHash gives 64 bits");
    crypto_shorthash((uint8_t *)&hash, bytes.p ? bytes.p : (const uint8_t *)"", bytes.n, t->key);
    return hash ? hash : 1;
}

/* Parts go by the upper bits, places by the lower ones. */
static bool in_part(const struct audit_devices *t, uint64_t hash) { return (hash >> 40 & (t->parts - 1)) == t->part; }
bool audit_devices_has_part(const struct audit_devices *t, struct span id) { return in_part(t, audit_devices_hash(t, id)); }

static uint32_t place_of(const struct audit_devices *t, uint64_t id) {
    uint32_t i = (uint32_t)id & (t->places - 1);
    while (t->at[i].id && t->at[i].id != id)
        i = (i + 1) & (t->places - 1);
    return i;
}

struct audit_device *audit_devices_find(struct audit_devices *t, struct span id) {
    struct audit_device *d = t->places ? &t->at[place_of(t, audit_devices_hash(t, id))] : NULL;
    return d && d->id ? d : NULL;
}

static bool grow(struct audit_devices *t) {
    struct audit_devices larger = *t;
    larger.places = t->places ? 2 * t->places : FIRST;
    if (larger.places > t->places_max || !(larger.at = calloc(larger.places, sizeof *larger.at)))
        return false;
    for (uint32_t i = 0; i < t->places; i++)
        if (t->at[i].id)
            larger.at[place_of(&larger, t->at[i].id)] = t->at[i];
    free(t->at);
    *t = larger;
    return true;
}

struct audit_device *audit_devices_add(struct audit_devices *t, struct span id) {
    if (t->used >= t->places / 4 * 3 && !grow(t))
        return NULL;
    uint64_t hash = audit_devices_hash(t, id);
    struct audit_device *d = &t->at[place_of(t, hash)];
    *d = (struct audit_device){.id = hash};
    t->used++;
    return d;
}

void audit_devices_remove(struct audit_devices *t, struct audit_device *d) {
    uint32_t gap = (uint32_t)(d - t->at), mask = t->places - 1;
    for (uint32_t i = (gap + 1) & mask; t->at[i].id; i = (i + 1) & mask) {
        uint32_t home = (uint32_t)t->at[i].id & mask;
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            t->at[gap] = t->at[i];
            gap = i;
        }
    }
    t->at[gap].id = 0;
    t->used--;
}

struct audit_device *audit_devices_next(struct audit_devices *t, struct audit_device *d) {
    for (uint32_t i = d ? (uint32_t)(d - t->at) + 1 : 0; i < t->places; i++)
        if (t->at[i].id)
            return &t->at[i];
    return NULL;
}
