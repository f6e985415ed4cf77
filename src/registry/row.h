/* row: rows of the tables as structs, shared by the registry's files.  Texts and blobs are copied: a row lives until the next step only. */
#ifndef MUSTER_REGISTRY_ROW_H
#define MUSTER_REGISTRY_ROW_H

#include "pki/device_profile.h"
#include "registry/registry.h"

#define I(x) ((int64_t)(x)) /* parameters of kind i are 64-bit */

int row_hash(struct store_row *row, int col, struct hash *out);                     /* MUSTER_ECORRUPT unless 32 bytes */
void row_text(struct store_row *row, int col, char *out, size_t n);                 /* cut at n - 1 */
int audit_hash(const struct hash *before, int64_t seq, int64_t at, struct span actor, struct span action, struct span object, struct span detail, struct hash *out);

struct audit_signed;
int audit_read_signed(struct store_row *row, struct audit_signed *out); /* a row of audit_signed: seq, hash, at, signature */

struct account {
    int64_t row;
    char name[ACCOUNT_NAME_MAX + 1];
    enum account_kind kind;
    enum account_method method;
    enum account_state state;
    int64_t created;
    enum reprovision reprovision;
    bool approval, expected_only, server_keygen, csr_queue;
    enum account_backend backend;
    enum device_key_kind device_key;
    int64_t device_life, lost_answer_window, issue_ceiling, renewal_window, late_renewal, superseded_renewal;
    struct device_profile profile; /* without its life, which is device_life; registry/profile.h */
    struct device_profile shadow;  /* one that is tried, with its life; life 0: none is */
    enum hook_rule hook;
    char tried[ACCOUNT_TRIED_MAX + 1]; /* of the settings; registry/tried.h, as the next two */
    int64_t own_root; /* of Muster's fleet roots the one that it issues under; 0: none */
};

struct root {
    int64_t row, account;
    struct uuid uuid;
    enum root_origin origin;
    enum root_state state, state_before;
    struct hash fingerprint, spki;
    char subject[256];
    int64_t not_after;
    enum id_rule id_rule;
    enum key_rule key_rule;
    enum expired_rule expired;
    char challenge[64];
    int64_t challenge_expires, created;
    char tried[ROOT_TRIED_MAX + 1];
};

struct prov_key {
    int64_t row, account;
    struct uuid uuid;
    char name[NAME_MAX_BYTES + 1];
    enum key_state state; /* as stored */
    int64_t created, expires, certificate_not_after, max_devices, spent, per_hour, last_used;
    char id_pattern[DEVICE_ID_MAX + 1], sources[1025], build[NAME_MAX_BYTES + 1];
    struct hash spki, fingerprint;
    struct device_profile profile; /* what it allows of its account's */
    struct device_profile shadow;  /* what it would allow: tried; the default: nothing is */
    char tried[KEY_TRIED_MAX + 1]; /* of its bounds */
};

struct device {
    int64_t row, account, prov_key, root; /* 0: none */
    struct uuid uuid;
    char device_id[DEVICE_ID_MAX + 1];
    enum device_state state, state_before;
    enum account_method method;
    int64_t created, last_seen;
    char last_address[64];
    enum again again;
    bool refused, expected;
    char reason[256];
    bool has_certificate;
    struct hash certificate, spki;
    int64_t certificate_not_after;
    int64_t issue_first, issue_last_ms, issue_count; /* of the enrolment whose certificates wait for their first use */
    int64_t chain; /* device_chain.h */
    int64_t line;  /* line.h; 0: it came by none */
    bool has_line_key;
    struct hash line_key; /* the key that it came by it with */
    bool has_line_certificate;
    struct hash line_certificate; /* the newest one of the line's that it has shown for that key */
    uint8_t line_serial[20];
    size_t line_serial_n; /* 0: not written down, as by versions of before */
    bool renews;   /* it asks for its certificates itself, by EST */
};

struct token {
    int64_t row;
    struct uuid uuid;
    char name[NAME_MAX_BYTES + 1];
    enum role role;
    char account[ACCOUNT_NAME_MAX + 1]; /* "" the whole server */
    int64_t created, expires, revoked, last_used;
};

int row_account(struct store_row *row, struct account *out, struct err *err) MUSTER_MUST_CHECK;
int row_root(struct store_row *row, struct root *out, struct err *err) MUSTER_MUST_CHECK;
int row_key(struct store_row *row, struct prov_key *out, struct err *err) MUSTER_MUST_CHECK;
int row_device(struct store_row *row, struct device *out, struct err *err) MUSTER_MUST_CHECK;
int row_token(struct store_row *row, struct token *out, struct err *err) MUSTER_MUST_CHECK;

/* By name or number; 1 found, 0 not, <0 error. */
int account_find(struct store_tx *tx, struct span name, struct account *out, struct err *err) MUSTER_MUST_CHECK;
int account_find_row(struct store_tx *tx, int64_t row, struct account *out, struct err *err) MUSTER_MUST_CHECK;
/* MUSTER_ENOTFOUND, MUSTER_EDELETED; making counts as not found. */
int account_need(struct store_tx *tx, struct span name, struct account *out, struct err *err) MUSTER_MUST_CHECK;
int account_need_any(struct store_tx *tx, struct span name, struct account *out, struct err *err) MUSTER_MUST_CHECK; /* a deleted one too: to look at what it had */
/* An object of the account by its UUID, or by its name (keys) or device ID (devices); MUSTER_ENOTFOUND also where it is another account's. */
int root_need(struct store_tx *tx, const struct account *a, struct span name, struct root *out, struct err *err) MUSTER_MUST_CHECK;
int key_need(struct store_tx *tx, const struct account *a, struct span name, struct prov_key *out, struct err *err) MUSTER_MUST_CHECK;
int device_need(struct store_tx *tx, const struct account *a, struct span name, struct device *out, struct err *err) MUSTER_MUST_CHECK;
/* Why nothing that the device asks for is done, whatever any policy says: MUSTER_EQUARANTINED, _EREVOKED, _EREFUSED, _EDEVDELETED, _ECORRUPT (a state
 * that is none); 0: it is active or pending. */
int device_state_code(const struct device *d);
int device_find_row(struct store_tx *tx, int64_t row, struct device *out, struct err *err) MUSTER_MUST_CHECK;
int root_find_row(struct store_tx *tx, int64_t row, struct root *out, struct err *err) MUSTER_MUST_CHECK;
int key_find_row(struct store_tx *tx, int64_t row, struct prov_key *out, struct err *err) MUSTER_MUST_CHECK;

#endif
