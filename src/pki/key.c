/* key: see key.h. */
#include "pki/key.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <pthread.h>

#include "pki/pki.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 16384
/* scrypt of a sealed PEM.  More memory than 16 MiB openssl(1) refuses to spend when it reads the file; five times the work instead is what
 * OWASP asks of that memory. */
#define SCRYPT_N 16384
#define SCRYPT_R 8
#define SCRYPT_P 5

DEFINE_CLEANUP(PKCS8_PRIV_KEY_INFO_free, PKCS8_PRIV_KEY_INFO *)
DEFINE_CLEANUP(X509_SIG_free, X509_SIG *)
DEFINE_CLEANUP(X509_ALGOR_free, X509_ALGOR *)

/* --- libcrypto -------------------------------------------------------------------------------------------------------------- */

static EVP_MD *sha256_md;
static EC_GROUP *p256_group;
static EVP_PKEY *p256_parameters; /* a key without a point: what EVP_PKEY_set1_encoded_public_key needs to start from */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fetch(void) {
    sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *any = EVP_EC_gen("P-256");
    EVP_PKEY *empty = EVP_PKEY_new();
    p256_group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    if (!sha256_md || !p256_group || !any || !empty || EVP_PKEY_copy_parameters(empty, any) != 1)
        abort(); /* a libcrypto without SHA-256 or P-256 */
    p256_parameters = empty;
}

const EVP_MD *pki_sha256(void) {
    pthread_once(&once, fetch);
    return sha256_md;
}

#undef pki_err /* what analyzers are told of it */
int pki_err(struct err *err, int code, const char *doing) {
    unsigned long first = ERR_peek_error();
    const char *reason = first ? ERR_reason_error_string(first) : NULL;
    ERR_clear_error();
    return err_set(err, code, "%s failed%s%s.", doing, reason ? ": " : "", reason ? reason : "");
}

void hash_of(struct span s, struct hash *out) {
    static const uint8_t nothing;
    if (EVP_Digest(s.n ? s.p : &nothing, s.n, out->b, NULL, pki_sha256(), NULL) != 1)
        abort();
}

/* SubjectPublicKeyInfo of every P-256 key up to its uncompressed point (RFC 5480). */
static const uint8_t p256_head[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
                                    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00};

/* --- making and reading ----------------------------------------------------------------------------------------------------- */

const char *key_kind_name(enum key_kind kind) {
    static const char *const names[] = {[KEY_NONE] = "no key", [KEY_P256] = "P-256",       [KEY_P384] = "P-384", [KEY_P521] = "P-521",
                                        [KEY_RSA] = "RSA",     [KEY_ED25519] = "Ed25519", [KEY_OTHER] = "another kind"};
    return names[kind];
}

int key_generate(enum key_kind kind, int bits, EVP_PKEY **out, struct err *err) {
    EVP_PKEY *key = NULL;
    if (kind == KEY_P256)
        key = EVP_EC_gen("P-256");
    else if (kind == KEY_P384)
        key = EVP_EC_gen("P-384");
    else if (kind == KEY_ED25519)
        key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    else if (kind == KEY_RSA && (bits == 2048 || bits == 3072 || bits == 4096))
        key = EVP_RSA_gen((unsigned)bits);
    else
        return err_set(err, MUSTER_EINVALID, "A key of kind %s with %d bits cannot be made.", key_kind_name(kind), bits);
    if (!key)
        return pki_err(err, MUSTER_ECRYPTO, "Making a key");
    *out = key;
    return 0;
}

struct key_maker {
    EVP_PKEY_CTX *ctx;
};

struct key_maker *key_maker_new(struct err *err) {
    struct key_maker *m = calloc(1, sizeof *m);
    if (m)
        m->ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (!m || !m->ctx || EVP_PKEY_keygen_init(m->ctx) != 1 || EVP_PKEY_CTX_set_group_name(m->ctx, "P-256") != 1) {
        key_maker_free(m);
        pki_err(err, MUSTER_ECRYPTO, "Preparing to make keys");
        return NULL;
    }
    return m;
}

