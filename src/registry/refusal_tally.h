/* refusal_tally: what was refused lately and why, out of the records that are kept: for `muster status`.
 *
 * The newest records are looked at, so many at most as the rings of one account hold; a record stands where it was last seen, so the walk
 * ends at the first that is too old, and reads nothing behind it. */
#ifndef MUSTER_REGISTRY_REFUSAL_TALLY_H
#define MUSTER_REGISTRY_REFUSAL_TALLY_H

#include "registry/refusal.h"

#define REFUSAL_TALLY_LOOK (REFUSALS_KNOWN + REFUSALS_SHADOW + REFUSALS_UNKNOWN) /* records: all of an account; of the whole server the newest */
#define REFUSAL_TALLY_CODES 32                                 /* told apart; a rarer one beyond them is counted as left out */

struct refusal_tally {
    int64_t since; /* records last seen before it count for nothing */
    /* out */
    struct refusal_tally_code {
        char code[64];
        int64_t count;                   /* refusals: a record counts from its first time, on the same day as its last */
        int64_t records, last;           /* last: when the newest was last seen */
        char device_id[DEVICE_ID_MAX + 1]; /* of the newest that has one, claimed or proven; "" none has */
    } at[REFUSAL_TALLY_CODES];           /* the most frequent first */
    size_t n;
    int64_t total;                       /* of all counts, left out or not */
    bool all;                            /* every record since then was looked at */
};

#define REFUSAL_TALLY_SERVER (-1) /* every account, and strangers */
/* account: a row, or REFUSAL_TALLY_SERVER. */
int refusal_tally_read(struct store_tx *tx, int64_t account, struct refusal_tally *t, struct err *err) MUSTER_MUST_CHECK;

#endif
