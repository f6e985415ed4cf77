/* keys: where private keys are made and used.  One interface, a backend a file.
 *
 * A key is named by a reference: bytes that mean something to its backend alone, and that the vault keeps in its records.
 * sealed.c: the reference is the private key itself, sealed under the account's data key.  Called by the vault's process alone;
 * never by anything that reads from a network. */
#ifndef MUSTER_KEYS_KEYS_H
#define MUSTER_KEYS_KEYS_H

#include "base/buf.h"
#include "pki/key.h"

#define KEY_REF_MAX 4096 /* bytes */

struct key_store;
struct key_store_ops {
    const char *name; /* "sealed" */
    bool exportable;  /* whether the private half can leave the backend */
    int (*make)(struct key_store *s, enum key_kind kind, int bits, struct span label, struct buf *ref, EVP_PKEY **key, struct err *err);
    int (*open)(struct key_store *s, struct span label, struct span ref, EVP_PKEY **key, struct err *err);
    void (*free)(struct key_store *s);
};
/* First member of every backend's own struct. */
struct key_store {
    const struct key_store_ops *ops;
};

/* A new key.  label says what it is for and is bound to it ("issuing-ca"): a reference opens under its own label only.  Appends to ref;
 * *key (NULL accepted) is the caller's. */
int key_store_make(struct key_store *s, enum key_kind kind, int bits, struct span label, struct buf *ref, EVP_PKEY **key, struct err *err) MUSTER_MUST_CHECK;
/* The key of a reference, to sign with; the caller's.  MUSTER_ECORRUPT. */
int key_store_open(struct key_store *s, struct span label, struct span ref, EVP_PKEY **key, struct err *err) MUSTER_MUST_CHECK;
bool key_store_exportable(const struct key_store *s);
void key_store_free(struct key_store *s); /* NULL accepted */

/* The sealed backend over a data key of SEAL_KEY_LEN bytes, which is copied into guarded memory. */
int key_store_sealed_new(struct span data_key, struct key_store **out, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(key_store_free, struct key_store *)

#endif
