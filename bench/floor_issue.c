/* floor_issue: see floor_issue.h.  DER is written from its end to its beginning, so that every length is known when it is written. */
#include "floor_issue.h"

#include <openssl/core_names.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "bench.h"

#define MAX 8192

struct writer {
    unsigned char b[MAX];
    size_t at; /* the first byte that is written */
};

struct bytes {
    const unsigned char *p;
    size_t n;
};
#define BYTES(...) \
    (struct bytes) { (const unsigned char[]){__VA_ARGS__}, sizeof((const unsigned char[]){__VA_ARGS__}) }

static void start(struct writer *w) { w->at = MAX; }
static size_t mark(const struct writer *w) { return w->at; }
static struct bytes written(const struct writer *w) { return (struct bytes){w->b + w->at, MAX - w->at}; }

static void put(struct writer *w, struct bytes s) {
    BENCH_NEED(s.n < w->at);
    w->at -= s.n;
    memcpy(w->b + w->at, s.p, s.n);
}

static void put_byte(struct writer *w, size_t b) { put(w, (struct bytes){(const unsigned char[]){(unsigned char)b}, 1}); }

/* Makes what was written since `end` the content of an element. */
static void wrap(struct writer *w, unsigned char tag, size_t end) {
    size_t n = end - w->at;
    if (n >= 256) {
        put_byte(w, n & 0xff);
        put_byte(w, n >> 8);
        put_byte(w, 0x82);
    } else {
        put_byte(w, n);
        if (n >= 128)
            put_byte(w, 0x81);
    }
    put_byte(w, tag);
}

static void element(struct writer *w, unsigned char tag, struct bytes content) {
    size_t end = mark(w);
    put(w, content);
    wrap(w, tag, end);
}

/* --- what stays the same ---------------------------------------------------------------------------------------------------------- */

static EVP_PKEY_CTX *keygen;
static EVP_MD_CTX *sign_start;
static EVP_MD *sha256;
static struct writer w;
static unsigned char issuer[512], ca_key_id[20], server_bag[2048];
static size_t issuer_n, server_bag_n;

#define ALG_ECDSA BYTES(0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02)
#define ALG_P256                                                                                                               \
    BYTES(0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07)
/* basicConstraints, keyUsage digitalSignature, extKeyUsage clientAuth */
#define EXTENSIONS                                                                                                             \
    BYTES(0x30, 0x0c, 0x06, 0x03, 0x55, 0x1d, 0x13, 0x01, 0x01, 0xff, 0x04, 0x02, 0x30, 0x00, 0x30, 0x0e, 0x06, 0x03, 0x55, 0x1d, 0x0f, 0x01,  \
          0x01, 0xff, 0x04, 0x04, 0x03, 0x02, 0x07, 0x80, 0x30, 0x13, 0x06, 0x03, 0x55, 0x1d, 0x25, 0x04, 0x0c, 0x30, 0x0a, 0x06, 0x08, 0x2b,  \
          0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02)
#define OID_DATA BYTES(0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01)
#define OID_KEY_BAG BYTES(0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x01)
#define OID_CERT_BAG BYTES(0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03)
#define OID_X509 BYTES(0x06, 0x0a, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01)
#define OID_LOCAL_KEY_ID BYTES(0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x15)
#define ALG_SHA256 BYTES(0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00)

static void digest(struct bytes s, unsigned char out[32]) { BENCH_NEED(EVP_Digest(s.p, s.n, out, NULL, sha256, NULL) == 1); }

static X509 *read_certificate(const char *path) {
    BIO *file = BIO_new_file(path, "r");
    X509 *x = file ? PEM_read_bio_X509(file, NULL, NULL, NULL) : NULL;
    BENCH_NEED(x);
    BIO_free(file);
    return x;
}

