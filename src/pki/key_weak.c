/* key_weak: see key_weak.h. */
#include "pki/key_weak.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>

#include "pki/pki.h"

#define CERTIFIED_EXPONENT 65537 /* at least (CA/Browser Forum's baseline requirements, 6.1.6; SP 800-56B) */
#define ROCA_PRIME_MAX 701       /* the 126 primes whose product such keys of 2048 bits are built on */

DEFINE_CLEANUP(BN_free, BIGNUM *)
DEFINE_CLEANUP(BN_CTX_free, BN_CTX *)

/* --- RSA ---------------------------------------------------------------------------------------------------------------------- */

/* The odd ones of SP 800-56B's product of small primes. */
static const uint16_t primes[] = {
    3,   5,   7,   11,  13,  17,  19,  23,  29,  31,  37,  41,  43,  47,  53,  59,  61,  67,  71,  73,  79,  83,  89,  97,  101, 103, 107, 109, 113, 127, 131, 137, 139,
    149, 151, 157, 163, 167, 173, 179, 181, 191, 193, 197, 199, 211, 223, 227, 229, 233, 239, 241, 251, 257, 263, 269, 271, 277, 281, 283, 293, 307, 311, 313, 317, 331,
    337, 347, 349, 353, 359, 367, 373, 379, 383, 389, 397, 401, 409, 419, 421, 431, 433, 439, 443, 449, 457, 461, 463, 467, 479, 487, 491, 499, 503, 509, 521, 523, 541,
    547, 557, 563, 569, 571, 577, 587, 593, 599, 601, 607, 613, 617, 619, 631, 641, 643, 647, 653, 659, 661, 673, 677, 683, 691, 701, 709, 719, 727, 733, 739, 743, 751,
};
#define PRIMES (sizeof primes / sizeof *primes)

/* Whether it is a power of base modulo the prime. */
static bool is_power(uint32_t rest, uint32_t base, uint32_t prime) {
    uint32_t x = 1;
    do {
        if (x == rest)
            return true;
        x = x * base % prime;
    } while (x != 1);
    return false;
}

static bool is_square(uint32_t rest, uint32_t prime) {
    for (uint32_t x = 1; x <= prime / 2; x++)
        if (x * x % prime == rest)
            return true;
    return false;
}

static int weak(struct err *err, const char *why) { return err_set(err, MUSTER_ECERTWEAKKEY, "The key is %s.", why); }
static int bad_modulus(struct err *err) { return weak(err, "RSA with a modulus that anybody can factor: it is even, has a small factor, or is a square"); }

/* What the modulus shows by its remainders.  A square is one modulo every prime, and what CVE-2017-15361 made is a power of 65537 modulo each of its
 * primes; another number is that of so many at once as good as never. */
static int check_modulus(const BIGNUM *n, struct err *err) {
    bool square = true, roca = true;
    if (!BN_is_odd(n))
        return bad_modulus(err);
    for (size_t i = 0; i < PRIMES; i++) {
        const BN_ULONG rest = BN_mod_word(n, primes[i]);
        if (rest == 0 || rest == (BN_ULONG)-1)
            return bad_modulus(err);
        square = square && is_square((uint32_t)rest, primes[i]);
        roca = roca && (primes[i] > ROCA_PRIME_MAX || is_power((uint32_t)rest, CERTIFIED_EXPONENT % primes[i], primes[i]));
    }
    if (square)
        return bad_modulus(err);
    return roca ? weak(err, "RSA of a chip whose keys can be factored (CVE-2017-15361); a key made elsewhere is good") : 0;
}

static int check_exponent(const BIGNUM *e, struct err *err) {
    if (!BN_is_odd(e) || BN_is_one(e))
        return weak(err, "RSA with an exponent that is even, or 1: anybody can sign with it");
    return BN_num_bits(e) > 16 ? 0 : weak(err, "RSA with an exponent below 65537, which is not certified");
}

/* Fermat's test to the base 2, which no prime fails, and the product of two that nobody chose for it does. */
static int is_prime(const BIGNUM *n, bool *prime) {
    CLEANUP(BN_CTX_free) BN_CTX *ctx = BN_CTX_new();
    CLEANUP(BN_free) BIGNUM *two = BN_new();
    CLEANUP(BN_free) BIGNUM *power = BN_new();
    CLEANUP(BN_free) BIGNUM *less = BN_dup(n);
    if (!ctx || !two || !power || !less || BN_set_word(two, 2) != 1 || BN_sub_word(less, 1) != 1 || BN_mod_exp_mont(power, two, less, n, ctx, NULL) != 1)
        return MUSTER_ECRYPTO;
    *prime = BN_is_one(power);
    return 0;
}

static int check_rsa(const EVP_PKEY *key, struct err *err) {
    CLEANUP(BN_free) BIGNUM *n = NULL;
    CLEANUP(BN_free) BIGNUM *e = NULL;
    if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n) != 1 || EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e) != 1)
        return pki_err(err, MUSTER_ECERTWEAKKEY, "Reading an RSA key");
    int rc = check_exponent(e, err);
    return rc ? rc : check_modulus(n, err);
}

int key_check_prime(struct span public_der, const struct key_facts *k, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(BN_free) BIGNUM *n = NULL;
    bool prime;
    if (k->kind != KEY_RSA || k->bits > KEY_RSA_OWN_MAX) /* refused by its length where it would be certified, and this would be dear */
        return 0;
    int rc = key_from_public_der(public_der, &key, err);
    if (rc)
        return rc;
    if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n) != 1 || is_prime(n, &prime))
        return pki_err(err, MUSTER_ECRYPTO, "Looking at an RSA key");
    return prime ? err_set(err, MUSTER_ECSR, "The request cannot be signed: The key is RSA with a prime for its modulus: anybody can sign with it.") : 0;
}

/* --- Ed25519 ------------------------------------------------------------------------------------------------------------------ */

/* The y coordinates of the eight points whose order divides 8, and those of them that have a second encoding, from the field's order up.  The sign of x
 * is the last bit, which tells none of them from a good one. */
bool key_ed25519_is_small(const uint8_t point[KEY_ED25519_POINT_LEN]) {
    static const uint8_t small[][KEY_ED25519_POINT_LEN] = {
        {0},
        {1},
        {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
        {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
        {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
        {0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
        {0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    };
    const size_t last = KEY_ED25519_POINT_LEN - 1;
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        if (memcmp(point, small[i], last) == 0 && (point[last] & 0x7f) == small[i][last])
            return true;
    return false;
}

int key_weak_fault(const EVP_PKEY *key, const struct key_facts *k, struct err *err) {
    uint8_t point[KEY_ED25519_POINT_LEN];
    size_t n = sizeof point;
    if (k->kind == KEY_RSA)
        return check_rsa(key, err);
    if (k->kind != KEY_ED25519)
        return 0;
    if (EVP_PKEY_get_raw_public_key(key, point, &n) != 1 || n != sizeof point)
        return pki_err(err, MUSTER_ECERTWEAKKEY, "Reading an Ed25519 key");
    return key_ed25519_is_small(point) ? weak(err, "Ed25519 with a point of small order: anybody can sign with it") : 0;
}
