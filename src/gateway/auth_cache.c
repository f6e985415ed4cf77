/* auth_cache: see auth_cache.h.  A table of chains by the first bytes of the key, which is a SHA-256: nobody can aim at one chain. */
#include "gateway/auth_cache.h"

#include <sys/queue.h>

struct entry {
    TAILQ_ENTRY(entry) age;
    struct entry *next; /* of the chain */
    struct hash key;
    struct identity *id;
};

struct auth_cache {
    size_t n, max;
    TAILQ_HEAD(entry_list, entry) ages; /* the one asked about last comes first */
    struct entry *chains[];   /* max of them */
};

struct auth_cache *auth_cache_new(size_t max) {
    struct auth_cache *c = calloc(1, sizeof *c + max * sizeof *c->chains);
    if (!c)
        return NULL;
    c->max = max;
    TAILQ_INIT(&c->ages);
    return c;
}

static struct entry **chain_of(struct auth_cache *c, const struct hash *key) {
    uint64_t n;
    memcpy(&n, key->b, sizeof n);
    return &c->chains[n % c->max];
}

static void drop(struct auth_cache *c, struct entry *e) {
    struct entry **at = chain_of(c, &e->key);
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    TAILQ_REMOVE(&c->ages, e, age);
    c->n--;
    identity_unref(e->id);
    free(e);
}

void auth_cache_free(struct auth_cache *c) {
    if (!c)
        return;
    while (!TAILQ_EMPTY(&c->ages))
        drop(c, TAILQ_FIRST(&c->ages));
    free(c);
}

struct identity *auth_cache_get(struct auth_cache *c, const struct hash *key) {
    struct entry *e = *chain_of(c, key);
    while (e && !hash_eq(&e->key, key))
        e = e->next;
    if (!e)
        return NULL;
    TAILQ_REMOVE(&c->ages, e, age);
    TAILQ_INSERT_HEAD(&c->ages, e, age);
    return e->id;
}

void auth_cache_put(struct auth_cache *c, const struct hash *key, struct identity *id) {
    struct entry *e = calloc(1, sizeof *e);
    if (!e)
        return;
    if (c->n == c->max)
        drop(c, TAILQ_LAST(&c->ages, entry_list));
    *e = (struct entry){.key = *key, .id = id, .next = *chain_of(c, key)};
    identity_ref(id);
    *chain_of(c, key) = e;
    TAILQ_INSERT_HEAD(&c->ages, e, age);
    c->n++;
}
