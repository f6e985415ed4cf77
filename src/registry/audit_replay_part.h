/* audit_replay_part: what audit_replay.c (the entries), audit_replay_account.c (settings, roots, keys), audit_replay_device.c (devices), audit_replay_line.c (factory lines), audit_told.c (what they told) and audit_replay_invited.c (invitations) share. */
#ifndef MUSTER_REGISTRY_AUDIT_REPLAY_PART_H
#define MUSTER_REGISTRY_AUDIT_REPLAY_PART_H

#include "registry/audit_replay.h"

/* An entry's detail; what is not there is "", 0, false. */
const char *replay_text(const json_t *detail, const char *name);
int64_t replay_int(const json_t *detail, const char *name);
bool replay_hash(const json_t *detail, const char *name, struct hash *out);
int64_t replay_time(const json_t *detail, const char *name);
uint64_t replay_mark(const struct audit_replay *r, const json_t *detail, const char *name); /* of a digest */
/* Of the digest "fingerprint" and what it came by. */
uint64_t replay_mark_by(const struct audit_replay *r, const json_t *detail, const struct uuid *by, int64_t enrolled);
#define REPLAY_TOLERANCE 300 /* seconds between a rule's look at the clock and the entry's */

/* The root of that id; one of which nothing was said is Muster's, and active from the start.  NULL: out of memory. */
struct audit_root *replay_root_named(struct audit_replay *r, const struct uuid *uuid);

/* The rules could not have written the entry. */
void replay_bad(struct audit_replay *r, const struct audit_entry *e, const char *why);

/* Room for one more, where n are in use and it doubles at each power of two; NULL: out of memory. */
void *replay_grown(void *at, size_t n, size_t size);

/* What an action comes to; one each. */
typedef void follow_fn(struct audit_replay *r, const struct audit_entry *e, const json_t *detail);
follow_fn replay_account_settings, replay_account_delete, replay_expected_changed;
follow_fn replay_root_upload, replay_root_prove, replay_root_set, replay_root_disable, replay_root_enable, replay_root_revoke, replay_root_retire, replay_root_rotate, replay_root_crl, replay_key_create, replay_key_set, replay_key_blacklist;
void replay_line_charge(struct audit_replay *r, const struct audit_entry *e, const json_t *names); /* of a device that is recovered */
follow_fn replay_device_enrol, replay_device_renew, replay_device_first_contact, replay_device_first_use, replay_device_certificate, replay_device_certificate_revoke, replay_device_line_certificate_revoke, replay_device_recover, replay_device_key_changed, replay_device_accept_key, replay_device_approve, replay_device_hold, replay_device_announced, replay_device_refuse, replay_device_revoke, replay_device_delete, replay_device_quarantine, replay_device_release;
follow_fn replay_line_create, replay_line_set, replay_line_revoke, replay_line_manifest;
follow_fn replay_device_invite, replay_device_uninvite;
follow_fn replay_device_allow;
/* A certificate is issued: where the account asks before, it was allowed. */
void replay_allowed(struct audit_replay *r, const struct audit_entry *e, const json_t *detail, bool renews);
/* The provisioning key of that name, at this moment; NULL: none. */
struct audit_prov_key *replay_key_named(struct audit_replay *r, const char *name);
/* An enrolment with an invitation. */
void replay_invitation_spend(struct audit_replay *r, const struct audit_entry *e, const json_t *detail);
/* A first contact by a factory line. */
void replay_line_spend(struct audit_replay *r, const struct audit_entry *e, const json_t *detail);
/* An enrolment with a provisioning key; again: the answer to it was lost. */
void replay_key_spend(struct audit_replay *r, const struct audit_entry *e, const json_t *detail, bool again);

#endif
