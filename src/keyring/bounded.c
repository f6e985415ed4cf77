/* keyring/bounded: see bounded.h. */
#include "keyring/bounded.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "keyring/keyring.h"

struct call {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done, given_up, entered;
    void (*work)(void *job), (*drop)(void *job);
    void *job;
};

static _Thread_local struct call *mine;
static atomic_int patience = KEYRING_PATIENCE;
static atomic_int out; /* calls that were given up and are not back */

void keyring_patience(int seconds) { patience = seconds; }

bool keyring_hangs(void) { return out > 0; }

void keyring_exit(int status) {
    if (!keyring_hangs())
        return;
    fflush(NULL);
    _exit(status); /* a module that hangs would hang the end of the program as well */
}

static void call_free(struct call *c) {
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static void *run(void *arg) {
    struct call *c = arg;
    mine = c;
    c->work(c->job);
    pthread_mutex_lock(&c->lock);
    bool given_up = c->given_up;
    c->done = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
    if (given_up) {
        c->drop(c->job);
        call_free(c);
        out--;
    }
    return NULL;
}

bool bounded_enter(void) {
    if (!mine)
        return true;
    pthread_mutex_lock(&mine->lock);
    bool wanted = mine->entered = !mine->given_up;
    pthread_mutex_unlock(&mine->lock);
    return wanted;
}

void bounded_leave(void) {
    if (!mine)
        return;
    pthread_mutex_lock(&mine->lock);
    mine->entered = false;
    pthread_cond_signal(&mine->changed);
    pthread_mutex_unlock(&mine->lock);
}

static struct call *call_new(void (*work)(void *), void (*drop)(void *), void *job) {
    struct call *c = calloc(1, sizeof *c);
    pthread_condattr_t by;
    if (!c)
        return NULL;
    *c = (struct call){.work = work, .drop = drop, .job = job};
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&by);
    pthread_condattr_setclock(&by, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &by);
    pthread_condattr_destroy(&by);
    return c;
}

/* Signals stay with the threads of the program. */
static int start(struct call *c, pthread_t *thread) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(thread, NULL, run, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

/* False: it was given up. */
static bool wait_for(struct call *c) {
    struct timespec until;
    int late = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += patience;
    pthread_mutex_lock(&c->lock);
    while (!c->done && (!late || c->entered))
        late = late ? pthread_cond_wait(&c->changed, &c->lock), late : pthread_cond_timedwait(&c->changed, &c->lock, &until);
    bool done = c->done;
    c->given_up = !done;
    out += !done;
    pthread_mutex_unlock(&c->lock);
    return done;
}

int bounded_run(void (*work)(void *job), void (*drop)(void *job), void *job, struct err *err) {
    const bool hangs = keyring_hangs();
    pthread_t thread;
    struct call *c = hangs ? NULL : call_new(work, drop, job);
    if (!c || start(c, &thread)) {
        drop(job);
        if (c)
            call_free(c);
        return hangs ? err_set(err, MUSTER_EKEYTIME, "What the key lies in has not answered an earlier question yet, and is not asked another one before it does.")
                     : err_set(err, MUSTER_ENOMEM, NULL);
    }
    if (!wait_for(c)) {
        pthread_detach(thread);
        return err_set(err, MUSTER_EKEYTIME, "What the key lies in has not answered within %d seconds.", (int)patience);
    }
    pthread_join(thread, NULL);
    call_free(c);
    return 0;
}
