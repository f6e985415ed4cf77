/* est: see est.h. */
#include "est.h"

#include <openssl/pkcs7.h>
#include <openssl/x509v3.h>

#include "bench.h"

#define ANSWER_MAX 16384 /* bytes of base64 */

static char *request_of(const char *device_id, EVP_PKEY *key) {
    unsigned char *der = NULL;
    X509_REQ *r = X509_REQ_new();
    BENCH_NEED(r && X509_REQ_set_version(r, X509_REQ_VERSION_1) == 1 && X509_REQ_set_pubkey(r, key) == 1);
    BENCH_NEED(X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(r), "CN", MBSTRING_UTF8, (const unsigned char *)device_id, -1, -1, 0) == 1 && X509_REQ_sign(r, key, EVP_sha256()) > 0);
    int n = i2d_X509_REQ(r, &der);
    BENCH_NEED(n > 0);
    char *body = malloc((size_t)n / 3 * 4 + 8);
    BENCH_NEED(body && EVP_EncodeBlock((unsigned char *)body, der, n) > 0);
    OPENSSL_free(der);
    X509_REQ_free(r);
    return body;
}

struct est_request *est_requests_make(const char *prefix, size_t n) {
    struct est_request *all = calloc(n, sizeof *all);
    BENCH_NEED(all);
    for (size_t i = 0; i < n; i++) {
        char id[128];
        snprintf(id, sizeof id, "%s-%zu", prefix, i + 1);
        all[i].key = EVP_EC_gen("P-256");
        BENCH_NEED(all[i].key);
        all[i].body = request_of(id, all[i].key);
    }
    return all;
}

void est_requests_free(struct est_request *all, size_t n) {
    for (size_t i = 0; i < n; i++) {
        EVP_PKEY_free(all[i].key);
        free(all[i].body);
    }
    free(all);
}

static PKCS7 *read_answer(const unsigned char *base64, size_t n) {
    static unsigned char der[ANSWER_MAX];
    EVP_ENCODE_CTX *ctx = EVP_ENCODE_CTX_new();
    const unsigned char *p = der;
    int got = 0, rest = 0;
    BENCH_NEED(ctx && n > 0 && n <= ANSWER_MAX);
    EVP_DecodeInit(ctx);
    BENCH_NEED(EVP_DecodeUpdate(ctx, der, &got, base64, (int)n) >= 0 && EVP_DecodeFinal(ctx, der + got, &rest) == 1);
    EVP_ENCODE_CTX_free(ctx);
    PKCS7 *p7 = d2i_PKCS7(NULL, &p, got + rest);
    BENCH_NEED(p7 && p == der + got + rest && PKCS7_type_is_signed(p7) && sk_X509_num(p7->d.sign->cert) == 1);
    return p7;
}

X509 *est_certificate(const unsigned char *base64, size_t n, const EVP_PKEY *key, const char *device_id) {
    PKCS7 *p7 = read_answer(base64, n);
    X509 *x = sk_X509_value(p7->d.sign->cert, 0);
    char cn[128] = "";
    BENCH_NEED(X509_up_ref(x) == 1 && EVP_PKEY_eq(X509_get0_pubkey(x), key) == 1);
    BENCH_NEED(X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, cn, sizeof cn) > 0 && strcmp(cn, device_id) == 0);
    BENCH_NEED(X509_check_purpose(x, X509_PURPOSE_SSL_CLIENT, 0) == 1);
    PKCS7_free(p7);
    return x;
}
