/* rate: see rate.h. */
#include "gateway/rate.h"

#include <pthread.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/secret.h"

#define WAYS 8 /* where one may lie */
#define LOCKS 16
#define MINUTE 60000000LL /* microseconds, and how far ahead anybody may be */

struct entry {
    uint64_t who; /* a salted hash: nobody can choose whose place he takes.  0: free */
    int64_t due;  /* of the next one, at the even rate */
};

struct rate {
    struct entry *entries;
    size_t sets;
    int64_t interval; /* microseconds; 0: no limit */
    uint8_t salt[crypto_shorthash_KEYBYTES];
    pthread_mutex_t locks[LOCKS];
};

struct rate *rate_new(size_t entries, int64_t per_minute) {
    struct rate *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->sets = entries / WAYS ? entries / WAYS : 1;
    r->interval = per_minute ? MINUTE / per_minute : 0;
    r->entries = calloc(r->sets * WAYS, sizeof *r->entries); /* costs nothing before it is used */
    if (!r->entries) {
        free(r);
        return NULL;
    }
    secret_random_bytes(r->salt, sizeof r->salt);
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&r->locks[i], NULL);
    return r;
}

void rate_free(struct rate *r) {
    if (!r)
        return;
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&r->locks[i]);
    free(r->entries);
    free(r);
}

/* NULL: not there, and no place is to be made. */
static struct entry *find(struct rate *r, size_t set, uint64_t who, bool make) {
    struct entry *at = &r->entries[set * WAYS], *least = at;
    for (size_t i = 0; i < WAYS; i++) {
        if (at[i].who == who)
            return &at[i];
        if (at[i].due < least->due)
            least = &at[i];
    }
    if (!make)
        return NULL;
    *least = (struct entry){.who = who};
    return least;
}

enum how { ASK, TAKE_ONE, ADD, GIVE_BACK };

static int64_t visit(struct rate *r, struct span who, int64_t now, enum how how) {
    uint64_t hash;
    if (!r->interval)
        return 0;
    crypto_shorthash((uint8_t *)&hash, who.p, who.n, r->salt);
    hash = hash ? hash : 1;
    size_t set = hash % r->sets;
    pthread_mutex_t *lock = &r->locks[set % LOCKS];
    pthread_mutex_lock(lock);
    struct entry *e = find(r, set, hash, how == TAKE_ONE || how == ADD);
    int64_t due = (e && e->due > now ? e->due : now) + r->interval, wait = due - now - MINUTE;
    if (how == GIVE_BACK && e)
        e->due -= r->interval;
    else if (how == ADD ? due < now + 2 * MINUTE : how == TAKE_ONE && wait <= 0) /* nobody pays for more than a minute */
        e->due = due;
    pthread_mutex_unlock(lock);
    return wait > 0 ? wait : 0;
}

int64_t rate_take(struct rate *r, struct span who, int64_t now) { return visit(r, who, now, TAKE_ONE); }
void rate_add(struct rate *r, struct span who, int64_t now) { visit(r, who, now, ADD); }
void rate_give_back(struct rate *r, struct span who, int64_t now) { visit(r, who, now, GIVE_BACK); }
int64_t rate_wait(struct rate *r, struct span who, int64_t now) { return visit(r, who, now, ASK); }
