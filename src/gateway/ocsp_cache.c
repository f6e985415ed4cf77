/* ocsp_cache: see ocsp_cache.h.  A table of chains by the first bytes of the key, which is a SHA-256. */
#include "gateway/ocsp_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

struct entry {
    TAILQ_ENTRY(entry) age;
    LIST_ENTRY(entry) chain;
    struct hash asked;
    struct ocsp_kept kept;
    uint8_t der[];
};
TAILQ_HEAD(entries, entry);
LIST_HEAD(chain, entry);

struct ocsp_cache {
    pthread_mutex_t lock;
    size_t n, most;
    struct entries ages; /* the one asked for last comes first */
    struct chain chains[];
};

struct ocsp_cache *ocsp_cache_new(size_t most) {
    struct ocsp_cache *c = calloc(1, sizeof *c + most * sizeof *c->chains);
    if (!c)
        return NULL;
    pthread_mutex_init(&c->lock, NULL);
    c->most = most;
    TAILQ_INIT(&c->ages);
    return c;
}

static struct chain *chain_of(struct ocsp_cache *c, const struct hash *asked) {
    uint64_t n;
    memcpy(&n, asked->b, sizeof n);
    return &c->chains[n % c->most];
}

static struct entry *find(struct ocsp_cache *c, const struct hash *asked) {
    struct entry *e;
    LIST_FOREACH(e, chain_of(c, asked), chain)
        if (hash_eq(&e->asked, asked))
            return e;
    return NULL;
}

static void drop(struct ocsp_cache *c, struct entry *e) {
    TAILQ_REMOVE(&c->ages, e, age);
    LIST_REMOVE(e, chain);
    c->n--;
    free(e);
}

void ocsp_cache_free(struct ocsp_cache *c) {
    if (!c)
        return;
    while (!TAILQ_EMPTY(&c->ages))
        drop(c, TAILQ_FIRST(&c->ages));
    pthread_mutex_destroy(&c->lock);
    free(c);
}

bool ocsp_cache_get(struct ocsp_cache *c, const struct hash *asked, struct ocsp_kept *out, struct buf *der) {
    buf_clear(der);
    pthread_mutex_lock(&c->lock);
    struct entry *e = find(c, asked);
    if (e) {
        TAILQ_REMOVE(&c->ages, e, age);
        TAILQ_INSERT_HEAD(&c->ages, e, age);
        *out = e->kept;
        buf_add(der, e->kept.der);
    }
    pthread_mutex_unlock(&c->lock);
    out->der = buf_span(der);
    return e && buf_ok(der);
}

void ocsp_cache_trust(struct ocsp_cache *c, const struct hash *asked, const struct hash *said, uint64_t trust) {
    pthread_mutex_lock(&c->lock);
    struct entry *e = find(c, asked);
    if (e && hash_eq(&e->kept.said, said))
        e->kept.trust = trust;
    pthread_mutex_unlock(&c->lock);
}

void ocsp_cache_put(struct ocsp_cache *c, const struct hash *asked, const struct ocsp_kept *kept) {
    struct entry *e = calloc(1, sizeof *e + kept->der.n);
    if (!e)
        return;
    pthread_mutex_lock(&c->lock);
    struct entry *before = find(c, asked);
    if (before)
        drop(c, before);
    else if (c->n == c->most)
        drop(c, TAILQ_LAST(&c->ages, entries));
    e->asked = *asked;
    e->kept = *kept;
    memcpy(e->der, kept->der.p, kept->der.n);
    e->kept.der = span_of(e->der, kept->der.n);
    TAILQ_INSERT_HEAD(&c->ages, e, age);
    LIST_INSERT_HEAD(chain_of(c, asked), e, chain);
    c->n++;
    pthread_mutex_unlock(&c->lock);
}
