/* key: key pairs and public keys (libcrypto's EVP_PKEY underneath).
 *
 * Public keys travel as the DER of SubjectPublicKeyInfo (RFC 5280, 4.1.2.7); their name is its SHA-256, `spki`. */
#ifndef MUSTER_PKI_KEY_H
#define MUSTER_PKI_KEY_H

#include <openssl/evp.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/secret.h"

#define PKI_HASH_LEN 32
#define KEY_P256_POINT_LEN 65 /* uncompressed */
#define KEY_P256_SCALAR_LEN 32
#define KEY_RSA_OWN_MAX 4096  /* bits of an RSA key that a device makes and Muster certifies: larger ones cost every handshake more than they are worth */
#define KEY_PRIVATE_MAX 4096 /* bytes of PKCS#8, of the largest key that is made: RSA of 4096 bits */

enum key_kind { KEY_NONE, KEY_P256, KEY_P384, KEY_P521, KEY_RSA, KEY_ED25519, KEY_OTHER };

struct hash {
    uint8_t b[PKI_HASH_LEN]; /* SHA-256 */
};
static inline struct span hash_span(const struct hash *h) { return span_of(h->b, sizeof h->b); }
static inline bool hash_eq(const struct hash *a, const struct hash *b) { return memcmp(a->b, b->b, sizeof a->b) == 0; }
void hash_of(struct span s, struct hash *out);

struct key_facts {
    enum key_kind kind;
    int bits;         /* RSA: modulus; EC: order */
    struct hash spki; /* SHA-256 of the SubjectPublicKeyInfo; where the key came in another form, of the plain one: rsaEncryption, the uncompressed point */
};

/* A new key pair; KEY_P256, KEY_P384, KEY_ED25519, or KEY_RSA with bits (2048, 3072, 4096). */
int key_generate(enum key_kind kind, int bits, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
/* Makes P-256 keys one after the other at half the cost: what libcrypto looks up for a key is looked up once.  On one thread. */
struct key_maker;
struct key_maker *key_maker_new(struct err *err);
int key_maker_make(struct key_maker *m, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
void key_maker_free(struct key_maker *m); /* NULL accepted */
/* SubjectPublicKeyInfo in DER. */
int key_public_der(const EVP_PKEY *key, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
/* Of an uncompressed point on P-256. */
int key_from_p256_point(struct span point, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
/* From SubjectPublicKeyInfo; strict: whole input, canonical DER. */
int key_from_public_der(struct span der, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
/* The same and its facts, without the key.  For P-256 no encoder runs. */
int key_facts_from_public_der(struct span der, struct key_facts *out, struct err *err) MUSTER_MUST_CHECK;
/* Whether der is the SubjectPublicKeyInfo of a P-256 key by its form: a named curve and an uncompressed point, which may lie anywhere. */
bool key_is_p256_der(struct span der);
struct span key_p256_point(struct span der); /* the point; der is one */
/* Of a P-256 key: its public point; its private scalar, which the caller wipes.  False: another kind, or no private half. */
bool key_p256_public(const EVP_PKEY *key, uint8_t point[KEY_P256_POINT_LEN]);
bool key_p256_private(const EVP_PKEY *key, uint8_t scalar[KEY_P256_SCALAR_LEN]);
int key_facts(const EVP_PKEY *key, struct key_facts *out, struct err *err) MUSTER_MUST_CHECK;
/* MUSTER_ECERTWEAKKEY unless RSA 2048..16384, P-256, P-384, P-521 or Ed25519. */
int key_acceptable(const struct key_facts *k, struct err *err) MUSTER_MUST_CHECK;

/* PKCS#8 DER of the private half, in guarded memory. */
int key_private_der(const EVP_PKEY *key, struct secret *out, struct err *err) MUSTER_MUST_CHECK;
int key_from_private_der(struct span der, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
/* PEM "PRIVATE KEY" for a file of mode 0600. */
int key_private_pem(const EVP_PKEY *key, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
/* PEM "ENCRYPTED PRIVATE KEY" (PKCS#8, PBES2: AES-256-CBC, scrypt). */
int key_private_pem_sealed(const EVP_PKEY *key, struct span passphrase, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
/* Reads PEM or DER, PKCS#8 (plain or under passphrase), SEC1 or PKCS#1; passphrase SPAN_NONE: none. */
int key_read_private(struct span file, struct span passphrase, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;

/* SHA-256 signature (Ed25519: pure) of a message, and its check. */
int key_sign(EVP_PKEY *key, struct span message, struct buf *signature, struct err *err) MUSTER_MUST_CHECK;
int key_verify(EVP_PKEY *key, struct span message, struct span signature, struct err *err) MUSTER_MUST_CHECK;

const char *key_kind_name(enum key_kind kind); /* "P-256", "RSA", … */

/* Explains libcrypto's error queue: sets err to code with the first reason and empties the queue.  Returns code. */
int pki_err(struct err *err, int code, const char *doing);
#ifdef MUSTER_ANALYZED
#define pki_err(err, code, doing) err_given(pki_err(err, code, doing), code)
#endif

DEFINE_CLEANUP(EVP_PKEY_free, EVP_PKEY *)

#endif
