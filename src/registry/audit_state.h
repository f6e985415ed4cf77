/* audit_state: whether an account's rows are what its log says, and its log what control and the vault wrote.
 *
 * What a captured gateway can write is registry.db, whole: rows and log, with hash chains that fit.  What it cannot make is control's seals
 * (audit_seal.h), the vault's signatures over heads, and certificates.  So
 *
 *   log      the chain from its beginning, the signed heads met, each of an operator's entries sealed, and no entry against the rules (audit_replay.h);
 *   account  settings, roots with their states and rules, CAs, provisioning keys with bounds and budgets, factory lines with what they told by
 *            manifests, and announced devices are what the log says; what the vault made is what the vault says;
 *   devices  each row has its entries and the state, the identity and the leave that follow from them, and each device of the log has its row;
 *   invited  each invitation has its entry, is the one that control wrote, and is spent where an enrolment spent it; each of the log is there;
 *   certs    each row has the bytes that it says, signed by the account's issuing CA, an entry that issued it and a state that follows;
 *            and each certificate that an entry issued is there.
 *
 * What this cannot tell: a captured gateway that enrols and admits devices by the rules, with certificates that it had the vault issue (bounded by
 * the ceiling), looks like one that did so because devices came.  What devices say of themselves, when they were seen, refusals and events are
 * nobody's to check.  Of an account that was deleted only the log is, and that it was: nobody gets in there.
 *
 * Runs in steps, each in a read transaction of its own: first the log is followed to its end as the transaction sees it, so that rows and log
 * are of one moment, then some rows are held against it.  Time is linear in the log and the rows (a signature check for each certificate);
 * memory is bounded: beyond 780,000 devices everything is done in several parts. */
#ifndef MUSTER_REGISTRY_AUDIT_STATE_H
#define MUSTER_REGISTRY_AUDIT_STATE_H

#include "registry/audit.h"

/* What the vault says of the account: DER; empty where it has no CAs. */
struct audit_state_cas {
    struct span fleet_root, issuing_ca, provisioning_ca;
    struct span former; /* DER behind DER: fleet roots that were rotated out */
    struct span former_provisioning; /* likewise provisioning CAs that were replaced */
    bool unknown; /* it knows no such account: so it must be a deleted one */
};

struct audit_state {
    struct audit_verify verify;     /* chain and points are the caller's to set; the verdict is in it: first_bad 0 where a row is at fault */
    int64_t devices, certificates;  /* rows that were checked */
    int64_t entries_all, devices_all, certs_seen, certs_all; /* how much there is, for progress; certificates: rows of all accounts */
    bool more;                      /* start with true; call again */
    bool wants_points;              /* the heads behind verify.until are wanted; until 0: all of them, the fixed ones too */
    uint32_t places;                /* of the table of devices: a power of two; 0: AUDIT_DEVICES_MAX */
    struct audit_state_work *work;
};
/* name: of the account.  The certificates are copied. */
int audit_state_init(struct audit_state *s, int64_t chain, const char *name, const struct audit_state_cas *cas, struct err *err) MUSTER_MUST_CHECK;
/* Entries up to there are older than seals; before the first step.  An uninitialised one is let be. */
void audit_state_sealed_from(struct audit_state *s, int64_t unsealed);
void audit_state_fini(struct audit_state *s);
int audit_state_run(struct store_tx *tx, void *arg /* struct audit_state */, struct err *err);

#endif
