/* vault/account: an account's sealed record, its CAs, and the bounded cache of those in use.  Called by serve*.c, issue.c, export.c. */
#ifndef MUSTER_VAULT_ACCOUNT_H
#define MUSTER_VAULT_ACCOUNT_H

#include "vault/authority.h"
#include "vault/core.h"
#include "vault/records.h"
#include "vault/vault.h"

#define ACCOUNT_SUPERSEDED_MAX 64 /* issuing CAs that were replaced and are kept; beyond, the oldest goes */

struct account {
    char name[VAULT_ACCOUNT_MAX + 1];
    enum vault_kind kind;
    enum vault_method method;
    struct vault_policy policy;
    enum key_backend backend; /* of CA keys that are made from now on */
    struct secret data_key;
    struct key_store *keys;
    struct authority *fleet_root, *issuing_ca, *provisioning_ca; /* all, or none: the account never was shared */
    struct authority *superseded[ACCOUNT_SUPERSEDED_MAX];        /* oldest first */
    size_t n_superseded;
    struct former_root former[VAULT_FORMER_MAX];                 /* oldest first */
    size_t n_former;
    struct cert *former_provisioning[VAULT_FORMER_MAX];          /* oldest first: the keys that they certified are good, and theirs are gone */
    size_t n_former_provisioning;
};

struct accounts;
int accounts_new(struct records *r, struct accounts **out, struct err *err) MUSTER_MUST_CHECK;
void accounts_free(struct accounts *as);

/* *out stays the cache's and is good until the next call here.  MUSTER_EINVALID (name), _ENOTFOUND, _ECORRUPT, _EVERSION. */
int account_get(struct accounts *as, struct span name, struct account **out, struct err *err) MUSTER_MUST_CHECK;
/* A new account in memory, with the default policy and no CAs; account_put or account_free ends it. */
int account_new(struct span name, struct account **out, struct err *err) MUSTER_MUST_CHECK;
void account_free(struct account *a);
/* Fleet root, issuing CA and provisioning CA. */
int account_make_cas(struct account *a, const struct vault_lives *lives, int64_t now, struct err *err) MUSTER_MUST_CHECK;
/* A new issuing CA, which ends at `end`; the old one is kept among the superseded. */
int account_renew_issuing(struct account *a, int64_t now, int64_t end, struct err *err) MUSTER_MUST_CHECK;
/* A new fleet root and an issuing CA under it; those so far are kept.  A provisioning CA whose key is in another backend than the account's is replaced as well.  On
 * failure *a is as it was.  MUSTER_EINVALID: too many are. */
int account_rotate_root(struct account *a, const struct vault_lives *lives, int64_t now, struct err *err) MUSTER_MUST_CHECK;
/* In which backend the next CA keys are made. */
void account_make_in(struct account *a, enum key_backend backend);
/* The CA whose CRLs the account signs: its fleet root or an issuing CA, replaced ones included; NULL: it has no such one. */
struct authority *account_ca(const struct account *a, const uint8_t key_id[CRL_KEY_ID_LEN]);
/* Stores a, which is new or came from account_get; takes it over into the cache.  On failure a is gone, from the cache too: the next
 * account_get reads what is on the disk. */
int account_put(struct accounts *as, struct account *a, struct err *err) MUSTER_MUST_CHECK;
/* Adds the private keys that a record of the vault holds, if it is an account's; keys has VAULT_KEYS_N numbers.  No certificate is read, and no
 * place in the cache is taken. */
int account_count_keys(struct records *r, const char *record, uint32_t *keys, struct err *err) MUSTER_MUST_CHECK;
/* The ids of the keys that such a record has in a token. */
#define ACCOUNT_TOKEN_KEYS_MAX (3 + ACCOUNT_SUPERSEDED_MAX + VAULT_FORMER_MAX)
int account_token_keys(struct records *r, const char *record, uint8_t ids[ACCOUNT_TOKEN_KEYS_MAX][TOKEN_ID_LEN], size_t *n, struct err *err) MUSTER_MUST_CHECK;
/* *existed false: there was none. */
int account_drop(struct accounts *as, struct span name, bool *existed, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(accounts_free, struct accounts *)
DEFINE_CLEANUP(account_free, struct account *)

#endif