int key_maker_make(struct key_maker *m, EVP_PKEY **out, struct err *err) {
    EVP_PKEY *key = NULL;
    if (EVP_PKEY_keygen(m->ctx, &key) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Making a key");
    *out = key;
    return 0;
}

void key_maker_free(struct key_maker *m) {
    if (!m)
        return;
    EVP_PKEY_CTX_free(m->ctx);
    free(m);
}

static enum key_kind kind_of(const EVP_PKEY *key);

bool key_p256_public(const EVP_PKEY *key, uint8_t point[KEY_P256_POINT_LEN]) {
    size_t n = 0;
    bool ok = kind_of(key) == KEY_P256 && EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point, KEY_P256_POINT_LEN, &n) == 1 && n == KEY_P256_POINT_LEN &&
              point[0] == 4;
    ERR_clear_error();
    return ok;
}

bool key_p256_private(const EVP_PKEY *key, uint8_t scalar[KEY_P256_SCALAR_LEN]) {
    BIGNUM *d = NULL;
    bool ok = kind_of(key) == KEY_P256 && EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d) == 1 && BN_bn2binpad(d, scalar, KEY_P256_SCALAR_LEN) == KEY_P256_SCALAR_LEN;
    BN_clear_free(d);
    ERR_clear_error();
    return ok;
}

/* i2d_PUBKEY runs an encoder on OpenSSL 3.0, which looks for itself among all of them each time. */
int key_public_der(const EVP_PKEY *key, struct buf *out, struct err *err) {
    uint8_t point[KEY_P256_POINT_LEN];
    if (key_p256_public(key, point)) {
        buf_add(out, span_of(p256_head, sizeof p256_head));
        buf_add(out, span_of(point, sizeof point));
        return buf_check(out, err);
    }
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(key, &der);
    if (n <= 0)
        return pki_err(err, MUSTER_ECRYPTO, "Encoding a public key");
    buf_add(out, span_of(der, (size_t)n));
    OPENSSL_free(der);
    return buf_check(out, err);
}


/* d2i_PUBKEY costs twice an ECDSA verification on OpenSSL 3.0; the one form that nearly every device has does without. */
int key_from_p256_point(struct span point, EVP_PKEY **out, struct err *err) {
    pthread_once(&once, fetch);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = EVP_PKEY_new();
    if (!key || EVP_PKEY_copy_parameters(key, p256_parameters) != 1 || EVP_PKEY_set1_encoded_public_key(key, point.p, point.n) != 1)
        return pki_err(err, MUSTER_EINVALID, "Reading a P-256 public key");
    *out = TAKE(key);
    return 0;
}

/* Whether it is a point of the curve (SEC 1, 3.2.2.1): all that there is to a public key on P-256, whose points have one order. */
static int p256_check(struct span point, struct err *err) {
    pthread_once(&once, fetch);
    EC_POINT *p = EC_POINT_new(p256_group);
    bool ok = p && EC_POINT_oct2point(p256_group, p, point.p, point.n, NULL) == 1;
    EC_POINT_free(p);
    return ok ? 0 : pki_err(err, MUSTER_EINVALID, "Reading a P-256 public key");
}

bool key_is_p256_der(struct span der) {
    return der.n == sizeof p256_head + KEY_P256_POINT_LEN && memcmp(der.p, p256_head, sizeof p256_head) == 0 && der.p[sizeof p256_head] == 4;
}

struct span key_p256_point(struct span der) { return span_sub(der, sizeof p256_head, KEY_P256_POINT_LEN); }

