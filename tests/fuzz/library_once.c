/* For targets that read certificates and requests: what libcrypto was asked once is remembered.  OpenSSL 3.0 takes some 50 µs to find the decoder
 * of a public key, as much to find its encoder, and 70 to verify a signature; a target asks for the same ones again and again.  These functions of
 * the fuzz program stand before the library's, for the library's own calls too; the unit tests over the corpora do without them.
 *
 * No answer is another than the library's, but for one thing: of signatures that neither the program made nor one of the first verifications
 * found good, seven of eight are taken as bad without the arithmetic, and one is verified.  Behind a signature that was changed, or is under
 * changed bytes, there is nothing but its refusal.
 *
 * This file is not instrumented: what it remembers is nothing to look for. */
#undef OPENSSL_NO_DEPRECATED
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_Init(), which nobody has to fetch */
#include <dlfcn.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <string.h>

#include "fuzz.h"

#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)
#pragma GCC visibility push(default) /* for the library */

#define KEYS 4096
#define CERTS 4096
#define VERDICTS (1 << 17)
#define MADE_BITS (1u << 27)
#define FIRST 100000 /* verifications, which include those of the corpus */
#define SHARE 8      /* of the others one is verified */

struct name {
    uint64_t word[4]; /* SHA-256 */
};

static bool same_name(const struct name *a, const struct name *b) {
    return ((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1]) | (a->word[2] ^ b->word[2]) | (a->word[3] ^ b->word[3])) == 0;
}

static void add(SHA256_CTX *h, const void *p, size_t n) {
    uint64_t length = n;
    SHA256_Update(h, &length, sizeof length);
    SHA256_Update(h, p, n);
}

static void end(SHA256_CTX *h, struct name *out) { SHA256_Final((unsigned char *)out, h); }

