/* Mutator of chains: changes one element inside one certificate and signs it again, because beyond a broken signature there is nothing left
 * to find.  The keys are made of words, and good for nothing but the anchors of this target. */
#include <openssl/evp.h>

#include "base/cursor.h"
#include "der.h"
#include "fuzz.h"

#define CERTS_MAX 10
#define OUT_MAX (64 * 1024)

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed);

static const char *const SIGNERS[] = {"root", "own", "issuing", "intermediate", "leaf"};
#define N_SIGNERS (sizeof SIGNERS / sizeof *SIGNERS)

/* Ed25519 from SHA-256 of "muster fuzz NAME"; as in x509.py. */
static EVP_PKEY *signer(size_t i) {
    static EVP_PKEY *keys[N_SIGNERS];
    uint8_t seed[32];
    char text[64];
    if (!keys[i]) {
        int len = snprintf(text, sizeof text, "muster fuzz %s", SIGNERS[i]);
        MUST(EVP_Digest(text, (size_t)len, seed, NULL, EVP_sha256(), NULL) == 1);
        keys[i] = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
        MUST(keys[i]);
    }
    return keys[i];
}

static void sign_again(struct span cert, unsigned *random, struct buf *out) {
    static const uint8_t ed25519[] = {0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70};
    uint8_t signature[65] = {0};
    size_t n = 64;
    struct span whole, content, tbs, ignored;
    if (!der_element(cert, &whole, &content) || !der_element(content, &tbs, &ignored)) {
        buf_add(out, cert);
        return;
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    MUST(ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, signer(der_random(random, N_SIGNERS))) == 1 && EVP_DigestSign(ctx, signature + 1, &n, tbs.p, tbs.n) == 1);
    EVP_MD_CTX_free(ctx);
    CLEANUP(buf_fini) struct buf inner = BUF_INIT(OUT_MAX);
    buf_add(&inner, tbs);
    buf_add(&inner, span_of(ed25519, sizeof ed25519));
    der_add(&inner, 0x03, span_of(signature, sizeof signature));
    der_add(out, 0x30, buf_span(&inner));
}

static void mutate_one(struct span cert, unsigned *random, struct buf *out) {
    CLEANUP(buf_fini) struct buf changed = BUF_INIT(OUT_MAX);
    der_mutate(cert, random, &changed);
    for (unsigned more = der_random(random, 3); more; more--) {
        CLEANUP(buf_fini) struct buf again = BUF_INIT(OUT_MAX);
        der_mutate(buf_span(&changed), random, &again);
        buf_clear(&changed);
        buf_add(&changed, buf_span(&again));
    }
    if (der_random(random, 4))
        sign_again(buf_span(&changed), random, out);
    else
        buf_add(out, buf_span(&changed));
}

static void put(struct buf *out, struct span cert) {
    buf_add_u16(out, (uint16_t)cert.n);
    buf_add(out, span_sub(cert, 0, UINT16_MAX));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed) {
    unsigned random = seed;
    struct cursor c = cursor_of(span_of(data, n));
    struct span certs[CERTS_MAX];
    size_t count = 0;
    while (c.rest.n && count < CERTS_MAX) {
        struct span one = cursor_bytes(&c, cursor_u16(&c));
        if (c.failed)
            break;
        certs[count++] = one;
    }
    if (count == 0 || der_random(&random, 16) == 0)
        return LLVMFuzzerMutate(data, n, max);
    CLEANUP(buf_fini) struct buf out = BUF_INIT(OUT_MAX);
    size_t target = der_random(&random, (unsigned)count);
    unsigned how = der_random(&random, 16);
    for (size_t i = 0; i < count; i++) {
        if (i != target) {
            put(&out, certs[i]);
        } else if (how == 0) { /* gone */
            continue;
        } else if (how == 1) { /* again, elsewhere */
            put(&out, certs[i]);
            put(&out, certs[der_random(&random, (unsigned)count)]);
        } else {
            CLEANUP(buf_fini) struct buf one = BUF_INIT(OUT_MAX);
            mutate_one(certs[i], &random, &one);
            put(&out, buf_span(&one));
        }
    }
    if (!buf_ok(&out) || out.n == 0 || out.n > max)
        return LLVMFuzzerMutate(data, n, max);
    memcpy(data, out.p, out.n);
    return out.n;
}
