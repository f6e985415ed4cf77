/* Names, patterns and networks. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "registry/model.h"

static void names(void **state) {
    static const char *const good[] = {"a", "test1", "fleet-eu", "0", "abcdefghijklmnopqrstuvwxyz012345"};
    static const char *const bad[] = {"", "-a", "a-", "A", "a.b", "a_b", "ä", "abcdefghijklmnopqrstuvwxyz0123456"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(account_name_check(span_str(good[i]), NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(account_name_check(span_str(bad[i]), NULL), MUSTER_EINVALID);
}

static void device_ids(void **state) {
    char longest[130];
    memset(longest, 'x', sizeof longest);
    assert_int_equal(device_id_check(SPAN_LIT("x"), NULL), 0);
    assert_int_equal(device_id_check(SPAN_LIT("Gerät 7/Ω:1"), NULL), 0);
    assert_int_equal(device_id_check(span_of(longest, 128), NULL), 0);
    assert_int_equal(device_id_check(span_of(longest, 129), NULL), MUSTER_EDEVICEID);
    assert_int_equal(device_id_check(SPAN_NONE, NULL), MUSTER_EDEVICEID);
    assert_int_equal(device_id_check(SPAN_LIT("a\nb"), NULL), MUSTER_EDEVICEID);
    assert_int_equal(device_id_check(SPAN_LIT("a\0b"), NULL), MUSTER_EDEVICEID);
    assert_int_equal(device_id_check(SPAN_LIT("a\xff"), NULL), MUSTER_EDEVICEID);
    assert_int_equal(device_id_check(SPAN_LIT("muster-challenge-1"), NULL), MUSTER_EIDTAKEN);
}

static void patterns(void **state) {
    assert_true(id_pattern_match("", SPAN_LIT("anything")));
    assert_true(id_pattern_match("unit-*", SPAN_LIT("unit-")));
    assert_true(id_pattern_match("unit-[0-9][0-9]", SPAN_LIT("unit-42")));
    assert_false(id_pattern_match("unit-[0-9][0-9]", SPAN_LIT("unit-4")));
    assert_false(id_pattern_match("unit-*", SPAN_LIT("Unit-1")));
    assert_true(id_pattern_match("ger?t", SPAN_LIT("gerät")));
    assert_true(id_pattern_match("ger[äö]t", SPAN_LIT("gerät")));
    assert_false(id_pattern_match("ger??t", SPAN_LIT("gerät")));
    assert_true(id_pattern_match("unit-[^0-9]", SPAN_LIT("unit-x")));
    assert_false(id_pattern_match("unit-[^0-9]", SPAN_LIT("unit-7")));
    assert_int_equal(id_pattern_check("unit-[0-9]*", NULL), 0);
    assert_int_equal(id_pattern_check("unit-[0-9", NULL), MUSTER_EINVALID);
    assert_int_equal(id_pattern_check("*a*a*a*a*a*a*a*a*a*", NULL), MUSTER_EINVALID);
}

static void networks(void **state) {
    assert_true(sources_match("", "203.0.113.9"));
    assert_true(sources_match("192.0.2.0/24 203.0.113.0/28", "203.0.113.9"));
    assert_false(sources_match("203.0.113.0/29", "203.0.113.9"));
    assert_true(sources_match("0.0.0.0/0", "203.0.113.9"));
    assert_false(sources_match("0.0.0.0/0", "2001:db8::1"));
    assert_true(sources_match("2001:db8::/32", "2001:db8:1::1"));
    assert_true(sources_match("203.0.113.9", "203.0.113.9"));
    assert_false(sources_match("203.0.113.9", ""));
    assert_int_equal(sources_check("192.0.2.0/24 2001:db8::/32", NULL), 0);
    assert_int_equal(sources_check("192.0.2.0/33", NULL), MUSTER_EINVALID);
    assert_int_equal(sources_check("example.com", NULL), MUSTER_EINVALID);
    assert_int_equal(sources_check("192.0.2.0/", NULL), MUSTER_EINVALID);
}

static void words(void **state) {
    assert_string_equal(word_of(&WORDS_DEVICE_STATE, DEVICE_QUARANTINED), "quarantined");
    assert_string_equal(word_of(&WORDS_DEVICE_STATE, 99), "?");
    assert_int_equal(word_parse(&WORDS_ROLE, "factory"), ROLE_FACTORY);
    assert_int_equal(word_parse(&WORDS_ROLE, "root"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(names), cmocka_unit_test(device_ids), cmocka_unit_test(patterns), cmocka_unit_test(networks), cmocka_unit_test(words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
