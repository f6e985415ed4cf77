/* audit_replay: what an account's log says that there is: the account's settings, its roots, keys and devices, entry by entry.
 *
 * Replaying is a pure function of the log and of the key of the seals; nothing here reads a row.  An entry ends the walk (audit_verify_bad) where
 *
 *   - it says what only an operator does and does not have control's seal (but for those that are older than seals), or
 *   - the rules could not have written it: an enrolment with a key that the log blacklisted, ended or spent, of an ID outside its pattern, of
 *     a device that is cut off or there already; a first contact under a root that takes nobody; a device that is active at once where operators
 *     approve; a method that the account does not have; a key that was changed without leave; an enrolment by an invitation that there was not,
 *     that was over or spent; a device that came in by a factory line that the log closed, ended or spent, or of an ID outside its pattern.
 *
 * What a gateway itself writes (device.enrol, renew, first_use, first_contact, certificate, key_offered, key_changed, announced, asks_again) a captured one
 * can write too: within those rules it cannot be told from the truth here.  That an enrolment's certificate was issued is seen by its signature
 * (audit_state.c). */
#ifndef MUSTER_REGISTRY_AUDIT_REPLAY_H
#define MUSTER_REGISTRY_AUDIT_REPLAY_H

#include "registry/audit_devices.h"
#include "registry/audit_invited.h"
#include "registry/audit_seal.h"
#include "registry/row.h"

struct audit_root {
    struct uuid uuid;
    enum root_state state, before;
    bool uploaded, rules;  /* rules: they are known */
    struct hash fingerprint;
    enum id_rule id_rule;
    enum key_rule key_rule;
    enum expired_rule expired;
    char tried[ROOT_TRIED_MAX + 1];
};

struct audit_prov_key {
    struct uuid uuid;
    char name[NAME_MAX_BYTES + 1];
    bool blacklisted, printed, spki_known; /* printed: the fingerprint is known */
    struct hash fingerprint, spki;
    int64_t certificate_not_after; /* known with spki */
    int64_t expires, max_devices, per_hour, spent;
    char id_pattern[DEVICE_ID_MAX + 1];
    uint64_t rest; /* keyed hash of id_pattern, sources, build, profile, and what is tried */
};

/* What a factory line told by a manifest (line_told.h). */
struct audit_told {
    uint64_t mark;     /* of the number of entries, and the digest there */
    int64_t entries, at, told, continues; /* continues: the entries of the one that it went on from; -1: the log does not say */
    bool aside, seen;  /* seen: its row was */
};

/* A factory line (line.h). */
struct audit_line {
    struct uuid uuid;
    char name[64];
    int state; /* enum line_state */
    struct hash spki;
    int64_t begins, expires, max_devices, spent, held;
    char id_pattern[DEVICE_ID_MAX + 1];
    struct audit_told *told; /* in the order in which they came */
    size_t n_told;
    bool aside_unknown;      /* the log does not say which of them are set aside */
};

/* A public key that an operator accepted for a device and that has not come yet: one of the device's list. */
struct audit_accepted {
    uint64_t key;
    uint32_t next; /* 1 + its place; 0: the last one */
};

/* An answer that lets one certificate be issued. */
struct audit_allowed {
    struct uuid ask;
    uint64_t device; /* hash of its ID */
    bool renews;
    int64_t at;
};

struct audit_replay {
    const char *name;        /* of the account */
    int64_t unsealed;        /* entries up to here are older than seals */
    struct audit_verify *verify;
    struct audit_devices *devices;
    struct audit_invitations invited;
    bool full;               /* out: the table is; begin anew with more parts */
    bool rows_seen;          /* rows of certificates were held against the log already: what is revoked from here on some of them did not say */
    bool first_part;         /* roots, keys and settings are followed in the first part alone */
    uint64_t orphans, orphans_held; /* certificates of devices that were released */
    uint64_t line_revoked;          /* certificates of factory lines that were revoked, each with the reason */
    /* the account */
    bool created, deleted, summed, had_cas, unlisted; /* summed: every import of announced devices said its sum; unlisted: one of a revocation list did not; had_cas: shared credentials were on once */
    enum account_kind kind;
    enum account_method method;
    enum reprovision reprovision;
    bool approval, expected_only, server_keygen, csr_queue;
    int backend;
    enum device_key_kind device_key;
    struct device_profile profile, shadow;
    char tried[ACCOUNT_TRIED_MAX + 1];
    enum hook_rule hook;
    struct audit_allowed *allowed; /* by whoever is asked before certificates are issued, and not used yet */
    int64_t device_life, lost_answer_window, issue_ceiling, renewal_window, late_renewal, superseded_renewal;
    struct audit_sum expected, listed; /* listed: of imported revocation lists */
    struct audit_root *roots;
    struct audit_prov_key *keys;
    struct audit_line *lines;
    struct audit_accepted *accepted;
    size_t rotated; /* fleet roots of Muster's own that others took the place of */
    size_t n_roots, n_keys, n_lines, last_key, n_accepted, n_allowed;
};

/* The mark of a certificate together with what it came by: the provisioning key, or the fleet root; by NULL: neither. */
uint64_t audit_replay_mark(const struct audit_replay *r, struct span fingerprint, const struct uuid *by, int64_t enrolled);
/* The mark of a factory line by its name together with the key with which a device came by it, which may not be known; without a name: 0. */
uint64_t audit_replay_line_mark(const struct audit_replay *r, struct span name, struct span spki);
void audit_replay_begin(struct audit_replay *r); /* keeps what the caller set, and the table */
void audit_replay_fini(struct audit_replay *r);
void audit_replay_entry(void *arg /* struct audit_replay */, const struct audit_entry *e);
/* What the log says of the invitation of that device ID; NULL: nothing. */
struct audit_invited *audit_replay_invited(struct audit_replay *r, struct span device_id);
struct audit_root *audit_replay_root(struct audit_replay *r, const struct uuid *uuid);
struct audit_line *audit_replay_line(struct audit_replay *r, const struct uuid *uuid);
struct audit_prov_key *audit_replay_key(struct audit_replay *r, const struct uuid *uuid);
/* Whether the key, by its mark, is one of the device's accepted ones: what points to it. */
uint32_t *audit_replay_accepted(struct audit_replay *r, struct audit_device *d, uint64_t key);
/* Of what a provisioning key's row and its entries say besides. */
struct audit_key_rest {
    const char *id_pattern, *sources, *build, *tried;
    const struct device_profile *profile, *shadow;
};
uint64_t audit_replay_rest(const struct audit_replay *r, const struct audit_key_rest *of);

#endif