/* The library's own function of that name. */
static void find(void *function, const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    MUST(found);
    memcpy(function, &found, sizeof found);
}
#define LIBRARY(name)                                                                                                              \
    static __typeof__(&name) library;                                                                                              \
    if (!library)                                                                                                                  \
    find(&library, #name)

/* --- keys ------------------------------------------------------------------------------------------------------------------------ */

/* Hangs on a key.  None of them changes once it was encoded. */
struct key_note {
    int n; /* bytes of der, which the encoder made of it; 0: it was not asked yet */
    uint8_t *der;
    bool named;
    struct name name;
};

static int key_index;

static void on_key_free(void *parent, void *p, CRYPTO_EX_DATA *data, int index, long arg, void *more) {
    struct key_note *note = p;
    if (note)
        free(note->der);
    free(note);
}

/* A copy has no note yet: it may be changed before it is encoded. */
static int on_key_dup(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void **p, int index, long arg, void *more) {
    *p = NULL;
    return 1;
}

static struct key_note *note_of(EVP_PKEY *key) {
    if (!key_index)
        key_index = EVP_PKEY_get_ex_new_index(0, NULL, NULL, on_key_dup, on_key_free);
    struct key_note *note = EVP_PKEY_get_ex_data(key, key_index);
    if (!note) {
        note = calloc(1, sizeof *note);
        MUST(note && key_index > 0 && EVP_PKEY_set_ex_data(key, key_index, note));
    }
    return note;
}

static struct {
    struct name of;
    EVP_PKEY *key; /* NULL: these bytes are none */
    bool known;
} keys[KEYS];

/* What OSSL_DECODER_CTX_new_for_pkey() was asked; a decoder is made where the key is not known. */
static struct pending {
    EVP_PKEY **out;
    const char *kind, *properties;
    OSSL_LIB_CTX *context;
    bool busy;
} pending;

OSSL_DECODER_CTX *OSSL_DECODER_CTX_new_for_pkey(EVP_PKEY **out, const char *form, const char *structure, const char *kind, int selection,
                                                OSSL_LIB_CTX *context, const char *properties) {
    LIBRARY(OSSL_DECODER_CTX_new_for_pkey);
    if (pending.busy || !structure || strcmp(structure, "SubjectPublicKeyInfo") || !form || strcmp(form, "DER") || selection != EVP_PKEY_PUBLIC_KEY)
        return library(out, form, structure, kind, selection, context, properties);
    pending = (struct pending){.out = out, .kind = kind, .properties = properties, .context = context};
    return (OSSL_DECODER_CTX *)&pending;
}

void OSSL_DECODER_CTX_free(OSSL_DECODER_CTX *ctx) {
    LIBRARY(OSSL_DECODER_CTX_free);
    if (ctx != (OSSL_DECODER_CTX *)&pending)
        library(ctx);
}

static bool decode(const unsigned char **der, size_t *n) {
    pending.busy = true;
    OSSL_DECODER_CTX *ctx = OSSL_DECODER_CTX_new_for_pkey(pending.out, "DER", "SubjectPublicKeyInfo", pending.kind, EVP_PKEY_PUBLIC_KEY, pending.context,
                                                          pending.properties);
    bool ok = ctx && OSSL_DECODER_from_data(ctx, der, n);
    OSSL_DECODER_CTX_free(ctx);
    pending.busy = false;
    return ok;
}

int OSSL_DECODER_from_data(OSSL_DECODER_CTX *ctx, const unsigned char **der, size_t *n) {
    LIBRARY(OSSL_DECODER_from_data);
    struct name of;
    SHA256_CTX h;
    if (ctx != (OSSL_DECODER_CTX *)&pending)
        return library(ctx, der, n);
    SHA256_Init(&h);
    add(&h, &pending.context, sizeof pending.context);
    add(&h, *der, *n);
    end(&h, &of);
    __typeof__(&keys[0]) at = &keys[of.word[0] % KEYS];
    if (at->known && same_name(&at->of, &of)) {
        if (!at->key)
            return 0;
        *pending.out = at->key;
        *der += *n;
        *n = 0;
        return EVP_PKEY_up_ref(at->key);
    }
    bool ok = decode(der, n);
    if (ok && (*n || !*pending.out)) /* not all of it was read */
        return 1;
    EVP_PKEY_free(at->key);
    *at = (__typeof__(*at)){.of = of, .key = ok ? *pending.out : NULL, .known = true};
    return ok ? EVP_PKEY_up_ref(at->key) : 0;
}

int i2d_PUBKEY(const EVP_PKEY *key, unsigned char **out) {
    LIBRARY(i2d_PUBKEY);
    if (!key)
        return library(key, out);
    struct key_note *note = note_of((EVP_PKEY *)key);
    if (note->n == 0) {
        unsigned char *der = NULL;
        int n = library(key, &der);
        if (n <= 0)
            return n;
        note->der = malloc((size_t)n);
        MUST(note->der);
        memcpy(note->der, der, (size_t)n);
        note->n = n;
        OPENSSL_free(der);
    }
    if (out && !*out) {
        *out = OPENSSL_memdup(note->der, (size_t)note->n);
        MUST(*out);
    } else if (out) {
        memcpy(*out, note->der, (size_t)note->n);
        *out += note->n;
    }
    return note->n;
}

/* By the bytes of a key, of most kinds without the encoder. */
static void name_key(EVP_PKEY *key, struct name *out) {
    uint8_t raw[256], *spki = NULL;
    size_t n = sizeof raw;
    int m, kind = EVP_PKEY_get_base_id(key);
    SHA256_CTX h;
    SHA256_Init(&h);
    add(&h, &kind, sizeof kind);
    if ((kind == EVP_PKEY_ED25519 && EVP_PKEY_get_raw_public_key(key, raw, &n) == 1) ||
        (kind == EVP_PKEY_EC && EVP_PKEY_get_octet_string_param(key, "pub", raw, sizeof raw, &n) == 1)) {
        add(&h, raw, n);
    } else {
        m = i2d_PUBKEY(key, &spki);
        MUST(m > 0);
        add(&h, spki, (size_t)m);
        OPENSSL_free(spki);
    }
    end(&h, out);
}

static void add_key(SHA256_CTX *h, EVP_PKEY *key) {
    struct key_note *note = note_of(key);
    if (!note->named) {
        name_key(key, &note->name);
        note->named = true;
    }
    add(h, &note->name, sizeof note->name);
}

/* Which name a kind of key has: the library looks it up in a table under a lock. */
int EVP_KEYMGMT_is_a(const EVP_KEYMGMT *kind, const char *name) {
    LIBRARY(EVP_KEYMGMT_is_a);
    static struct {
        const EVP_KEYMGMT *kind;
        char name[24];
        int is;
    } known[64];
    size_t n = strlen(name), at = ((uintptr_t)kind >> 4) + n * 7 + (uint8_t)name[0] + (n ? (uint8_t)name[n - 1] : 0);
    __typeof__(&known[0]) one = &known[at % 64];
    if (!kind || n >= sizeof one->name)
        return library(kind, name);
    if (one->kind != kind || strcmp(one->name, name)) {
        one->kind = kind;
        one->is = library(kind, name);
        memcpy(one->name, name, n + 1);
    }
    return one->is;
}

/* --- certificates ----------------------------------------------------------------------------------------------------------------- */

static struct {
    struct name of;
    X509 *cert; /* NULL: none */
} certs[CERTS];

/* The whole element at the front of the bytes; 0: it has another form than nearly every one. */
static long length_of(const unsigned char *p, long n) {
    if (n < 4 || p[0] != 0x30 || p[1] != 0x82)
        return 0;
    long all = 4 + (p[2] << 8 | p[3]);
    return all <= n ? all : 0;
}

/* The name hangs on a certificate that was read here. */
static int cert_index;

static void on_cert_free(void *parent, void *p, CRYPTO_EX_DATA *data, int index, long arg, void *more) { free(p); }

static void note_cert(X509 *cert, const struct name *name) {
    struct name *copy = malloc(sizeof *copy);
    if (!cert_index)
        cert_index = X509_get_ex_new_index(0, NULL, NULL, NULL, on_cert_free);
    MUST(copy && cert_index > 0);
    *copy = *name;
    MUST(X509_set_ex_data(cert, cert_index, copy));
}

/* Only those whose key could be read, which is the same in each context. */
X509 *d2i_X509(X509 **out, const unsigned char **in, long n) {
    LIBRARY(d2i_X509);
    long all = length_of(*in, n);
    struct name of;
    SHA256_CTX h;
    if (!all)
        return library(out, in, n);
    SHA256_Init(&h);
    add(&h, *in, (size_t)all);
    end(&h, &of);
    __typeof__(&certs[0]) at = &certs[of.word[0] % CERTS];
    if (at->cert && same_name(&at->of, &of)) {
        MUST(X509_up_ref(at->cert));
        if (out) {
            X509_free(*out);
            *out = at->cert;
        }
        *in += all;
        return at->cert;
    }
    const unsigned char *began = *in;
    X509 *cert = library(out, in, n);
    if (cert && *in == began + all && X509_get0_pubkey(cert) && X509_up_ref(cert)) {
        note_cert(cert, &of);
        X509_free(at->cert);
        at->cert = cert;
        at->of = of;
    }
    return cert;
}

/* --- signatures ------------------------------------------------------------------------------------------------------------------- */

static struct verdict {
    struct name of;
    int verdict;
    bool known;
} of_signatures[VERDICTS], of_certs[VERDICTS];

/* Which signatures were ever made or found good: perhaps, or certainly not. */
static uint8_t made[MADE_BITS / 8];

static bool is_made(const struct name *of) {
    bool all = true;
    for (size_t i = 0; i < 4; i++)
        all = all && (made[of->word[i] % MADE_BITS / 8] & (1u << (of->word[i] % 8)));
    return all;
}

static int remember(struct verdict *at, const struct name *of, int verdict) {
    *at = (struct verdict){.of = *of, .verdict = verdict, .known = true};
    for (size_t i = 0; verdict == 1 && i < 4; i++)
        made[of->word[i] % MADE_BITS / 8] |= (uint8_t)(1u << (of->word[i] % 8));
    return verdict;
}

/* By all that a verdict depends on. */
static void name_of(EVP_MD_CTX *ctx, const unsigned char *signature, size_t n_signature, const unsigned char *tbs, size_t n_tbs, struct name *out) {
    EVP_PKEY_CTX *how = EVP_MD_CTX_get_pkey_ctx(ctx);
    EVP_PKEY *key = EVP_PKEY_CTX_get0_pkey(how);
    const EVP_MD *md = EVP_MD_CTX_get0_md(ctx);
    int facts[] = {md ? EVP_MD_get_type(md) : 0, 0, 0};
    SHA256_CTX h;
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA || EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA_PSS) {
        EVP_PKEY_CTX_get_rsa_padding(how, &facts[1]);
        if (facts[1] == RSA_PKCS1_PSS_PADDING)
            EVP_PKEY_CTX_get_rsa_pss_saltlen(how, &facts[2]);
    }
    SHA256_Init(&h);
    add(&h, facts, sizeof facts);
    add_key(&h, key);
    add(&h, signature, n_signature);
    add(&h, tbs, n_tbs);
    end(&h, out);
}

