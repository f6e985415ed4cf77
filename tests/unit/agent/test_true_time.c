/* Whose clock is believed, where the device's and the gateway's differ: each table is one device, asked again and again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "agent/built.h"
#include "agent/true_time.h"
#include "base/clock.h"

#define D * CLOCK_DAY
#define TODAY (400 D) /* of the story, in days since the agent was built */
#define NEVER INT64_MIN /* 1970 */
#define PLAY(floor, ...) play(floor, (const struct ask[]){__VA_ARGS__}, sizeof((const struct ask[]){__VA_ARGS__}) / sizeof(struct ask))

enum word { GOOD, UNSURE, REFUSED };
struct ask {
    int64_t own, at; /* since the agent was built */
    enum word word;
    int64_t floor; /* afterwards */
    bool accept, told;
};

/* As passes do: what a pass remembers is all that the next one knows. */
static void play(int64_t floor, const struct ask *asks, size_t n) {
    int64_t newest = AGENT_BUILT + floor, waiting = 0;
    for (size_t i = 0; i < n; i++) {
        struct true_time t;
        struct err err = ERR_INIT;
        true_time_init(&t, newest, waiting);
        t.accept = asks[i].accept;
        t.told = asks[i].told;
        int rc = true_time_weigh(&t, asks[i].own == NEVER ? 100 : AGENT_BUILT + asks[i].own, AGENT_BUILT + asks[i].at, &err);
        enum word word = rc ? REFUSED : t.unsure ? UNSURE : GOOD;
        if (word != asks[i].word || t.floor != AGENT_BUILT + asks[i].floor)
            fail_msg("ask %zu: %d, floor %lld days: %s", i, word, (long long)((t.floor - AGENT_BUILT) / CLOCK_DAY), err.text);
        if (rc)
            assert_true(rc == MUSTER_ETIME && !t.unsure && strstr(err.text, "is known to have passed"));
        newest = t.floor;
        waiting = t.waiting;
    }
}

static void a_clock_that_is_right(void **state) {
    (void)state;
    PLAY(100 D, {TODAY, TODAY, GOOD, TODAY}, {TODAY, TODAY + 1 D, GOOD, TODAY + 1 D});
    /* The server is 400 days ahead for a while. */
    PLAY(TODAY, {TODAY, TODAY + 400 D, UNSURE, TODAY}, {TODAY + 60, TODAY + 400 D + 60, UNSURE, TODAY}, {TODAY + 1 D, TODAY + 1 D, GOOD, TODAY + 1 D});
    /* For days: it is believed then, and no longer than a day after it is right again. */
    PLAY(TODAY, {TODAY, TODAY + 400 D, UNSURE, TODAY}, {TODAY + 1 D, TODAY + 401 D, GOOD, TODAY + 401 D}, {TODAY + 2 D, TODAY + 402 D, GOOD, TODAY + 402 D},
         {TODAY + 3 D, TODAY + 3 D, REFUSED, TODAY + 402 D}, {TODAY + 3 D + 900, TODAY + 3 D + 900, REFUSED, TODAY + 402 D}, {TODAY + 4 D, TODAY + 4 D, GOOD, TODAY + 4 D});
    /* It is behind, or somebody has a key of then: nothing goes back. */
    PLAY(TODAY, {TODAY, TODAY - 1, REFUSED, TODAY}, {TODAY + 1 D, TODAY - 1 D, REFUSED, TODAY}, {TODAY + 9 D, TODAY - 1, REFUSED, TODAY}, {TODAY + 9 D, TODAY + 9 D, GOOD, TODAY + 9 D});
}

static void a_clock_that_runs_ahead(void **state) {
    (void)state;
    PLAY(TODAY, {TODAY + 3000 D, TODAY + 1, GOOD, TODAY + 1}, {TODAY + 3000 D, TODAY - 1, REFUSED, TODAY + 1}, {TODAY + 3000 D, TODAY + 9 D, GOOD, TODAY + 9 D});
}

static void a_clock_that_says_1970(void **state) {
    (void)state;
    PLAY(0, {NEVER, -1, REFUSED, 0}, {NEVER, 9 D, GOOD, 9 D}, {NEVER, 9 D, GOOD, 9 D}, {NEVER, TODAY, GOOD, TODAY}, {NEVER, TODAY - 1, REFUSED, TODAY}, {NEVER, TODAY + 1, GOOD, TODAY + 1});
    /* The server is 400 days ahead for a while. */
    PLAY(TODAY, {NEVER, TODAY + 400 D, GOOD, TODAY + 400 D}, {NEVER, TODAY + 1, REFUSED, TODAY + 400 D}, {NEVER, TODAY + 1 D, REFUSED, TODAY + 400 D}, {NEVER, TODAY + 1 D + 1, GOOD, TODAY + 1 D + 1},
         {NEVER, TODAY + 400 D, GOOD, TODAY + 400 D});
    /* Nothing is right that is older than the agent, however often it is said. */
    PLAY(0, {NEVER, -9 D, REFUSED, 0}, {NEVER, -8 D, REFUSED, 0}, {NEVER, -7 D, REFUSED, 0});
}

