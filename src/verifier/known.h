/* known: verdicts that devices got lately, by what they presented: judging the same chain again at each connection of a device costs as much
 * as the rest of its handshake.
 *
 * A verdict is found again only while everything that it rests on is as it was: the registry's epoch and its word of trust are the ones under
 * which it was found, no certificate of the chain has ended, and the clock has not gone back behind the judgement.  Possession of the key is
 * not part of it: TLS proves that each time.  Kept are verdicts of devices that are in the registry, those that an operator has shut out among
 * them, so that nobody pushes devices out with certificates that are good for nothing.  Bounded; the one not found for longest goes.  From any
 * thread. */
#ifndef MUSTER_VERIFIER_KNOWN_H
#define MUSTER_VERIFIER_KNOWN_H

#include "registry/admit.h"

struct known_verdict {
    int64_t epoch;
    uint64_t trust;
    int64_t since, until;     /* the chain is good from one to the other: when it was judged, and its earliest end */
    struct cert leaf;         /* its facts; x is NULL */
    enum admit_class class;
    struct hash anchors[CHAIN_FOUND_MAX];
    struct hash provisioning_ca; /* of ADMIT_KEY */
    size_t n_anchors;
    struct err above;         /* verifier.h */
    bool admitted;            /* what follows is the registry's; ADMIT_KEY has none */
    int refused;              /* the code of a device that an operator has shut out; 0: it is in */
    int shadow;               /* the code by which what is tried would refuse it (registry/admit.h) */
    char account_name[ACCOUNT_NAME_MAX + 1];
    int64_t account_row, device_row, last_seen;
    struct uuid device;
    char device_id[DEVICE_ID_MAX + 1];
};

struct known;
struct known *known_new(size_t most);
void known_free(struct known *k); /* NULL accepted */
/* False: none that still counts.  One that does not is dropped. */
bool known_get(struct known *k, const struct hash *key, int64_t epoch, uint64_t trust, int64_t now, struct known_verdict *out);
/* Nothing happens where memory is short. */
void known_put(struct known *k, const struct hash *key, const struct known_verdict *v);
void known_seen(struct known *k, const struct hash *key, int64_t at); /* sets last_seen */
size_t known_count(struct known *k);

#endif
