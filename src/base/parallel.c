/* parallel: see parallel.h. */
#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

struct job {
    parallel_fn fn;
    void *arg;
    size_t n;
    atomic_size_t next;
    atomic_uint threads;
};

static void *work(void *arg) {
    struct job *job = arg;
    unsigned thread = atomic_fetch_add(&job->threads, 1);
    for (size_t i; (i = atomic_fetch_add(&job->next, 1)) < job->n;)
        job->fn(job->arg, thread, i);
    return NULL;
}

unsigned parallel_cores(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    return n < 1 ? 1 : (unsigned)n;
}

void parallel_run(unsigned threads, size_t n, parallel_fn fn, void *arg) {
    struct job job = {.fn = fn, .arg = arg, .n = n};
    pthread_t others[PARALLEL_THREADS_MAX];
    unsigned wanted = threads > PARALLEL_THREADS_MAX ? PARALLEL_THREADS_MAX : threads, started = 0;
    while (started + 1 < wanted && started + 1 < n && pthread_create(&others[started], NULL, work, &job) == 0)
        started++;
    work(&job);
    for (unsigned i = 0; i < started; i++)
        pthread_join(others[i], NULL);
}
