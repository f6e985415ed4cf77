/* limits: what counts as one source, and whose fault it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "gateway/limits.h"

static struct limits *limits_of(const struct settings *s) {
    struct limits *l = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(limits_new(s, &l, &err), 0);
    return l;
}

static void a_source_is_an_address_or_a_network_of_one_customer(void **state) {
    static const struct {
        const char *address, *source;
    } rows[] = {
        {"192.0.2.7", "192.0.2.7"}, {"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"}, {"2001:db8:1:2::", "2001:db8:1:2::/64"}, {"::1", "::/64"}, {"", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char source[LIMITS_SOURCE_MAX];
        limits_source(rows[i].address, source);
        assert_string_equal(source, rows[i].source);
    }
}

static void who_fails_is_turned_away_and_nobody_else(void **state) {
    const struct settings s = {.enrolments = 1, .limit_source = 3};
    struct limits *l = limits_of(&s);
    for (int i = 0; i < 3; i++) {
        assert_false(limits_turn_away(l, "2001:db8::1"));
        limits_failed(l, "2001:db8::2"); /* of one /64 */
    }
    assert_true(limits_turn_away(l, "2001:db8::1"));
    assert_false(limits_turn_away(l, "2001:db8:0:1::1"));
    assert_false(limits_turn_away(l, "192.0.2.1"));
    for (int i = 0; i < 10; i++)
        limits_failed(l, ""); /* a Unix socket */
    assert_false(limits_turn_away(l, ""));
    limits_free(l);
}

static int guesses(struct limits *l, const char *address, int n) {
    struct err err = ERR_INIT;
    int taken = 0;
    for (int i = 0; i < n; i++)
        taken += limits_guess_begin(l, address, &err) == 0;
    return taken;
}

static void guesses_count_for_their_source(void **state) {
    const struct settings s = {.enrolments = 1, .limit_guesses = 5};
    struct limits *l = limits_of(&s);
    struct err err = ERR_INIT;
    for (int i = 0; i < 20; i++) { /* a right one counts for nothing */
        assert_int_equal(limits_guess_begin(l, "2001:db8::1", &err), 0);
        limits_guess_was_right(l, "2001:db8::1");
    }
    assert_int_equal(guesses(l, "2001:db8::1", 9), 5);
    assert_int_equal(limits_guess_begin(l, "2001:db8::1", &err), MUSTER_ETOOMANY);
    assert_in_range(err.retry_after, 1, 12);
    assert_int_equal(guesses(l, "2001:db8::2", 1), 0); /* one source */
    assert_int_equal(guesses(l, "192.0.2.1", 9), 5);
    limits_free(l);
}

static void times_count_for_their_source_alone(void **state) {
    const struct settings s = {.enrolments = 1, .limit_time = 5, .limit_guesses = 1};
    struct limits *l = limits_of(&s);
    struct err err = ERR_INIT;
    int taken = 0;
    for (int i = 0; i < 9; i++)
        taken += limits_time_begin(l, "2001:db8::1", &err) == 0;
    assert_int_equal(taken, 5);
    assert_int_equal(err.code, MUSTER_ETOOMANY);
    assert_in_range(err.retry_after, 1, 12);
    assert_int_equal(limits_time_begin(l, "2001:db8:0:1::1", &err), 0);
    assert_int_equal(guesses(l, "2001:db8::1", 1), 1); /* which is another count */
    limits_free(l);
}

static void who_is_beyond_his_own_limit_takes_nothing_of_the_others(void **state) {
    const struct settings s = {.enrolments = 100, .limit_device = 1, .limit_key = 2, .limit_account = 10};
    struct limits *l = limits_of(&s);
    struct err err = ERR_INIT;
    struct limits_enrolment a = {.key = SPAN_LIT("key"), .account = SPAN_LIT("account"), .device_id = SPAN_LIT("a")}, b = a, c = a;
    b.device_id = SPAN_LIT("b");
    c.device_id = SPAN_LIT("c");
    assert_int_equal(limits_enrolment_begin(l, &a, &err), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(limits_enrolment_begin(l, &a, &err), MUSTER_ETOOMANY);
    assert_int_equal(limits_enrolment_begin(l, &b, &err), 0);
    assert_int_equal(limits_enrolment_begin(l, &c, &err), MUSTER_ETOOMANY);
    assert_in_range(err.retry_after, 30, 30 + 60);
    c.key = SPAN_LIT("another");
    assert_int_equal(limits_enrolment_begin(l, &c, &err), 0);
    limits_free(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_source_is_an_address_or_a_network_of_one_customer),
        cmocka_unit_test(times_count_for_their_source_alone),
        cmocka_unit_test(who_fails_is_turned_away_and_nobody_else),
        cmocka_unit_test(guesses_count_for_their_source), cmocka_unit_test(who_is_beyond_his_own_limit_takes_nothing_of_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
