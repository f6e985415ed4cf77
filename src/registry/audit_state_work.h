/* audit_state_work: what audit_state.c and audit_rows.c share. */
#ifndef MUSTER_REGISTRY_AUDIT_STATE_WORK_H
#define MUSTER_REGISTRY_AUDIT_STATE_WORK_H

#include "registry/audit_replay.h"
#include "registry/audit_state.h"

#define AUDIT_PARTS_MAX 1024
#define AUDIT_ROOTS_MAX 17   /* VAULT_FORMER_MAX, and the one */
#define AUDIT_ISSUING_MAX 64 /* issuing CAs that an account has had */

struct audit_state_work {
    char name[ACCOUNT_NAME_MAX + 1];
    struct audit_replay replay;
    struct cert *roots[AUDIT_ROOTS_MAX]; /* the vault's: the one that it issues under first, then former ones */
    size_t n_roots;
    struct cert *provisioning[AUDIT_ROOTS_MAX]; /* the vault's, the current one first */
    size_t n_provisioning;
    struct cert *issuing[AUDIT_ISSUING_MAX]; /* issuing[0]: the vault's; the others by a root's signature */
    size_t n_issuing;
    uint64_t part, parts;
    int64_t last_device, last_cert, last_invitation;
    bool account_checked, devices_left, invitations_left, unknown, deleted; /* unknown: to the vault */
};

void audit_state_bad(struct audit_state *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The next devices; work->devices_left where there are more. */
int audit_rows_devices(struct store_tx *tx, struct audit_state *s, int64_t limit, struct err *err) MUSTER_MUST_CHECK;
/* Likewise the next invitations; work->invitations_left. */
int audit_rows_invitations(struct store_tx *tx, struct audit_state *s, int64_t limit, struct err *err) MUSTER_MUST_CHECK;
/* Certificates up to that row. */
int audit_rows_certs(struct store_tx *tx, struct audit_state *s, int64_t until, struct err *err) MUSTER_MUST_CHECK;
/* What that factory line, of that row, told by manifests. */
int audit_rows_told(struct store_tx *tx, struct audit_state *s, int64_t row, struct audit_line *l, struct err *err) MUSTER_MUST_CHECK;
/* Every row was seen: what the log has and the rows do not. */
int audit_rows_complete(struct store_tx *tx, struct audit_state *s, struct err *err) MUSTER_MUST_CHECK;

#endif