/* A local key ID where key_id is not NULL. */
static void put_bag(struct bytes oid, struct bytes value, unsigned char value_tag, const unsigned char *key_id) {
    size_t bag = mark(&w);
    if (key_id) {
        element(&w, 0x04, (struct bytes){key_id, 20});
        wrap(&w, 0x31, bag);
        put(&w, OID_LOCAL_KEY_ID);
        wrap(&w, 0x30, bag);
        wrap(&w, 0x31, bag);
    }
    size_t end = mark(&w);
    if (value_tag == 0x04) { /* a certificate */
        element(&w, 0x04, value);
        wrap(&w, 0xa0, end);
        put(&w, OID_X509);
        wrap(&w, 0x30, end);
    } else {
        put(&w, value);
    }
    wrap(&w, 0xa0, end);
    put(&w, oid);
    wrap(&w, 0x30, bag);
}

void floor_issue_init(const char *ca_cert, const char *ca_key, const char *server_ca) {
    X509 *ca = read_certificate(ca_cert), *server = read_certificate(server_ca);
    BIO *file = BIO_new_file(ca_key, "r");
    EVP_PKEY *key = file ? PEM_read_bio_PrivateKey(file, NULL, NULL, NULL) : NULL;
    unsigned char *name = issuer, *der = NULL;
    const ASN1_OCTET_STRING *key_id = X509_get0_subject_key_id(ca);
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    sign_start = EVP_MD_CTX_new();
    keygen = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    BENCH_NEED(key && sha256 && sign_start && keygen && EVP_DigestSignInit(sign_start, NULL, sha256, NULL, key) == 1);
    BENCH_NEED(EVP_PKEY_keygen_init(keygen) == 1 && EVP_PKEY_CTX_set_group_name(keygen, "P-256") == 1);
    int n = i2d_X509_NAME(X509_get_subject_name(ca), NULL);
    BENCH_NEED(n > 0 && (size_t)n <= sizeof issuer && (issuer_n = (size_t)i2d_X509_NAME(X509_get_subject_name(ca), &name)) > 0);
    BENCH_NEED(key_id && ASN1_STRING_length(key_id) == sizeof ca_key_id);
    memcpy(ca_key_id, ASN1_STRING_get0_data(key_id), sizeof ca_key_id);
    n = i2d_X509(server, &der);
    BENCH_NEED(n > 0);
    start(&w);
    put_bag(OID_CERT_BAG, (struct bytes){der, (size_t)n}, 0x04, NULL);
    server_bag_n = written(&w).n;
    BENCH_NEED(server_bag_n <= sizeof server_bag);
    memcpy(server_bag, written(&w).p, server_bag_n);
}

/* --- the certificate --------------------------------------------------------------------------------------------------------------- */

static void put_time(time_t t) {
    char text[20];
    struct tm tm;
    size_t n = strftime(text, sizeof text, "%Y%m%d%H%M%SZ", gmtime_r(&t, &tm));
    element(&w, 0x17, (struct bytes){(unsigned char *)text + 2, n - 2}); /* UTCTime: the benchmark is over before 2050 */
}

static void put_name(unsigned char which, struct bytes value) {
    size_t end = mark(&w);
    element(&w, 0x0c, value);
    put(&w, BYTES(0x06, 0x03, 0x55, 0x04, which));
    wrap(&w, 0x30, end);
    wrap(&w, 0x31, end);
}

