/* issue_part: what issue.c and batch.c share: the rules by which a fleet CA signs for a device. */
#ifndef MUSTER_CA_ISSUE_PART_H
#define MUSTER_CA_ISSUE_PART_H

#include "ca/ca.h"
#include "pki/chain.h"

/* One key for two devices would make them one, and one that was revoked as compromised makes none any more.  MUSTER_EKEYISSUED. */
int issue_check_key(const struct ca *ca, struct span device_id, const struct hash *key, struct err *err) MUSTER_MUST_CHECK;
/* Begin and end, not longer than what signs it.  MUSTER_ECAEXPIRED. */
int issue_set_life(const struct ca *ca, const struct cert *issuer, int64_t life, struct make_request *rq, bool *clamped, struct err *err) MUSTER_MUST_CHECK;
/* The root, as a gateway has it; to be unreferenced. */
int issue_anchors(const struct ca *ca, struct anchor_set **out, struct err *err) MUSTER_MUST_CHECK;
/* The judgement that the gateway will make, with the gateway's function.  From any thread. */
int issue_judge(const struct ca *ca, const struct anchor_set *anchors, const struct cert *leaf, struct span device_id, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(anchor_set_unref, struct anchor_set *)

#endif
