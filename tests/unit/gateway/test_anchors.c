/* What /cacerts has of server CAs: a newer one with what an older one says of its key alone, and nothing that a stranger says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/pkcs7.h>

#include "../pki_fixture.h"
#include "base/hex.h"
#include "gateway/anchors.h"

static struct made own(void) { return make_it((struct recipe){.cn = SERVER_CA_NAME, .ext = CA_EXT}); }

/* The key of one, by another. */
static struct made cross(const struct made *of, const struct made *by) {
    EVP_PKEY_up_ref(of->key);
    return make_it((struct recipe){.cn = SERVER_CA_NAME, .ext = CA_EXT, .key = of->key, .issuer = by});
}

static struct anchors *read_them(const struct made *const *at, size_t n, const struct made *const *crosses, size_t n_crosses) {
    struct buf pem = BUF_INIT(65536), more = BUF_INIT(65536);
    struct anchors *a = NULL;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < n; i++)
        assert_int_equal(cert_pem(at[i]->cert, &pem), 0);
    for (size_t i = 0; i < n_crosses; i++)
        assert_int_equal(cert_pem(crosses[i]->cert, &more), 0);
    assert_int_equal(anchors_read(buf_span(&pem), buf_span(&more), &a, &err), 0);
    buf_fini(&pem);
    buf_fini(&more);
    return a;
}
#define LIST(...) (const struct made *const[]){__VA_ARGS__}, sizeof((const struct made *const[]){__VA_ARGS__}) / sizeof(struct made *)

/* Whether /cacerts has these, and no others. */
static void has(const struct anchors *a, const struct made *const *all, size_t n) {
    struct buf der = BUF_INIT(65536);
    assert_int_equal(base64_decode_lines(buf_span(&a->cacerts), &der), 0);
    const unsigned char *p = der.p;
    PKCS7 *read = d2i_PKCS7(NULL, &p, (long)der.n);
    assert_true(read && PKCS7_type_is_signed(read));
    STACK_OF(X509) *certs = read->d.sign->cert;
    assert_int_equal(sk_X509_num(certs), (int)n);
    for (size_t i = 0; i < n; i++) {
        bool there = false;
        for (int k = 0; k < sk_X509_num(certs); k++)
            there = there || X509_cmp(sk_X509_value(certs, k), all[i]->cert->x) == 0;
        assert_true(there);
    }
    PKCS7_free(read);
    buf_fini(&der);
}

static void a_newer_one_comes_with_what_an_older_one_says(void **state) {
    struct made old = own(), new = own(), theirs = make_it((struct recipe){.cn = "An operator's", .ext = CA_EXT}), new_by_old = cross(&new, &old), old_by_new = cross(&old, &new);
    struct anchors *a = read_them(LIST(&new, &old, &theirs), LIST(&new_by_old, &old_by_new));
    has(a, LIST(&new, &old, &theirs, &new_by_old, &old_by_new));
    assert_true(hash_eq(a->newest, &new.cert->key.spki) && hash_eq(a->newest_in_cacerts, &new.cert->key.spki));
    anchors_unref(a);
    struct made *all[] = {&old, &new, &theirs, &new_by_old, &old_by_new};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        made_free(all[i]);
}

static void and_never_without(void **state) {
    struct made old = own(), new = own(), stranger = own(), new_by_stranger = cross(&new, &stranger), old_by_new = cross(&old, &new), stranger_by_old = cross(&stranger, &old);
    struct anchors *a = read_them(LIST(&new, &old), NULL, 0);
    has(a, LIST(&old));
    assert_true(hash_eq(a->newest, &new.cert->key.spki) && hash_eq(a->newest_in_cacerts, &old.cert->key.spki));
    anchors_unref(a);
    /* Not what a stranger says of it, not what it says of the older one, nor what that says of a stranger. */
    a = read_them(LIST(&new, &old), LIST(&new_by_stranger, &old_by_new, &stranger_by_old));
    has(a, LIST(&old, &old_by_new));
    assert_true(hash_eq(a->newest_in_cacerts, &old.cert->key.spki));
    anchors_unref(a);
    struct made *all[] = {&old, &new, &stranger, &new_by_stranger, &old_by_new, &stranger_by_old};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        made_free(all[i]);
}

static void of_three_each_is_vouched_for_by_the_one_before(void **state) {
    struct made first = own(), second = own(), third = own(), second_by_first = cross(&second, &first), third_by_second = cross(&third, &second);
    struct anchors *a = read_them(LIST(&third, &second, &first), LIST(&second_by_first, &third_by_second));
    has(a, LIST(&first, &second, &third, &second_by_first, &third_by_second));
    anchors_unref(a);
    struct made *all[] = {&first, &second, &third, &second_by_first, &third_by_second};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        made_free(all[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_newer_one_comes_with_what_an_older_one_says),
        cmocka_unit_test(and_never_without),
        cmocka_unit_test(of_three_each_is_vouched_for_by_the_one_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
