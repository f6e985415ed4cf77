/* root_way: whether certificates of one of Muster's own CAs are good for anything, by the fleet root that they lead to.  Where that is retired or revoked they are
 * over before their time: one that was given and never used is not given again, and the device gets another.  Where it is disabled they are refused until an operator
 * has enabled it, and nothing is given under it meanwhile: a device that had installed such a certificate would be out, and would not know that it is to ask again.  One that was
 * never used is over as well where another root issues by now, or its device would wait for that one. */
#ifndef MUSTER_REGISTRY_ROOT_WAY_H
#define MUSTER_REGISTRY_ROOT_WAY_H

#include "registry/row.h"

enum root_way { ROOT_WAY_IN, ROOT_WAY_SHUT, ROOT_WAY_OVER };

/* Where certificates of a CA of the account's lead.  issuer: its row; 0: it is not known, and nothing is over. */
int root_way_of(struct store_tx *tx, const struct account *a, int64_t issuer, enum root_way *way, struct err *err) MUSTER_MUST_CHECK;

#define ROOT_SHUT_WAIT 300 /* seconds until a device that gets MUSTER_EROOTSHUT asks again */
/* Whether nothing is to be issued, since the root that the account issues under is shut: disabled, or revoked and not replaced yet. */
int root_way_shut(struct store_tx *tx, const struct account *a, bool *shut, struct err *err) MUSTER_MUST_CHECK;

#endif
