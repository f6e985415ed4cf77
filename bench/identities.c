/* identities: see identities.h. */
#include "identities.h"

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "bench.h"

#define DAY 86400

static X509 *read_certificate(const char *path) {
    BIO *file = BIO_new_file(path, "r");
    BENCH_NEED(file);
    X509 *x = PEM_read_bio_X509(file, NULL, NULL, NULL);
    BENCH_NEED(x);
    BIO_free(file);
    return x;
}

static EVP_PKEY *read_key(const char *path) {
    BIO *file = BIO_new_file(path, "r");
    BENCH_NEED(file);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(file, NULL, NULL, NULL);
    BENCH_NEED(key);
    BIO_free(file);
    return key;
}

static void add_extension(X509 *x, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    BENCH_NEED(e && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

static X509 *sign(const char *name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, bool ca) {
    unsigned char serial[16];
    X509 *x = X509_new();
    BENCH_NEED(x && RAND_bytes(serial, sizeof serial) == 1);
    serial[0] = 0x40 | (serial[0] & 0x3f);
    BIGNUM *number = BN_bin2bn(serial, sizeof serial, NULL);
    BENCH_NEED(number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x)));
    BN_free(number);
    BENCH_NEED(X509_set_version(x, X509_VERSION_3) == 1 && X509_set_pubkey(x, key) == 1 && X509_gmtime_adj(X509_getm_notBefore(x), -DAY) &&
               X509_gmtime_adj(X509_getm_notAfter(x), 365 * DAY) && X509_set_issuer_name(x, X509_get_subject_name(issuer)) == 1 &&
               X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0) == 1);
    add_extension(x, NID_basic_constraints, ca ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE");
    add_extension(x, NID_key_usage, ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
    if (!ca)
        add_extension(x, NID_ext_key_usage, "clientAuth");
    BENCH_NEED(X509_sign(x, issuer_key, EVP_sha256()) > 0);
    return x;
}

struct identity *identities_make(const char *ca_cert, const char *ca_key, const char *prefix, size_t n, bool with_intermediate) {
    struct identity *all = calloc(n, sizeof *all);
    X509 *issuer = read_certificate(ca_cert);
    EVP_PKEY *issuer_key = read_key(ca_key);
    STACK_OF(X509) *chain = NULL;
    BENCH_NEED(all);
    if (with_intermediate) {
        EVP_PKEY *key = EVP_EC_gen("P-256");
        BENCH_NEED(key);
        X509 *between = sign("Bench intermediate", key, issuer, issuer_key, true);
        chain = sk_X509_new_null();
        BENCH_NEED(chain && sk_X509_push(chain, between) > 0);
        issuer = between;
        issuer_key = key;
    }
    for (size_t i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s-%zu", prefix, i + 1);
        all[i].key = EVP_EC_gen("P-256");
        BENCH_NEED(all[i].key);
        all[i].leaf = sign(name, all[i].key, issuer, issuer_key, false);
        all[i].chain = chain;
    }
    return all;
}

struct identity *identities_read(char *const *pairs, size_t n) {
    struct identity *all = calloc(n, sizeof *all);
    BENCH_NEED(all);
    for (size_t i = 0; i < n; i++) {
        char *comma = strchr(pairs[i], ',');
        BENCH_NEED(comma);
        *comma = '\0';
        all[i].leaf = read_certificate(pairs[i]);
        all[i].key = read_key(comma + 1);
    }
    return all;
}