int key_from_public_der(struct span der, EVP_PKEY **out, struct err *err) {
    if (key_is_p256_der(der))
        return key_from_p256_point(key_p256_point(der), out, err);
    const unsigned char *p = der.p;
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = der.n && der.n <= 8192 ? d2i_PUBKEY(NULL, &p, (long)der.n) : NULL;
    if (!key || p != der.p + der.n)
        return pki_err(err, MUSTER_EINVALID, "Reading a public key");
    CLEANUP(buf_fini) struct buf again = BUF_INIT(8192);
    int rc = key_public_der(key, &again, err);
    if (rc)
        return rc;
    if (!span_eq(buf_span(&again), der))
        return err_set(err, MUSTER_EINVALID, "The public key is not in its canonical encoding.");
    *out = TAKE(key);
    return 0;
}

int key_facts_from_public_der(struct span der, struct key_facts *out, struct err *err) {
    if (!key_is_p256_der(der)) {
        CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
        int rc = key_from_public_der(der, &key, err);
        return rc ? rc : key_facts(key, out, err);
    }
    int rc = p256_check(key_p256_point(der), err);
    if (rc)
        return rc;
    *out = (struct key_facts){.kind = KEY_P256, .bits = 256};
    hash_of(der, &out->spki);
    return 0;
}

static enum key_kind kind_of(const EVP_PKEY *key) {
    char group[40] = "";
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
        return KEY_RSA;
    case EVP_PKEY_ED25519:
        return KEY_ED25519;
    case EVP_PKEY_EC:
        EVP_PKEY_get_group_name((EVP_PKEY *)key, group, sizeof group, NULL);
        if (strcmp(group, "prime256v1") == 0 || strcmp(group, "P-256") == 0)
            return KEY_P256;
        if (strcmp(group, "secp384r1") == 0 || strcmp(group, "P-384") == 0)
            return KEY_P384;
        if (strcmp(group, "secp521r1") == 0 || strcmp(group, "P-521") == 0)
            return KEY_P521;
    }
    return KEY_OTHER;
}

/* Whether der, of an elliptic curve of that many bits, ends with an uncompressed point. */
static bool has_whole_point(struct span der, int bits) {
    size_t n = 2 * (((size_t)bits + 7) / 8) + 1;
    return der.n > n && der.p[der.n - n] == 4;
}

/* In the place of what it has. */
static int with_whole_point(const EVP_PKEY *key, struct buf *der, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *same = EVP_PKEY_dup((EVP_PKEY *)key);
    if (!same || EVP_PKEY_set_utf8_string_param(same, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, "uncompressed") != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Encoding a public key");
    buf_clear(der);
    return key_public_der(same, der, err);
}

/* The content of the element at the beginning, and *rest behind it; SPAN_NONE: it is longer than 64 KiB, or does not fit in. */
static struct span element(struct span s, struct span *rest) {
    size_t more = s.n > 1 && s.p[1] >= 0x80 ? s.p[1] & 0x7fu : 0, n = s.n > 1 && !more ? s.p[1] : 0;
    for (size_t i = 0; i < more && more <= 2 && i + 2 < s.n; i++)
        n = n << 8 | s.p[2 + i];
    if (s.n < 2 || more > 2 || 2 + more + n > s.n)
        return *rest = SPAN_NONE;
    *rest = span_sub(s, 2 + more + n, s.n);
    return span_sub(s, 2 + more, 2 + more + n);
}

/* RSASSA-PSS in another algorithm's place; a modulus has 1024 bits or more here, and a length of two bytes, or it is no key. */
static int plain_rsa(struct buf *der, struct err *err) {
    static const uint8_t RSA[] = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00};
    CLEANUP(buf_fini) struct buf plain = BUF_INIT(8192);
    struct span key, none, whole = element(buf_span(der), &none);
    (void)element(whole, &key);
    const size_t n = sizeof RSA + key.n;
    if (key.n < 128)
        return err_set(err, MUSTER_ECRYPTO, NULL);
    buf_add(&plain, span_of((const uint8_t[]){0x30, 0x82, (uint8_t)(n >> 8), (uint8_t)n}, 4));
    buf_add(&plain, span_of(RSA, sizeof RSA));
    buf_add(&plain, key);
    buf_clear(der);
    buf_add(der, buf_span(&plain));
    return buf_check(der, err);
}

