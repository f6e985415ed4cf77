/* floor_csr: see floor_csr.h. */
#include "floor_csr.h"

#include <openssl/ec.h>
#include <openssl/evp.h>

#include "bench.h"

#define MAX 4096 /* bytes of a request */
#define P256_HEAD 26 /* bytes of a SubjectPublicKeyInfo in front of its point */

struct slice {
    const unsigned char *p;
    size_t n;
};

static EVP_PKEY *parameters;
static EVP_MD *sha256;

void floor_csr_init(void) {
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    parameters = EVP_EC_gen("P-256");
    BENCH_NEED(sha256 && parameters);
}

/* Takes an element off *in: its content; *whole is it with its head, where that is not NULL. */
static struct slice next(struct slice *in, unsigned char tag, struct slice *whole) {
    BENCH_NEED(in->n >= 2 && in->p[0] == tag);
    size_t head = 2, n = in->p[1];
    for (size_t more = n < 0x80 ? 0 : n - 0x80; more > 0; more--) {
        BENCH_NEED(head < in->n && head < 4);
        n = (head == 2 ? 0 : n << 8) | in->p[head];
        head++;
    }
    BENCH_NEED(n <= in->n - head);
    struct slice content = {in->p + head, n};
    if (whole)
        *whole = (struct slice){in->p, head + n};
    *in = (struct slice){in->p + head + n, in->n - head - n};
    return content;
}

static void read_cn(struct slice name, struct floor_csr *out) {
    out->cn = NULL;
    while (name.n) {
        struct slice set = next(&name, 0x31, NULL), pair = next(&set, 0x30, NULL), oid = next(&pair, 0x06, NULL);
        if (oid.n == 3 && memcmp(oid.p, "\x55\x04\x03", 3) == 0) {
            struct slice text = next(&pair, 0x0c, NULL);
            out->cn = text.p;
            out->cn_n = text.n;
        }
    }
    BENCH_NEED(out->cn);
}

static void verify(const unsigned char *point, struct slice tbs, struct slice signature) {
    EVP_PKEY *key = EVP_PKEY_new();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    BENCH_NEED(key && ctx && EVP_PKEY_copy_parameters(key, parameters) == 1 && EVP_PKEY_set1_encoded_public_key(key, point, FLOOR_POINT_LEN) == 1);
    BENCH_NEED(EVP_DigestVerifyInit(ctx, NULL, sha256, NULL, key) == 1 && EVP_DigestVerify(ctx, signature.p, signature.n, tbs.p, tbs.n) == 1);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
}

void floor_csr_read(const char *base64, size_t n, struct floor_csr *out) {
    static unsigned char der[MAX + 3];
    BENCH_NEED(n >= 4 && n % 4 == 0 && n / 4 * 3 <= MAX && EVP_DecodeBlock(der, (const unsigned char *)base64, (int)n) == (int)(n / 4 * 3));
    struct slice all = {der, n / 4 * 3 - (base64[n - 1] == '=') - (base64[n - 2] == '=')}, tbs;
    struct slice request = next(&all, 0x30, NULL), body = next(&request, 0x30, &tbs);
    next(&body, 0x02, NULL);
    read_cn(next(&body, 0x30, NULL), out);
    struct slice key = next(&body, 0x30, NULL);
    next(&request, 0x30, NULL);
    struct slice signature = next(&request, 0x03, NULL);
    BENCH_NEED(signature.n > 1 && key.n == P256_HEAD - 2 + FLOOR_POINT_LEN);
    out->point = key.p + P256_HEAD - 2;
    BENCH_NEED(out->point[0] == 4);
    verify(out->point, tbs, (struct slice){signature.p + 1, signature.n - 1});
}