static void put_tbs(struct bytes id, struct bytes point, const unsigned char *key_id) {
    unsigned char serial[16];
    time_t now = time(NULL);
    size_t tbs = mark(&w), end = tbs;
    element(&w, 0x80, (struct bytes){ca_key_id, 20});
    wrap(&w, 0x30, end);
    wrap(&w, 0x04, end);
    put(&w, BYTES(0x06, 0x03, 0x55, 0x1d, 0x23));
    wrap(&w, 0x30, end);
    end = mark(&w);
    element(&w, 0x04, (struct bytes){key_id, 20});
    wrap(&w, 0x04, end);
    put(&w, BYTES(0x06, 0x03, 0x55, 0x1d, 0x0e));
    wrap(&w, 0x30, end);
    put(&w, EXTENSIONS);
    wrap(&w, 0x30, tbs);
    wrap(&w, 0xa3, tbs);
    end = mark(&w);
    put(&w, point);
    put_byte(&w, 0);
    wrap(&w, 0x03, end);
    put(&w, ALG_P256);
    wrap(&w, 0x30, end);
    end = mark(&w);
    put_name(3, id);
    put_name(11, (struct bytes){(const unsigned char *)"Devices", 7});
    put_name(10, (struct bytes){(const unsigned char *)"bench", 5});
    wrap(&w, 0x30, end);
    end = mark(&w);
    put_time(now + 20 * 365 * 86400LL);
    put_time(now - 86400);
    wrap(&w, 0x30, end);
    put(&w, (struct bytes){issuer, issuer_n});
    put(&w, ALG_ECDSA);
    BENCH_NEED(RAND_bytes(serial, sizeof serial) == 1);
    serial[0] = 1 | (serial[0] & 0x7f);
    element(&w, 0x02, (struct bytes){serial, sizeof serial});
    put(&w, BYTES(0xa0, 0x03, 0x02, 0x01, 0x02));
    wrap(&w, 0x30, tbs);
}

static struct bytes make_certificate(struct bytes id, struct bytes point, const unsigned char *key_id) {
    static unsigned char tbs[2048];
    unsigned char signature[80];
    size_t n = sizeof signature;
    start(&w);
    put_tbs(id, point, key_id);
    struct bytes all = written(&w);
    BENCH_NEED(all.n <= sizeof tbs);
    memcpy(tbs, all.p, all.n);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    BENCH_NEED(ctx && EVP_MD_CTX_copy_ex(ctx, sign_start) == 1 && EVP_DigestSign(ctx, signature, &n, tbs, all.n) == 1);
    EVP_MD_CTX_free(ctx);
    start(&w);
    put(&w, (struct bytes){signature, n});
    put_byte(&w, 0);
    wrap(&w, 0x03, MAX);
    put(&w, ALG_ECDSA);
    put(&w, (struct bytes){tbs, all.n});
    wrap(&w, 0x30, MAX);
    static unsigned char der[2048];
    all = written(&w);
    BENCH_NEED(all.n <= sizeof der);
    memcpy(der, all.p, all.n);
    return (struct bytes){der, all.n};
}

/* --- the PKCS#12 --------------------------------------------------------------------------------------------------------------------- */

static struct bytes private_key(EVP_PKEY *key, struct bytes point) {
    static unsigned char out[256];
    unsigned char d[32];
    BIGNUM *bn = NULL;
    BENCH_NEED(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &bn) == 1 && BN_bn2binpad(bn, d, sizeof d) == sizeof d);
    BN_clear_free(bn);
    start(&w);
    put(&w, point);
    put_byte(&w, 0);
    wrap(&w, 0x03, MAX);
    wrap(&w, 0xa1, MAX);
    element(&w, 0x04, (struct bytes){d, sizeof d});
    put(&w, BYTES(0x02, 0x01, 0x01));
    wrap(&w, 0x30, MAX);
    wrap(&w, 0x04, MAX);
    put(&w, ALG_P256);
    put(&w, BYTES(0x02, 0x01, 0x00));
    wrap(&w, 0x30, MAX);
    memcpy(out, written(&w).p, written(&w).n);
    return (struct bytes){out, written(&w).n};
}

static void put_safe(size_t end) {
    wrap(&w, 0x30, end);
    wrap(&w, 0x04, end);
    wrap(&w, 0xa0, end);
    put(&w, OID_DATA);
    wrap(&w, 0x30, end);
}

