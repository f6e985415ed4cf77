/* keys: where private keys are made and used.  One interface, a backend a file.
 *
 * A key is named by a reference: bytes that mean something to its backend alone, and that the vault keeps in its records.
 * sealed.c: the reference is the private key itself, sealed under the account's data key.  pkcs11.c: it names a key in a token.  Called by the vault's process alone;
 * never by anything that reads from a network. */
#ifndef MUSTER_KEYS_KEYS_H
#define MUSTER_KEYS_KEYS_H

#include "base/buf.h"
#include "keys/token_wire.h"
#include "pki/key.h"

#define KEY_REF_MAX 4096 /* bytes */

struct key_store;
struct key_store_ops {
    const char *name; /* "sealed" */
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
void key_store_free(struct key_store *s); /* NULL accepted */

/* The sealed backend over a data key of SEAL_KEY_LEN bytes, which is copied into guarded memory. */
int key_store_sealed_new(struct span data_key, struct key_store **out, struct err *err) MUSTER_MUST_CHECK;

enum key_backend { KEY_BACKEND_SEALED = 1, KEY_BACKEND_PKCS11 = 2 };

/* Who asks the token: the vault's trail.c.  Both functions return 0, or a MUSTER_E… code; why, the oracle keeps to itself. */
struct key_oracle {
    int (*generate)(void *arg, struct span label, uint8_t id[TOKEN_ID_LEN], uint8_t point[TOKEN_POINT_LEN]);
    int (*sign)(void *arg, const uint8_t id[TOKEN_ID_LEN], const uint8_t digest[TOKEN_DIGEST_LEN], uint8_t signature[TOKEN_SIGNATURE_LEN]);
    void (*bad)(void *arg); /* the signature was not the key's */
    void *arg;
};
/* Keys of both backends under one roof.  oracle NULL: there is no token (MUSTER_ETOKEN where one is needed); kept by reference.  Makes sealed keys until it is told otherwise. */
int key_store_mixed_new(struct span data_key, const struct key_oracle *oracle, struct key_store **out, struct err *err) MUSTER_MUST_CHECK;
void key_store_mixed_make_in(struct key_store *s, enum key_backend backend);
/* In which new keys are made. */
enum key_backend key_store_backend(const struct key_store *s);
/* Whether the key is in a token, which it never leaves; and what it is called there. */
bool key_ref_in_token(struct span ref);
bool key_ref_token_id(struct span ref, uint8_t id[TOKEN_ID_LEN]);

DEFINE_CLEANUP(key_store_free, struct key_store *)

#endif