/* One key has one name, in whichever of its forms it came: a compressed or hybrid point (SEC 1, 2.3.3) is the same point, and RSASSA-PSS (RFC 4055, 1.2) the same modulus. */
int key_facts(const EVP_PKEY *key, struct key_facts *out, struct err *err) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(8192);
    const int type = EVP_PKEY_get_base_id(key), bits = EVP_PKEY_get_bits(key);
    int rc = key_public_der(key, &der, err);
    if (!rc && type == EVP_PKEY_RSA_PSS)
        rc = plain_rsa(&der, err);
    else if (!rc && type == EVP_PKEY_EC && !has_whole_point(buf_span(&der), bits))
        rc = with_whole_point(key, &der, err);
    if (rc)
        return rc;
    *out = (struct key_facts){.kind = kind_of(key), .bits = bits};
    hash_of(buf_span(&der), &out->spki);
    return 0;
}

int key_acceptable(const struct key_facts *k, struct err *err) {
    switch (k->kind) {
    case KEY_P256:
    case KEY_P384:
    case KEY_P521:
    case KEY_ED25519:
        return 0;
    case KEY_RSA:
        if (k->bits >= RSA_BITS_MIN && k->bits <= RSA_BITS_MAX)
            return 0;
        return err_set(err, MUSTER_ECERTWEAKKEY, "The key is RSA of %d bits; %d to %d are accepted.", k->bits, RSA_BITS_MIN, RSA_BITS_MAX);
    case KEY_NONE:
    case KEY_OTHER:
        break;
    }
    return err_set(err, MUSTER_ECERTWEAKKEY, "The key is of a kind that is not accepted.");
}

/* --- private halves --------------------------------------------------------------------------------------------------------- */

int key_private_der(const EVP_PKEY *key, struct secret *out, struct err *err) {
    CLEANUP(PKCS8_PRIV_KEY_INFO_free) PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(key);
    int n = p8 ? i2d_PKCS8_PRIV_KEY_INFO(p8, NULL) : -1;
    if (n <= 0)
        return pki_err(err, MUSTER_ECRYPTO, "Encoding a private key");
    CLEANUP(secret_fini) struct secret der = SECRET_INIT;
    if (secret_alloc(&der, (size_t)n))
        return err_set(err, MUSTER_ENOMEM, NULL);
    unsigned char *p = der.p;
    if (i2d_PKCS8_PRIV_KEY_INFO(p8, &p) != n)
        return pki_err(err, MUSTER_ECRYPTO, "Encoding a private key");
    *out = der;
    der = SECRET_INIT;
    return 0;
}

int key_from_private_der(struct span der, EVP_PKEY **out, struct err *err) {
    const unsigned char *p = der.p;
    CLEANUP(PKCS8_PRIV_KEY_INFO_free) PKCS8_PRIV_KEY_INFO *p8 = d2i_PKCS8_PRIV_KEY_INFO(NULL, &p, (long)der.n);
    EVP_PKEY *key = p8 && p == der.p + der.n ? EVP_PKCS82PKEY(p8) : NULL;
    if (!key)
        return pki_err(err, MUSTER_EINVALID, "Reading a private key");
    *out = key;
    return 0;
}

