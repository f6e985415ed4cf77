/* token: operators' bearer tokens, in DIR/control.db.  256 random bits, of which SHA-256 alone is kept: a copy of the database opens
 * nothing. */
#ifndef MUSTER_REGISTRY_TOKEN_H
#define MUSTER_REGISTRY_TOKEN_H

#include "registry/registry.h"
#include "registry/row.h"

#define TOKEN_PREFIX "mst_"
#define TOKEN_TEXT_LEN 47 /* prefix and 43 characters of base64url */

/* A new token's text and its hash. */
void token_make(char text[TOKEN_TEXT_LEN + 1], struct hash *hash);
/* MUSTER_ETOKENBAD where it does not have the form of a token. */
int token_hash(struct span text, struct hash *out, struct err *err) MUSTER_MUST_CHECK;

struct token_check {
    struct hash hash;
    struct token out;
};
int token_check_run(struct store_tx *control, void *arg, struct err *err); /* MUSTER_ETOKENBAD */

/* After a restore: tokens of the backup, of which nobody knows which were revoked since, open nothing until the recovery's end, and then only if its
 * owner says so.  Those of the server's owners are revoked by token_create_run() with `reset`. */
int token_bar_all(struct store_tx *control, struct err *err) MUSTER_MUST_CHECK;
int token_bar_end(struct store_tx *control, bool keep, int64_t *revoked, struct err *err) MUSTER_MUST_CHECK;

struct token_create {
    struct actor actor;
    char name[NAME_MAX_BYTES + 1];
    enum role role;
    char account[ACCOUNT_NAME_MAX + 1]; /* "" the whole server */
    int64_t expires;                    /* 0: never */
    struct hash hash;
    bool reset;                         /* revoke every owner of the server first */
    json_t *out;                        /* without the token's text */
};
int token_create_run(struct store_tx *control, void *arg, struct err *err);

struct token_list {
    struct page page;
    const char *account; /* "" all */
};
int token_list_run(struct store_tx *control, void *arg, struct err *err);

struct token_revoke {
    struct actor actor;
    struct uuid id;
    const char *account; /* scope of who asks; "" the whole server */
    json_t *out;
};
int token_revoke_run(struct store_tx *control, void *arg, struct err *err); /* MUSTER_ENOTFOUND */
/* Those of an account that is deleted, and its webhooks. */
struct token_revoke_account {
    struct actor actor;
    const char *account;
};
int token_revoke_account_run(struct store_tx *control, void *arg, struct err *err);

struct token_used {
    int64_t row;
};
int token_used_run(struct store_tx *control, void *arg, struct err *err);

json_t *token_json(const struct token *t);

#endif
