/* The verdicts that are kept: what each of them has to be held against when it is found, and how many there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "registry/trust.h"
#include "verifier/known.h"

#define NOW 1000

static struct hash key_of(uint32_t n) {
    struct hash h;
    hash_of(span_of(&n, sizeof n), &h);
    return h;
}

static struct known_verdict verdict(int64_t row) {
    return (struct known_verdict){.epoch = 7, .trust = 70, .since = NOW, .until = NOW + 10, .class = ADMIT_DEVICE_UPLOADED, .admitted = true, .account_row = 1, .device_row = row, .device_id = "car-1"};
}

static void is_found_while_all_is_as_it_was(void **state) {
    struct known *k = known_new(100);
    struct hash key = key_of(1), other = key_of(2);
    struct known_verdict v = verdict(5), got;
    assert_false(known_get(k, &key, 7, 70, NOW, &got));
    known_put(k, &key, &v);
    assert_true(known_get(k, &key, 7, 70, NOW, &got));
    assert_int_equal(got.device_row, 5);
    assert_string_equal(got.device_id, "car-1");
    assert_false(known_get(k, &other, 7, 70, NOW, &got));
    assert_true(known_get(k, &key, 7, 70, NOW + 10, &got));
    known_seen(k, &key, 99);
    known_seen(k, &other, 99);
    assert_true(known_get(k, &key, 7, 70, NOW, &got));
    assert_int_equal(got.last_seen, 99);
    v.device_row = 6; /* a newer one takes its place */
    known_put(k, &key, &v);
    assert_int_equal(known_count(k), 1);
    assert_true(known_get(k, &key, 7, 70, NOW, &got));
    assert_int_equal(got.device_row, 6);
    known_free(k);
}

static void is_gone_once_anything_has_changed(void **state) {
    static const struct {
        int64_t epoch;
        uint64_t trust;
        int64_t now;
    } changed[] = {{8, 70, NOW}, {6, 70, NOW}, {7, 71, NOW}, {7, 69, NOW}, {7, 70, NOW + 11}, {7, 70, NOW - 1}, {8, 71, NOW + 11}};
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++) {
        struct known *k = known_new(100);
        struct hash key = key_of(1);
        struct known_verdict v = verdict(5), got;
        known_put(k, &key, &v);
        assert_false(known_get(k, &key, changed[i].epoch, changed[i].trust, changed[i].now, &got));
        assert_int_equal(known_count(k), 0); /* and does not come back when all is as it was */
        assert_false(known_get(k, &key, 7, 70, NOW, &got));
        known_free(k);
    }
}

static void is_bounded(void **state) {
    struct known *k = known_new(64);
    struct known_verdict got;
    struct hash first = key_of(0);
    for (uint32_t i = 0; i < 5000; i++) {
        struct hash key = key_of(i);
        struct known_verdict v = verdict(i);
        known_put(k, &key, &v);
        assert_true(known_count(k) <= 64);
        assert_true(known_get(k, &first, 7, 70, NOW, &got)); /* what is asked for stays */
    }
    assert_int_equal(known_count(k), 64);
    struct hash old = key_of(1), newest = key_of(4999);
    assert_false(known_get(k, &old, 7, 70, NOW, &got));
    assert_true(known_get(k, &newest, 7, 70, NOW, &got));
    known_free(k);
    known_free(NULL);
}

static void trust_changes_before_and_behind_a_commit(void **state) {
    _Atomic uint64_t shared = 5;
    trust_share(&shared);
    assert_int_equal(trust_word(), 5);
    trust_committed(); /* of a transaction that changed nothing */
    assert_int_equal(trust_word(), 5);
    trust_change();
    assert_int_equal(trust_word(), 6);
    trust_committed();
    assert_int_equal(trust_word(), 7);
    trust_committed();
    assert_int_equal(trust_word(), 7);
    shared = 9; /* by another process */
    assert_int_equal(trust_word(), 9);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(is_found_while_all_is_as_it_was), cmocka_unit_test(is_gone_once_anything_has_changed), cmocka_unit_test(is_bounded),
                                       cmocka_unit_test(trust_changes_before_and_behind_a_commit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
