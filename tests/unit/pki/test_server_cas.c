/* The anchors of server-ca.pem: Muster's own are replaced, an operator's stay, and there is an end to their number; and under which one the gateway's certificates stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../pki_fixture.h"
#include "pki/server_cas.h"

#define NO_CA_BELOW EXT("basicConstraints", "critical,CA:TRUE,pathlen:0", "keyUsage", "critical,keyCertSign")

static struct made own(void) { return make_it((struct recipe){.cn = SERVER_CA_NAME, .ext = CA_EXT}); }
static struct made theirs(void) { return make_it((struct recipe){.cn = "An operator's", .ext = CA_EXT}); }

static struct buf pem_of(const struct made *const *all, size_t n) {
    struct buf out = BUF_INIT(65536);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(cert_pem(all[i]->cert, &out), 0);
    return out;
}
#define PEM(...) pem_of((const struct made *const[]){__VA_ARGS__}, sizeof((const struct made *const[]){__VA_ARGS__}) / sizeof(struct made *))

static void ones_own_are_replaced_and_others_stay(void **state) {
    struct made first = own(), second = own(), other = theirs();
    struct buf file = PEM(&first, &other), now = PEM(&second, &first), expected = PEM(&second, &first, &other), merged = BUF_INIT(65536);
    struct err err = ERR_INIT;
    assert_int_equal(server_cas_merge(buf_span(&file), buf_span(&now), &merged, &err), 1);
    assert_string_equal(buf_str(&merged), buf_str(&expected));
    buf_clear(&merged);
    assert_int_equal(server_cas_merge(buf_span(&expected), buf_span(&now), &merged, &err), 0); /* it says so already */
    assert_int_equal(merged.n, 0);
    struct buf turned = PEM(&first, &second);
    assert_int_equal(server_cas_merge(buf_span(&expected), buf_span(&turned), &merged, &err), 1); /* the current one stands first */
    struct buf *all[] = {&file, &now, &expected, &merged, &turned};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buf_fini(all[i]);
    made_free(&first);
    made_free(&second);
    made_free(&other);
}

static void a_file_without_ones_own_is_an_operators_will(void **state) {
    struct made mine = own(), other = theirs();
    struct buf file = PEM(&other), now = PEM(&mine), merged = BUF_INIT(65536);
    struct err err = ERR_INIT;
    assert_int_equal(server_cas_merge(buf_span(&file), buf_span(&now), &merged, &err), 0);
    assert_int_equal(merged.n, 0);
    assert_int_equal(server_cas_merge(SPAN_NONE, buf_span(&now), &merged, &err), 1); /* one that is empty is none's */
    assert_string_equal(buf_str(&merged), buf_str(&now));
    assert_int_equal(server_cas_merge(buf_span(&file), buf_span(&file), &merged, &err), MUSTER_EINVALID); /* the vault has one at least */
    assert_true(server_cas_merge(SPAN_LIT("-----BEGIN CERTIFICATE-----\nx\n"), buf_span(&now), &merged, &err) < 0);
    buf_fini(&file);
    buf_fini(&now);
    buf_fini(&merged);
    made_free(&mine);
    made_free(&other);
}

static void devices_take_so_many(void **state) {
    struct made mine[2] = {own(), own()}, others[SERVER_CAS_MAX];
    const struct made *all[SERVER_CAS_MAX];
    struct err err = ERR_INIT;
    for (size_t i = 0; i < SERVER_CAS_MAX; i++)
        others[i] = theirs();
    all[0] = &mine[0];
    for (size_t i = 1; i < SERVER_CAS_MAX; i++)
        all[i] = &others[i];
    struct buf file = pem_of(all, SERVER_CAS_MAX), two = PEM(&mine[1], &mine[0]), one = PEM(&mine[1]), merged = BUF_INIT(65536);
    assert_int_equal(server_cas_merge(buf_span(&file), buf_span(&two), &merged, &err), MUSTER_EINVALID);
    assert_non_null(strstr(err_text(&err), "9 certificates"));
    buf_clear(&merged);
    assert_int_equal(server_cas_merge(buf_span(&file), buf_span(&one), &merged, &err), 1);
    buf_fini(&file);
    buf_fini(&two);
    buf_fini(&one);
    buf_fini(&merged);
    for (size_t i = 0; i < SERVER_CAS_MAX; i++)
        made_free(&others[i]);
    made_free(&mine[0]);
    made_free(&mine[1]);
}

static void one_that_allows_no_ca_below_it_stays_until_it_is_about_to_end(void **state) {
    struct made free_one = own(), bound = make_it((struct recipe){.cn = SERVER_CA_NAME, .ext = NO_CA_BELOW});
    assert_true(server_ca_is_own(bound.cert));
    assert_false(server_ca_stays(free_one.cert, free_one.cert->not_after - SERVER_CA_LEAVES - 1));
    assert_true(server_ca_stays(bound.cert, bound.cert->not_after - SERVER_CA_LEAVES - 1));
    assert_false(server_ca_stays(bound.cert, bound.cert->not_after - SERVER_CA_LEAVES)); /* so that no certificate ends with it */
    assert_false(server_ca_stays(bound.cert, bound.cert->not_after));
    made_free(&free_one);
    made_free(&bound);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ones_own_are_replaced_and_others_stay),
        cmocka_unit_test(a_file_without_ones_own_is_an_operators_will),
        cmocka_unit_test(devices_take_so_many),
        cmocka_unit_test(one_that_allows_no_ca_below_it_stays_until_it_is_about_to_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
