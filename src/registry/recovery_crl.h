/* recovery_crl: what was revoked since the backup, by the last revocation lists of Muster's own CAs.
 *
 * A list has to be signed by an issuing CA of the account, so who hands it over adds nothing of his own.  Its entries only ever take away: a
 * certificate that the registry holds is revoked, for the entry's reason; one that is on hold has its device quarantined; and one that the registry
 * does not know is written down, so that it is neither held nor admitted when it is shown.  The list of an earlier time does no harm.
 *
 * The last lists of an account whose issuing CA was replaced since the backup have those of the new CAs among them, of which the restored server knows
 * nothing: nobody comes in under these any more, and their lists are passed over. */
#ifndef MUSTER_REGISTRY_RECOVERY_CRL_H
#define MUSTER_REGISTRY_RECOVERY_CRL_H

#include "pki/revocation_file.h"
#include "registry/recovery.h"

/* In steps, each a transaction: again while more is true.  MUSTER_ESTATE: the server is in no recovery; MUSTER_EINVALID: no list is of an issuing CA of the
 * account, one names a CA of the account, or none, and is of no such, or an entry cannot be read: then nothing was done (the first step looks at all of them).  Lists of
 * fleet roots, on which no device's certificate stands, are passed over, and so are those that name a CA that the account does not have. */
struct recovery_crl {
    struct actor actor;
    struct span account;
    const struct revocation_file *file; /* the caller's */
    bool begun;                  /* every step but the first */
    struct recovery_crl_done {
        size_t list, entry;      /* that comes next */
        uint64_t taken;          /* bit i: list i is an issuing CA's */
        int64_t entries, revoked, quarantined, known, noted; /* known: was so already; noted: the registry does not have it */
        int64_t unknown;         /* lists of CAs that the account does not have */
    } before, done;              /* by the steps before; out: and by this one */
    bool more;
    json_t *out;                 /* new reference, at the end */
};
int recovery_crl_run(struct store_tx *tx, void *arg /* struct recovery_crl */, struct err *err);

/* The code under which a certificate that the registry does not know stands on such a list; 0: on none. */
int recovery_listed(struct store_tx *tx, int64_t account, struct span serial, int *code, struct err *err) MUSTER_MUST_CHECK;

#endif
