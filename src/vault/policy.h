/* vault/policy: what the vault allows, as pure functions over values: nothing here reads a file or holds a key.  Called by serve*.c,
 * issue.c and export.c; a caller outside the vault cannot weaken any of it. */
#ifndef MUSTER_VAULT_POLICY_H
#define MUSTER_VAULT_POLICY_H

#include "vault/vault.h"

/* A lower-case DNS label of at most VAULT_ACCOUNT_MAX characters; MUSTER_EINVALID. */
int policy_account_name(struct span name, struct err *err) MUSTER_MUST_CHECK;
int policy_kind(enum vault_kind kind, struct err *err) MUSTER_MUST_CHECK;
int policy_method(enum vault_method method, struct err *err) MUSTER_MUST_CHECK;
/* MUSTER_EDEVICEID, MUSTER_EIDTAKEN. */
int policy_device_id(struct span id, struct err *err) MUSTER_MUST_CHECK;
/* Whether a device ID is too long for a subject's CN: over 64 characters (RFC 5280, ub-common-name). */
bool policy_too_long_for_cn(struct span text);
/* A DNS name without wildcard, or an IP address; MUSTER_EINVALID. */
int policy_server_name(struct span name, struct err *err) MUSTER_MUST_CHECK;

void policy_default(struct vault_policy *out);
/* Puts the fields that `given.set` names into *p and judges the result; *p is unchanged on failure (MUSTER_EINVALID).  In *p->set
 * all fields are named afterwards. */
int policy_apply(struct vault_policy *p, const struct vault_policy *given, struct err *err) MUSTER_MUST_CHECK;
bool policy_eq(const struct vault_policy *a, const struct vault_policy *b);

/* What a device's certificate may be: the account's profile, and within it what `narrow` says (text; empty: nothing).  MUSTER_EINVALID. */
int policy_device_profile(const struct vault_policy *p, struct span narrow, struct device_profile *out, struct err *err) MUSTER_MUST_CHECK;
/* Provisioning keys, which Muster makes; MUSTER_ECERTWEAKKEY. */
int policy_provisioning_key(const struct key_facts *k, bool rsa_allowed, struct err *err) MUSTER_MUST_CHECK;
/* A factory line's name, and the key of its CA; MUSTER_EINVALID, _ECERTWEAKKEY. */
int policy_line(struct span line, const struct key_facts *k, struct err *err) MUSTER_MUST_CHECK;
/* Keys of the gateway's own certificates. */
int policy_server_key(const struct key_facts *k, struct err *err) MUSTER_MUST_CHECK;

/* The life that a device gets of the one that it asks for (0: none in particular; below 0: MUSTER_EINVALID). */
int policy_device_life(const struct device_profile *p, int64_t wanted, int64_t *life, struct err *err) MUSTER_MUST_CHECK;
/* Where no device certificate of the account has a well-defined end, its CAs have none either. */
int64_t policy_ca_life(const struct vault_policy *p, int64_t life);
/* Whether an issuing CA that ends at issuing_end is to be replaced now, and when the new one would end. */
bool policy_issuing_due(const struct vault_policy *p, int64_t now, int64_t issuing_end, int64_t root_end, int64_t issuing_life, int64_t *new_end);

#endif
