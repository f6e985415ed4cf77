/* tally: what came of a step: answers by what they said, and how long they took.
 *
 * Times go into a histogram of fixed size, exact to 1 %; the largest is kept exactly.  One thread. */
#ifndef MUSTER_SIM_TALLY_H
#define MUSTER_SIM_TALLY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "json/json.h"

#define TALLY_KINDS 64
#define HISTOGRAM_PARTS 128 /* of each power of two */

struct histogram {
    uint64_t count[48 * HISTOGRAM_PARTS];
    uint64_t n;
    int64_t most; /* microseconds */
};
void histogram_add(struct histogram *h, int64_t us);
/* The least time within which that share of all stayed; 0: there are none. */
int64_t histogram_share(const struct histogram *h, double share);

struct tally {
    char name[32];
    size_t devices;
    bool bad;                   /* they misbehave: there is nothing that they would have done well */
    uint64_t done, failed;      /* devices; of polling, requests */
    uint64_t requests, postponed, unfinished;
    uint64_t not_sent;          /* what never left this machine, which had no room for it: no requests */
    char why_not[120];          /* the last of those */
    struct {
        char what[80];          /* "403 device_pending" */
        uint64_t n;
    } result[TALLY_KINDS];      /* in the order in which they came; the last one takes what finds no place */
    size_t n_results;
    struct histogram latency;   /* of each answer, from when its request was due */
    struct histogram served;    /* of each device, from its first request on, until it had what it wanted */
    int64_t began, ended;       /* monotonic, microseconds */
    int64_t second;             /* the one under way */
    uint64_t in_second, busiest;
};
void tally_begun(struct tally *t, int64_t now);                      /* a request, at that moment */
void tally_answer(struct tally *t, const char *what, int64_t us); /* us -1: there was no answer, and what says why */
void tally_not_sent(struct tally *t, const char *why);
json_t *tally_json(const struct tally *t); /* NULL: out of memory */
void tally_print(const struct tally *t, FILE *out);

#endif