/* RFC 7292, appendix B, for the empty password (two zero bytes) and one iteration; SHA-256 has blocks of 64 bytes. */
static void mac_of(struct bytes content, const unsigned char salt[8], unsigned char mac[32]) {
    unsigned char in[192], key[32];
    memset(in, 3, 64);
    for (int i = 0; i < 64; i++)
        in[64 + i] = salt[i % 8];
    memset(in + 128, 0, 64);
    digest((struct bytes){in, sizeof in}, key);
    BENCH_NEED(HMAC(sha256, key, sizeof key, content.p, content.n, mac, NULL));
}

static void make_p12(struct bytes pkcs8, struct bytes certificate, const unsigned char *key_id) {
    static unsigned char content[MAX];
    unsigned char salt[8], mac[32];
    start(&w);
    put_bag(OID_KEY_BAG, pkcs8, 0, key_id);
    put_safe(MAX);
    size_t end = mark(&w);
    put(&w, (struct bytes){server_bag, server_bag_n});
    put_bag(OID_CERT_BAG, certificate, 0x04, key_id);
    put_safe(end);
    wrap(&w, 0x30, MAX);
    struct bytes all = written(&w);
    memcpy(content, all.p, all.n);
    BENCH_NEED(RAND_bytes(salt, sizeof salt) == 1);
    mac_of((struct bytes){content, all.n}, salt, mac);
    start(&w);
    element(&w, 0x04, (struct bytes){salt, sizeof salt});
    end = mark(&w);
    element(&w, 0x04, (struct bytes){mac, sizeof mac});
    put(&w, ALG_SHA256);
    wrap(&w, 0x30, end);
    wrap(&w, 0x30, MAX);
    end = mark(&w);
    put(&w, (struct bytes){content, all.n});
    wrap(&w, 0x04, end);
    wrap(&w, 0xa0, end);
    put(&w, OID_DATA);
    wrap(&w, 0x30, end);
    put(&w, BYTES(0x02, 0x01, 0x03));
    wrap(&w, 0x30, MAX);
}

const unsigned char *floor_issue(const char *device_id, size_t device_id_n, size_t *n) {
    EVP_PKEY *key = NULL;
    unsigned char point[65], hash[32];
    size_t point_n = 0;
    BENCH_NEED(EVP_PKEY_keygen(keygen, &key) == 1);
    BENCH_NEED(EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point, &point_n) == 1 && point_n == sizeof point);
    struct bytes q = {point, sizeof point};
    digest(q, hash);
    struct bytes certificate = make_certificate((struct bytes){(const unsigned char *)device_id, device_id_n}, q, hash);
    make_p12(private_key(key, q), certificate, hash);
    EVP_PKEY_free(key);
    *n = written(&w).n;
    return written(&w).p;
}

/* --- the PKCS#7 of EST -------------------------------------------------------------------------------------------------------------- */

const unsigned char *floor_certify(const struct floor_csr *csr, size_t *n) {
    static unsigned char text[MAX];
    unsigned char hash[32];
    struct bytes point = {csr->point, FLOOR_POINT_LEN};
    digest(point, hash);
    struct bytes certificate = make_certificate((struct bytes){csr->cn, csr->cn_n}, point, hash);
    start(&w);
    put(&w, BYTES(0x31, 0x00)); /* signerInfos */
    size_t end = mark(&w);
    put(&w, certificate);
    wrap(&w, 0xa0, end);
    put(&w, BYTES(0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01));
    put(&w, BYTES(0x31, 0x00)); /* digestAlgorithms */
    put(&w, BYTES(0x02, 0x01, 0x01));
    wrap(&w, 0x30, MAX);
    wrap(&w, 0xa0, MAX);
    put(&w, BYTES(0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02));
    wrap(&w, 0x30, MAX);
    struct bytes all = written(&w);
    BENCH_NEED(all.n / 3 * 4 + 8 <= sizeof text);
    *n = (size_t)EVP_EncodeBlock(text, all.p, (int)all.n);
    return text;
}
