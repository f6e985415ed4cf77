/* The peers that a proxy has asked about: found again, bounded, and let go of once each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/auth_cache.h"

/* Its reference is the test's. */
static struct identity *peer(void) {
    struct identity *id = calloc(1, sizeof *id);
    assert_non_null(id);
    id->refs = 1;
    return id;
}

/* Keys that are alike in what chains go by, 8 bytes, and differ behind. */
static struct hash key(unsigned n) {
    struct hash h = {{0}};
    h.b[0] = (uint8_t)(n % 3);
    h.b[sizeof h.b - 1] = (uint8_t)n;
    return h;
}

static void who_was_put_is_found_and_nobody_else(void **state) {
    struct auth_cache *c = auth_cache_new(8);
    struct identity *ids[8];
    struct hash k, other = key(9);
    for (unsigned i = 0; i < 8; i++) {
        ids[i] = peer();
        k = key(i);
        assert_null(auth_cache_get(c, &k));
        auth_cache_put(c, &k, ids[i]);
        assert_int_equal(ids[i]->refs, 2);
    }
    for (unsigned i = 0; i < 8; i++) {
        k = key(i);
        assert_ptr_equal(auth_cache_get(c, &k), ids[i]);
        assert_int_equal(ids[i]->refs, 2); /* borrowed */
    }
    assert_null(auth_cache_get(c, &other));
    auth_cache_free(c);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(ids[i]->refs, 1);
        identity_unref(ids[i]);
    }
}

static void the_one_not_asked_about_for_longest_goes(void **state) {
    struct auth_cache *c = auth_cache_new(3);
    struct identity *ids[5];
    struct hash k[5];
    for (unsigned i = 0; i < 5; i++) {
        ids[i] = peer();
        k[i] = key(i);
    }
    for (unsigned i = 0; i < 3; i++)
        auth_cache_put(c, &k[i], ids[i]);
    assert_non_null(auth_cache_get(c, &k[0]));
    auth_cache_put(c, &k[3], ids[3]); /* instead of 1 */
    assert_null(auth_cache_get(c, &k[1]));
    assert_int_equal(ids[1]->refs, 1);
    assert_ptr_equal(auth_cache_get(c, &k[0]), ids[0]);
    auth_cache_put(c, &k[4], ids[4]); /* instead of 2 */
    assert_null(auth_cache_get(c, &k[2]));
    assert_ptr_equal(auth_cache_get(c, &k[0]), ids[0]);
    assert_ptr_equal(auth_cache_get(c, &k[3]), ids[3]);
    assert_ptr_equal(auth_cache_get(c, &k[4]), ids[4]);
    auth_cache_free(c);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(ids[i]->refs, 1);
        identity_unref(ids[i]);
    }
}

/* Whoever comes and goes leaves nothing behind: many times its size, in chains that are shared. */
static void it_never_grows(void **state) {
    struct auth_cache *c = auth_cache_new(4);
    struct identity *ids[200];
    unsigned held = 0;
    for (unsigned i = 0; i < 200; i++) {
        struct hash k = key(i);
        ids[i] = peer();
        auth_cache_put(c, &k, ids[i]);
    }
    for (unsigned i = 0; i < 200; i++) {
        struct hash k = key(i);
        assert_int_equal(auth_cache_get(c, &k) != NULL, i >= 196);
        held += ids[i]->refs == 2;
    }
    assert_int_equal(held, 4);
    auth_cache_free(c);
    for (unsigned i = 0; i < 200; i++)
        identity_unref(ids[i]);
}

static void a_cache_of_one(void **state) {
    struct auth_cache *c = auth_cache_new(1);
    struct identity *a = peer(), *b = peer();
    struct hash ka = key(1), kb = key(2);
    auth_cache_put(c, &ka, a);
    auth_cache_put(c, &kb, b);
    assert_null(auth_cache_get(c, &ka));
    assert_ptr_equal(auth_cache_get(c, &kb), b);
    auth_cache_free(c);
    auth_cache_free(NULL);
    identity_unref(a);
    identity_unref(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_was_put_is_found_and_nobody_else),
        cmocka_unit_test(the_one_not_asked_about_for_longest_goes),
        cmocka_unit_test(it_never_grows),
        cmocka_unit_test(a_cache_of_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
