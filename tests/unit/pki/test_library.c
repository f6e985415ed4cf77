/* The library context of TLS servers: it reads every key that a client's certificate may have, by fewer decoders than the default context. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <openssl/decoder.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "pki/library.h"

DEFINE_CLEANUP(EVP_PKEY_free, EVP_PKEY *)
DEFINE_CLEANUP(EVP_PKEY_CTX_free, EVP_PKEY_CTX *)
DEFINE_CLEANUP(X509_free, X509 *)

/* A certificate that signs itself, written in the default context and read in the other: its signature verifies there. */
static bool is_read(EVP_PKEY *key, bool digest, OSSL_LIB_CTX *library) {
    unsigned char *der = NULL;
    CLEANUP(X509_free) X509 *made = X509_new();
    assert_int_equal(X509_set_version(made, 2), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(made), 0));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(made), 60));
    assert_int_equal(X509_set_pubkey(made, key), 1);
    assert_int_not_equal(X509_sign(made, key, digest ? EVP_sha256() : NULL), 0);
    int n = i2d_X509(made, &der);
    CLEANUP(X509_free) X509 *x = X509_new_ex(library, NULL);
    const unsigned char *p = der;
    bool ok = d2i_X509(&x, &p, n) && X509_get0_pubkey(x) && X509_verify(x, X509_get0_pubkey(x)) == 1;
    OPENSSL_free(der);
    return ok;
}

static void every_key_of_a_client_is_read(void **state) {
    (void)state;
    static const struct { const char *kind, *group; bool digest; } keys[] = {
        {"EC", "P-256", true}, {"EC", "P-384", true}, {"EC", "P-521", true}, {"RSA", NULL, true}, {"RSA-PSS", NULL, true}, {"ED25519", NULL, false}, {"ED448", NULL, false},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        CLEANUP(EVP_PKEY_CTX_free) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, keys[i].kind, NULL);
        CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
        assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
        assert_true(!keys[i].group || EVP_PKEY_CTX_set_group_name(ctx, keys[i].group) == 1);
        assert_int_equal(EVP_PKEY_generate(ctx, &key), 1);
        if (!is_read(key, keys[i].digest, pki_library()))
            fail_msg("%s %s", keys[i].kind, keys[i].group ? keys[i].group : "");
    }
}

static void count(OSSL_DECODER *decoder, void *n) {
    (void)decoder;
    ++*(size_t *)n;
}

static void few_decoders_look(void **state) {
    (void)state;
    size_t all = 0, few = 0;
    OSSL_DECODER_do_all_provided(NULL, count, &all);
    OSSL_DECODER_do_all_provided(pki_library(), count, &few);
    assert_true(few >= 1 && few <= 5 && few < all);
}

static void it_is_a_context_of_its_own_and_one(void **state) {
    (void)state;
    unsigned char a[16], b[16];
    assert_non_null(pki_library());
    assert_ptr_equal(pki_library(), pki_library());
    assert_int_equal(RAND_bytes_ex(pki_library(), a, sizeof a, 0), 1);
    assert_int_equal(RAND_bytes_ex(pki_library(), b, sizeof b, 0), 1);
    assert_memory_not_equal(a, b, sizeof a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_of_a_client_is_read),
        cmocka_unit_test(few_decoders_look),
        cmocka_unit_test(it_is_a_context_of_its_own_and_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
