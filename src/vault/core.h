/* vault/core: the vault's own record: lives, server CA, and the key that signs audit heads.  Called by init.c and serve.c. */
#ifndef MUSTER_VAULT_CORE_H
#define MUSTER_VAULT_CORE_H

#include "vault/authority.h"
#include "vault/process.h"
#include "vault/records.h"

struct core {
    struct vault_lives lives;
    struct key_store *keys;
    struct authority *server_ca;
    EVP_PKEY *audit_key; /* Ed25519 */
};

/* Makes server CA and audit key and stores them as the vault's first record.  lives NULL, or a field 0: the default.  MUSTER_EINVALID. */
int core_make(struct records *r, const struct vault_lives *lives, struct core **out, struct err *err) MUSTER_MUST_CHECK;
int core_load(struct records *r, struct core **out, struct err *err) MUSTER_MUST_CHECK;
void core_free(struct core *c);

DEFINE_CLEANUP(core_free, struct core *)

#endif
