/* Certificate requests: what is made is read, and what is wrong with one is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "pki/csr.h"
#include "../pki_fixture.h"

/* A request of openssl's own making, in DER. */
static void foreign(const char *cn, const char *cn2, EVP_PKEY *key, const char *digest, struct buf *out) {
    X509_REQ *r = X509_REQ_new();
    if (cn)
        X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(r), "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
    if (cn2)
        X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(r), "CN", MBSTRING_UTF8, (const unsigned char *)cn2, -1, -1, 0);
    X509_REQ_set_pubkey(r, key);
    assert_true(X509_REQ_sign(r, key, digest ? EVP_get_digestbyname(digest) : NULL) > 0);
    unsigned char *der = NULL;
    int n = i2d_X509_REQ(r, &der);
    assert_true(n > 0);
    buf_clear(out);
    buf_add(out, span_of(der, (size_t)n));
    OPENSSL_free(der);
    X509_REQ_free(r);
}

static int read_it(struct span file) {
    struct csr *csr = NULL;
    int rc = csr_from_file(file, &csr, NULL);
    assert_true((rc == 0) == (csr != NULL));
    csr_free(csr);
    return rc;
}

static void made_and_read(void **state) {
    static const struct {
        enum key_kind kind;
        int bits;
    } kinds[] = {{KEY_P256, 0}, {KEY_P384, 0}, {KEY_RSA, 2048}, {KEY_ED25519, 0}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
        CLEANUP(csr_free) struct csr *csr = NULL;
        CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
        CLEANUP(buf_fini) struct buf text = BUF_INIT(4096);
        CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
        struct csr_request rq = {.subject = {.country = SPAN_LIT("DE"), .serial_number = SPAN_LIT("7"), .common_name = SPAN_LIT("Gerät 1")},
                                 .uris = (const char *const[]){"urn:a:1", NULL}, .dns = (const char *const[]){"a.example", "b.example", NULL}};
        assert_int_equal(key_generate(kinds[i].kind, kinds[i].bits, &key, NULL) || csr_make(&rq, key, &pem, NULL) || key_public_der(key, &spki, NULL), 0);
        assert_int_equal(csr_from_file(buf_span(&pem), &csr, NULL), 0);
        assert_int_equal(csr_device_id(csr, &text, NULL), 0);
        assert_string_equal(buf_str(&text), "Gerät 1");
        buf_clear(&text);
        assert_int_equal(csr_public_der(csr, &text, NULL), 0);
        assert_true(span_eq(buf_span(&text), buf_span(&spki)));
        assert_int_equal(csr->key.kind, kinds[i].kind);
        STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(csr->r);
        GENERAL_NAMES *names = X509V3_get_d2i(extensions, NID_subject_alt_name, NULL, NULL);
        assert_int_equal(sk_GENERAL_NAME_num(names), 3);
        GENERAL_NAMES_free(names);
        sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    }
}

static void what_cannot_be_asked_for(void **state) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    assert_int_equal(key_generate(KEY_P256, 0, &key, NULL), 0);
    struct csr_request bad[] = {{.subject = {.country = SPAN_LIT("Germany")}}, {.subject = {.common_name = SPAN_LIT("a\nb")}},
                                {.uris = (const char *const[]){"urn:a b", NULL}}, {.uris = (const char *const[]){"", NULL}},
                                {.dns = (const char *const[]){"ä.example", NULL}},
                                {.subject = {.common_name = SPAN_LIT("01234567890123456789012345678901234567890123456789012345678901234")}}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(csr_make(&bad[i], key, &pem, NULL), MUSTER_EINVALID);
    assert_int_equal(pem.n, 0);
}

static void what_is_wrong_is_found(void **state) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(EVP_PKEY_free) EVP_PKEY *small = EVP_RSA_gen(1024);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *odd = EVP_EC_gen("secp256k1");
    CLEANUP(buf_fini) struct buf der = BUF_INIT(65536);
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    struct csr *csr = NULL;
    assert_int_equal(key_generate(KEY_P256, 0, &key, NULL), 0);
    foreign("a", NULL, key, "SHA256", &der);
    assert_int_equal(read_it(buf_span(&der)), 0);
    for (size_t at = 0; at < der.n; at += 3) { /* any bit that changes */
        der.p[at] ^= 1;
        assert_int_equal(read_it(buf_span(&der)), MUSTER_ECSR);
        der.p[at] ^= 1;
    }
    buf_addc(&der, 0);
    assert_int_equal(read_it(buf_span(&der)), MUSTER_ECSR);
    assert_int_equal(read_it(SPAN_NONE), MUSTER_ECSR);
    foreign("a", NULL, key, "SHA1", &der);
    assert_int_equal(read_it(buf_span(&der)), MUSTER_ECSR);
    foreign("a", NULL, small, "SHA256", &der);
    assert_int_equal(read_it(buf_span(&der)), MUSTER_ECSR);
    foreign("a", NULL, odd, "SHA256", &der);
    assert_int_equal(read_it(buf_span(&der)), MUSTER_ECSR);
    /* The name is asked for by itself. */
    CLEANUP(buf_fini) struct buf id = BUF_INIT(512);
    foreign(NULL, NULL, key, "SHA256", &der);
    assert_int_equal(csr_from_file(buf_span(&der), &csr, NULL), 0);
    assert_int_equal(csr_device_id(csr, &id, NULL), MUSTER_EIDNONE);
    csr_free(csr);
    foreign("a", "b", key, "SHA256", &der);
    assert_int_equal(csr_from_file(buf_span(&der), &csr, NULL), 0);
    assert_int_equal(csr_device_id(csr, &id, NULL), MUSTER_EIDSEVERAL);
    csr_free(csr);
    /* Other things in a PEM file. */
    assert_int_equal(csr_make(&(struct csr_request){.subject = {.common_name = SPAN_LIT("a")}}, key, &pem, NULL), 0);
    assert_int_equal(csr_make(&(struct csr_request){.subject = {.common_name = SPAN_LIT("b")}}, key, &pem, NULL), 0);
    assert_int_equal(read_it(buf_span(&pem)), MUSTER_ECSR);
    buf_clear(&pem);
    struct err err = ERR_INIT;
    assert_int_equal(key_private_pem(key, &pem, NULL), 0);
    assert_int_equal(csr_from_file(buf_span(&pem), &csr, &err), MUSTER_ECSR);
    assert_non_null(strstr(err.text, "private key"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(made_and_read), cmocka_unit_test(what_cannot_be_asked_for), cmocka_unit_test(what_is_wrong_is_found)};
    return secret_init() || cmocka_run_group_tests(tests, NULL, NULL);
}
