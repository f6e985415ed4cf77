/* snapshot: what the judgement of a certificate chain needs of the registry, immutable, replaced whole when the epoch changes.  Shared
 * between threads by counted references. */
#ifndef MUSTER_REGISTRY_SNAPSHOT_H
#define MUSTER_REGISTRY_SNAPSHOT_H

#include "pki/chain.h"
#include "registry/admit.h"

struct snapshot;

/* *out in (NULL or an older one, which is let go) and out. */
struct snapshot_load {
    struct snapshot *out;
};
int snapshot_run(struct store_tx *tx, void *arg /* struct snapshot_load */, struct err *err);
void snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot *s); /* NULL accepted */
int64_t snapshot_epoch(const struct snapshot *s);
/* Fleet roots of every account that were proved, in whatever state they are now; those that were only uploaded, which anybody can do with
 * anything and which therefore count for nothing but the reason of a refusal; and provisioning CAs. */
const struct anchor_set *snapshot_fleet(const struct snapshot *s);
const struct anchor_set *snapshot_unproved(const struct snapshot *s);
const struct anchor_set *snapshot_provisioning(const struct snapshot *s);
/* Of an anchor of fleet or unproved: whether Muster made it. */
bool snapshot_is_own(const struct anchor *a);
/* Whether a fleet root that was proved has that key, or an issuing CA under one of Muster's own. */
bool snapshot_is_fleet_key(const struct snapshot *s, const struct hash *spki);
/* Whether the server is in recovery (recovery.h): nothing is issued.  It begins while nothing runs. */
bool snapshot_in_recovery(const struct snapshot *s);
bool snapshot_has_account(const struct snapshot *s, struct span name);
/* enum profile_key: the kinds of keys that its devices may have; 0: there is no such account. */
uint32_t snapshot_account_keys(const struct snapshot *s, struct span name);

/* The registry's epoch, read in a transaction of its own. */
struct epoch_read {
    int64_t epoch; /* out */
};
int epoch_read_run(struct store_tx *tx, void *arg, struct err *err);

DEFINE_CLEANUP(snapshot_unref, struct snapshot *)

#endif
