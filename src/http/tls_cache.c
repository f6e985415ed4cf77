/* tls_cache: the stateful session cache; see tls_cache.h.  Called by tls.c from libssl's session callbacks, and by nobody
 * else.  No lock is held while a session is freed: that frees certificates, which is slow. */
#include "http/tls_cache.h"

#include <pthread.h>
#include <sodium.h>
#include <sys/queue.h>

#include "base/cleanup.h"

#define SHARDS 16 /* a power of two */
#define CERT_BYTES_EACH 4096
#define EACH_OWNER 2 /* in a shard: the newest 2, so that the last session of a client is always there */

struct entry {
    TAILQ_ENTRY(entry) age;
    struct entry *next;          /* in its bucket */
    struct entry *next_of_owner; /* in the bucket of its owner; newer ones first */
    SSL_SESSION *session;
    size_t weight;
    uint64_t hash, owner; /* owner 0: nobody's */
    unsigned id_n;
    unsigned char id[SSL_MAX_SSL_SESSION_ID_LENGTH];
};
TAILQ_HEAD(entries, entry);

struct shard {
    pthread_mutex_t lock;
    struct entries oldest;
    struct entry **buckets, **owners;
    size_t n, weight;
};

struct tls_cache {
    size_t max, max_weight, buckets; /* of one shard */
    uint8_t salt[crypto_shorthash_KEYBYTES]; /* nobody chooses an owner who is somebody else's */
    struct shard shards[SHARDS];
};

/* IDs are random bytes that this server drew: any eight of them are a hash.  Clients choose which ID to look up, never which
 * one is put in. */
static uint64_t hash_of_id(const unsigned char *id, size_t n) {
    uint64_t h = 0;
    memcpy(&h, id, n < sizeof h ? n : sizeof h);
    return h;
}

static struct shard *shard_of(struct tls_cache *c, uint64_t hash) { return &c->shards[hash % SHARDS]; }
static struct entry **bucket_of(const struct tls_cache *c, struct shard *s, uint64_t hash) {
    return &s->buckets[hash / SHARDS % c->buckets];
}

static struct entry **owner_bucket(const struct tls_cache *c, struct shard *s, uint64_t owner) { return &s->owners[owner % c->buckets]; }

static uint64_t owner_of(const struct tls_cache *c, struct span key) {
    uint64_t owner = 0;
    _Static_assert(sizeof owner == crypto_shorthash_BYTES, "SipHash gives 64 bits");
    if (key.n)
        crypto_shorthash((uint8_t *)&owner, key.p, key.n, c->salt);
    return owner;
}

static struct entry **find(const struct tls_cache *c, struct shard *s, uint64_t hash, const unsigned char *id, size_t n) {
    for (struct entry **e = bucket_of(c, s, hash); *e; e = &(*e)->next)
        if ((*e)->hash == hash && (*e)->id_n == n && memcmp((*e)->id, id, n) == 0)
            return e;
    return NULL;
}

static void unlink_entry(const struct tls_cache *c, struct shard *s, struct entry **at, struct entries *dead) {
    struct entry *e = *at;
    *at = e->next;
    if (e->owner) {
        struct entry **own = owner_bucket(c, s, e->owner);
        while (*own != e)
            own = &(*own)->next_of_owner;
        *own = e->next_of_owner;
    }
    TAILQ_REMOVE(&s->oldest, e, age);
    s->n--;
    s->weight -= e->weight;
    TAILQ_INSERT_TAIL(dead, e, age);
}

static void unlink_found(const struct tls_cache *c, struct shard *s, const struct entry *e, struct entries *dead) {
    unlink_entry(c, s, find(c, s, e->hash, e->id, e->id_n), dead);
}

/* Makes room among the sessions of one owner, for one more. */
static void unlink_older_of(const struct tls_cache *c, struct shard *s, uint64_t owner, struct entries *dead) {
    unsigned seen = 0;
    for (struct entry *e = *owner_bucket(c, s, owner), *next; e; e = next) {
        next = e->next_of_owner;
        if (e->owner == owner && ++seen >= EACH_OWNER)
            unlink_found(c, s, e, dead);
    }
}

static void bury(struct entries *dead) {
    struct entry *e;
    while ((e = TAILQ_FIRST(dead))) {
        TAILQ_REMOVE(dead, e, age);
        SSL_SESSION_free(e->session);
        free(e);
    }
}

