/* own_key: the key of a device that made it itself and asks for a certificate (EST): whose it is, and whether it may have one.  For enrol.h,
 * renew.h and csr_queue.h, within their transactions. */
#ifndef MUSTER_REGISTRY_OWN_KEY_H
#define MUSTER_REGISTRY_OWN_KEY_H

#include "registry/row.h"

enum own_key { OWN_KEY_FREE, OWN_KEY_OWN, OWN_KEY_BARRED, OWN_KEY_ELSEWHERE, OWN_KEY_WAITS /* for another device of the account: in csr_queue.h, or offered by a certificate */, OWN_KEY_PROVISIONING };

/* d: the device that asks; NULL: one that is not known. */
int own_key_load(struct store_tx *tx, int64_t account, const struct device *d, const struct hash *spki, enum own_key *out, struct err *err) MUSTER_MUST_CHECK;
/* 0, or the code of *why (MUSTER_EKEYELSEWHERE, MUSTER_EKEYBARRED): it is somebody else's, or over.  Names no other device: whoever asks may be anybody.  Pure. */
int own_key_whose(enum own_key whose, const struct hash *spki, struct err *why) MUSTER_MUST_CHECK;
/* 0, or the code of *why: the account, or the provisioning key (NULL: none) within it, takes no such keys (MUSTER_ECSR; says which of the two), or as above.  Pure. */
int own_key_judge(const struct account *a, const struct prov_key *key, const struct key_facts *k, enum own_key whose, struct err *why) MUSTER_MUST_CHECK;

#endif
