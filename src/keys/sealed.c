/* sealed: the default backend of private keys.  A reference is the key's PKCS#8, sealed under the account's data key and bound to
 * the key's label, so that a reference moved to another place does not open.  Holds nothing open: keys are decoded when asked for. */
#include "keys/keys.h"
#include "keys/seal.h"

struct sealed {
    struct key_store base;
    struct secret data_key;
};

static int bound_to(struct span label, struct buf *bound) {
    buf_adds(bound, "muster private key ");
    buf_add(bound, label);
    return buf_check(bound, NULL);
}

static int sealed_make(struct key_store *store, enum key_kind kind, int bits, struct span label, struct buf *ref, EVP_PKEY **key, struct err *err) {
    const struct sealed *s = (const struct sealed *)store;
    CLEANUP(EVP_PKEY_free) EVP_PKEY *made = NULL;
    CLEANUP(secret_fini) struct secret der = SECRET_INIT;
    CLEANUP(buf_fini) struct buf bound = BUF_INIT(256);
    int rc = key_generate(kind, bits, &made, err);
    if (rc || (rc = key_private_der(made, &der, err)))
        return rc;
    if (der.n + SEAL_OVERHEAD > KEY_REF_MAX)
        return err_set(err, MUSTER_EINVALID, "The key is too large for the sealed backend.");
    if ((rc = bound_to(label, &bound)) || (rc = seal_close(secret_span(&s->data_key), buf_span(&bound), secret_span(&der), ref)))
        return err_set(err, rc, NULL);
    *key = TAKE(made);
    return 0;
}

static int sealed_open(struct key_store *store, struct span label, struct span ref, EVP_PKEY **key, struct err *err) {
    const struct sealed *s = (const struct sealed *)store;
    CLEANUP(secret_fini) struct secret der = SECRET_INIT;
    CLEANUP(buf_fini) struct buf bound = BUF_INIT(256);
    int rc = bound_to(label, &bound);
    if (rc || (rc = seal_open(secret_span(&s->data_key), buf_span(&bound), ref, &der)))
        return err_set(err, rc, "The private key of %.*s does not open: it was changed, or sealed for something else.", SPAN_FMT(label));
    return key_from_private_der(secret_span(&der), key, err);
}

static void sealed_free(struct key_store *store) {
    struct sealed *s = (struct sealed *)store;
    secret_fini(&s->data_key);
    free(s);
}

static const struct key_store_ops sealed_ops = {.name = "sealed", .make = sealed_make, .open = sealed_open, .free = sealed_free};

int key_store_sealed_new(struct span data_key, struct key_store **out, struct err *err) {
    if (data_key.n != SEAL_KEY_LEN)
        return err_set(err, MUSTER_EINTERNAL, "A data key has %zu bytes.", data_key.n);
    struct sealed *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, MUSTER_ENOMEM, NULL);
    s->base.ops = &sealed_ops;
    if (secret_copy(&s->data_key, data_key)) {
        free(s);
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    *out = &s->base;
    return 0;
}
