/* pkcs11: private keys in a token behind a PKCS#11 module, and beside them those of sealed.c: an account that has moved from one to the other has
 * CAs in both.  The reference of a key in a token is its id there (CKA_ID) and its public point; it holds no secret, and it is known by
 * its magic: a sealed one begins with 24 random bytes.
 *
 * libcrypto is given a key whose signing function is ours: what it hands over is a digest, what it gets back is what the oracle says, held
 * against the public point, so that a token that signs with another key, or badly, is found out before anything leaves. */
#undef OPENSSL_NO_DEPRECATED /* EC_KEY_METHOD: OpenSSL 3.0 offers a key of somebody else's by this, or by a whole provider */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/obj_mac.h>

#include "keys/keys.h"
#include "pki/pki.h"

#define MAGIC "muster pkcs11 1\n"
#define REF_LEN (sizeof MAGIC - 1 + TOKEN_ID_LEN + TOKEN_POINT_LEN)

struct mixed {
    struct key_store base;
    struct key_store *sealed;
    const struct key_oracle *oracle;
    enum key_backend backend; /* in which new keys are made */
};

/* What an EC_KEY of a token carries; owned by it. */
struct token_key {
    const struct key_oracle *oracle;
    uint8_t id[TOKEN_ID_LEN];
};

static int key_index = -1;
static EC_KEY_METHOD *method;

static void free_token_key(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index, long argl, void *argp) { free(ptr); }

static ECDSA_SIG *sign(const unsigned char *digest, int n, const BIGNUM *kinv, const BIGNUM *r, EC_KEY *key) {
    const struct token_key *k = EC_KEY_get_ex_data(key, key_index);
    uint8_t rs[TOKEN_SIGNATURE_LEN];
    if (!k || n != TOKEN_DIGEST_LEN || k->oracle->sign(k->oracle->arg, k->id, digest, rs))
        return NULL;
    ECDSA_SIG *s = ECDSA_SIG_new();
    BIGNUM *first = BN_bin2bn(rs, TOKEN_SIGNATURE_LEN / 2, NULL), *second = BN_bin2bn(rs + TOKEN_SIGNATURE_LEN / 2, TOKEN_SIGNATURE_LEN / 2, NULL);
    if (!s || !first || !second || ECDSA_SIG_set0(s, first, second) != 1) {
        BN_free(first);
        BN_free(second);
        ECDSA_SIG_free(s);
        return NULL;
    }
    if (ECDSA_do_verify(digest, n, s, key) != 1) {
        k->oracle->bad(k->oracle->arg);
        ECDSA_SIG_free(s);
        return NULL;
    }
    return s;
}

static bool begin(void) {
    if (method)
        return true;
    key_index = EC_KEY_get_ex_new_index(0, NULL, NULL, NULL, free_token_key);
    EC_KEY_METHOD *m = key_index < 0 ? NULL : EC_KEY_METHOD_new(EC_KEY_OpenSSL());
    int (*whole)(int, const unsigned char *, int, unsigned char *, unsigned int *, const BIGNUM *, const BIGNUM *, EC_KEY *) = NULL;
    int (*setup)(EC_KEY *, BN_CTX *, BIGNUM **, BIGNUM **) = NULL;
    if (!m)
        return false;
    EC_KEY_METHOD_get_sign(m, &whole, &setup, NULL);
    EC_KEY_METHOD_set_sign(m, whole, setup, sign);
    method = m;
    return true;
}

static EVP_PKEY *build(const struct key_oracle *oracle, const uint8_t id[TOKEN_ID_LEN], const uint8_t point[TOKEN_POINT_LEN]) {
    EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    struct token_key *k = calloc(1, sizeof *k);
    EVP_PKEY *key = EVP_PKEY_new();
    if (!ec || !k || !key || EC_KEY_oct2key(ec, point, TOKEN_POINT_LEN, NULL) != 1 || EC_KEY_set_method(ec, method) != 1 || EC_KEY_set_ex_data(ec, key_index, k) != 1) {
        free(k);
        EC_KEY_free(ec);
        EVP_PKEY_free(key);
        return NULL;
    }
    k->oracle = oracle;
    memcpy(k->id, id, sizeof k->id);
    if (EVP_PKEY_assign_EC_KEY(key, ec) != 1) {
        EC_KEY_free(ec);
        EVP_PKEY_free(key);
        return NULL;
    }
    return key;
}

