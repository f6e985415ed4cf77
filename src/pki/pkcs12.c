/* pkcs12: make_pkcs12 and make_pkcs12_read of make.h.  Written as plain bags: PKCS12_create costs fifteen times as much on OpenSSL 3.0. */
#include <openssl/err.h>
#include <sodium/crypto_auth_hmacsha256.h>
#include <openssl/pkcs12.h>

#include "pki/der.h"
#include "pki/make.h"
#include "pki/pki.h"

#define SALT_LEN 16
#define BLOCK_LEN 64 /* of SHA-256 */
#define MAC_KEY 3    /* what a key that is derived is for (RFC 7292, B.3) */
#define ROOM 512     /* for all that is neither certificate nor key */

#define ID_DATA DER_BYTES(0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01)
#define ID_KEY_BAG DER_BYTES(0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x01)
#define ID_CERT_BAG DER_BYTES(0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03)
#define ID_X509_CERTIFICATE DER_BYTES(0x06, 0x0a, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01)
#define ID_LOCAL_KEY_ID DER_BYTES(0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x15)
#define ALG_SHA256 DER_BYTES(0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00)
#define ALG_P256 DER_BYTES(0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07)
#define INTEGER(n) DER_BYTES(0x02, 0x01, (n))

DEFINE_CLEANUP(PKCS12_free, PKCS12 *)

/* A key, and its SubjectPublicKeyInfo where it is known. */
struct pair {
    EVP_PKEY *key;
    struct span public_key;
};

static int put_encoded_key(struct der_writer *w, const EVP_PKEY *key, struct err *err) {
    CLEANUP(secret_fini) struct secret der = SECRET_INIT;
    int rc = key_private_der(key, &der, err);
    if (!rc)
        der_put(w, secret_span(&der));
    return rc;
}

/* PKCS#8 around RFC 5915. */
static int put_private_key(struct der_writer *w, const struct pair *pair, struct err *err) {
    uint8_t room[KEY_P256_POINT_LEN], scalar[KEY_P256_SCALAR_LEN];
    struct span point = span_of(room, sizeof room);
    size_t end = der_end(w);
    if (key_is_p256_der(pair->public_key))
        point = key_p256_point(pair->public_key);
    else if (!key_p256_public(pair->key, room))
        return put_encoded_key(w, pair->key, err);
    if (!key_p256_private(pair->key, scalar))
        return put_encoded_key(w, pair->key, err);
    der_bits(w, point);
    der_wrap(w, DER_CONTEXT(1), end);
    der_element(w, DER_OCTET_STRING, span_of(scalar, sizeof scalar));
    der_put(w, INTEGER(1));
    der_wrap(w, DER_SEQUENCE, end);
    der_wrap(w, DER_OCTET_STRING, end);
    der_put(w, ALG_P256);
    der_put(w, INTEGER(0));
    der_wrap(w, DER_SEQUENCE, end);
    secret_wipe(scalar, sizeof scalar);
    return 0;
}

/* What says that the key and its certificate belong together.  SPAN_NONE: nothing does. */
static void put_attributes(struct der_writer *w, struct span key_id) {
    size_t end = der_end(w);
    if (key_id.n == 0)
        return;
    der_element(w, DER_OCTET_STRING, key_id);
    der_wrap(w, DER_SET, end);
    der_put(w, ID_LOCAL_KEY_ID);
    der_wrap(w, DER_SEQUENCE, end);
    der_wrap(w, DER_SET, end);
}

static void put_certificate(struct der_writer *w, struct span der, struct span key_id) {
    size_t bag = der_end(w);
    put_attributes(w, key_id);
    size_t end = der_end(w);
    der_element(w, DER_OCTET_STRING, der);
    der_wrap(w, DER_CONTEXT(0), end);
    der_put(w, ID_X509_CERTIFICATE);
    der_wrap(w, DER_SEQUENCE, end);
    der_wrap(w, DER_CONTEXT(0), end);
    der_put(w, ID_CERT_BAG);
    der_wrap(w, DER_SEQUENCE, bag);
}

static int put_key(struct der_writer *w, const struct pair *pair, struct span key_id, struct err *err) {
    size_t bag = der_end(w);
    put_attributes(w, key_id);
    size_t end = der_end(w);
    int rc = put_private_key(w, pair, err);
    der_wrap(w, DER_CONTEXT(0), end);
    der_put(w, ID_KEY_BAG);
    der_wrap(w, DER_SEQUENCE, bag);
    return rc;
}

/* A ContentInfo of plain data. */
static void wrap_data(struct der_writer *w, size_t end) {
    der_wrap(w, DER_OCTET_STRING, end);
    der_wrap(w, DER_CONTEXT(0), end);
    der_put(w, ID_DATA);
    der_wrap(w, DER_SEQUENCE, end);
}

/* RFC 7292, B.2 with one iteration: one hash over the purpose, the salt and the password, each filled up to a block.  The empty password is
 * its two bytes of end. */
static void mac_of(struct span content, const uint8_t salt[SALT_LEN], uint8_t mac[PKI_HASH_LEN]) {
    uint8_t in[3 * BLOCK_LEN] = {0};
    struct hash key;
    memset(in, MAC_KEY, BLOCK_LEN);
    for (size_t i = 0; i < BLOCK_LEN; i += SALT_LEN)
        memcpy(in + BLOCK_LEN + i, salt, SALT_LEN);
    hash_of(span_of(in, sizeof in), &key);
    /* Not by libcrypto, which looks for its HMAC and the digest anew each time, at ten times the cost. */
    crypto_auth_hmacsha256_state hmac;
    crypto_auth_hmacsha256_init(&hmac, key.b, sizeof key.b);
    crypto_auth_hmacsha256_update(&hmac, content.p, content.n);
    crypto_auth_hmacsha256_final(&hmac, mac);
}

