/* For targets that judge the same certificates several times an input: a signature that was verified once is remembered, by all that the verdict
 * depends on (certificate and key).  X509_verify() of this program stands before the library's, for the library's own calls too.  It changes no
 * verdict, and makes a run ten times as fast. */
#include <dlfcn.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <string.h>

#include "fuzz.h"

#define REMEMBERED (1 << 16)

static struct {
    uint8_t of[32];
    bool known;
    int verdict;
} verdicts[REMEMBERED];

/* A key's bytes; most without libcrypto's encoder, which takes longer than a verification. */
static void add_key(EVP_MD_CTX *ctx, EVP_PKEY *key) {
    uint8_t raw[64];
    size_t n = sizeof raw;
    if (EVP_PKEY_is_a(key, "ED25519") && EVP_PKEY_get_raw_public_key(key, raw, &n) == 1) {
        MUST(EVP_DigestUpdate(ctx, raw, n));
        return;
    }
    uint8_t *spki = NULL;
    int m = i2d_PUBKEY(key, &spki);
    MUST(m > 0 && EVP_DigestUpdate(ctx, spki, (size_t)m));
    OPENSSL_free(spki);
}

static void hash_of(X509 *cert, EVP_PKEY *key, uint8_t of[32]) {
    uint8_t *der = NULL;
    int n = i2d_X509(cert, &der);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    MUST(n > 0 && ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) && EVP_DigestUpdate(ctx, der, (size_t)n));
    add_key(ctx, key);
    MUST(EVP_DigestFinal_ex(ctx, of, NULL));
    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);
}

int X509_verify(X509 *cert, EVP_PKEY *key) {
    static int (*library)(X509 *, EVP_PKEY *);
    uint8_t of[32];
    size_t at;
    if (!library) {
        void *found = dlsym(RTLD_NEXT, "X509_verify");
        MUST(found);
        memcpy(&library, &found, sizeof library);
    }
    hash_of(cert, key, of);
    memcpy(&at, of, sizeof at);
    at %= REMEMBERED;
    if (!verdicts[at].known || memcmp(verdicts[at].of, of, sizeof of) != 0) {
        verdicts[at].verdict = library(cert, key);
        verdicts[at].known = true;
        memcpy(verdicts[at].of, of, sizeof of);
    }
    return verdicts[at].verdict;
}