struct tls_cache *tls_cache_new(size_t entries) {
    struct tls_cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->max = (entries + SHARDS - 1) / SHARDS;
    c->max_weight = c->max * CERT_BYTES_EACH;
    c->buckets = c->max;
    crypto_shorthash_keygen(c->salt);
    for (int i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&c->shards[i].lock, NULL);
        TAILQ_INIT(&c->shards[i].oldest);
    }
    for (int i = 0; i < SHARDS; i++)
        if (!(c->shards[i].buckets = calloc(c->buckets, sizeof(struct entry *))) || !(c->shards[i].owners = calloc(c->buckets, sizeof(struct entry *)))) {
            tls_cache_free(c);
            return NULL;
        }
    return c;
}

void tls_cache_free(struct tls_cache *c) {
    if (!c)
        return;
    for (int i = 0; i < SHARDS; i++) {
        bury(&c->shards[i].oldest);
        free(c->shards[i].buckets);
        free(c->shards[i].owners);
        pthread_mutex_destroy(&c->shards[i].lock);
    }
    free(c);
}

bool tls_cache_put(struct tls_cache *c, SSL_SESSION *session, struct span owner, size_t weight) {
    unsigned n;
    const unsigned char *id = SSL_SESSION_get_id(session, &n);
    struct entry *e = n && n <= SSL_MAX_SSL_SESSION_ID_LENGTH ? calloc(1, sizeof *e) : NULL;
    if (!e)
        return false;
    *e = (struct entry){.session = session, .weight = weight, .hash = hash_of_id(id, n), .owner = owner_of(c, owner), .id_n = n};
    memcpy(e->id, id, n);
    if (e->weight > c->max_weight) {
        free(e);
        return false;
    }

    struct entries dead = TAILQ_HEAD_INITIALIZER(dead);
    struct shard *s = shard_of(c, e->hash);
    pthread_mutex_lock(&s->lock);
    struct entry **same = find(c, s, e->hash, id, n), *old;
    if (same)
        unlink_entry(c, s, same, &dead);
    if (e->owner)
        unlink_older_of(c, s, e->owner, &dead);
    while ((old = TAILQ_FIRST(&s->oldest)) && (s->n >= c->max || s->weight + e->weight > c->max_weight))
        unlink_found(c, s, old, &dead);
    struct entry **bucket = bucket_of(c, s, e->hash);
    e->next = *bucket;
    *bucket = e;
    if (e->owner) {
        struct entry **own = owner_bucket(c, s, e->owner);
        e->next_of_owner = *own;
        *own = e;
    }
    TAILQ_INSERT_TAIL(&s->oldest, e, age);
    s->n++;
    s->weight += e->weight;
    pthread_mutex_unlock(&s->lock);
    bury(&dead);
    return true;
}

SSL_SESSION *tls_cache_get(struct tls_cache *c, const unsigned char *id, size_t n) {
    if (n == 0 || n > SSL_MAX_SSL_SESSION_ID_LENGTH)
        return NULL;
    uint64_t hash = hash_of_id(id, n);
    struct shard *s = shard_of(c, hash);
    pthread_mutex_lock(&s->lock);
    struct entry **e = find(c, s, hash, id, n);
    SSL_SESSION *session = e ? (*e)->session : NULL;
    if (session)
        SSL_SESSION_up_ref(session); /* under the lock: another loop may be evicting it */
    pthread_mutex_unlock(&s->lock);
    return session;
}

void tls_cache_remove(struct tls_cache *c, const SSL_SESSION *session) {
    unsigned n;
    const unsigned char *id = SSL_SESSION_get_id(session, &n);
    if (n == 0 || n > SSL_MAX_SSL_SESSION_ID_LENGTH)
        return;
    uint64_t hash = hash_of_id(id, n);
    struct entries dead = TAILQ_HEAD_INITIALIZER(dead);
    struct shard *s = shard_of(c, hash);
    pthread_mutex_lock(&s->lock);
    struct entry **e = find(c, s, hash, id, n);
    if (e)
        unlink_entry(c, s, e, &dead);
    pthread_mutex_unlock(&s->lock);
    bury(&dead);
}

size_t tls_cache_count(struct tls_cache *c) {
    size_t n = 0;
    for (int i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&c->shards[i].lock);
        n += c->shards[i].n;
        pthread_mutex_unlock(&c->shards[i].lock);
    }
    return n;
}
