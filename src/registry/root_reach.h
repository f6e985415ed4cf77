/* root_reach: which of an account's devices come under a fleet root.  A device's row names one root; but a chain can reach several, a root and an intermediate
 * that was brought as one, and so whoever counts devices under a root asks about what they show above their certificates as well (device_chain.h). */
#ifndef MUSTER_REGISTRY_ROOT_REACH_H
#define MUSTER_REGISTRY_ROOT_REACH_H

#include "registry/row.h"

struct root_reach {
    int64_t anchor;
    struct buf with, without; /* rows of the table chain, a JSON array: whose devices come under it whatever root they have; whose do not though it is theirs */
};
/* What is cut off with the root: by its retirement, which another good root makes up for, or by anything that shuts it.  On failure too the caller calls
 * root_reach_fini(). */
int root_reach_find(struct store_tx *tx, const struct root *r, bool retired, struct root_reach *out, struct err *err) MUSTER_MUST_CHECK;
void root_reach_fini(struct root_reach *r);
DEFINE_CLEANUP_FINI(root_reach_fini, struct root_reach)

/* Devices in all, those of them that are held apart (quarantined, or waiting), and those that were seen since that hour. */
int root_reach_count(struct store_tx *tx, const struct root_reach *r, int64_t *n, int64_t *held, struct err *err) MUSTER_MUST_CHECK;
int root_reach_seen(struct store_tx *tx, const struct root_reach *r, int64_t hour, int64_t *n, struct err *err) MUSTER_MUST_CHECK;
/* Those of them that were seen last, so many at most, as dependents_take() has them. */
int root_reach_seen_names(struct store_tx *tx, const struct root_reach *r, int64_t hour, int64_t most, json_t *list, struct err *err) MUSTER_MUST_CHECK;

/* With a certificate that is good still: seen since that hour and let in; or not seen since, or held apart. */
struct root_asleep {
    int64_t hour, plain, renews; /* the ends behind which a certificate is of no use: of one that does not renew, and of one that does */
    int64_t issuing;             /* the newest issuing CA under the root; 0: there is none */
};
int root_reach_in_use(struct store_tx *tx, const struct root_reach *r, const struct root_asleep *a, int64_t *n, struct err *err) MUSTER_MUST_CHECK;
int root_reach_in_use_names(struct store_tx *tx, const struct root_reach *r, const struct root_asleep *a, int64_t most, json_t *list, struct err *err) MUSTER_MUST_CHECK;
int root_reach_asleep(struct store_tx *tx, const struct root_reach *r, const struct root_asleep *a, int64_t *n, int64_t *held, struct err *err) MUSTER_MUST_CHECK;
int root_reach_asleep_names(struct store_tx *tx, const struct root_reach *r, const struct root_asleep *a, int64_t most, json_t *list, struct err *err) MUSTER_MUST_CHECK;

#endif
