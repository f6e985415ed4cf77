/* A day on which devices stop is announced once for each number of days, for each account and kind of end, and to nobody who does not ask. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "on_disk.h"
#include "registry/event_forecast.h"

#define DAY CLOCK_DAY
#define NOW (20000 * DAY + 3600)
#define TODAY (20000 * DAY)

static struct store *registry;

static void run(store_run_fn fn, void *arg) {
    struct err err = ERR_INIT;
    if (store_write_now(registry, fn, arg, &err))
        fail_msg("%s", err_text(&err));
}

static void begin(int64_t events) {
    static struct event_wants w;
    sqlite3 *db;
    on_disk_anew();
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    for (int i = 1; i <= 2; i++) {
        char *text = sqlite3_mprintf("INSERT INTO account (id, name, kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, "
                                     "issue_ceiling) VALUES (%d, 'a%d', 1, 2, 2, 0, 1, 0, 0, 1, 1, 1, 1)", i, i);
        assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_free(text);
    }
    sqlite3_close(db);
    registry = on_disk_open();
    w = (struct event_wants){.n = 1, .at = {{.account = "a1", .events = events}}};
    run(event_wants_run, &w);
}

/* "DAY:DAYS DAY:DAYS …" of what is said, days counted from TODAY. */
static void said(int64_t now, const int *days, size_t n, int64_t account, char *out, size_t size) {
    struct event_forecast e = {.now = now};
    struct event_take t = {.n = 0};
    for (size_t i = 0; i < n; i++) {
        const struct event_forecast_row row = {.kind = 3, .cause = "fleet-root", .account = account, .subject = "CN=Root", .code = MUSTER_ECERTEXPIRED, .day = TODAY + days[i] * DAY, .stops = 5};
        assert_int_equal(event_forecast_add(&e, &row), 0);
    }
    run(event_forecast_run, &e);
    event_forecast_fini(&e);
    run(event_take_run, &t);
    out[0] = '\0';
    for (size_t i = 0; i < t.n; i++) {
        int64_t day;
        json_t *o = json_parse(buf_span(&t.at[i].payload), NULL);
        assert_string_equal(json_string_value(json_object_get(o, "type")), "forecast.stops");
        assert_int_equal(json_integer_value(json_object_get(o, "stops")), 5);
        assert_string_equal(json_string_value(json_object_get(o, "code")), "certificate_expired");
        assert_int_equal(clock_parse_rfc3339(span_str(json_string_value(json_object_get(o, "day"))), &day), 0);
        size_t at = strlen(out);
        snprintf(out + at, size - at, "%s%d:%d", at ? " " : "", (int)((day - TODAY) / DAY), (int)json_integer_value(json_object_get(o, "days")));
        json_decref(o);
    }
    int64_t upto = t.n ? t.at[t.n - 1].row : 0;
    event_take_fini(&t);
    run(event_forget_run, &upto);
}

#define SAYS(now, account, expected, ...)                                                                                      \
    do {                                                                                                                       \
        const int days__[] = {__VA_ARGS__};                                                                                    \
        char text__[2000];                                                                                                     \
        said(now, days__, sizeof days__ / sizeof *days__, account, text__, sizeof text__);                                     \
        assert_string_equal(text__, expected);                                                                                 \
    } while (0)

static void each_day_once(void **state) {
    begin(INT64_C(1) << EVENT_FORECAST_STOPS);
    SAYS(NOW, 1, "0:1 1:1 5:7 7:7 8:30 30:30", 0, 1, 5, 7, 8, 30, 31, 60);
    SAYS(NOW, 1, "", 0, 1, 5, 7, 8, 30, 31, 60);
    SAYS(NOW + 3600, 1, "", 0, 1, 5, 7, 8, 30, 31, 60);
    SAYS(NOW + DAY, 1, "8:7 31:30", 1, 5, 7, 8, 30, 31, 60);
    SAYS(NOW + 4 * DAY, 1, "5:1", 5, 7, 8, 30, 31, 60);
    SAYS(NOW + 29 * DAY, 1, "30:1 31:7 40:30", 30, 31, 40, 60);
    store_close(registry);
}

static void a_clock_that_ran_ahead_has_said_nothing(void **state) {
    begin(INT64_C(1) << EVENT_FORECAST_STOPS);
    SAYS(NOW + 300 * DAY, 1, "310:30", 5, 9, 310);
    SAYS(NOW, 1, "5:7 9:30", 5, 9, 310);
    SAYS(NOW, 1, "", 5, 9, 310);
    SAYS(NOW - DAY, 1, "", 5, 9, 310);
    SAYS(NOW + 2 * DAY, 1, "9:7", 5, 9, 310);
    store_close(registry);
}

static void two_causes_of_one_day(void **state) {
    begin(INT64_C(1) << EVENT_FORECAST_STOPS);
    SAYS(NOW, 1, "9:30 9:30", 9, 9);
    store_close(registry);
}

static void nobody_who_does_not_ask(void **state) {
    begin(INT64_C(1) << EVENT_DEVICE_REVOKED);
    SAYS(NOW, 1, "", 0, 5, 9);
    store_close(registry);
    begin(INT64_C(1) << EVENT_FORECAST_STOPS);
    SAYS(NOW, 2, "", 0, 5, 9);
    SAYS(NOW, 0, "", 0, 5, 9);
    store_close(registry);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_day_once),
        cmocka_unit_test(a_clock_that_ran_ahead_has_said_nothing),
        cmocka_unit_test(two_causes_of_one_day),
        cmocka_unit_test(nobody_who_does_not_ask),
    };
    return cmocka_run_group_tests(tests, on_disk_make, on_disk_drop);
}
