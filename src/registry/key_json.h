/* key_json: what key.c and key_change.c share. */
#ifndef MUSTER_REGISTRY_KEY_JSON_H
#define MUSTER_REGISTRY_KEY_JSON_H

#include "registry/key.h"
#include "registry/row.h"

int key_json(struct store_tx *tx, const struct account *a, const struct prov_key *k, json_t **out, struct err *err) MUSTER_MUST_CHECK; /* replaces *out */
/* Within its certificate, and within its account's profile. */
int key_bounds_fit(const struct account *a, const struct key_bounds *b, int64_t certificate_not_after, struct err *err) MUSTER_MUST_CHECK;
/* For an answer about devices that were cut off: "live_keys" and "live_key_names", the keys that still enrol in the account (not more than
 * KEY_NAMES_SHOWN names), and with `warn` a sentence of "warnings" that names them. */
#define KEY_NAMES_SHOWN 20
int key_live_json(struct store_tx *tx, const struct account *a, bool warn, json_t *out, struct err *err) MUSTER_MUST_CHECK;
void key_bounds_of(const struct prov_key *k, struct key_bounds *out);
/* The key's bounds, for an audit entry. */
json_t *key_detail(const struct prov_key *k);

#endif
