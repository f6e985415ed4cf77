/* keys: see keys.h.  Passes on to the backend. */
#include "keys/keys.h"

int key_store_make(struct key_store *s, enum key_kind kind, int bits, struct span label, struct buf *ref, EVP_PKEY **key, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *made = NULL;
    int rc = s->ops->make(s, kind, bits, label, ref, &made, err);
    if (!rc && key)
        *key = TAKE(made);
    return rc;
}

int key_store_open(struct key_store *s, struct span label, struct span ref, EVP_PKEY **key, struct err *err) {
    if (ref.n == 0 || ref.n > KEY_REF_MAX)
        return err_set(err, MUSTER_ECORRUPT, "The reference of a key has %zu bytes.", ref.n);
    return s->ops->open(s, label, ref, key, err);
}

void key_store_free(struct key_store *s) {
    if (s)
        s->ops->free(s);
}
