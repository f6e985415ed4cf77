/* audit_check: `audit verify` under way: of one log (audit_check.c), and of the server's with every account, one after the other
 * (audit_everything.c). */
#ifndef MUSTER_ADMIN_AUDIT_CHECK_H
#define MUSTER_ADMIN_AUDIT_CHECK_H

#include "admin/audit_chain.h"
#include "registry/audit_state.h"

struct progress {
    int64_t entries, entries_all, devices, devices_all, certificates, certificates_all;
};

struct checking {
    struct http_exchange *x; /* held; NULL: of a part */
    struct control *c;
    struct checking *next;   /* of c->checks */
    struct checking *whole;  /* the check of everything that it is a part of; NULL: it was asked for by itself */
    bool all;                /* of the server's: the accounts too */
    json_t *own, *reports;
    struct audit_accounts accounts;
    size_t account_at;       /* of them */
    int64_t accounts_done;
    struct progress progress; /* as of the last step: what an operation under way writes is not looked at */
    bool server;
    struct audit_chain chain;
    bool has_cas, again;     /* what the vault said of the account; it is asked for the second time */
    bool outside;            /* a head was given that was kept elsewhere */
    struct audit_signed head;
    EVP_PKEY *key;
    struct audit_points points;
    struct audit_head at[AUDIT_POINTS_MAX], fixed[AUDIT_POINTS_MAX + 2];
    int64_t n_points;               /* that it was held against */
    struct audit_anchored anchored; /* of the server's chain */
    struct audit_verify op;         /* of the server's */
    struct audit_state state;       /* of an account's */
};

/* One that has c and chain; it is in c->checks from here on until it is freed. */
void audit_check_begin(struct checking *k);
void audit_check_free(struct checking *k);
/* Answers with the error and frees it.  A part that fails ends the whole. */
void audit_check_fail(struct checking *k, const struct err *err);

/* The server's own log was verified, as `own` says: now the accounts.  Takes own. */
void audit_all_begin(struct checking *whole, json_t *own);
/* An account was, as `said` says: the next one.  Takes said. */
void audit_all_verified(struct checking *whole, json_t *said);

#endif
