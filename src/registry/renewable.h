/* renewable: until when a device may renew, however late: behind that an operator has to let it in again.  What is said here rests on dates that the registry
 * holds; the gateway judges the chain itself (admit.h). */
#ifndef MUSTER_REGISTRY_RENEWABLE_H
#define MUSTER_REGISTRY_RENEWABLE_H

#include "registry/row.h"

/* By the newest certificate that it has, or that waits for it; of a customer's CA by what stands above it as well.  0: it cannot renew, or needs not, as its
 * certificate has no end. */
int renewable_until(struct store_tx *tx, const struct account *a, const struct device *d, int64_t *until, struct err *err) MUSTER_MUST_CHECK;

/* The devices of an account that are refused, as their certificates have ended, and that renew late if they come. */
#define RENEWABLE_COUNT_MAX 100000 /* ended ones that are looked at */
struct renewable {
    int64_t n, first; /* first: until when the first of them may; 0: there are none */
};
int renewable_late(struct store_tx *tx, const struct account *a, int64_t now, struct renewable *out, struct err *err) MUSTER_MUST_CHECK;

#endif
