/* vault/core: the vault's own record: lives, the server CAs, and the key that signs audit heads.  Called by init.c, serve*.c and time.c. */
#ifndef MUSTER_VAULT_CORE_H
#define MUSTER_VAULT_CORE_H

#include "vault/authority.h"
#include "vault/process.h"
#include "vault/records.h"

struct core {
    struct vault_lives lives;
    struct secret data_key;
    struct key_store *keys;
    struct authority *server_ca;
    struct former_root former[VAULT_SERVER_FORMER_MAX]; /* server CAs that were rotated out and not retired, the oldest first */
    size_t n_former;
    struct buf audit_ref;
    EVP_PKEY *audit_key; /* Ed25519 */
};

/* Makes server CA and audit key and stores them as the vault's first record.  lives NULL, or a field 0: the default.  MUSTER_EINVALID. */
int core_make(struct records *r, const struct vault_lives *lives, struct core **out, struct err *err) MUSTER_MUST_CHECK;
int core_load(struct records *r, struct core **out, struct err *err) MUSTER_MUST_CHECK;
void core_free(struct core *c);

/* A new server CA, whose key is made in that backend; the one so far is kept.  In memory alone: core_store() makes it last, and on a failure of either *c is to be freed.
 * MUSTER_EINVALID: too many are kept. */
int core_rotate(struct core *c, enum key_backend backend, int64_t now, struct err *err) MUSTER_MUST_CHECK;
/* The oldest one that is kept is gone, with its key, where it is that one; *gone: it was.  MUSTER_EINVALID: it is another one.  MUSTER_ESTATE: the one that follows begins later. */
int core_retire(struct core *c, const struct hash *spki, int64_t now, bool *gone, struct err *err) MUSTER_MUST_CHECK;
int core_store(struct records *r, const struct core *c, struct err *err) MUSTER_MUST_CHECK;
/* Under which the time is signed: the oldest that has not ended.  Every device knows that one, whatever it was given besides. */
struct authority *core_time_ca(const struct core *c, int64_t now);
/* Under which the gateway's certificates are: server_cas_signing() of pki/server_cas.h. */
struct authority *core_gateway_ca(const struct core *c, int64_t now);
/* The server CAs in PEM, the current one first and the oldest last. */
int core_server_cas(const struct core *c, struct buf *pem, struct err *err) MUSTER_MUST_CHECK;
enum key_backend core_backend(const struct core *c); /* where the current one's key is */

/* Adds the private keys that the record holds, if it is the core's, and names those in a token; keys has VAULT_KEYS_N numbers, and is NULL or not. */
#define CORE_TOKEN_KEYS_MAX (1 + VAULT_SERVER_FORMER_MAX)
int core_keys(struct records *r, const char *record, uint32_t *keys, uint8_t ids[CORE_TOKEN_KEYS_MAX][TOKEN_ID_LEN], size_t *n, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(core_free, struct core *)

#endif
