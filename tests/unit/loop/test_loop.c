/* Posts between threads, timers, watches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop/loop.h"

#define THREADS 4
#define POSTS 5000

static struct loop *l;
static int next[THREADS], total;

static void posted(void *arg) {
    uintptr_t v = (uintptr_t)arg;
    assert_ptr_equal(loop_current(), l);
    assert_int_equal(next[v / POSTS]++, v % POSTS); /* in order of posting, a thread */
    if (++total == THREADS * POSTS)
        loop_stop(l);
}

/* One by one, or several at a time. */
static void *poster(void *arg) {
    const uintptr_t who = (uintptr_t)arg, each = who % 2 ? 7 : 1;
    for (uintptr_t i = 0; i < POSTS; i += each) {
        void *args[7];
        uintptr_t n = 0;
        for (; n < each && i + n < POSTS; n++)
            args[n] = (void *)(who * POSTS + i + n);
        if (each == 1 ? loop_post(l, posted, args[0]) != 0 : loop_post_all(l, posted, args, n) != n)
            return arg;
    }
    return NULL;
}

static void posts_keep_their_order(void **state) {
    pthread_t t[THREADS];
    l = loop_new(NULL);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, poster, (void *)i), 0);
    loop_run(l);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(total, THREADS * POSTS);
    assert_null(loop_current());
    loop_free(l);
}

static int64_t fired;
static void fire(void *arg) {
    struct loop_timer **t = arg;
    fired = clock_mono_ms();
    loop_timer_free(*t); /* a timer may end itself */
    loop_stop(l);
}
static void never(void *arg) { fail(); }

static void timers_fire_once_and_in_time(void **state) {
    struct loop_timer *late, *cleared;
    int64_t start = clock_mono_ms();
    l = loop_new(NULL);
    late = loop_timer_new(l, fire, &late);
    cleared = loop_timer_new(l, never, NULL);
    loop_timer_set(cleared, 10);
    loop_timer_clear(cleared);
    loop_timer_set(late, 20);
    loop_timer_set(late, 60); /* replaces */
    loop_run(l);
    assert_true(fired - start >= 58);
    loop_timer_free(cleared);
    loop_free(l);
}

static void readable(void *arg) {
    int *fds = arg;
    char c;
    assert_int_equal(read(fds[0], &c, 1), 1);
    loop_stop(l);
}

static void a_watch_sees_bytes(void **state) {
    int fds[2];
    l = loop_new(NULL);
    assert_int_equal(pipe(fds), 0);
    struct loop_watch *w = loop_watch_new(l, fds[0], readable, fds);
    assert_int_equal(write(fds[1], "x", 1), 1);
    loop_run(l);
    loop_watch_free(w);
    close(fds[0]);
    close(fds[1]);
    loop_free(l);
}

static void unused(void *arg) { fail(); }

/* What libevent keeps for each descriptor that was ever watched would hold a page of the heap each, once what lay around it has gone. */
static void a_watched_descriptor_leaves_nothing_in_the_heap(void **state) {
    enum { DESCRIPTORS = 900 };
    int fds[2], dups[DESCRIPTORS];
    struct loop_watch *w[DESCRIPTORS];
    l = loop_new(NULL);
    assert_int_equal(pipe(fds), 0);
    for (int i = 0; i < DESCRIPTORS; i++)
        assert_true((dups[i] = dup(fds[0])) >= 0);
    w[0] = loop_watch_new(l, dups[DESCRIPTORS - 1], unused, NULL); /* the table by number has its size */
    loop_watch_free(w[0]);
    const size_t before = mallinfo2().uordblks;
    for (int i = 0; i < DESCRIPTORS; i++)
        assert_non_null(w[i] = loop_watch_new(l, dups[i], unused, NULL));
    for (int i = 0; i < DESCRIPTORS; i++)
        loop_watch_free(w[i]);
    const size_t after = mallinfo2().uordblks;
    assert_true(after < before + 4 * DESCRIPTORS); /* 32 bytes each from malloc() */
    for (int i = 0; i < DESCRIPTORS; i++)
        close(dups[i]);
    close(fds[0]);
    close(fds[1]);
    loop_free(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(posts_keep_their_order), cmocka_unit_test(timers_fire_once_and_in_time), cmocka_unit_test(a_watch_sees_bytes),
                                       cmocka_unit_test(a_watched_descriptor_leaves_nothing_in_the_heap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
