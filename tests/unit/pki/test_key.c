/* Keys: round trips through every form. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/x509.h>

#include "pki/key.h"

/* The public half as a key of RSASSA-PSS: its algorithm's last arc is 10 in place of 1, and what follows has no parameters. */
static EVP_PKEY *as_pss(const EVP_PKEY *key) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(4096);
    assert_int_equal(key_public_der(key, &der, NULL), 0);
    uint8_t *at = memmem(der.p, der.n, "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", 9);
    assert_non_null(at);
    at[8] = 10;
    assert_true(at[9] == 5 && at[10] == 0); /* NULL goes */
    memmove(at + 9, at + 11, der.n - (size_t)(at + 11 - der.p));
    der.n -= 2;
    der.p[3] -= 2; /* the outer length, of two bytes, and the algorithm's */
    der.p[5] -= 2;
    const unsigned char *p = der.p;
    EVP_PKEY *pss = d2i_PUBKEY(NULL, &p, (long)der.n);
    assert_true(pss && EVP_PKEY_get_base_id(pss) == EVP_PKEY_RSA_PSS);
    return pss;
}

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

/* A key has one name in whichever form it comes: it is barred, taken and looked for by it. */
static void forms_of_one_key_have_one_name(void **state) {
    static const enum key_kind kinds[] = {KEY_P256, KEY_P384, KEY_RSA};
    static const char *const forms[] = {"uncompressed", "compressed", "hybrid"};
    for (size_t i = 0; i < 3; i++) {
        CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
        struct key_facts plain, facts, read;
        assert_int_equal(key_generate(kinds[i], 2048, &key, NULL) || key_facts(key, &plain, NULL), 0);
        for (size_t k = 0; k < 3; k++) {
            CLEANUP(EVP_PKEY_free) EVP_PKEY *same = kinds[i] == KEY_RSA ? as_pss(key) : EVP_PKEY_dup(key);
            CLEANUP(buf_fini) struct buf der = BUF_INIT(4096);
            if (kinds[i] != KEY_RSA)
                assert_int_equal(EVP_PKEY_set_utf8_string_param(same, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, forms[k]), 1);
            assert_int_equal(key_public_der(same, &der, NULL) || key_facts(same, &facts, NULL) || key_facts_from_public_der(buf_span(&der), &read, NULL), 0);
            assert_true(facts.kind == kinds[i] && read.kind == kinds[i] && facts.bits == plain.bits);
            assert_true(hash_eq(&facts.spki, &plain.spki) && hash_eq(&read.spki, &plain.spki));
        }
    }
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trips), cmocka_unit_test(bad_public_keys), cmocka_unit_test(made_one_after_the_other), cmocka_unit_test(forms_of_one_key_have_one_name)};
    return secret_init() || cmocka_run_group_tests(tests, NULL, NULL);
}
