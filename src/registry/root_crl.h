/* root_crl: revocation lists of customers' fleet CAs, imported by operators, and honoured at the gateway.
 *
 * A list is that of an uploaded fleet root, or of a CA below it whose certificate comes with it, each by its own signature.  A device whose
 * certificate stands on one, or a CA above it that it shows, is not let in (MUSTER_ECERTLISTED): from the moment of the import on, on open
 * connections too.  The next list of the same CA takes its place, if it is newer: so an entry goes by a newer list alone.  One whose next update is over
 * keeps its entries, and is said to be (admin/attention.c): who stands on it stays out.
 *
 * Before an import the list is read and judged, on a reading thread: of 180,000 entries that takes a third of a second.  The import is then several
 * transactions, so that nobody waits for a long one: the entries come first, so many at a time, under a list that does not count yet; the last
 * transaction makes it count, and the one before not any more, whose entries are then removed. */
#ifndef MUSTER_REGISTRY_ROOT_CRL_H
#define MUSTER_REGISTRY_ROOT_CRL_H

#include "pki/revocation_file.h"
#include "registry/audit_seal.h"
#include "registry/registry.h"
#include "registry/row.h"

#define ROOT_CRLS_MAX 64       /* of an account, those under way included */
#define ROOT_CRL_SIGNERS_MAX 7 /* certificates that may come with one: its CA's, and what stands between that and the root */

/* First the look, in a reading transaction; where it does not say that the very list is there already (`same`), root_crl_import_run() in steps, each a transaction: again
 * while more is true, with what `done` was as `before`.  MUSTER_ENOTFOUND; _ESTATE: the root is not an uploaded one that was
 * proved; _EINVALID: not one list, or one that cannot be taken; _ECRLSIGNATURE: its signature is not that CA's, or that CA not one under the root, or it may
 * sign no lists; _ECERTWEAKHASH; _ECRLOLDER: one that is newer is there; _EBUSY: another import of that CA's was faster, or there are too many. */
struct root_crl_import {
    struct actor actor;
    struct span account, root;
    struct span text;                               /* the file as it came; the look reads it */
    struct revocation_file *file;                   /* that made it, also where it fails; the caller's to free */
    struct revocation_file_facts facts;             /* by the look, and whose root it was judged by */
    struct hash looked;
    bool looked_at, same;                           /* same: that very list counts already, and out is it */
    struct cert *const *signers;                    /* likewise: its CA first; n_signers 0: it is the root's own */
    size_t n_signers;
    bool begun;                                     /* every step but the first */
    struct root_crl_done {
        int64_t list;                               /* its row; 0: none yet */
        size_t entry;                               /* that comes next */
        int64_t added;
        struct audit_sum sum;
    } before, done;
    bool more;
    int64_t account_row;                            /* out; 0: it was not found */
    json_t *out;                                    /* new reference, at the end */
};
int root_crl_look_run(struct store_tx *tx, void *arg /* struct root_crl_import */, struct err *err);
int root_crl_import_run(struct store_tx *tx, void *arg /* struct root_crl_import */, struct err *err);

/* Removes entries of the account's lists that count no more, some at a time: again while more. */
struct root_crl_sweep {
    int64_t account; /* row */
    bool more;
};
int root_crl_sweep_run(struct store_tx *tx, void *arg /* struct root_crl_sweep */, struct err *err);

struct root_crl_list {
    struct span account;
    struct page page;
};
int root_crl_list_run(struct store_tx *tx, void *arg /* struct root_crl_list */, struct err *err);

/* One entry's part of the account's sum, which the log has. */
void root_crl_sum(struct audit_sum *sum, int64_t account, struct span issuer, struct span serial, int64_t reason);

/* Whether one of these certificates, or the root's own, stands on a list of the account that the CA signed which signed the certificate itself.  *which: the place in certs, n: the
 * root's; -1: none does. */
int root_crl_find(struct store_tx *tx, const struct root *r, const struct cert *const *certs, size_t n, int *which, int64_t *reason, struct err *err) MUSTER_MUST_CHECK;

#endif
