/* The strict reader of requests: it takes what nearly every device sends, and nothing that the library does not take or reads otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <openssl/pem.h>

#include "pki/csr.h"
#include "pki/csr_fast.h"
#include "../pki_fixture.h"

static EVP_PKEY *a_key(enum key_kind kind, int bits) {
    EVP_PKEY *key = NULL;
    assert_int_equal(key_generate(kind, bits, &key, NULL), 0);
    return key;
}

/* In DER; subject alternative names where uris is not NULL. */
static void made(struct subject subject, const char *const *uris, EVP_PKEY *key, struct buf *der) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    const struct csr_request rq = {.subject = subject, .uris = uris};
    assert_int_equal(csr_make(&rq, key, &pem, NULL), 0);
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    X509_REQ *r = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    unsigned char *bytes = NULL;
    int n = i2d_X509_REQ(r, &bytes);
    assert_true(n > 0);
    buf_clear(der);
    buf_add(der, span_of(bytes, (size_t)n));
    OPENSSL_free(bytes);
    X509_REQ_free(r);
    BIO_free(bio);
}

/* Whether it is taken; if so, the library has to read the same. */
static bool taken(struct span der) {
    struct csr_fast fast;
    struct csr *c = NULL;
    CLEANUP(buf_fini) struct buf id = BUF_INIT(1024);
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    if (!csr_fast_read(der, &fast))
        return false;
    assert_int_equal(csr_from_der(der, &c, NULL) || csr_device_id(c, &id, NULL) || csr_public_der(c, &spki, NULL), 0);
    assert_true(span_eq(buf_span(&id), fast.common_name) && span_eq(buf_span(&spki), fast.public_der));
    assert_true(c->key.kind == fast.key.kind && c->key.bits == fast.key.bits && hash_eq(&c->key.spki, &fast.key.spki));
    csr_free(c);
    return true;
}

static const struct subject NAME = {.common_name = SPAN_LIT("Gerät 1")},
                            MANY = {.country = SPAN_LIT("DE"), .state = SPAN_LIT("BY"), .locality = SPAN_LIT("M"), .organisation = SPAN_LIT("Acme"), .organisational_unit = SPAN_LIT("Devices"),
                                    .serial_number = SPAN_LIT("7"), .common_name = SPAN_LIT("car-1")};

static void what_devices_send(void **state) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(65536);
    static const enum key_kind kinds[] = {KEY_P256, KEY_ED25519};
    for (size_t i = 0; i < 2; i++) {
        CLEANUP(EVP_PKEY_free) EVP_PKEY *key = a_key(kinds[i], 0);
        made(NAME, NULL, key, &der);
        assert_true(taken(buf_span(&der)));
        made(MANY, NULL, key, &der);
        assert_true(taken(buf_span(&der)));
    }
}

static void what_is_the_library_s(void **state) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(65536);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *p256 = a_key(KEY_P256, 0);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *p384 = a_key(KEY_P384, 0);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *rsa = a_key(KEY_RSA, 2048);
    EVP_PKEY *const others[] = {p384, rsa};
    for (size_t i = 0; i < 2; i++) {
        made(NAME, NULL, others[i], &der);
        assert_false(taken(buf_span(&der)));
    }
    made(NAME, (const char *const[]){"urn:a:1", NULL}, p256, &der);
    assert_false(taken(buf_span(&der)));
    made((struct subject){.organisation = SPAN_LIT("Acme")}, NULL, p256, &der);
    assert_false(taken(buf_span(&der)));
    made(NAME, NULL, p256, &der);
    buf_addc(&der, 0);
    assert_false(taken(buf_span(&der)));
}

/* Each beginning, and each byte changed in each of its bits: hardly any is taken, and what is, is read the same. */
static void every_byte_of_one(void **state) {
    static const enum key_kind kinds[] = {KEY_P256, KEY_ED25519};
    for (size_t k = 0; k < 2; k++) {
        CLEANUP(buf_fini) struct buf der = BUF_INIT(65536);
        CLEANUP(EVP_PKEY_free) EVP_PKEY *key = a_key(kinds[k], 0);
        made(MANY, NULL, key, &der);
        for (size_t n = 0; n < der.n; n++)
            assert_false(taken(span_of(der.p, n)));
        for (size_t i = 0; i < der.n; i++)
            for (int bit = 0; bit < 8; bit++) {
                der.p[i] ^= (uint8_t)(1U << bit);
                assert_false(taken(buf_span(&der))); /* all of it is signed, or is the signature or its form */
                der.p[i] ^= (uint8_t)(1U << bit);
            }
        assert_true(taken(buf_span(&der)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_devices_send), cmocka_unit_test(what_is_the_library_s), cmocka_unit_test(every_byte_of_one)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
