/* crl: what certificate revocation lists are made of, and what is known of those that were made.
 *
 * Each fleet root and each issuing CA of Muster's own has a list.  On an issuing CA's stand, of the certificates that it signed,
 *
 *   - those that were revoked, by themselves or with their device, with the reason that was given;
 *   - all of a device that is revoked or deleted, whatever else they were: replaced ones too;
 *   - on hold (certificateHold), all of a device that is quarantined, or waits for an operator: they leave the list when it is let in.
 *
 * A certificate that the device has replaced is not on it for that: nobody revoked it.  What has expired stays until it was on a list that was
 * made later (RFC 5280, 3.3).  On a fleet root's list are its issuing CAs while the root is disabled (on hold), and for good once it is revoked.
 *
 * The registry counts per account what may have changed a list (crl_revision); control looks there and makes new ones (admin/crl.c). */
#ifndef MUSTER_REGISTRY_CRL_H
#define MUSTER_REGISTRY_CRL_H

#include "pki/crl_make.h"
#include "registry/registry.h"

enum crl_kind { CRL_ROOT = 1, CRL_ISSUING = 2 };
extern const struct words WORDS_CRL_KIND;

/* Where each account stands.  The gateway's process can write all of it: no row in crl_revision is no reason to make no list. */
#define CRL_REVISIONS_PAGE 256
struct crl_revisions {
    struct {
        int64_t account, revision;
        char name[ACCOUNT_NAME_MAX + 1];
        bool active, deleted; /* deleted: control wrote that it was */
        bool forged;          /* its row says that it was deleted, and control did not write that */
    } at[CRL_REVISIONS_PAGE];
    size_t n;
    bool recovery; /* the server is in one (recovery.h) */
    int64_t after; /* row of the last one; start with 0, again while n is full */
};
int crl_revisions_run(struct store_tx *tx, void *arg, struct err *err);

/* The CAs of one account that have lists. */
#define CRL_CAS_MAX 128
struct crl_cas {
    int64_t account;
    struct {
        enum crl_kind kind;
        int64_t row; /* of ca, or of root */
        uint8_t key_id[CRL_KEY_ID_LEN];
        int64_t not_after;
        char subject[256];
    } at[CRL_CAS_MAX];
    size_t n, damaged;
    int64_t revision; /* of the account, in the same transaction */
};
int crl_cas_run(struct store_tx *tx, void *arg, struct err *err);

/* Their certificates, for who verifies devices by them: in PEM, roots first.  MUSTER_ENOTFOUND: the account has none. */
struct crl_bundle {
    struct span name; /* of the account */
    struct buf pem;
};
int crl_bundle_run(struct store_tx *tx, void *arg, struct err *err);

/* The entries of one list, some thousands a step, so that no reader waits long: begin with `step` zeroed, and go on while more.  Where something
 * changed between the steps they begin again, since who was revoked meanwhile may be on neither half; a few times, then it is all in one step. */
struct crl_load {
    int64_t account, row;
    enum crl_kind kind;
    uint8_t key_id[CRL_KEY_ID_LEN];
    int64_t since; /* certificates that had ended before then have been on a list since */
    struct crl_load_step {
        int phase;
        int64_t after;
    } step;
    int64_t revision;          /* of the account, when the first step began */
    int again;
    bool more;
    struct crl_entry *entries; /* the caller frees it */
    size_t n, left_out;        /* left_out: damaged rows, of which nobody knows whose they were */
    struct crl_counts counts;
};
int crl_load_run(struct store_tx *tx, void *arg, struct err *err); /* MUSTER_ECLOCK */

/* --- control.db: lists that were made -------------------------------------------------------------------------------------------------- */

struct crl_row {
    char account[ACCOUNT_NAME_MAX + 1];
    uint8_t key_id[CRL_KEY_ID_LEN];
    enum crl_kind kind;
    char subject[256];
    int64_t number, this_update, next_update, entries, bytes, revision;
    int64_t not_after; /* of the CA */
};
/* What had ended a day before the last list was made was on that one, or on one before it (RFC 5280, 3.3).  The clock may have been ahead when it
 * was: then until a day ago. */
int64_t crl_since(const struct crl_row *last, int64_t now);
/* Whether the next one has to be made; wanted: the account's revision. */
bool crl_is_due(const struct crl_row *last, int64_t wanted, int64_t interval, int64_t now);
int crl_put(struct store_tx *control, const struct crl_row *row, struct err *err) MUSTER_MUST_CHECK;
/* 1: there is one, in *out; 0: there is none. */
int crl_get(struct store_tx *control, const char *account, const uint8_t key_id[CRL_KEY_ID_LEN], struct crl_row *out, struct err *err) MUSTER_MUST_CHECK;
int crl_drop(struct store_tx *control, const struct crl_row *row, struct err *err) MUSTER_MUST_CHECK;

/* A page of them, by account and key; account "": of all. */
#define CRL_ROWS_PAGE 128
struct crl_rows {
    char account[ACCOUNT_NAME_MAX + 1];
    struct crl_row after; /* its account and key_id: the last one of the page before; "" the first page */
    struct crl_row at[CRL_ROWS_PAGE];
    size_t n;
};
int crl_rows_run(struct store_tx *control, void *arg, struct err *err);

#endif
