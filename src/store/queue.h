/* queue: the jobs that wait for the store's threads, and how they come back; store.c's own. */
#ifndef MUSTER_STORE_QUEUE_H
#define MUSTER_STORE_QUEUE_H

#include <pthread.h>

#include "metrics/metrics.h"
#include "store/store.h"

struct job {
    struct job *next;
    store_run_fn run;
    store_done_fn done;
    void *arg;
    struct loop *reply; /* NULL: somebody waits, in queue_wait() */
    bool looks;         /* it only reads, and goes before all others */
    int rc;
    struct err err;
    bool finished;      /* under the queue's lock */
};

struct job_list { struct job *first, **last; };
struct queue {
    pthread_mutex_t lock;
    pthread_cond_t filled, finished;
    struct job_list looks, jobs;
    size_t n, max;
    enum metrics_queue kind;
    bool ending;
    bool gathering; /* something is there already, and nobody need be woken before its time but where there is enough */
    size_t enough;  /* of what is there then */
    bool looked;    /* looks were taken last: they do not keep others out */
};

void queue_init(struct queue *q, enum metrics_queue kind, size_t max);
void queue_fini(struct queue *q);
/* MUSTER_EBUSY where it is full, MUSTER_EUNAVAILABLE where it ends.  The job is the queue's until it has come back. */
int queue_put(struct queue *q, struct job *j, struct err *err) MUSTER_MUST_CHECK;
/* The same of a job on the caller's stack, until it has been run; its rc. */
int queue_wait(struct queue *q, struct job *j, struct err *err) MUSTER_MUST_CHECK;
/* What is there is still taken; then all takers are told. */
void queue_end(struct queue *q);

enum queue_took { QUEUE_LOOKS, QUEUE_JOBS, QUEUE_NOTHING, QUEUE_ENDED };
/* Waits for up to `most` jobs in order of arrival, not before `from` unless there are `most`: looks first, though not twice in front of the
 * others.  NOTHING: none came until `until`.  Times are monotonic, in microseconds; INT64_MAX: for ever. */
enum queue_took queue_take(struct queue *q, size_t most, int64_t from, int64_t until, struct job **list);
/* Hands jobs back that were run: to the loops that asked, each woken once for as many as come after one another, to threads that wait, or to
 * nobody. */
void queue_return(struct queue *q, struct job *list);

#endif
