/* delivery: the queue of each webhook in DIR/control.db: what control puts there, takes from it, and makes of the receiver's answers.
 *
 * One device's events are delivered in their order: what comes later waits for what comes before.  A webhook that fails as a whole (no
 * event of a batch got through) is tried with one event at a time, ever more seldom; one event that alone fails waits by itself. */
#ifndef MUSTER_REGISTRY_DELIVERY_H
#define MUSTER_REGISTRY_DELIVERY_H

#include "registry/webhook.h"

struct delivery_policy {
    int64_t first, most; /* seconds to the next attempt: from, doubled, up to */
    int64_t lasts;       /* seconds after which an event is given up */
    int64_t queue_max;   /* events that wait, of one webhook */
};
/* Nothing is given up before so many attempts, whatever the time: while a server stands still, nobody tries. */
#define DELIVERY_ATTEMPTS_MIN 5

/* Seconds until the attempt after `failures` (1 or more) failed ones, a fifth more or less by `random`. */
int64_t delivery_backoff(const struct delivery_policy *p, int64_t failures, uint32_t random);
/* Seconds that no wait exceeds. */
int64_t delivery_longest(const struct delivery_policy *p);

/* Puts events into the queue of every webhook that wants them; those that are there already stay (the same events may come twice). */
struct delivery_put {
    const struct event_row *at;
    size_t n;
    const struct delivery_policy *policy;
    int64_t overflowed; /* out: events that became dead letters because a queue was full */
};
int delivery_put_run(struct store_tx *control, void *arg, struct err *err);

/* What control holds of each webhook in memory. */
struct webhook_loaded {
    struct webhook w;
    struct buf ca; /* PEM */
    char secret[WEBHOOK_SECRET_LEN + 1], secret_before[WEBHOOK_SECRET_LEN + 1];
};
struct webhook_load {
    struct webhook_loaded *at; /* the caller's to free with webhook_load_fini */
    size_t n;
};
int webhook_load_run(struct store_tx *control, void *arg, struct err *err);
void webhook_load_fini(struct webhook_load *l); /* wipes */

#define DELIVERY_BATCH 8
enum delivery_result {
    DELIVERY_DONE,
    DELIVERY_FAILED,
    DELIVERY_GONE,  /* 410: the receiver wants no more of them */
};
struct delivery {
    int64_t row, created, attempts;
    struct uuid event, subject;
    enum event_kind kind;
    struct buf payload;
    /* what became of it */
    enum delivery_result result;
    int64_t retry_after;           /* seconds that the receiver named; 0: none */
    char error[WEBHOOK_ERROR_MAX];
};
/* The next ones that are due, none of one subject with another; at most one while the webhook fails.  Where none is, those that would wait for longer than any wait
 * is: a clock that ran ahead has put them off. */
struct delivery_take {
    int64_t webhook, now, longest; /* longest: seconds; of delivery_longest() */
    struct delivery at[DELIVERY_BATCH];
    size_t n;
    int64_t next_at; /* out, where n is 0: when the next one is due; 0: nothing waits */
    bool failing;
};
int delivery_take_run(struct store_tx *control, void *arg, struct err *err);
void delivery_take_fini(struct delivery_take *t);

/* Writes down what became of them. */
struct delivery_settle {
    int64_t webhook, now;
    struct delivery *at; /* the caller's */
    size_t n;
    const struct delivery_policy *policy;
    uint32_t random;
    int64_t failed_before; /* batches of this webhook in which something failed, since the server began to try it */
    bool failed;           /* out: this is another one */
    int64_t given_up;  /* out: new dead letters */
    int64_t next_at;   /* out: before which the webhook is not tried; 0: at once */
    bool disabled;     /* out: the webhook was, by 410 */
};
int delivery_settle_run(struct store_tx *control, void *arg, struct err *err);

#endif
