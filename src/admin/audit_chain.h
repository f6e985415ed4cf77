/* audit_chain: which log a request is about; shared by audit.c, which shows logs, and audit_check.c, which verifies them. */
#ifndef MUSTER_ADMIN_AUDIT_CHAIN_H
#define MUSTER_ADMIN_AUDIT_CHAIN_H

#include "admin/internal.h"
#include "registry/audit.h"

/* The chain of the account of the grant (its number has to be looked up), or the server's. */
struct audit_chain {
    int64_t number;
    char name[ACCOUNT_NAME_MAX + 1];
};

struct audit_chain audit_chain_of(struct http_exchange *x, bool server);
int audit_chain_find(struct store_tx *tx, struct audit_chain *c, struct err *err) MUSTER_MUST_CHECK;
int audit_chain_run(struct store_tx *tx, void *arg /* struct audit_chain */, struct err *err);

#endif