int EVP_DigestVerify(EVP_MD_CTX *ctx, const unsigned char *signature, size_t n_signature, const unsigned char *tbs, size_t n_tbs) {
    LIBRARY(EVP_DigestVerify);
    static size_t verified;
    struct name of;
    name_of(ctx, signature, n_signature, tbs, n_tbs, &of);
    struct verdict *at = &of_signatures[of.word[0] % VERDICTS];
    if (at->known && same_name(&at->of, &of))
        return at->verdict;
    if (verified >= FIRST && of.word[1] % SHARE && !is_made(&of))
        return 0;
    verified++;
    return remember(at, &of, library(ctx, signature, n_signature, tbs, n_tbs));
}

int EVP_DigestSign(EVP_MD_CTX *ctx, unsigned char *signature, size_t *n_signature, const unsigned char *tbs, size_t n_tbs) {
    LIBRARY(EVP_DigestSign);
    int rc = library(ctx, signature, n_signature, tbs, n_tbs);
    if (rc == 1 && signature) {
        struct name of;
        name_of(ctx, signature, *n_signature, tbs, n_tbs, &of);
        remember(&of_signatures[of.word[0] % VERDICTS], &of, 1);
    }
    return rc;
}

/* Above them: what X509_verify() does before it comes to the arithmetic takes as long as all the rest of a judgement. */
int X509_verify(X509 *cert, EVP_PKEY *key) {
    LIBRARY(X509_verify);
    const struct name *name = cert_index ? X509_get_ex_data(cert, cert_index) : NULL;
    struct name of;
    SHA256_CTX h;
    if (!key || !name)
        return library(cert, key);
    SHA256_Init(&h);
    add(&h, name, sizeof *name);
    add_key(&h, key);
    end(&h, &of);
    struct verdict *at = &of_certs[of.word[0] % VERDICTS];
    if (at->known && same_name(&at->of, &of))
        return at->verdict;
    *at = (struct verdict){.of = of, .verdict = library(cert, key), .known = true};
    return at->verdict;
}

/* --- errors ----------------------------------------------------------------------------------------------------------------------- */

/* Looks at each place of the queue, also where it is empty, as it nearly always is. */
void ERR_clear_error(void) {
    LIBRARY(ERR_clear_error);
    if (ERR_peek_error())
        library();
}

#pragma clang attribute pop
