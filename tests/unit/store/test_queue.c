/* Who is taken when: looks and others, those that are not due, and the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/clock.h"
#include "store/queue.h"

#define MAX 4
#define LATER (clock_mono_us() + 3600 * 1000000LL)

static struct queue q;
static struct job jobs[MAX + 1];

static struct job *put(size_t i, bool looks) {
    jobs[i] = (struct job){.looks = looks};
    assert_int_equal(queue_put(&q, &jobs[i], NULL), 0);
    return &jobs[i];
}

static void taken(enum queue_took what, size_t n, int64_t from, int64_t until, ...) {
    struct job *list;
    va_list ap;
    assert_int_equal(queue_take(&q, MAX, from, until, &list), what);
    va_start(ap, until);
    for (size_t i = 0; i < n; i++, list = list->next) {
        assert_non_null(list);
        assert_ptr_equal(list, va_arg(ap, struct job *));
    }
    va_end(ap);
    assert_null(list);
}

static void looks_go_first_and_keep_nobody_out(void **state) {
    struct job *a = put(0, false), *b = put(1, true), *c = put(2, true);
    taken(QUEUE_LOOKS, 2, 0, INT64_MAX, b, c);
    struct job *d = put(1, true);
    taken(QUEUE_JOBS, 1, 0, INT64_MAX, a);
    taken(QUEUE_LOOKS, 1, 0, INT64_MAX, d);
}

static void what_is_not_due_waits_unless_there_is_enough_of_it(void **state) {
    struct job *a = put(0, false), *b = put(1, true), *c = put(2, false), *d = put(3, false);
    taken(QUEUE_LOOKS, 1, LATER, INT64_MAX, b);
    struct job *e = put(1, false);
    taken(QUEUE_JOBS, 4, LATER, INT64_MAX, a, c, d, e);
}

static void *put_one(void *arg) {
    put(3, *(bool *)arg);
    return NULL;
}

/* Who sleeps because what is there is not due hears of the one that makes it enough. */
static void enough_of_it_wakes(void **state) {
    for (int look = 0; look < 2; look++) {
        pthread_t other;
        bool looks = look;
        struct job *a = put(0, false), *b = put(1, false), *c = put(2, false);
        assert_int_equal(pthread_create(&other, NULL, put_one, &looks), 0);
        if (looks)
            taken(QUEUE_LOOKS, 1, LATER, INT64_MAX, &jobs[3]);
        else
            taken(QUEUE_JOBS, 4, LATER, INT64_MAX, a, b, c, &jobs[3]);
        pthread_join(other, NULL);
        if (looks)
            taken(QUEUE_JOBS, 3, 0, INT64_MAX, a, b, c);
    }
}

static void it_waits_as_long_as_it_was_told(void **state) {
    const int64_t until = clock_mono_us() + 20000;
    taken(QUEUE_NOTHING, 0, 0, until);
    assert_true(clock_mono_us() >= until);
    struct job *a = put(0, false);
    const int64_t from = clock_mono_us() + 20000;
    taken(QUEUE_JOBS, 1, from, INT64_MAX, a);
    assert_true(clock_mono_us() >= from);
    a = put(0, true);
    const int64_t again = clock_mono_us() + 20000;
    taken(QUEUE_LOOKS, 1, again, INT64_MAX, a);
    assert_true(clock_mono_us() >= again);
}

static void a_full_one_says_so(void **state) {
    struct err err = ERR_INIT;
    for (size_t i = 0; i < MAX; i++)
        put(i, i % 2);
    assert_int_equal(queue_put(&q, &jobs[MAX], &err), MUSTER_EBUSY);
    assert_true(err.retry_after >= 1);
    taken(QUEUE_LOOKS, 2, 0, INT64_MAX, &jobs[1], &jobs[3]);
    taken(QUEUE_JOBS, 2, 0, INT64_MAX, &jobs[0], &jobs[2]);
}

static void what_is_there_is_taken_before_the_end(void **state) {
    struct err err = ERR_INIT;
    struct job *a = put(0, false);
    queue_end(&q);
    assert_int_equal(queue_put(&q, &jobs[1], &err), MUSTER_EUNAVAILABLE);
    taken(QUEUE_JOBS, 1, LATER, INT64_MAX, a);
    taken(QUEUE_ENDED, 0, LATER, INT64_MAX);
}

static int begin(void **state) {
    q = (struct queue){0};
    queue_init(&q, QUEUE_WRITE, MAX);
    return 0;
}

static int end(void **state) {
    queue_fini(&q);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(looks_go_first_and_keep_nobody_out, begin, end),
        cmocka_unit_test_setup_teardown(what_is_not_due_waits_unless_there_is_enough_of_it, begin, end),
        cmocka_unit_test_setup_teardown(enough_of_it_wakes, begin, end),
        cmocka_unit_test_setup_teardown(it_waits_as_long_as_it_was_told, begin, end),
        cmocka_unit_test_setup_teardown(a_full_one_says_so, begin, end),
        cmocka_unit_test_setup_teardown(what_is_there_is_taken_before_the_end, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
