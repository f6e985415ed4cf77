/* enrol_line: see enrol_line.h. */
#include "gateway/enrol_line.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>

#define SECOND 1000000LL
#define PERIOD (SECOND / 10) /* of a measurement; one that took much longer says little */
#define RATE_FIRST 300.0     /* a second, until it was measured */
#define RATE_LEAST 10.0
#define NEWEST 0.2 /* the weight of the last period */

#define RESERVE(most) (((most) + 3) / 4) /* for renewals */

struct enrol_line {
    pthread_mutex_t lock;
    size_t most, under_way;
    double rate;     /* served a second, while the line was full */
    int64_t since;   /* what is counted in `served` began then */
    size_t served;
    bool full;       /* somebody was sent away since */
    double waiting;  /* who were sent away and will not have been served by `at` */
    int64_t at;
};

struct enrol_line *enrol_line_new(size_t most) {
    struct enrol_line *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    pthread_mutex_init(&l->lock, NULL);
    l->most = most ? most : 1;
    l->rate = RATE_FIRST;
    return l;
}

void enrol_line_free(struct enrol_line *l) {
    if (l)
        pthread_mutex_destroy(&l->lock);
    free(l);
}

int64_t enrol_line_place(struct span device_id, int64_t from, int64_t width) {
    static const uint8_t same_everywhere[crypto_shorthash_KEYBYTES];
    uint64_t hash;
    crypto_shorthash((uint8_t *)&hash, device_id.p, device_id.n, same_everywhere);
    return from + (int64_t)(hash % (uint64_t)width);
}

/* What can be served is seen only while there is more to do. */
static void measure(struct enrol_line *l, int64_t now) {
    int64_t took = now - l->since;
    if (took < PERIOD)
        return;
    if (l->full && took < 10 * PERIOD) {
        double rate = (1 - NEWEST) * l->rate + NEWEST * (double)l->served * SECOND / (double)took;
        l->rate = rate < RATE_LEAST ? RATE_LEAST : rate;
    }
    l->since = now;
    l->served = 0;
    l->full = false;
}

static void advance(struct enrol_line *l, int64_t now) {
    if (now > l->at) {
        l->waiting -= l->rate * (double)(now - l->at) / SECOND;
        l->at = now;
    }
    if (l->waiting < 0)
        l->waiting = 0;
}

/* Around the time at which it would be its turn, from half of it to one and a half: the first in the line would otherwise be told the
 * shortest times over and over, and come in a crowd. */
static int wait_of(const struct enrol_line *l, struct span device_id) {
    int64_t turn = (int64_t)(l->waiting / l->rate) + 1, most = ENROL_LINE_WAIT_MAX;
    int64_t wait = turn < most ? enrol_line_place(device_id, (turn + 1) / 2, turn + 1) : most;
    return (int)(wait < most ? wait : enrol_line_place(device_id, most / 2, most / 2));
}

bool enrol_line_enter(struct enrol_line *l, enum enrol_line_who who, struct span device_id, int64_t now, int *wait) {
    pthread_mutex_lock(&l->lock);
    measure(l, now);
    bool in = l->under_way < l->most + (who == ENROL_LINE_RENEWAL ? RESERVE(l->most) : 0);
    if (in) {
        l->under_way++;
    } else {
        l->full = true;
        advance(l, now);
        l->waiting++;
        *wait = wait_of(l, device_id);
    }
    pthread_mutex_unlock(&l->lock);
    return in;
}

void enrol_line_leave(struct enrol_line *l, int64_t now) {
    pthread_mutex_lock(&l->lock);
    l->under_way--;
    l->served++;
    measure(l, now);
    pthread_mutex_unlock(&l->lock);
}
