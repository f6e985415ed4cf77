/* tally: times that are exact to 1 %, and answers that find a place however many kinds there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sim/tally.h"

static struct histogram h;
static struct tally t;

static void times_are_exact_to_one_percent(void **state) {
    memset(&h, 0, sizeof h);
    assert_int_equal(histogram_share(&h, 0.99), 0);
    for (int64_t us = 1; us <= 100000; us++)
        histogram_add(&h, us);
    const struct {
        double share;
        int64_t is;
    } rows[] = {{0, 1}, {0.001, 100}, {0.5, 50000}, {0.9, 90000}, {0.99, 99000}, {1, 100000}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t got = histogram_share(&h, rows[i].share);
        if (got < rows[i].is || got > rows[i].is + rows[i].is / 100 + 1)
            fail_msg("%g: %lld instead of %lld", rows[i].share, (long long)got, (long long)rows[i].is);
    }
    assert_int_equal(h.most, 100000);
}

static void times_of_any_size(void **state) {
    memset(&h, 0, sizeof h);
    const int64_t times[] = {-5, 0, 1, 127, 128, 129, 255, 256, 1000000, INT64_C(1) << 40, INT64_C(1) << 53};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        memset(&h, 0, sizeof h);
        histogram_add(&h, times[i]);
        assert_int_equal(histogram_share(&h, 0.5), times[i] > 0 ? times[i] : 0); /* one alone is the largest */
    }
    memset(&h, 0, sizeof h);
    histogram_add(&h, 3);
    histogram_add(&h, 1000000);
    assert_int_equal(histogram_share(&h, 0.5), 3);
    assert_int_equal(histogram_share(&h, 0.51), 1000000);
}

static void the_busiest_second(void **state) {
    memset(&t, 0, sizeof t);
    for (int i = 0; i < 5; i++)
        tally_begun(&t, 7000000 + i);
    tally_begun(&t, 8000000);
    tally_begun(&t, 8999999);
    assert_int_equal(t.busiest, 5);
    assert_int_equal(t.requests, 7);
}

static void more_kinds_of_answers_than_places(void **state) {
    char what[16];
    memset(&t, 0, sizeof t);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 2 * TALLY_KINDS; i++) {
            snprintf(what, sizeof what, "4%02d kind", i);
            tally_answer(&t, what, 1);
        }
    assert_int_equal(t.n_results, TALLY_KINDS);
    uint64_t all = 0;
    for (size_t i = 0; i < t.n_results; i++)
        all += t.result[i].n;
    assert_int_equal(all, 4 * TALLY_KINDS);
    assert_string_equal(t.result[0].what, "400 kind");
    assert_int_equal(t.result[0].n, 2);
    assert_string_equal(t.result[TALLY_KINDS - 1].what, "other");
    json_t *o = tally_json(&t);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "results"), "other")), 2 * (TALLY_KINDS + 1));
    json_decref(o);
}

static void what_was_not_answered_has_no_latency(void **state) {
    memset(&t, 0, sizeof t);
    tally_answer(&t, "unreachable", -1);
    tally_not_sent(&t, "no room");
    assert_int_equal(t.latency.n, 0);
    assert_int_equal(t.requests, 0);
    json_t *o = tally_json(&t);
    assert_int_equal(json_integer_value(json_object_get(o, "not_sent")), 1);
    json_decref(o);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(times_are_exact_to_one_percent), cmocka_unit_test(times_of_any_size), cmocka_unit_test(the_busiest_second),
                                       cmocka_unit_test(more_kinds_of_answers_than_places),
                                       cmocka_unit_test(what_was_not_answered_has_no_latency)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
