/* root_json: what root.c and root_change.c share. */
#ifndef MUSTER_REGISTRY_ROOT_JSON_H
#define MUSTER_REGISTRY_ROOT_JSON_H

#include "registry/row.h"

/* Replaces *out. */
int root_json(struct store_tx *tx, const struct account *a, const struct root *r, json_t **out, struct err *err) MUSTER_MUST_CHECK;
int root_cert(struct store_tx *tx, const struct root *r, struct cert **out, struct err *err) MUSTER_MUST_CHECK;

int root_devices(struct store_tx *tx, const struct root *r, int64_t *n, struct err *err) MUSTER_MUST_CHECK;
/* Into `out`: how many devices stand under it, by when they were seen, and those that were seen last by name. */
int root_seen_json(struct store_tx *tx, const struct root *r, json_t *out, struct err *err) MUSTER_MUST_CHECK;

#endif
