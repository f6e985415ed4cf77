/* Answers that are kept, and the rate of signatures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/ocsp.h"
#include "gateway/ocsp_cache.h"

/* Alike in what chains go by, 8 bytes, and different behind. */
static struct hash key(unsigned n) {
    struct hash h = {{0}};
    h.b[0] = (uint8_t)(n % 3);
    h.b[sizeof h.b - 1] = (uint8_t)n;
    return h;
}

static void put(struct ocsp_cache *c, unsigned n, const char *der) {
    const struct hash asked = key(n), said = key(100 + n);
    ocsp_cache_put(c, &asked, &(struct ocsp_kept){.said = said, .trust = n, .made = 1, .next_update = 2, .der = span_str(der)});
}

static bool has(struct ocsp_cache *c, unsigned n, const char *der) {
    CLEANUP(buf_fini) struct buf bytes = BUF_INIT(64);
    const struct hash asked = key(n);
    struct ocsp_kept k;
    return ocsp_cache_get(c, &asked, &k, &bytes) && span_eq_str(k.der, der) && k.trust == n;
}

static void what_was_kept_is_found_and_nothing_else(void **state) {
    CLEANUP(ocsp_cache_free) struct ocsp_cache *c = ocsp_cache_new(8);
    for (unsigned i = 0; i < 8; i++) {
        assert_false(has(c, i, "a"));
        put(c, i, "a");
        assert_true(has(c, i, "a"));
    }
    assert_false(has(c, 9, "a"));
    put(c, 3, "b"); /* in its place */
    assert_true(has(c, 3, "b"));
    for (unsigned i = 0; i < 8; i++)
        assert_true(has(c, i, i == 3 ? "b" : "a"));
}

static void the_one_not_asked_for_for_longest_goes(void **state) {
    CLEANUP(ocsp_cache_free) struct ocsp_cache *c = ocsp_cache_new(3);
    for (unsigned i = 0; i < 3; i++)
        put(c, i, "a");
    assert_true(has(c, 0, "a"));
    put(c, 3, "a");
    assert_false(has(c, 1, "a"));
    assert_true(has(c, 0, "a") && has(c, 2, "a") && has(c, 3, "a"));
}

static void it_is_trusted_again_where_the_same_was_said(void **state) {
    CLEANUP(ocsp_cache_free) struct ocsp_cache *c = ocsp_cache_new(3);
    CLEANUP(buf_fini) struct buf bytes = BUF_INIT(64);
    const struct hash asked = key(1), said = key(101), other = key(7);
    struct ocsp_kept k;
    put(c, 1, "a");
    ocsp_cache_trust(c, &asked, &other, 55); /* of an answer that was replaced meanwhile */
    assert_true(ocsp_cache_get(c, &asked, &k, &bytes) && k.trust == 1);
    ocsp_cache_trust(c, &asked, &said, 55);
    assert_true(ocsp_cache_get(c, &asked, &k, &bytes) && k.trust == 55);
    ocsp_cache_trust(c, &other, &said, 55);
    assert_false(ocsp_cache_get(c, &other, &k, &bytes));
}

static void signatures_have_a_rate(void **state) {
    _Atomic int64_t due = 0;
    int n = 0;
    const int64_t now = 1000000000;
    while (ocsp_rate_take(&due, 10, now))
        n++;
    assert_int_equal(n, 10); /* a second's worth at once */
    assert_false(ocsp_rate_take(&due, 10, now + 99999));
    assert_true(ocsp_rate_take(&due, 10, now + 100000));
    assert_false(ocsp_rate_take(&due, 10, now + 100000));
    n = 0;
    for (int64_t t = now + 100000; t < now + 10100000; t += 1000)
        n += ocsp_rate_take(&due, 10, t);
    assert_in_range(n, 98, 100);
    n = 0;
    while (ocsp_rate_take(&due, 10, now + 100000000)) /* nothing is saved up */
        n++;
    assert_int_equal(n, 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_kept_is_found_and_nothing_else),
        cmocka_unit_test(the_one_not_asked_for_for_longest_goes),
        cmocka_unit_test(it_is_trusted_again_where_the_same_was_said),
        cmocka_unit_test(signatures_have_a_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
