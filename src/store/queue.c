/* queue: see queue.h. */
#include "store/queue.h"

#include "base/clock.h"
#include "base/log.h"

#define POSTED_MAX 64

static void list_init(struct job_list *l) { *l = (struct job_list){.last = &l->first}; }

void queue_init(struct queue *q, enum metrics_queue kind, size_t max) {
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->filled, NULL);
    pthread_cond_init(&q->finished, NULL);
    list_init(&q->looks);
    list_init(&q->jobs);
    q->max = max;
    q->kind = kind;
}

void queue_fini(struct queue *q) {
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->filled);
    pthread_cond_destroy(&q->finished);
}

int queue_put(struct queue *q, struct job *j, struct err *err) {
    int rc = 0;
    pthread_mutex_lock(&q->lock);
    if (q->ending)
        rc = err_retry(err, MUSTER_EUNAVAILABLE, 1, "The store is closing.");
    else if (q->n >= q->max)
        rc = err_retry(err, MUSTER_EBUSY, 1, NULL);
    else {
        struct job_list *l = j->looks ? &q->looks : &q->jobs;
        j->next = NULL;
        *l->last = j;
        l->last = &j->next;
        q->n++;
        metrics_add(METRIC_QUEUE, q->kind, 0, 1);
        if (!q->gathering || q->n == q->enough)
            pthread_cond_signal(&q->filled);
    }
    pthread_mutex_unlock(&q->lock);
    if (rc == MUSTER_EBUSY)
        metrics_count(METRIC_STORE_BUSY, 0, 0);
    return rc;
}

int queue_wait(struct queue *q, struct job *j, struct err *err) {
    int rc = queue_put(q, j, err);
    if (rc)
        return rc;
    pthread_mutex_lock(&q->lock);
    while (!j->finished)
        pthread_cond_wait(&q->finished, &q->lock);
    pthread_mutex_unlock(&q->lock);
    if (j->rc && err)
        *err = j->err;
    return j->rc;
}

void queue_end(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    q->ending = true;
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

/* --- taking ---------------------------------------------------------------------------------------------------------------------------- */

static struct job *cut(struct queue *q, struct job_list *l, size_t most) {
    struct job *list = l->first, **end = &l->first;
    for (size_t i = 0; i < most && *end; i++) {
        end = &(*end)->next;
        q->n--;
        metrics_add(METRIC_QUEUE, q->kind, 0, -1);
    }
    struct job *rest = *end;
    *end = NULL;
    l->first = rest;
    if (!rest)
        l->last = &l->first;
    return list;
}

/* Under the lock, which it lets go meanwhile. */
static void sleep_until(struct queue *q, int64_t us, size_t enough) {
    const struct timespec by = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    q->enough = enough;
    q->gathering = q->jobs.first || q->looks.first;
    if (us == INT64_MAX)
        pthread_cond_wait(&q->filled, &q->lock);
    else
        pthread_cond_clockwait(&q->filled, &q->lock, CLOCK_MONOTONIC, &by);
    q->gathering = false;
}

enum queue_took queue_take(struct queue *q, size_t most, int64_t from, int64_t until, struct job **list) {
    enum queue_took took = QUEUE_NOTHING;
    *list = NULL;
    pthread_mutex_lock(&q->lock);
    for (;;) {
        const int64_t now = clock_mono_us();
        const bool open = now >= from || q->ending || q->n >= most;
        const bool due = q->jobs.first && open;
        if (q->looks.first && open && !(due && q->looked)) {
            *list = cut(q, &q->looks, most);
            took = QUEUE_LOOKS;
            break;
        }
        if (due) {
            *list = cut(q, &q->jobs, most);
            took = QUEUE_JOBS;
            break;
        }
        if (q->ending || (!q->jobs.first && !q->looks.first && now >= until)) {
            took = q->ending ? QUEUE_ENDED : QUEUE_NOTHING;
            break;
        }
        sleep_until(q, q->jobs.first || q->looks.first ? from : until, most);
    }
    q->looked = took == QUEUE_LOOKS;
    pthread_mutex_unlock(&q->lock);
    return took;
}

/* --- coming back ------------------------------------------------------------------------------------------------------------------------ */

static void deliver(void *arg) {
    struct job *j = arg;
    j->done(j->arg, j->rc, &j->err);
    free(j);
}

/* For whoever waits for it, or for nobody. */
static void finish_here(struct queue *q, struct job *j) {
    if (j->reply) {
        free(j);
        return;
    }
    pthread_mutex_lock(&q->lock);
    j->finished = true;
    pthread_cond_broadcast(&q->finished);
    pthread_mutex_unlock(&q->lock);
}

void queue_return(struct queue *q, struct job *list) {
    while (list) {
        void *answered[POSTED_MAX];
        size_t n = 0;
        struct loop *to = list->reply;
        for (; list && list->reply == to && to && list->done && n < POSTED_MAX; list = list->next)
            answered[n++] = list;
        if (n && loop_post_all(to, deliver, answered, n) != n)
            log_event(LOG_ERROR, "store_reply_lost", NULL);
        if (!n) {
            struct job *j = list;
            list = j->next;
            finish_here(q, j);
        }
    }
}
