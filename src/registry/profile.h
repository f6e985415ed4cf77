/* profile: an account's issuing profile, and what its provisioning keys allow of it (pki/device_profile.h), for the registry's operations: as JSON, in rows,
 * in audit entries, and as what holds for one enrolment or renewal. */
#ifndef MUSTER_REGISTRY_PROFILE_H
#define MUSTER_REGISTRY_PROFILE_H

#include "registry/row.h"

/* What holds for a device that this key (NULL: an invitation, or none) brought, spelt out. */
void profile_of(const struct account *a, const struct prov_key *key, struct device_profile *out);

/* Whether certificates of such keys are made for a device that this key (NULL: none) brought: 0, or MUSTER_ECERTWEAKKEY with a text that says whose rule is against it: the account's,
 * or the provisioning key's, which is the narrower one.  Pure. */
int profile_judge(const struct account *a, const struct prov_key *key, const struct key_facts *k, struct err *why) MUSTER_MUST_CHECK;

/* The kind of keys that the server makes for the account's devices. */
struct key_facts profile_made_key(const struct account *a);

/* One member of a JSON object: key_types, key_usages, life, longest_life, est_life, subject, san; null: as if nothing were said.  *known false: it is none of them. */
int profile_take(struct device_profile *p, const char *key, json_t *v, bool *known, struct err *err) MUSTER_MUST_CHECK;
/* A length of time, or "none": no well-defined end. */
int profile_life_take(json_t *v, const char *name, int64_t *out, struct err *err) MUSTER_MUST_CHECK;
void profile_life_add(json_t *o, const char *name, int64_t life); /* 0: null */
/* The account's, spelt out, with the one that is tried; NULL: no memory. */
json_t *profile_json(const struct account *a);
/* What a key says of it, into the key's object: each member null where it says nothing. */
void profile_key_add(json_t *o, const struct device_profile *p);

/* For rows and statements. */
const char *profile_text(const struct device_profile *p, char out[PROFILE_TEXT_MAX + 1]);
/* For audit entries: nothing where it is the default. */
void profile_detail_add(json_t *detail, const char *name, const struct device_profile *p);
/* And back: what an entry says; the default where it says nothing or what cannot be read (it then differs from the row). */
void profile_detail_read(const json_t *detail, const char *name, struct device_profile *out);

#endif
