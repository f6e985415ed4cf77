/* root_path: which fleet roots the signatures between a device's certificate and the CAs that it shows lead to, and which still when others are out of use.
 *
 * A root that is retired takes along what stands under its key, and nothing beside: who comes under another root of the account that is good still, an
 * intermediate that was brought as a root of its own or one that followed, goes on under that one.  Both who is let in (admit.c) and who would be cut off
 * (root_reach.h) is asked here, so that the two agree.  Rules of RFC 5280 are not judged here: that the path holds the caller knows. */
#ifndef MUSTER_REGISTRY_ROOT_PATH_H
#define MUSTER_REGISTRY_ROOT_PATH_H

#include "pki/chain.h"

struct root_path { /* all the caller's */
    const struct cert *leaf;
    const struct cert *const *cas;
    size_t n; /* CHAIN_MAX_CERTS at most; of more the first */
};
/* Whether the root is the signer of one of them, or has the key of one, without going over a CA that has one of the keys `past`. */
bool root_path_reaches(const struct root_path *p, const struct cert *root, const struct hash *past, size_t n_past);

#endif
