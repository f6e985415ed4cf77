/* recovery_held: certificates that a restored server does not know, because they were issued after its backup was made.
 *
 * Such a certificate verifies under a CA of Muster's own, was issued between the backup and the restore by its dates or on a day to come, by a clock that ran ahead, and names a device.  While
 * the server is in recovery it is held, once its holder has shown it, and refused (MUSTER_EHELD); any other certificate that the registry does not
 * hold is refused as ever.  An operator admits all that are held as a set: in the order in which they were issued, those of a day to come first, each becomes the identity of its
 * device, as a first use would make it.  A device that the registry does not know may be of a factory line, by which it came and renewed: it is charged
 * to each of the account's that may have made it.  Left out are those of devices that are cut off, whose key is somebody else's or over, that are
 * older than what their device uses, and those of which control cannot see that the vault's CAs signed them: who wrote the row is not asked. */
#ifndef MUSTER_REGISTRY_RECOVERY_HELD_H
#define MUSTER_REGISTRY_RECOVERY_HELD_H

#include "registry/admit.h"
#include "registry/recovery.h"

#define HELD_COUNT_MAX 1000000 /* counted no further */

/* For admit.c: a certificate under a fleet root that Muster made, of which the registry has no row.  Sets the verdict. */
int recovery_hold(struct store_tx *tx, struct admit *a, struct err *err) MUSTER_MUST_CHECK;

/* How many wait, and how many were left out. */
int recovery_held_count(struct store_tx *tx, int64_t *waiting, int64_t *left_out, struct err *err) MUSTER_MUST_CHECK;

struct recovery_held_list {
    struct page page;
};
int recovery_held_list_run(struct store_tx *tx, void *arg /* struct recovery_held_list */, struct err *err);

/* In steps, each a transaction: again while more is true.  The first one asks for the number of those that wait. */
struct recovery_admit {
    struct actor actor;
    int64_t confirm;            /* MUSTER_ECONFIRM with `count` unless it is that */
    bool begun;                 /* every step but the first */
    struct recovery_admitted {
        int64_t admitted, left_out;
    } before, done;             /* by the steps before; out: and by this one */
    int64_t count;              /* out */
    bool more;
    json_t *out;                /* new reference, at the end */
};
int recovery_admit_run(struct store_tx *tx, void *arg /* struct recovery_admit */, struct err *err);

/* Rows of a recovery that is over; again while more is true. */
struct recovery_sweep {
    bool more;
};
int recovery_held_sweep_run(struct store_tx *tx, void *arg /* struct recovery_sweep */, struct err *err);

#endif