/* The server was 400 days ahead for a while, and the clock with it; the right time is not believed at once, nor one from before the agent was built. */
static void a_clock_that_the_gateway_has_set(void **state) {
    (void)state;
    PLAY(TODAY, {NEVER, TODAY + 400 D, GOOD, TODAY + 400 D}, {TODAY + 400 D, TODAY + 1, REFUSED, TODAY + 400 D, .told = true}, {TODAY + 401 D, TODAY + 1 D, REFUSED, TODAY + 400 D, .told = true},
         {TODAY + 401 D, TODAY + 1 D + 1, GOOD, TODAY + 1 D + 1, .told = true}, {TODAY + 1 D + 2, TODAY + 1 D + 2, GOOD, TODAY + 1 D + 2, .told = true});
    PLAY(TODAY, {TODAY, TODAY + 400 D, UNSURE, TODAY, .told = true}, {TODAY, -1, REFUSED, TODAY, .told = true}, {TODAY, -1 + 2 D, REFUSED, TODAY, .told = true});
}

/* fake-hwclock: it goes on where it was when the power went. */
static void a_clock_that_is_months_behind(void **state) {
    (void)state;
    PLAY(TODAY - 200 D, {TODAY - 150 D, TODAY, UNSURE, TODAY - 200 D}, {TODAY - 150 D, TODAY + 3600, UNSURE, TODAY - 200 D}, {TODAY - 150 D, TODAY + 1 D, GOOD, TODAY + 1 D},
         {TODAY - 150 D, TODAY + 1 D + 60, GOOD, TODAY + 1 D + 60});
    /* A time from a server that was ahead gives way to the right one. */
    PLAY(TODAY - 200 D, {TODAY - 150 D, TODAY + 400 D, UNSURE, TODAY - 200 D}, {TODAY - 150 D, TODAY, UNSURE, TODAY - 200 D}, {TODAY - 149 D, TODAY + 1 D, GOOD, TODAY + 1 D});
}

static void what_somebody_says_by_hand(void **state) {
    (void)state;
    PLAY(TODAY + 400 D, {TODAY, TODAY, REFUSED, TODAY + 400 D}, {TODAY, TODAY, GOOD, TODAY, true}, {TODAY, TODAY + 1, GOOD, TODAY + 1});
    PLAY(TODAY - 200 D, {TODAY - 150 D, TODAY, GOOD, TODAY, true});
    PLAY(TODAY, {TODAY + 900 D, TODAY - 1 D, GOOD, TODAY - 1 D, true});
    PLAY(TODAY, {NEVER, -1, REFUSED, TODAY, true});
}

/* What a gateway's certificate says is worth no more than the time that it is held against. */
static void a_certificate_that_begins_then(void **state) {
    (void)state;
    struct true_time t;
    int64_t now = clock_now();
    true_time_init(&t, 0, 0);
    true_time_passed(&t, now - 5);
    assert_true(t.floor == now - 5);
    true_time_passed(&t, now + 1000);
    assert_true(t.floor == now - 5);
    t.waiting = now + 400 D; /* and is right by the device's clock: a time that contradicted it has not waited until now */
    true_time_passed(&t, 0);
    assert_true(t.waiting == 0);
    assert_int_equal(true_time_weigh(&t, now, now + 400 D, NULL), 0);
    t.at = now + 400 D;
    t.mono_ms = clock_mono_ms();
    t.asked = true;
    true_time_passed(&t, now + 400 D);
    assert_true(t.unsure && t.floor == now - 5 && t.waiting == now + 400 D);
}

/* state.json may say anything. */
static void numbers_that_nobody_wrote(void **state) {
    (void)state;
    static const int64_t ODD[] = {INT64_MIN, -1, 0, 1, INT64_MAX};
    for (size_t i = 0; i < 5 * 5; i++) {
        struct true_time t;
        true_time_init(&t, ODD[i % 5], ODD[i / 5]);
        assert_true(t.floor >= AGENT_BUILT);
        int rc = true_time_weigh(&t, 0, AGENT_BUILT + TODAY, NULL);
        assert_true(rc == 0 || rc == MUSTER_ETIME);
        assert_true(t.floor >= AGENT_BUILT);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clock_that_is_right),       cmocka_unit_test(a_clock_that_runs_ahead),    cmocka_unit_test(a_clock_that_says_1970),
        cmocka_unit_test(a_clock_that_is_months_behind), cmocka_unit_test(what_somebody_says_by_hand), cmocka_unit_test(a_certificate_that_begins_then),
        cmocka_unit_test(a_clock_that_the_gateway_has_set), cmocka_unit_test(numbers_that_nobody_wrote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