static void put_mac(struct der_writer *w, const uint8_t salt[SALT_LEN], const uint8_t mac[PKI_HASH_LEN]) {
    size_t all = der_end(w); /* one iteration is the default, which DER leaves out */
    der_element(w, DER_OCTET_STRING, span_of(salt, SALT_LEN));
    size_t end = der_end(w);
    der_element(w, DER_OCTET_STRING, span_of(mac, PKI_HASH_LEN));
    der_put(w, ALG_SHA256);
    der_wrap(w, DER_SEQUENCE, end);
    der_wrap(w, DER_SEQUENCE, all);
}

/* The safes, and what they hold; written behind the place where the MAC goes. */
static int put_safes(struct der_writer *w, const struct pair *pair, struct span leaf, struct cert *const *cas, size_t n_cas, struct err *err) {
    struct hash id;
    size_t all = der_end(w);
    hash_of(leaf, &id);
    struct span key_id = span_of(id.b, 20);
    int rc = put_key(w, pair, key_id, err);
    if (rc)
        return rc;
    der_wrap(w, DER_SEQUENCE, all);
    wrap_data(w, all);
    size_t end = der_end(w);
    for (size_t i = n_cas; i-- > 0;) {
        CLEANUP(buf_fini) struct buf der = BUF_INIT(CERT_DER_MAX);
        if ((rc = cert_der(cas[i], &der)))
            return err_set(err, rc, NULL);
        put_certificate(w, buf_span(&der), SPAN_NONE);
    }
    put_certificate(w, leaf, key_id);
    der_wrap(w, DER_SEQUENCE, end);
    wrap_data(w, end);
    der_wrap(w, DER_SEQUENCE, all);
    return 0;
}

static int put_all(struct der_writer *w, const struct pair *pair, struct span leaf, struct cert *const *cas, size_t n_cas, struct err *err) {
    uint8_t salt[SALT_LEN], mac[PKI_HASH_LEN], room[128];
    struct der_writer m = der_writer_of(room, sizeof room);
    secret_random_bytes(salt, sizeof salt);
    /* What is in front of the safes' end is written before it: the MAC has one length, whatever it is of. */
    memset(mac, 0, sizeof mac);
    put_mac(&m, salt, mac);
    size_t mac_n = der_written(&m).n, all = der_end(w);
    w->at -= mac_n;
    size_t end = der_end(w);
    int rc = put_safes(w, pair, leaf, cas, n_cas, err);
    if (rc || w->failed)
        return rc ? rc : err_set(err, MUSTER_EINTERNAL, "A PKCS#12 does not fit.");
    mac_of(span_of(w->b + w->at, end - w->at), salt, mac);
    struct der_writer at_end = der_writer_of(w->b, all);
    put_mac(&at_end, salt, mac);
    wrap_data(w, end);
    der_put(w, INTEGER(3));
    der_wrap(w, DER_SEQUENCE, all);
    return 0;
}

int make_pkcs12(EVP_PKEY *key, struct span public_key, struct span leaf, struct cert *const *cas, size_t n_cas, struct buf *out, struct err *err) {
    size_t size = ROOM + leaf.n + KEY_PRIVATE_MAX;
    for (size_t i = 0; i < n_cas; i++)
        size += CERT_DER_MAX;
    uint8_t *room = malloc(size);
    if (!room)
        return err_set(err, MUSTER_ENOMEM, NULL);
    struct der_writer w = der_writer_of(room, size);
    int rc = put_all(&w, &(struct pair){key, public_key}, leaf, cas, n_cas, err);
    if (!rc)
        buf_add(out, der_written(&w));
    secret_wipe(room + w.at, size - w.at);
    free(room);
    return rc ? rc : buf_check(out, err);
}

static inline void stack_free_all(STACK_OF(X509) *s) { sk_X509_pop_free(s, X509_free); }
DEFINE_CLEANUP(stack_free_all, STACK_OF(X509) *)

int make_pkcs12_read(struct span der, EVP_PKEY **key, struct cert **leaf, size_t *n_cas, struct err *err) {
    const unsigned char *p = der.p;
    CLEANUP(PKCS12_free) PKCS12 *p12 = d2i_PKCS12(NULL, &p, (long)der.n);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *private_key = NULL;
    CLEANUP(X509_free) X509 *x = NULL;
    CLEANUP(stack_free_all) STACK_OF(X509) *more = NULL;
    if (!p12 || p != der.p + der.n || PKCS12_parse(p12, "", &private_key, &x, &more) != 1)
        return pki_err(err, MUSTER_EINVALID, "Reading a PKCS#12 with the empty password");
    if (!private_key || !x)
        return err_set(err, MUSTER_EINVALID, "The PKCS#12 has no private key, or no certificate of it.");
    int rc = cert_from_x509(x, leaf, err);
    if (rc)
        return rc;
    *n_cas = more ? (size_t)sk_X509_num(more) : 0;
    *key = TAKE(private_key);
    return 0;
}
