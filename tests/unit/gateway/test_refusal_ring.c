/* refusal_ring: what a second's refusals may cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "gateway/refusal_ring.h"

static struct refusal *record(unsigned number, int64_t device, int64_t account, const char *name, const char *source) {
    struct refusal *r = calloc(1, sizeof *r);
    assert_non_null(r);
    *r = (struct refusal){.first = 100, .last = 100, .count = 1, .device = device, .account = account};
    memcpy(r->id.b, &number, sizeof number);
    snprintf(r->account_name, sizeof r->account_name, "%s", name);
    snprintf(r->source, sizeof r->source, "%s", source);
    return r;
}

static struct refusal *with_chain(struct refusal *r) {
    static const uint8_t pem[REFUSAL_CHAIN_MAX];
    r->chain = BUF_INIT(REFUSAL_CHAIN_MAX);
    buf_add(&r->chain, span_of(pem, sizeof pem));
    return r;
}

/* How many of `n` are taken, each from a source of its own where source is NULL. */
static unsigned fill(struct refusal_ring *ring, unsigned first, unsigned n, int64_t device, int64_t account, const char *name, const char *source) {
    unsigned taken = 0;
    for (unsigned i = 0; i < n; i++) {
        char own[32];
        snprintf(own, sizeof own, "192.0.2.%u", first + i);
        const char *from = source ? source : own;
        if (!refusal_ring_has_room(ring, device ? RING_WHO_IS_KNOWN : RING_WHO_IS_UNKNOWN, account, name, from))
            continue;
        refusal_ring_put(ring, record(first + i, device, account, name, from));
        taken++;
    }
    return taken;
}

static void the_same_refusal_is_one_record(void **state) {
    struct refusal_ring ring = {0};
    struct refusal *out[RING_BATCH];
    struct uuid one = {0}, other = {0};
    unsigned number = 7;
    memcpy(one.b, &number, sizeof number);
    number = 8;
    memcpy(other.b, &number, sizeof number);
    assert_false(refusal_ring_count(&ring, &one, 100));
    refusal_ring_put(&ring, record(7, 0, 0, "", "192.0.2.1"));
    assert_true(refusal_ring_count(&ring, &one, 101));
    assert_true(refusal_ring_count(&ring, &one, 103));
    assert_false(refusal_ring_count(&ring, &other, 103));
    assert_int_equal(refusal_ring_take(&ring, out), 1);
    assert_int_equal(out[0]->count, 3);
    assert_int_equal(out[0]->first, 100);
    assert_int_equal(out[0]->last, 103);
    refusal_free(out[0]);
    assert_false(refusal_ring_count(&ring, &one, 104)); /* the next second begins anew */
}

static void everybody_has_a_bound(void **state) {
    struct refusal_ring ring = {0};
    assert_int_equal(fill(&ring, 0, 40, 0, 0, "", NULL), RING_STRANGERS);
    assert_int_equal(ring.dropped, 40 - RING_STRANGERS);
    assert_int_equal(fill(&ring, 100, 40, 0, 0, "acme", NULL), RING_ACCOUNT);
    /* By the row of the account, which the judgement found, as well as by the name that was asked for. */
    assert_int_equal(fill(&ring, 200, 100, 0, 5, "", NULL), RING_UNKNOWN - RING_STRANGERS - RING_ACCOUNT);
    assert_int_equal(fill(&ring, 300, 1, 0, 0, "other", NULL), 0);
    /* Those who are known have room all the same. */
    assert_int_equal(fill(&ring, 400, RING_MAX, 9, 5, "", "192.0.2.1"), RING_MAX - RING_UNKNOWN);
    assert_int_equal(ring.n, RING_MAX);
    refusal_ring_clear(&ring);
    assert_int_equal(ring.n, 0);
}

/* Nor does a fleet that all comes at once while something is tried take the room of one who is refused. */
static void what_is_tried_has_room_of_its_own(void **state) {
    struct refusal_ring ring = {0};
    struct refusal *out[RING_BATCH];
    for (unsigned i = 0; i < 2 * RING_SHADOW; i++)
        if (refusal_ring_has_room(&ring, RING_WHO_IS_TRIED, 5, "", "192.0.2.1")) {
            struct refusal *r = record(1000 + i, 0, 5, "", "192.0.2.1");
            r->code = MUSTER_ESHADOW;
            refusal_ring_put(&ring, with_chain(r));
        }
    assert_int_equal(ring.n, RING_SHADOW);
    assert_int_equal(ring.dropped, RING_SHADOW);
    assert_true(ring.at[0]->chain.n && !ring.at[RING_SHADOW - 1]->chain.n);
    assert_int_equal(fill(&ring, 0, 40, 0, 5, "", NULL), RING_ACCOUNT);
    assert_true(refusal_ring_has_room(&ring, RING_WHO_IS_UNKNOWN, 6, "", "192.0.2.1")); /* nor of one who comes from the same place */
    refusal_ring_put(&ring, with_chain(record(100, 0, 6, "", "192.0.2.1")));
    assert_int_equal(fill(&ring, 400, RING_MAX, 9, 5, "", "192.0.2.1"), RING_MAX - RING_ACCOUNT - 1);
    assert_int_equal(ring.n, RING_BATCH);
    size_t n = refusal_ring_take(&ring, out);
    assert_int_equal(n, RING_BATCH);
    assert_int_equal(out[RING_SHADOW + RING_ACCOUNT]->chain.n, REFUSAL_CHAIN_MAX); /* nor that of his certificates */
    for (size_t i = 0; i < n; i++)
        refusal_free(out[i]);
    assert_true(refusal_ring_has_room(&ring, RING_WHO_IS_TRIED, 5, "", "192.0.2.1"));
}

static void a_source_has_a_bound(void **state) {
    struct refusal_ring ring = {0};
    assert_int_equal(fill(&ring, 0, 30, 0, 0, "acme", "2001:db8::/64"), RING_SOURCE);
    assert_int_equal(fill(&ring, 100, 30, 0, 0, "other", "2001:db8::/64"), 0); /* whatever it names */
    assert_int_equal(fill(&ring, 200, 1, 0, 0, "acme", "2001:db8:1::/64"), 1);
    refusal_ring_clear(&ring);
}

static void certificates_have_a_bound(void **state) {
    struct refusal_ring ring = {0};
    size_t bytes = 0;
    for (unsigned i = 0; i < RING_STRANGERS; i++) {
        struct refusal *r = with_chain(record(i, 0, 0, "", ""));
        refusal_ring_put(&ring, r);
        bytes += r->chain.n;
    }
    assert_int_equal(ring.n, RING_STRANGERS);
    assert_true(bytes <= RING_CHAIN_BYTES_UNKNOWN && bytes > RING_CHAIN_BYTES_UNKNOWN - REFUSAL_CHAIN_MAX);
    refusal_ring_clear(&ring);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_refusal_is_one_record),
        cmocka_unit_test(everybody_has_a_bound),
        cmocka_unit_test(what_is_tried_has_room_of_its_own),
        cmocka_unit_test(a_source_has_a_bound),
        cmocka_unit_test(certificates_have_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
