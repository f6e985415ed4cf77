/* enrol_line: a fleet that wakes at once, played second by second against a server that does so much and no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/enrol_line.h"

#define SECOND 1000000LL
#define FLEET 100000
#define SERVED 500 /* a second */
#define LINE 64
#define LONGEST 1500 /* seconds that the play may take */

static struct span id_of(int device, char text[32]) {
    snprintf(text, 32, "device-%d", device);
    return span_str(text);
}

static void no_more_at_a_time_than_the_line_takes(void **state) {
    struct enrol_line *l = enrol_line_new(3);
    int wait = 0;
    for (int i = 0; i < 3; i++)
        assert_true(enrol_line_enter(l, ENROL_LINE_NEW, span_str("a"), 0, &wait));
    assert_false(enrol_line_enter(l, ENROL_LINE_NEW, span_str("a"), 0, &wait));
    assert_in_range(wait, 1, 2);
    enrol_line_leave(l, 0);
    assert_true(enrol_line_enter(l, ENROL_LINE_NEW, span_str("a"), 0, &wait));
    assert_false(enrol_line_enter(l, ENROL_LINE_NEW, span_str("a"), 0, &wait));
    enrol_line_free(l);
}

static void a_renewal_has_room_that_no_enrolment_takes(void **state) {
    struct enrol_line *l = enrol_line_new(8);
    int wait = 0;
    for (int i = 0; i < 8; i++)
        assert_true(enrol_line_enter(l, ENROL_LINE_NEW, span_str("new"), 0, &wait));
    assert_false(enrol_line_enter(l, ENROL_LINE_NEW, span_str("new"), 0, &wait));
    for (int i = 0; i < 2; i++) /* a quarter of eight */
        assert_true(enrol_line_enter(l, ENROL_LINE_RENEWAL, span_str("old"), 0, &wait));
    assert_false(enrol_line_enter(l, ENROL_LINE_RENEWAL, span_str("old"), 0, &wait));
    assert_true(wait >= 1);
    for (int i = 0; i < 2; i++) { /* what the renewals have, enrolments do not get */
        enrol_line_leave(l, 0);
        assert_false(enrol_line_enter(l, ENROL_LINE_NEW, span_str("new"), 0, &wait));
    }
    assert_true(enrol_line_enter(l, ENROL_LINE_RENEWAL, span_str("old"), 0, &wait));
    enrol_line_free(l);
    l = enrol_line_new(1);
    assert_true(enrol_line_enter(l, ENROL_LINE_NEW, span_str("new"), 0, &wait));
    assert_true(enrol_line_enter(l, ENROL_LINE_RENEWAL, span_str("old"), 0, &wait));
    assert_false(enrol_line_enter(l, ENROL_LINE_RENEWAL, span_str("old"), 0, &wait));
    enrol_line_free(l);
}

static void a_place_follows_from_the_id(void **state) {
    int in[10] = {0};
    char text[32];
    for (int i = 0; i < 10000; i++) {
        int64_t place = enrol_line_place(id_of(i, text), 5, 10);
        assert_int_equal(place, enrol_line_place(id_of(i, text), 5, 10));
        assert_in_range(place, 5, 14);
        in[place - 5]++;
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(in[i], 800, 1200);
}

static void nobody_waits_longer_than_the_longest(void **state) {
    struct enrol_line *l = enrol_line_new(1);
    char text[32];
    int wait, longest = 0;
    assert_true(enrol_line_enter(l, ENROL_LINE_NEW, span_str("a"), 0, &wait));
    for (int i = 0; i < 2000000; i++) {
        assert_false(enrol_line_enter(l, ENROL_LINE_NEW, id_of(i % 1000, text), 0, &wait));
        longest = wait > longest ? wait : longest;
    }
    assert_in_range(longest, ENROL_LINE_WAIT_MAX / 2, ENROL_LINE_WAIT_MAX);
    enrol_line_free(l);
}

#define MS 1000LL
#define NOBODY (-1)

/* Who asks in which millisecond. */
static struct play {
    int first[LONGEST * 1000], next[FLEET];
    int in_second[LONGEST];
} play;


static void ask_at(int device, int ms) {
    assert_in_range(ms, 0, LONGEST * 1000 - 1);
    play.next[device] = play.first[ms];
    play.first[ms] = device;
    play.in_second[ms / 1000]++;
}

static int serve(struct enrol_line *l, int inside, int ms) {
    if (!inside || ms % (1000 / SERVED))
        return 0;
    enrol_line_leave(l, ms * MS);
    return 1;
}

/* All ask within the first second; who is sent away comes again when he was told, or, where fixed is not 0, after so many seconds, as everybody
 * else.  Returns the milliseconds until the last was served. */
static int run_fleet(struct enrol_line *l, int fixed) {
    int served = 0, inside = 0, ms = 0;
    memset(&play, 0, sizeof play);
    for (int i = 0; i < LONGEST * 1000; i++)
        play.first[i] = NOBODY;
    for (int i = 0; i < FLEET; i++)
        ask_at(i, i * 7919 % 1000);
    for (; served < FLEET; ms++) {
        for (int i = play.first[ms], next; i != NOBODY; i = next) {
            char text[32];
            int wait;
            next = play.next[i];
            if (enrol_line_enter(l, ENROL_LINE_NEW, id_of(i, text), ms * MS, &wait))
                inside++;
            else
                ask_at(i, ms + (fixed ? fixed : wait) * 1000);
        }
        int done = serve(l, inside, ms);
        inside -= done;
        served += done;
    }
    return ms;
}

struct outcome {
    int seconds, peak, asked; /* peak: the most that asked in one second behind the first */
};

static struct outcome wake(int fixed) {
    struct enrol_line *l = enrol_line_new(LINE);
    struct outcome o = {.seconds = run_fleet(l, fixed) / 1000};
    for (int i = 0; i <= o.seconds; i++) {
        o.asked += play.in_second[i];
        if (i > 1 && play.in_second[i] > o.peak)
            o.peak = play.in_second[i];
    }
    print_message("%d devices, %d served a second, %s: done in %d s; after the first, at most %d asked in a second; %d requests in all\n", FLEET, SERVED,
                  fixed ? "all come again after 5 s" : "each when it is told", o.seconds, o.peak, o.asked);
    enrol_line_free(l);
    return o;
}

static void a_fleet_that_wakes_at_once_comes_spread_out(void **state) {
    const struct outcome told = wake(0), all = wake(5);
    assert_true(told.seconds < 2 * FLEET / SERVED); /* a line without a gap would take FLEET / SERVED */
    assert_true(told.peak < 3 * SERVED);
    assert_true(told.asked < 3 * FLEET);
    assert_true(all.peak > 10 * told.peak && all.seconds > 2 * told.seconds && all.asked > 10 * told.asked);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_more_at_a_time_than_the_line_takes),
        cmocka_unit_test(a_renewal_has_room_that_no_enrolment_takes), cmocka_unit_test(a_place_follows_from_the_id),
        cmocka_unit_test(nobody_waits_longer_than_the_longest),
        cmocka_unit_test(a_fleet_that_wakes_at_once_comes_spread_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
