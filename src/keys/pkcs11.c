/* pkcs11: private keys in a token behind a PKCS#11 module, and beside them those of sealed.c: an account that has moved from one to the other has
 * CAs in both.  The reference of a key in a token is its id there (CKA_ID) and its public point; it holds no secret, and it is known by
 * its magic: a sealed one begins with 24 random bytes.
 *
 * libcrypto is given a key whose signing function is ours: what it hands over is a digest, what it gets back is what the oracle says, held
 * against the public point, so that a token that signs with another key, or badly, is found out before anything leaves. */
#include "keys/keys.h"
#include "pki/key_elsewhere.h"

#define MAGIC "muster pkcs11 1\n"
#define REF_LEN (sizeof MAGIC - 1 + TOKEN_ID_LEN + TOKEN_POINT_LEN)

struct mixed {
    struct key_store base;
    struct key_store *sealed;
    const struct key_oracle *oracle;
    enum key_backend backend; /* in which new keys are made */
};

/* What a key of a token carries; owned by it. */
struct token_key {
    const struct key_oracle *oracle;
    uint8_t id[TOKEN_ID_LEN];
};

static int sign(void *arg, struct span digest, uint8_t *rs, size_t width, struct err *err) {
    const struct token_key *k = arg;
    bool fits = width == TOKEN_SIGNATURE_LEN / 2 && digest.n == TOKEN_DIGEST_LEN;
    return fits && k->oracle->sign(k->oracle->arg, k->id, digest.p, rs) == 0 ? 0 : err_set(err, MUSTER_ETOKEN, NULL);
}

static void bad(void *arg) {
    const struct token_key *k = arg;
    k->oracle->bad(k->oracle->arg);
}

static void free_token_key(void *arg) { free(arg); }

static const struct key_elsewhere_ops OPS = {sign, bad, free_token_key};

static int build(const struct key_oracle *oracle, const uint8_t id[TOKEN_ID_LEN], const uint8_t point[TOKEN_POINT_LEN], EVP_PKEY **out, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *public = NULL;
    int rc = key_from_p256_point(span_of(point, TOKEN_POINT_LEN), &public, err);
    if (rc)
        return rc;
    struct token_key *k = calloc(1, sizeof *k);
    if (!k)
        return err_set(err, MUSTER_ENOMEM, NULL);
    k->oracle = oracle;
    memcpy(k->id, id, sizeof k->id);
    return key_elsewhere_new(public, &OPS, k, out, err);
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
    if (!m->oracle)
        return err_set(err, MUSTER_ETOKEN, "The key is in a security module, and none is configured.");
    if (build(m->oracle, id, id + TOKEN_ID_LEN, key, NULL))
        return err_set(err, MUSTER_ECORRUPT, "The public half of a key in a security module cannot be read.");
    return 0;
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
