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
#define HOURS * CLOCK_HOUR
#define TODAY (400 D) /* of the story, in days since the agent was built */
#define NEVER INT64_MIN /* 1970 */
#define PLAY(floor, ...) play(floor, (const struct ask[]){__VA_ARGS__}, sizeof((const struct ask[]){__VA_ARGS__}) / sizeof(struct ask))

enum word { GOOD, UNSURE, REFUSED };
struct ask {
    int64_t own, at; /* since the agent was built */
    enum word word;
    int64_t floor; /* afterwards */
    int64_t later; /* seconds since the ask before, in which the device was on; none: a day */
    int64_t up;    /* it was started anew, so long ago, and was off before that */
    bool accept;
};
#define SAME(n) .later = (n) * CLOCK_HOUR
#define STARTED(n) .up = (n)

/* As passes do: what a pass remembers is all that the next one knows. */
static void play(int64_t floor, const struct ask *asks, size_t n) {
    int64_t newest = AGENT_BUILT + floor, up = 1000, boot = 1;
    struct candidate waiting = {0};
    for (size_t i = 0; i < n; i++) {
        struct true_time t;
        struct err err = ERR_INIT;
        up = asks[i].up ? asks[i].up : up + (asks[i].later ? asks[i].later : CLOCK_DAY);
        boot += asks[i].up > 0;
        true_time_init(&t, newest, &waiting);
        t.up = up;
        t.boot = boot;
        t.accept = asks[i].accept;
        int rc = true_time_weigh(&t, asks[i].own == NEVER ? 100 : AGENT_BUILT + asks[i].own, AGENT_BUILT + asks[i].at, &err);
        enum word word = rc ? REFUSED : t.unsure ? UNSURE : GOOD;
        if (word != asks[i].word || t.floor != AGENT_BUILT + asks[i].floor)
            fail_msg("ask %zu: %d, floor %lld days: %s", i, word, (long long)((t.floor - AGENT_BUILT) / CLOCK_DAY), err.text);
        if (rc)
            assert_true(rc == MUSTER_ETIME && !t.unsure && strstr(err.text, "is known to have passed"));
        assert_true(t.floor >= newest || asks[i].accept);
        newest = t.floor;
        waiting = t.waiting;
    }
}

static void a_clock_that_is_right(void **state) {
    (void)state;
    PLAY(TODAY - 1 D, {TODAY, TODAY, GOOD, TODAY}, {TODAY + 1 D, TODAY + 1 D, GOOD, TODAY + 1 D});
    /* The server is ahead by hours: what lies ahead of this clock is no bound, at once or later, so that the right time is good the moment that it is told. */
    PLAY(TODAY, {TODAY + 60, TODAY + 20 HOURS, GOOD, TODAY + 60}, {TODAY + 120, TODAY + 120, GOOD, TODAY + 120}, {TODAY + 180, TODAY + 1 D, GOOD, TODAY + 180}, {TODAY + 240, TODAY + 240, GOOD, TODAY + 240});
    PLAY(0, {TODAY, TODAY, GOOD, 0}, {TODAY + 8 D, TODAY + 8 D + 20 HOURS, GOOD, TODAY + 8 D, SAME(9 * 24)}, {TODAY + 8 D + 60, TODAY + 8 D + 60, GOOD, TODAY + 8 D + 60});
    /* What was accepted last is long ago: the server's clock and this one may be wrong together, by one bad source. */
    PLAY(100 D, {TODAY + 900 D, TODAY + 900 D, GOOD, 100 D}, {TODAY, TODAY, GOOD, 100 D}, {TODAY + 3 D, TODAY + 3 D, GOOD, 100 D, SAME(72)}, {TODAY + 7 D, TODAY + 7 D, GOOD, TODAY + 7 D, SAME(97)});
    /* The server is 400 days ahead for a while: nothing of that is left. */
    PLAY(TODAY, {TODAY, TODAY + 400 D, UNSURE, TODAY}, {TODAY + 60, TODAY + 400 D + 60, UNSURE, TODAY, .later = 60}, {TODAY + 1 D, TODAY + 1 D, GOOD, TODAY + 1 D});
    /* For weeks: used from the second day on, and never accepted, so that the right time is at once when it is told again. */
    PLAY(TODAY, {TODAY, TODAY + 400 D, UNSURE, TODAY}, {TODAY + 1 D, TODAY + 401 D, GOOD, TODAY}, {TODAY + 9 D, TODAY + 409 D, GOOD, TODAY}, {TODAY + 30 D, TODAY + 430 D, GOOD, TODAY},
         {TODAY + 30 D, TODAY + 30 D, GOOD, TODAY}, {TODAY + 31 D, TODAY + 431 D, UNSURE, TODAY});
    /* Also after it has told the right one for days, and that is still to be accepted. */
    PLAY(TODAY - 90 D, {TODAY, TODAY, GOOD, TODAY - 90 D}, {TODAY + 2 D, TODAY + 2 D, GOOD, TODAY - 90 D}, {TODAY + 3 D, TODAY + 403 D, UNSURE, TODAY - 90 D}, {TODAY + 3 D, TODAY + 3 D, GOOD, TODAY - 90 D});
    /* It leaps, within an hour: not even used. */
    PLAY(TODAY, {TODAY, TODAY + 400 D, UNSURE, TODAY}, {TODAY, TODAY + 800 D, UNSURE, TODAY, .later = 1800}, {TODAY, TODAY + 1200 D, UNSURE, TODAY, .later = 1800}, {TODAY, TODAY, GOOD, TODAY});
    /* It is behind, or somebody has a key of then: nothing goes back. */
    PLAY(TODAY, {TODAY, TODAY - 1, REFUSED, TODAY}, {TODAY + 1 D, TODAY - 1 D, REFUSED, TODAY}, {TODAY + 9 D, TODAY - 1, REFUSED, TODAY}, {TODAY + 9 D, TODAY + 1 D, GOOD, TODAY + 1 D});
}

