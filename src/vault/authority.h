/* vault/authority: one CA of Muster's own: its certificate and the reference of its key.  Called by core.c, account.c and issue.c. */
#ifndef MUSTER_VAULT_AUTHORITY_H
#define MUSTER_VAULT_AUTHORITY_H

#include "base/cursor.h"
#include "keys/keys.h"
#include "pki/cert.h"
#include "pki/leaf.h"
#include "pki/make.h"

struct authority {
    struct cert *cert;  /* owned */
    struct buf ref;     /* keys/keys.h */
    const char *label;  /* of the reference; static */
    EVP_PKEY *key;      /* owned; NULL until first used */
    struct leaf_ca *leaf; /* owned; NULL until authority_sign() made one */
    struct ocsp_signer *ocsp; /* owned; NULL until ocsp_signer_of() made one */
};

/* "now + life" without overflow; VAULT_LIFE_NONE and what lies beyond the year 9999 give CLOCK_NO_EXPIRY. */
int64_t life_end(int64_t now, int64_t life);

/* A new P-256 CA of one of the CA profiles, from a day before now on.  issuer NULL: self-signed.  organisation may be empty.  Ends at not_after or with its issuer. */
int authority_make(struct key_store *keys, enum cert_profile profile, const char *label, const char *common_name, struct span organisation,
                   struct authority *issuer, int64_t now, int64_t not_after, struct authority **out, struct err *err) MUSTER_MUST_CHECK;
/* Reading and writing inside a record.  label is kept by reference. */
int authority_read(struct cursor *c, const char *label, struct authority **out, struct err *err) MUSTER_MUST_CHECK;
void authority_write(const struct authority *a, struct buf *out);
/* a->key, opened where it was not yet; stays a's. */
int authority_key(struct authority *a, struct key_store *keys, EVP_PKEY **key, struct err *err) MUSTER_MUST_CHECK;
/* Makes what *rq says, under a.  The public key was read with key_facts_from_public_der(). */
int authority_sign(struct authority *a, struct key_store *keys, const struct make_request *rq, struct buf *der, struct err *err) MUSTER_MUST_CHECK;
void authority_free(struct authority *a); /* NULL accepted */

/* A root that was rotated out, and what carries trust between it and the one that came next. */
struct former_root {
    struct authority *root;
    struct cert *next_by_it, *it_by_next; /* one's key, signed by the other */
};
void former_root_fini(struct former_root *f);
/* Both ways, between `old` and `next`, which are CAs of that profile, for as long as both live; old becomes the former's where it succeeds. */
int former_root_make(struct key_store *keys, enum cert_profile profile, struct span organisation, struct authority *old, struct authority *next, int64_t now, struct former_root *out,
                     struct err *err) MUSTER_MUST_CHECK;
int former_root_read(struct cursor *c, const char *label, struct former_root *out, struct err *err) MUSTER_MUST_CHECK;
void former_root_write(const struct former_root *f, struct buf *out);
/* All of them, the oldest first: the roots' certificates behind one another, and of each the two that carry trust. */
int former_roots_der(const struct former_root *f, size_t n, struct buf *roots, struct buf *crosses, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP_FINI(former_root_fini, struct former_root)

DEFINE_CLEANUP(authority_free, struct authority *)

#endif