int key_private_pem(const EVP_PKEY *key, struct buf *out, struct err *err) {
    CLEANUP(BIO_free_all) BIO *bio = BIO_new(BIO_s_secmem());
    if (!bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Writing a private key");
    buf_add(out, bio_span(bio));
    return buf_check(out, err);
}

int key_private_pem_sealed(const EVP_PKEY *key, struct span passphrase, struct buf *out, struct err *err) {
    CLEANUP(PKCS8_PRIV_KEY_INFO_free) PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(key);
    CLEANUP(X509_ALGOR_free) X509_ALGOR *how = PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), NULL, 0, NULL, SCRYPT_N, SCRYPT_R, SCRYPT_P);
    CLEANUP(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());
    if (!p8 || !how || !bio || passphrase.n > INT32_MAX)
        return pki_err(err, MUSTER_ECRYPTO, "Sealing a private key");
    CLEANUP(X509_SIG_free) X509_SIG *sealed = PKCS8_set0_pbe((const char *)passphrase.p, (int)passphrase.n, p8, how);
    if (sealed)
        how = NULL; /* now the sealed key's */
    if (!sealed || PEM_write_bio_PKCS8(bio, sealed) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Sealing a private key");
    buf_add(out, bio_span(bio));
    return buf_check(out, err);
}

struct pass {
    struct span text;
    bool asked;
};

static int give_passphrase(char *to, int size, int rw, void *arg) {
    struct pass *pass = arg;
    pass->asked = true;
    if (pass->text.n == 0 || pass->text.n > (size_t)size)
        return -1;
    memcpy(to, pass->text.p, pass->text.n);
    return (int)pass->text.n;
}

static EVP_PKEY *read_der(struct span file, struct pass *pass) {
    const unsigned char *p = file.p;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &p, (long)file.n);
    if (key)
        return key;
    CLEANUP(BIO_free_all) BIO *bio = BIO_new_mem_buf(file.p, (int)file.n);
    ERR_clear_error();
    return bio ? d2i_PKCS8PrivateKey_bio(bio, NULL, give_passphrase, pass) : NULL;
}

int key_read_private(struct span file, struct span passphrase, EVP_PKEY **out, struct err *err) {
    if (file.n == 0 || file.n > 64 * 1024)
        return err_set(err, MUSTER_EINVALID, "The file cannot be a private key: it has %zu bytes.", file.n);
    struct pass pass = {.text = passphrase};
    EVP_PKEY *key = NULL;
    if (span_find(file, SPAN_LIT("-----BEGIN ")) >= 0) {
        CLEANUP(BIO_free_all) BIO *bio = BIO_new_mem_buf(file.p, (int)file.n);
        key = bio ? PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, &pass) : NULL;
    } else {
        key = read_der(file, &pass);
    }
    if (!key && pass.asked) {
        ERR_clear_error();
        return err_set(err, MUSTER_EINVALID, passphrase.n ? "The passphrase does not open the private key." : "The private key is encrypted, and no passphrase was given.");
    }
    if (!key)
        return pki_err(err, MUSTER_EINVALID, "Reading a private key");
    *out = key;
    return 0;
}

/* --- signatures ------------------------------------------------------------------------------------------------------------- */

static const EVP_MD *digest_for(const EVP_PKEY *key) { return EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? NULL : pki_sha256(); }

int key_sign(EVP_PKEY *key, struct span message, struct buf *signature, struct err *err) {
    CLEANUP(EVP_MD_CTX_free) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t n = 0;
    if (!ctx || EVP_DigestSignInit(ctx, NULL, digest_for(key), NULL, key) != 1 || EVP_DigestSign(ctx, NULL, &n, message.p, message.n) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Signing");
    size_t at = signature->n;
    uint8_t *to = buf_extend(signature, n);
    if (!to)
        return buf_check(signature, err);
    if (EVP_DigestSign(ctx, to, &n, message.p, message.n) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Signing");
    signature->n = at + n; /* an ECDSA signature may be shorter than its maximum */
    signature->p[signature->n] = '\0';
    return 0;
}

int key_verify(EVP_PKEY *key, struct span message, struct span signature, struct err *err) {
    CLEANUP(EVP_MD_CTX_free) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestVerifyInit(ctx, NULL, digest_for(key), NULL, key) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Verifying a signature");
    if (EVP_DigestVerify(ctx, signature.p, signature.n, message.p, message.n) == 1)
        return 0;
    ERR_clear_error();
    return err_set(err, MUSTER_EINVALID, "The signature is not the key's, or what it signs was changed.");
}