static void a_clock_that_runs_ahead(void **state) {
    (void)state;
    PLAY(TODAY, {TODAY + 3000 D, TODAY + 1, GOOD, TODAY + 1}, {TODAY + 3000 D, TODAY - 1, REFUSED, TODAY + 1}, {TODAY + 3000 D, TODAY + 9 D, GOOD, TODAY + 1}, {TODAY + 3000 D, TODAY + 16 D, GOOD, TODAY + 16 D, SAME(7 * 24)});
}

static void a_clock_that_says_1970(void **state) {
    (void)state;
    /* Far from what is known it is used at once, and accepted once another one agrees, a week later and after a day in which the device was on. */
    PLAY(0, {NEVER, -1, REFUSED, 0}, {NEVER, 1 D, GOOD, 1 D}, {NEVER, TODAY, GOOD, 1 D}, {NEVER, TODAY + 6 D, GOOD, 1 D}, {NEVER, TODAY + 7 D, GOOD, TODAY + 7 D, SAME(6 * 24)}, {NEVER, TODAY, REFUSED, TODAY + 7 D},
         {NEVER, TODAY + 8 D, GOOD, TODAY + 8 D}, {NEVER, TODAY + 8 D, GOOD, TODAY + 8 D}, {NEVER, TODAY + 8 D - 1, REFUSED, TODAY + 8 D});
    /* For two hours a day, and then for minutes, which it does not know of. */
    PLAY(0, {NEVER, TODAY, GOOD, 0}, {NEVER, TODAY + 2 D, GOOD, 0, STARTED(30)}, {NEVER, TODAY + 2 D + 3600, GOOD, 0, SAME(1)}, {NEVER, TODAY + 9 D, GOOD, 0, STARTED(30)}, {NEVER, TODAY + 20 D, GOOD, 0, STARTED(30)},
         {NEVER, TODAY + 21 D, GOOD, TODAY + 1 D + 3690, SAME(24)}, {NEVER, TODAY + 1 D, REFUSED, TODAY + 1 D + 3690});
    /* The server is 400 days ahead over a weekend: the right time is used the moment that it is told. */
    PLAY(TODAY, {NEVER, TODAY + 400 D, GOOD, TODAY}, {NEVER, TODAY + 401 D, GOOD, TODAY}, {NEVER, TODAY + 402 D, GOOD, TODAY}, {NEVER, TODAY + 1 D, GOOD, TODAY + 1 D}, {NEVER, TODAY + 402 D, GOOD, TODAY + 1 D});
    /* After it has told the right one for days: that is what was confirmed, where it is not ahead by years. */
    PLAY(0, {NEVER, TODAY, GOOD, 0}, {NEVER, TODAY + 1 D, GOOD, 0}, {NEVER, TODAY + 42 D, GOOD, TODAY + 2 D}, {NEVER, TODAY + 43 D, GOOD, TODAY + 2 D}, {NEVER, TODAY + 3 D, GOOD, TODAY + 3 D});
    PLAY(0, {NEVER, TODAY, GOOD, 0}, {NEVER, TODAY + 1 D, GOOD, 0}, {NEVER, TODAY + 402 D, GOOD, 0}, {NEVER, TODAY + 3 D, GOOD, 0}, {NEVER, TODAY + 10 D, GOOD, TODAY + 10 D, SAME(7 * 24)});
    /* It leaps from year to year. */
    PLAY(TODAY, {NEVER, TODAY + 400 D, GOOD, TODAY}, {NEVER, TODAY + 800 D, GOOD, TODAY, .later = 1800}, {NEVER, TODAY + 1200 D, GOOD, TODAY, SAME(20)}, {NEVER, TODAY + 1, GOOD, TODAY + 1});
    PLAY(TODAY, {NEVER, TODAY + 400 D, GOOD, TODAY}, {NEVER, TODAY + 800 D, GOOD, TODAY}, {NEVER, TODAY + 1200 D, GOOD, TODAY}, {NEVER, TODAY + 3 D, GOOD, TODAY});
    /* It was wrong for weeks: nothing goes back, however often it is said, until that day. */
    PLAY(TODAY, {NEVER, TODAY + 400 D, GOOD, TODAY}, {NEVER, TODAY + 407 D, GOOD, TODAY + 407 D, SAME(7 * 24)}, {NEVER, TODAY + 7 D, REFUSED, TODAY + 407 D}, {NEVER, TODAY + 8 D, REFUSED, TODAY + 407 D},
         {NEVER, TODAY + 90 D, REFUSED, TODAY + 407 D}, {NEVER, TODAY + 407 D, GOOD, TODAY + 407 D});
    /* Nothing is right that is older than the agent. */
    PLAY(0, {NEVER, -9 D, REFUSED, 0}, {NEVER, -8 D, REFUSED, 0}, {NEVER, -7 D, REFUSED, 0}, {NEVER, -1, REFUSED, 0, .accept = true});
}

