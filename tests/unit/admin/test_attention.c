/* What an operator is told to look at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "admin/facts.h"

/* The level of the one item of that kind; NULL: there is none. */
static const char *level_of(const struct facts *f, const char *what) {
    static char level[20];
    bool critical;
    size_t i;
    json_t *one, *all = attention_of(f, true, &critical);
    level[0] = '\0';
    json_array_foreach(all, i, one)
        if (!strcmp(json_string_value(json_object_get(one, "what")), what)) {
            assert_string_equal(level, "");
            snprintf(level, sizeof level, "%s", json_string_value(json_object_get(one, "level")));
        }
    json_decref(all);
    return level[0] ? level : NULL;
}

static void an_old_forecast(void **state) {
    struct facts f = {.now = 1800000000, .disk_free = -1};
    f.forecast_age = 3 * CLOCK_HOUR;
    assert_null(level_of(&f, "forecast_old"));
    f.forecast_age++;
    assert_string_equal(level_of(&f, "forecast_old"), "warning");
}

static void lists_that_do_not_come(void **state) {
    struct crls_tally tally = {.n = 2, .next_update = 1800000000 + 6 * CLOCK_DAY};
    struct overview_account account = {.name = "a"};
    struct facts f = {.now = 1800000000, .disk_free = -1, .crls = &tally, .crl_life = 7 * CLOCK_DAY, .registry = {.at = &account, .n = 1}};
    assert_null(level_of(&f, "crl_behind"));
    assert_null(level_of(&f, "crl_incomplete"));
    tally.behind = true;
    tally.left_out = 1;
    assert_string_equal(level_of(&f, "crl_behind"), "critical"); /* long before the next update is due */
    assert_string_equal(level_of(&f, "crl_incomplete"), "critical");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_old_forecast), cmocka_unit_test(lists_that_do_not_come)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
