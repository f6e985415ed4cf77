/* root_json: what root.c and root_change.c share. */
#ifndef MUSTER_REGISTRY_ROOT_JSON_H
#define MUSTER_REGISTRY_ROOT_JSON_H

#include "registry/row.h"

/* Replaces *out. */
int root_json(struct store_tx *tx, const struct account *a, const struct root *r, json_t **out, struct err *err) MUSTER_MUST_CHECK;
int root_cert(struct store_tx *tx, const struct root *r, struct cert **out, struct err *err) MUSTER_MUST_CHECK;

#endif
