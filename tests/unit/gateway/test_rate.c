/* rate: how often each may, held against a count by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "gateway/rate.h"

#define SECOND 1000000LL
#define MINUTE (60 * SECOND)
#define WHO(text) span_str(text)

static void a_minutes_worth_at_once_then_evenly(void **state) {
    struct rate *r = rate_new(64, 60);
    int64_t now = 5 * MINUTE;
    for (int i = 0; i < 60; i++)
        assert_int_equal(rate_take(r, WHO("a"), now), 0);
    assert_int_equal(rate_take(r, WHO("a"), now), SECOND);
    assert_int_equal(rate_take(r, WHO("a"), now), SECOND); /* what was refused is not counted */
    assert_int_equal(rate_wait(r, WHO("a"), now), SECOND);
    assert_int_equal(rate_take(r, WHO("a"), now + SECOND - 1), 1);
    assert_int_equal(rate_take(r, WHO("a"), now + SECOND), 0);
    assert_int_equal(rate_take(r, WHO("a"), now + SECOND), SECOND);
    assert_int_equal(rate_take(r, WHO("b"), now), 0);
    rate_free(r);
}

static void in_ten_minutes_no_more_than_eleven_minutes_worth(void **state) {
    struct rate *r = rate_new(64, 100);
    int taken = 0;
    for (int64_t at = 0; at < 10 * MINUTE; at += 7 * SECOND / 100)
        taken += rate_take(r, WHO("loop"), MINUTE + at) == 0;
    assert_in_range(taken, 1098, 1101);
    rate_free(r);
}

static void what_happened_counts_but_is_paid_within_a_minute(void **state) {
    struct rate *r = rate_new(64, 60);
    for (int i = 0; i < 100000; i++)
        rate_add(r, WHO("a"), MINUTE);
    int64_t wait = rate_wait(r, WHO("a"), MINUTE);
    assert_in_range(wait, MINUTE - 2 * SECOND, MINUTE + SECOND);
    assert_int_equal(rate_wait(r, WHO("a"), MINUTE + wait), 0);
    rate_free(r);
}

static void what_is_given_back_was_never_taken(void **state) {
    struct rate *r = rate_new(64, 60);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(rate_take(r, WHO("a"), MINUTE), 0);
        rate_give_back(r, WHO("a"), MINUTE);
    }
    rate_give_back(r, WHO("b"), MINUTE); /* who took nothing has no more for it */
    for (int i = 0; i < 60; i++) {
        assert_int_equal(rate_take(r, WHO("a"), MINUTE), 0);
        assert_int_equal(rate_take(r, WHO("b"), MINUTE), 0);
    }
    assert_int_equal(rate_take(r, WHO("a"), MINUTE), SECOND);
    assert_int_equal(rate_take(r, WHO("b"), MINUTE), SECOND);
    rate_free(r);
}

static void nothing_is_limited_by_zero(void **state) {
    struct rate *r = rate_new(64, 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(rate_take(r, WHO("a"), MINUTE), 0);
    rate_free(r);
}

/* A flood of others takes the places of those that are least ahead, not of the one that is far ahead. */
static void who_floods_is_remembered(void **state) {
    struct rate *r = rate_new(64, 60);
    int64_t now = MINUTE;
    for (int i = 0; i < 60; i++)
        rate_take(r, WHO("loop"), now);
    for (int i = 0; i < 10000; i++) {
        char who[32];
        snprintf(who, sizeof who, "other %d", i);
        assert_int_equal(rate_take(r, WHO(who), now), 0);
    }
    assert_true(rate_take(r, WHO("loop"), now) > 0);
    rate_free(r);
}

static void asking_takes_no_place(void **state) {
    struct rate *r = rate_new(8, 60);
    for (int i = 0; i < 8; i++) {
        char who[32];
        snprintf(who, sizeof who, "%d", i);
        for (int n = 0; n < 60; n++)
            rate_take(r, WHO(who), MINUTE);
    }
    for (int i = 0; i < 1000; i++) {
        char who[32];
        snprintf(who, sizeof who, "asks %d", i);
        assert_int_equal(rate_wait(r, WHO(who), MINUTE), 0);
    }
    assert_true(rate_wait(r, WHO("0"), MINUTE) > 0);
    assert_true(rate_wait(r, WHO("7"), MINUTE) > 0);
    rate_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_minutes_worth_at_once_then_evenly),
        cmocka_unit_test(in_ten_minutes_no_more_than_eleven_minutes_worth),
        cmocka_unit_test(what_happened_counts_but_is_paid_within_a_minute),
        cmocka_unit_test(what_is_given_back_was_never_taken), cmocka_unit_test(nothing_is_limited_by_zero),
        cmocka_unit_test(who_floods_is_remembered),
        cmocka_unit_test(asking_takes_no_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
