/* dependents: devices that would be cut off with what they depend on, a fleet root or a server CA: since when they were seen, and who they are. */
#ifndef MUSTER_REGISTRY_DEPENDENTS_H
#define MUSTER_REGISTRY_DEPENDENTS_H

#include "registry/registry.h"
#include "registry/row.h"

/* As seen_hour of the table device has it: that of so many days ago. */
int64_t dependents_hour(int64_t days);
/* Takes a statement's rows (SEEN_DEVICE, then the account's name or NULL) into the array, and ends it.  rc: what store_query() said. */
int dependents_take(struct store_row *row, int rc, json_t *list, struct err *err) MUSTER_MUST_CHECK;
/* The first DEPENDENTS_NAMED of them in a sentence.  n: how many there are in all. */
#define DEPENDENTS_NAMED 5
void dependents_name(struct buf *text, const json_t *list, int64_t n);

#endif
