/* loop: see loop.h.  libevent underneath; the only thing that crosses threads is the list of posts, behind a mutex, with an eventfd
 * that wakes the loop. */
#include "loop/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>

#include "loop/event_memory.h"

struct post {
    struct post *next;
    loop_fn fn;
    void *arg;
};

struct loop {
    struct event_base *base;
    struct event *wake;
    int wake_fd;
    pthread_mutex_t lock;
    struct post *first, **last; /* under lock */
    bool stopping;              /* under lock */
};

struct loop_timer {
    struct event *event;
    loop_fn fn;
    void *arg;
};

struct loop_watch {
    struct event *event;
    loop_fn fn;
    void *arg;
};

static _Thread_local struct loop *current;

struct loop *loop_current(void) { return current; }
struct event_base *loop_base(struct loop *l) { return l->base; }

/* Runs what was posted up to now; a post made by a post waits for the next turn, so that sockets are not starved. */
static bool run_posts(struct loop *l) {
    pthread_mutex_lock(&l->lock);
    struct post *list = l->first;
    l->first = NULL;
    l->last = &l->first;
    pthread_mutex_unlock(&l->lock);
    bool some = list != NULL;
    while (list) {
        struct post *p = list;
        list = p->next;
        loop_fn fn = p->fn;
        void *fn_arg = p->arg;
        free(p);
        fn(fn_arg);
    }
    return some;
}

static void woken(evutil_socket_t fd, short what, void *arg) {
    struct loop *l = arg;
    uint64_t count;
    while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
        continue;
    run_posts(l);
    pthread_mutex_lock(&l->lock);
    bool stop = l->stopping;
    pthread_mutex_unlock(&l->lock);
    if (stop)
        event_base_loopbreak(l->base);
}

void loop_flush(struct loop *l) {
    while (run_posts(l))
        continue;
}

struct loop *loop_new(struct err *err) {
    CLEANUP(loop_free) struct loop *l = calloc(1, sizeof *l);
    if (!l) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    l->wake_fd = -1;
    l->last = &l->first;
    pthread_mutex_init(&l->lock, NULL);
    event_memory_init();
    struct event_config *config = event_config_new();
    if (config) {
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK); /* one thread; posts have a lock of their own */
        l->base = event_base_new_with_config(config);
        event_config_free(config);
    }
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->base && l->wake_fd >= 0)
        l->wake = event_new(l->base, l->wake_fd, EV_READ | EV_PERSIST, woken, l);
    if (!l->wake || event_add(l->wake, NULL)) {
        err_set(err, MUSTER_EUNAVAILABLE, "No event loop can be made: %s.", strerror(errno));
        return NULL;
    }
    return TAKE(l);
}

void loop_free(struct loop *l) {
    if (!l)
        return;
    for (struct post *p = l->first, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    if (l->wake)
        event_free(l->wake);
    if (l->base)
        event_base_free(l->base);
    fd_close(l->wake_fd);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void loop_run(struct loop *l) {
    struct loop *outer = current;
    current = l;
    event_base_loop(l->base, EVLOOP_NO_EXIT_ON_EMPTY);
    current = outer;
}

static void wake(struct loop *l) {
    uint64_t one = 1;
    while (write(l->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

void loop_stop(struct loop *l) {
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    pthread_mutex_unlock(&l->lock);
    wake(l);
}

static void append(struct loop *l, struct post *first, struct post *last) {
    pthread_mutex_lock(&l->lock);
    bool asleep = !l->first;
    *l->last = first;
    l->last = &last->next;
    pthread_mutex_unlock(&l->lock);
    if (asleep)
        wake(l);
}

int loop_post(struct loop *l, loop_fn fn, void *arg) {
    struct post *p = malloc(sizeof *p);
    if (!p)
        return MUSTER_ENOMEM;
    *p = (struct post){NULL, fn, arg};
    append(l, p, p);
    return 0;
}

size_t loop_post_all(struct loop *l, loop_fn fn, void *const *args, size_t n) {
    struct post *first = NULL, *last = NULL;
    size_t made = 0;
    for (; made < n; made++) {
        struct post *p = malloc(sizeof *p);
        if (!p)
            break;
        *p = (struct post){NULL, fn, args[made]};
        *(last ? &last->next : &first) = p;
        last = p;
    }
    if (made)
        append(l, first, last);
    return made;
}

static void expired(evutil_socket_t fd, short what, void *arg) {
    struct loop_timer *t = arg;
    t->fn(t->arg); /* may free the timer */
}

struct loop_timer *loop_timer_new(struct loop *l, loop_fn fn, void *arg) {
    struct loop_timer *t = malloc(sizeof *t);
    if (!t)
        return NULL;
    *t = (struct loop_timer){evtimer_new(l->base, expired, t), fn, arg};
    if (!t->event) {
        free(t);
        return NULL;
    }
    return t;
}

void loop_timer_set(struct loop_timer *t, int64_t after_ms) {
    if (after_ms < 0)
        after_ms = 0;
    struct timeval tv = {after_ms / 1000, after_ms % 1000 * 1000};
    evtimer_add(t->event, &tv);
}

void loop_timer_clear(struct loop_timer *t) { evtimer_del(t->event); }

void loop_timer_free(struct loop_timer *t) {
    if (!t)
        return;
    event_free(t->event);
    free(t);
}

static void readable(evutil_socket_t fd, short what, void *arg) {
    struct loop_watch *w = arg;
    w->fn(w->arg);
}

struct loop_watch *loop_watch_new(struct loop *l, int fd, loop_fn fn, void *arg) {
    struct loop_watch *w = malloc(sizeof *w);
    if (!w)
        return NULL;
    *w = (struct loop_watch){event_new(l->base, fd, EV_READ | EV_PERSIST, readable, w), fn, arg};
    if (!w->event || event_add(w->event, NULL)) {
        loop_watch_free(w);
        return NULL;
    }
    return w;
}

void loop_watch_free(struct loop_watch *w) {
    if (!w)
        return;
    if (w->event)
        event_free(w->event);
    free(w);
}