bool key_ref_in_token(struct span ref) { return ref.n == REF_LEN && memcmp(ref.p, MAGIC, sizeof MAGIC - 1) == 0; }

bool key_ref_token_id(struct span ref, uint8_t id[TOKEN_ID_LEN]) {
    if (!key_ref_in_token(ref))
        return false;
    memcpy(id, ref.p + sizeof MAGIC - 1, TOKEN_ID_LEN);
    return true;
}

static int token_open(const struct mixed *m, struct span ref, EVP_PKEY **key, struct err *err) {
    const uint8_t *id = ref.p + sizeof MAGIC - 1;
    if (!m->oracle || !begin())
        return err_set(err, MUSTER_ETOKEN, "The key is in a security module, and none is configured.");
    *key = build(m->oracle, id, id + TOKEN_ID_LEN);
    return *key ? 0 : pki_err(err, MUSTER_ECORRUPT, "Reading the public half of a key in a security module");
}

static int token_make(const struct mixed *m, struct span label, struct buf *ref, EVP_PKEY **key, struct err *err) {
    uint8_t id[TOKEN_ID_LEN], point[TOKEN_POINT_LEN];
    if (!m->oracle)
        return err_set(err, MUSTER_ETOKEN, "Keys are to be made in a security module, and none is configured.");
    int rc = m->oracle->generate(m->oracle->arg, label, id, point);
    if (rc)
        return err_set(err, rc, NULL);
    size_t before = ref->n;
    buf_adds(ref, MAGIC);
    buf_add(ref, span_of(id, sizeof id));
    buf_add(ref, span_of(point, sizeof point));
    rc = buf_check(ref, err);
    return rc ? rc : token_open(m, span_sub(buf_span(ref), before, ref->n), key, err);
}

static int mixed_make(struct key_store *store, enum key_kind kind, int bits, struct span label, struct buf *ref, EVP_PKEY **key, struct err *err) {
    const struct mixed *m = (const struct mixed *)store;
    if (m->backend == KEY_BACKEND_SEALED)
        return key_store_make(m->sealed, kind, bits, label, ref, key, err);
    if (kind != KEY_P256)
        return err_set(err, MUSTER_EINVALID, "Keys in a security module are P-256.");
    return token_make(m, label, ref, key, err);
}

static int mixed_open(struct key_store *store, struct span label, struct span ref, EVP_PKEY **key, struct err *err) {
    const struct mixed *m = (const struct mixed *)store;
    return key_ref_in_token(ref) ? token_open(m, ref, key, err) : key_store_open(m->sealed, label, ref, key, err);
}

static void mixed_free(struct key_store *store) {
    key_store_free(((struct mixed *)store)->sealed);
    free(store);
}

static const struct key_store_ops mixed_ops = {.name = "mixed", .make = mixed_make, .open = mixed_open, .free = mixed_free};

int key_store_mixed_new(struct span data_key, const struct key_oracle *oracle, struct key_store **out, struct err *err) {
    struct mixed *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(err, MUSTER_ENOMEM, NULL);
    *m = (struct mixed){.base.ops = &mixed_ops, .oracle = oracle, .backend = KEY_BACKEND_SEALED};
    int rc = key_store_sealed_new(data_key, &m->sealed, err);
    if (rc) {
        free(m);
        return rc;
    }
    *out = &m->base;
    return 0;
}

enum key_backend key_store_backend(const struct key_store *s) { return s->ops == &mixed_ops ? ((const struct mixed *)s)->backend : KEY_BACKEND_SEALED; }

void key_store_mixed_make_in(struct key_store *s, enum key_backend backend) {
    if (s->ops == &mixed_ops)
        ((struct mixed *)s)->backend = backend;
}
