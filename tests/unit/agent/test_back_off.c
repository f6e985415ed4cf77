/* How a fleet comes back after an outage: later with each failure, and spread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "agent/back_off.h"
#include "base/clock.h"

#define FLEET 4000
#define URL "https://gateway.example"

static int64_t after(int failures, const char *device_id, int64_t most, bool grows, struct back_off *b) {
    *b = (struct back_off){0};
    int64_t wait = 0;
    for (int i = 0; i < failures; i++)
        wait = back_off_failed(b, 7, device_id, most, grows);
    return wait;
}

/* Each tenth of the time has its tenth of the fleet, and nobody is the first or the last of it every time. */
static void a_fleet_is_spread_evenly(void **state) {
    (void)state;
    struct back_off b;
    char id[32];
    for (int failures = 1; failures < 12; failures++) {
        int in[10] = {0}, early_again = 0;
        int64_t middle = failures < 9 ? 600LL << (failures - 1) : CLOCK_DAY;
        for (int i = 0; i < FLEET; i++) {
            snprintf(id, sizeof id, "car-%06d", i);
            int64_t wait = after(failures, id, CLOCK_DAY, true, &b), place = (wait - middle / 2) * 10 / middle;
            assert_in_range(wait, middle / 2, middle * 3 / 2);
            in[place > 9 ? 9 : place]++;
            int64_t next = back_off_failed(&b, 7, id, CLOCK_DAY, true), later = failures < 8 ? 2 * middle : CLOCK_DAY;
            early_again += place == 0 && (next - later / 2) * 10 / later == 0;
        }
        for (int i = 0; i < 10; i++)
            assert_in_range(in[i], FLEET / 10 * 3 / 4, FLEET / 10 * 5 / 4);
        assert_in_range(early_again, 0, FLEET / 50);
    }
}

static void it_goes_no_further_than_it_may(void **state) {
    (void)state;
    struct back_off b;
    for (int64_t most = 1; most < 4 * CLOCK_DAY; most = most * 3 + 1)
        assert_in_range(after(40, "car-1", most, true, &b), most / 2, most + most / 2);
    for (int failures = 1; failures < 12; failures++) /* nobody was burdened */
        assert_in_range(after(failures, "car-1", CLOCK_DAY, false, &b), 300, 900);
    assert_int_equal(b.failures, 1);
}

static void whom_and_until_when_it_is_about(void **state) {
    (void)state;
    const struct certs none = {.n = 0};
    struct back_off b = {0};
    int64_t one = back_off_what(URL, &none), other = back_off_what(URL "2", &none), now = clock_now();
    assert_true(one != other && one > 0 && one < 1LL << 53);
    assert_int_equal(one, back_off_what(URL "//", &none));
    assert_int_equal(back_off_left(&b, one), 0);
    int64_t wait = back_off_failed(&b, one, "car-1", CLOCK_DAY, true);
    assert_in_range(back_off_left(&b, one), wait - 5, wait);
    assert_int_equal(back_off_left(&b, other), 0);
    b.at = now + 100; /* the clock was set back */
    assert_int_equal(back_off_left(&b, one), 0);
    b.at = now - wait - 1;
    assert_int_equal(back_off_left(&b, one), 0);
    back_off_failed(&b, one, "car-1", CLOCK_DAY, true);
    assert_int_equal(b.failures, 2);
    b.at = now - 4 * CLOCK_DAY; /* another outage */
    back_off_failed(&b, one, "car-1", CLOCK_DAY, true);
    assert_int_equal(b.failures, 1);
    back_off_failed(&b, other, "car-1", CLOCK_DAY, true);
    assert_int_equal(b.failures, 1);
}

/* state.json may say anything. */
static void numbers_that_nobody_wrote(void **state) {
    (void)state;
    static const int64_t ODD[] = {INT64_MIN, -1, 0, 1, INT64_MAX};
    for (size_t i = 0; i < 5 * 5 * 5; i++) {
        struct back_off b = {7, ODD[i % 5], ODD[i / 5 % 5], ODD[i / 25]};
        assert_in_range(back_off_left(&b, 7), 0, 2 * CLOCK_DAY);
        assert_in_range(back_off_failed(&b, 7, "car-1", CLOCK_DAY, true), 300, CLOCK_DAY * 3 / 2);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fleet_is_spread_evenly),
        cmocka_unit_test(it_goes_no_further_than_it_may),
        cmocka_unit_test(whom_and_until_when_it_is_about),
        cmocka_unit_test(numbers_that_nobody_wrote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
