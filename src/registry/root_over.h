/* root_over: whether certificates of one of Muster's own CAs are over before their time: what they led to is retired or revoked.  One that was given and
 * never used is not given again then, and the device gets another. */
#ifndef MUSTER_REGISTRY_ROOT_OVER_H
#define MUSTER_REGISTRY_ROOT_OVER_H

#include "registry/row.h"

/* issuer: row of the CA; 0: it is not known, and nothing is over.  Nor is anything where the root that the account issues under now is out itself: another
 * certificate would be worth as little. */
int root_over(struct store_tx *tx, const struct account *a, int64_t issuer, bool *over, struct err *err) MUSTER_MUST_CHECK;

#endif
