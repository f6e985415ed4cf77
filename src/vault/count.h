/* vault/count: how many device certificates each account has issued in the hour, held against its ceiling.
 *
 * The count survives the vault's death: a block is reserved on the disk before it is used, so that a restart can only lose the rest
 * of a block and never gives an hour twice.  Blocks begin with one certificate and grow: a restart counts no more than twice what was issued.  Called by issue.c; count_drop by account.c. */
#ifndef MUSTER_VAULT_COUNT_H
#define MUSTER_VAULT_COUNT_H

#include "base/cleanup.h"
#include "base/span.h"
#include "vault/records.h"

struct counts;
struct counts *counts_new(void); /* NULL: out of memory */
void counts_free(struct counts *cs);

/* One more certificate of this account at `now`: 0, or MUSTER_ECEILING with Retry-After, or a failure of the disk. */
int count_take(struct counts *cs, struct records *r, const char *account, struct span data_key, uint32_t ceiling, int64_t now, struct err *err) MUSTER_MUST_CHECK;
/* Forgets what memory holds of an account that is gone. */
void count_forget(struct counts *cs, const char *account);
/* Removes the file. */
int count_drop(struct records *r, const char *account, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(counts_free, struct counts *)

#endif
