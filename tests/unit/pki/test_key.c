/* Keys: round trips through every form. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "pki/key.h"

static void round_trips(void **state) {
    static const struct {
        enum key_kind kind;
        int bits;
    } kinds[] = {{KEY_P256, 256}, {KEY_P384, 384}, {KEY_ED25519, 256}, {KEY_RSA, 2048}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
        CLEANUP(EVP_PKEY_free) EVP_PKEY *pub = NULL;
        CLEANUP(EVP_PKEY_free) EVP_PKEY *back = NULL;
        CLEANUP(EVP_PKEY_free) EVP_PKEY *opened = NULL;
        CLEANUP(buf_fini) struct buf der = BUF_INIT(4096);
        CLEANUP(buf_fini) struct buf pem = BUF_INIT(8192);
        CLEANUP(buf_fini) struct buf sealed = BUF_INIT(8192);
        CLEANUP(buf_fini) struct buf sig = BUF_INIT(1024);
        CLEANUP(secret_fini) struct secret private = SECRET_INIT;
        struct key_facts a, b;
        assert_int_equal(key_generate(kinds[i].kind, kinds[i].bits, &key, NULL), 0);
        assert_int_equal(key_public_der(key, &der, NULL), 0);
        assert_int_equal(key_from_public_der(buf_span(&der), &pub, NULL), 0);
        assert_int_equal(key_facts(key, &a, NULL) || key_facts(pub, &b, NULL), 0);
        assert_true(hash_eq(&a.spki, &b.spki));
        assert_int_equal(a.kind, kinds[i].kind);
        assert_int_equal(a.bits, kinds[i].bits);
        assert_int_equal(key_acceptable(&a, NULL), 0);
        assert_int_equal(key_private_der(key, &private, NULL), 0);
        assert_int_equal(key_from_private_der(secret_span(&private), &back, NULL), 0);
        assert_int_equal(EVP_PKEY_eq(key, back), 1);
        assert_int_equal(key_private_pem(key, &pem, NULL), 0);
        assert_int_equal(key_private_pem_sealed(key, SPAN_LIT("correct horse"), &sealed, NULL), 0);
        assert_non_null(strstr(buf_str(&sealed), "BEGIN ENCRYPTED PRIVATE KEY"));
        assert_int_equal(key_read_private(buf_span(&sealed), SPAN_LIT("wrong horse"), &opened, NULL), MUSTER_EINVALID);
        assert_int_equal(key_read_private(buf_span(&sealed), SPAN_NONE, &opened, NULL), MUSTER_EINVALID);
        assert_int_equal(key_read_private(buf_span(&sealed), SPAN_LIT("correct horse"), &opened, NULL), 0);
        assert_int_equal(EVP_PKEY_eq(key, opened), 1);
        assert_int_equal(key_sign(key, SPAN_LIT("message"), &sig, NULL), 0);
        assert_int_equal(key_verify(pub, SPAN_LIT("message"), buf_span(&sig), NULL), 0);
        assert_int_equal(key_verify(pub, SPAN_LIT("massage"), buf_span(&sig), NULL), MUSTER_EINVALID);
    }
}

static void bad_public_keys(void **state) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(EVP_PKEY_free) EVP_PKEY *out = NULL;
    CLEANUP(buf_fini) struct buf der = BUF_INIT(4096);
    assert_int_equal(key_generate(KEY_P256, 0, &key, NULL) || key_public_der(key, &der, NULL), 0);
    for (size_t n = 0; n < der.n; n++)
        assert_int_equal(key_from_public_der(span_of(der.p, n), &out, NULL), MUSTER_EINVALID);
    der.p[der.n - 1] ^= 1; /* not a point of the curve */
    assert_int_equal(key_from_public_der(buf_span(&der), &out, NULL), MUSTER_EINVALID);
}

static void made_one_after_the_other(void **state) {
    struct key_maker *m = key_maker_new(NULL);
    struct hash seen[50];
    for (int i = 0; i < 50; i++) {
        EVP_PKEY *key = NULL;
        struct key_facts facts;
        CLEANUP(buf_fini) struct buf signature = BUF_INIT(200);
        assert_int_equal(key_maker_make(m, &key, NULL) || key_facts(key, &facts, NULL) || key_sign(key, SPAN_LIT("x"), &signature, NULL), 0);
        assert_int_equal(facts.kind, KEY_P256);
        assert_int_equal(key_verify(key, SPAN_LIT("x"), buf_span(&signature), NULL), 0);
        seen[i] = facts.spki;
        for (int k = 0; k < i; k++)
            assert_false(hash_eq(&seen[k], &seen[i]));
        EVP_PKEY_free(key);
    }
    key_maker_free(m);
    key_maker_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trips), cmocka_unit_test(bad_public_keys), cmocka_unit_test(made_one_after_the_other)};
    return secret_init() || cmocka_run_group_tests(tests, NULL, NULL);
}