/* The server was 400 days ahead for a while, and the clock with it. */
static void a_clock_that_the_gateway_has_set(void **state) {
    (void)state;
    PLAY(TODAY, {NEVER, TODAY + 400 D, GOOD, TODAY}, {TODAY + 400 D + 60, TODAY + 400 D + 60, GOOD, TODAY, .later = 60}, {TODAY + 401 D, TODAY + 1 D, GOOD, TODAY + 1 D}, {TODAY + 2 D, TODAY + 2 D, GOOD, TODAY + 2 D});
}

/* fake-hwclock: it goes on where it was when the power went. */
static void a_clock_that_is_months_behind(void **state) {
    (void)state;
    PLAY(TODAY - 200 D, {TODAY - 150 D, TODAY, UNSURE, TODAY - 200 D}, {TODAY - 150 D, TODAY + 3600, UNSURE, TODAY - 200 D, SAME(1)}, {TODAY - 149 D, TODAY + 1 D, GOOD, TODAY - 200 D, SAME(23)},
         {TODAY - 149 D, TODAY + 1 D + 60, GOOD, TODAY - 200 D, .later = 60});
    /* One that is on for minutes has nothing but the server's word. */
    PLAY(TODAY - 200 D, {TODAY - 150 D, TODAY, UNSURE, TODAY - 200 D}, {TODAY - 150 D, TODAY + 3600, UNSURE, TODAY - 200 D, STARTED(30)}, {TODAY - 150 D, TODAY + 1 D, GOOD, TODAY - 200 D, STARTED(30)});
    /* A time from a server that was ahead gives way to the right one. */
    PLAY(TODAY - 200 D, {TODAY - 150 D, TODAY + 400 D, UNSURE, TODAY - 200 D}, {TODAY - 150 D, TODAY, UNSURE, TODAY - 200 D}, {TODAY - 149 D, TODAY + 1 D, GOOD, TODAY - 200 D});
}

static void what_somebody_says_by_hand(void **state) {
    (void)state;
    PLAY(TODAY + 400 D, {TODAY, TODAY, REFUSED, TODAY + 400 D}, {TODAY, TODAY, GOOD, TODAY, .accept = true}, {TODAY + 1, TODAY + 1, GOOD, TODAY + 1});
    PLAY(TODAY - 200 D, {TODAY - 150 D, TODAY, GOOD, TODAY, .accept = true});
    PLAY(TODAY, {TODAY + 900 D, TODAY - 1 D, GOOD, TODAY - 1 D, .accept = true});
    PLAY(TODAY, {NEVER, -1, REFUSED, TODAY, .accept = true});
}

