/* known: see known.h.  Shards of a table by the first bytes of the key, which is a SHA-256: nobody can aim at one of them. */
#include "verifier/known.h"

#include <pthread.h>
#include <sys/queue.h>

#define SHARDS 8

struct entry {
    TAILQ_ENTRY(entry) age;
    struct entry *next; /* of the chain */
    struct hash key;
    struct known_verdict verdict;
};

struct shard {
    pthread_mutex_t lock;
    size_t n;
    TAILQ_HEAD(entry_ages, entry) ages; /* the one found last comes first */
    struct entry **chains;
};

struct known {
    size_t most; /* of a shard, and its chains */
    struct shard shards[SHARDS];
};

static uint64_t number_of(const struct hash *key) {
    uint64_t n;
    memcpy(&n, key->b, sizeof n);
    return n;
}

static struct shard *shard_of(struct known *k, const struct hash *key) { return &k->shards[number_of(key) % SHARDS]; }
static struct entry **chain_of(const struct known *k, struct shard *s, const struct hash *key) { return &s->chains[number_of(key) / SHARDS % k->most]; }

static struct entry *find(const struct known *k, struct shard *s, const struct hash *key) {
    struct entry *e = *chain_of(k, s, key);
    while (e && !hash_eq(&e->key, key))
        e = e->next;
    return e;
}

static void drop(const struct known *k, struct shard *s, struct entry *e) {
    struct entry **at = chain_of(k, s, &e->key);
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    TAILQ_REMOVE(&s->ages, e, age);
    s->n--;
    free(e);
}

struct known *known_new(size_t most) {
    struct known *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->most = (most + SHARDS - 1) / SHARDS;
    for (int i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&k->shards[i].lock, NULL);
        TAILQ_INIT(&k->shards[i].ages);
        k->shards[i].chains = calloc(k->most, sizeof(struct entry *));
    }
    for (int i = 0; i < SHARDS; i++)
        if (!k->shards[i].chains) {
            known_free(k);
            return NULL;
        }
    return k;
}

void known_free(struct known *k) {
    if (!k)
        return;
    for (int i = 0; i < SHARDS; i++) {
        struct shard *s = &k->shards[i];
        while (!TAILQ_EMPTY(&s->ages))
            drop(k, s, TAILQ_FIRST(&s->ages));
        free(s->chains);
        pthread_mutex_destroy(&s->lock);
    }
    free(k);
}

bool known_get(struct known *k, const struct hash *key, int64_t epoch, uint64_t trust, int64_t now, struct known_verdict *out) {
    struct shard *s = shard_of(k, key);
    pthread_mutex_lock(&s->lock);
    struct entry *e = find(k, s, key);
    if (e && (e->verdict.epoch != epoch || e->verdict.trust != trust || now < e->verdict.since || now > e->verdict.until)) {
        drop(k, s, e);
        e = NULL;
    }
    if (e) {
        TAILQ_REMOVE(&s->ages, e, age);
        TAILQ_INSERT_HEAD(&s->ages, e, age);
        *out = e->verdict;
    }
    pthread_mutex_unlock(&s->lock);
    return e != NULL;
}

void known_put(struct known *k, const struct hash *key, const struct known_verdict *v) {
    struct shard *s = shard_of(k, key);
    struct entry *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return;
    *fresh = (struct entry){.key = *key, .verdict = *v};
    pthread_mutex_lock(&s->lock);
    struct entry *e = find(k, s, key);
    if (!e && s->n == k->most)
        e = TAILQ_LAST(&s->ages, entry_ages);
    if (e)
        drop(k, s, e);
    struct entry **chain = chain_of(k, s, key);
    fresh->next = *chain;
    *chain = fresh;
    TAILQ_INSERT_HEAD(&s->ages, fresh, age);
    s->n++;
    pthread_mutex_unlock(&s->lock);
}

void known_seen(struct known *k, const struct hash *key, int64_t at) {
    struct shard *s = shard_of(k, key);
    pthread_mutex_lock(&s->lock);
    struct entry *e = find(k, s, key);
    if (e)
        e->verdict.last_seen = at;
    pthread_mutex_unlock(&s->lock);
}

size_t known_count(struct known *k) {
    size_t n = 0;
    for (int i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&k->shards[i].lock);
        n += k->shards[i].n;
        pthread_mutex_unlock(&k->shards[i].lock);
    }
    return n;
}