/* When it is asked at all. */
static void who_asks(void **state) {
    (void)state;
    struct true_time t;
    int64_t now = clock_now();
    true_time_init(&t, now - 9, &(struct candidate){0});
    assert_false(true_time_behind(&t) || true_time_needed(&t) || true_time_doubtful(&t));
    t.accept = true;
    assert_true(true_time_needed(&t) && !true_time_behind(&t));
    true_time_init(&t, now + 1000, &(struct candidate){0});
    assert_true(true_time_behind(&t) && true_time_needed(&t));
    true_time_init(&t, 0, &(struct candidate){.time = now - 60, .up = t.up, .boot = t.boot});
    assert_false(true_time_doubtful(&t));
    t.up += CLOCK_DAY;
    assert_true(true_time_doubtful(&t) && !true_time_needed(&t));
    t.up -= CLOCK_DAY - CLOCK_HOUR;
    assert_false(true_time_doubtful(&t));
    t.told = true;
    assert_true(true_time_doubtful(&t) && !true_time_needed(&t));
    true_time_init(&t, 0, &(struct candidate){.time = now + 2 D, .up = t.up, .boot = t.boot});
    assert_true(true_time_doubtful(&t));
    t.at = now;
    t.mono_ms = clock_mono_ms();
    t.asked = true;
    assert_false(true_time_doubtful(&t));
}

/* What a gateway's certificate says is worth no more than the time that it is held against. */
static void a_certificate_that_begins_then(void **state) {
    (void)state;
    struct true_time t;
    int64_t now = clock_now(), long_ago = now - 8 D;
    true_time_init(&t, 0, &(struct candidate){0});
    t.floor = now - 99 D; /* the agent is younger */
    true_time_passed(&t, long_ago);
    assert_true(t.floor == long_ago);
    true_time_passed(&t, long_ago - 1);
    true_time_passed(&t, now - 6 D);
    true_time_passed(&t, now + 1000);
    assert_true(t.floor == long_ago);
    t.at = now + 400 D;
    t.mono_ms = clock_mono_ms();
    t.asked = true;
    true_time_passed(&t, now);
    assert_true(t.floor == long_ago);
    /* Nor where the clock was set to what waits. */
    true_time_init(&t, 0, &(struct candidate){.time = now - 9 D});
    t.floor = now - 99 D;
    t.told = true;
    true_time_passed(&t, long_ago);
    assert_true(t.floor == now - 99 D);
    t.waiting.time = 0;
    true_time_passed(&t, long_ago);
    assert_true(t.floor == long_ago);
    /* It has raised the floor beyond what waits. */
    true_time_init(&t, AGENT_BUILT + 50 D, &(struct candidate){.time = AGENT_BUILT + 20 D, .on = 2 D});
    assert_int_equal(true_time_weigh(&t, 100, AGENT_BUILT + 90 D, NULL), 0);
    assert_true(t.floor == AGENT_BUILT + 50 D && t.waiting.time == AGENT_BUILT + 90 D);
}

/* state.json may say anything. */
static void numbers_that_nobody_wrote(void **state) {
    (void)state;
    static const int64_t ODD[] = {INT64_MIN, -1, 0, 1, INT64_MAX};
    for (size_t i = 0; i < 5 * 5 * 5 * 5; i++) {
        struct true_time t;
        true_time_init(&t, ODD[i % 5], &(struct candidate){ODD[i / 5 % 5], ODD[i / 25 % 5], ODD[i / 125], ODD[i % 5]});
        assert_true(t.floor >= AGENT_BUILT);
        (void)true_time_doubtful(&t);
        int64_t before = t.floor;
        int rc = true_time_weigh(&t, 0, AGENT_BUILT + TODAY, NULL);
        assert_true(rc == 0 || rc == MUSTER_ETIME);
        assert_true(t.floor >= before);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clock_that_is_right),       cmocka_unit_test(a_clock_that_runs_ahead),    cmocka_unit_test(a_clock_that_says_1970),
        cmocka_unit_test(a_clock_that_is_months_behind), cmocka_unit_test(what_somebody_says_by_hand), cmocka_unit_test(a_certificate_that_begins_then), cmocka_unit_test(who_asks),
        cmocka_unit_test(a_clock_that_the_gateway_has_set), cmocka_unit_test(numbers_that_nobody_wrote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
