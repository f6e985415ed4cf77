/* vault/records: what rests in DIR/vault, and the vault's version.
 *
 *   head             plain: the vault's id, the kind of its master key, the costs of a passphrase; authenticated by a box
 *   index            sealed under the master key: the version, and name, version and hash of every record
 *   index.next       the same under the next master key, while that takes the other one's place
 *   NAME.VERSION     a record: its data key sealed under the master key, its content sealed under the data key
 *   count-ACCOUNT    a counter, sealed under its account's data key, outside the versions (count.c)
 *   crls-ACCOUNT     the numbers of its CRLs, likewise (crl_number.c)
 *
 * A change writes the new record beside the old one and then replaces the index: that rename is the whole change.  What a crash
 * leaves beside it is removed at the next opening.  A record that was changed, renamed or put back from an older copy does not
 * open; an index put back together with all its records is what control's greeting finds out (serve.c).
 *
 * Every box is bound to the vault's id, its name and its version.  Called by the vault's process; single-threaded. */
#ifndef MUSTER_VAULT_RECORDS_H
#define MUSTER_VAULT_RECORDS_H

#include "base/buf.h"
#include "base/cleanup.h"
#include "keys/master.h"

#define RECORDS_MAX 8192
#define RECORD_NAME_MAX 48          /* bytes */
#define RECORD_BODY_MAX (256 * 1024)
#define RECORDS_ID_LEN 16

struct records_head {
    uint8_t id[RECORDS_ID_LEN];    /* of the vault */
    enum key_master_kind kind;     /* of its master key */
    struct key_master_costs costs;
    uint32_t rekeys;               /* how often the master key was changed */
    int64_t rekeyed;               /* when last; 0: never */
};
const char *records_kind_name(enum key_master_kind kind); /* "file", "passphrase", "credential" */
/* What the head says, which nobody has authenticated.  MUSTER_ENOTFOUND (no vault), _ECORRUPT. */
int records_head_look(int dir_fd, struct records_head *out, struct err *err) MUSTER_MUST_CHECK;
/* 1: the key is the vault's master key; 0: it is not. */
int records_head_is_of(int dir_fd, struct span key, struct err *err) MUSTER_MUST_CHECK;

struct records;

/* Makes the head; the first record stored makes the index, and with it the vault.  What a cut-off making left is overwritten.
 * MUSTER_EEXISTS where an index is there, _ECORRUPT where accounts are there without one. */
int records_create(int dir_fd, const struct key_master_options *master, struct records **out, struct err *err) MUSTER_MUST_CHECK;
/* MUSTER_ENOTFOUND (no vault), _EINVALID (wrong master key), _ECORRUPT. */
int records_open(int dir_fd, const struct key_master_options *master, struct records **out, struct err *err) MUSTER_MUST_CHECK;
void records_free(struct records *r);

/* Durable: what it returns never goes back. */
uint64_t records_version(const struct records *r);
size_t records_count(const struct records *r);
bool records_has(const struct records *r, const char *name);
const char *records_name(const struct records *r, size_t i); /* in order; NULL behind the last */
const struct records_head *records_head(const struct records *r);
struct span records_master(const struct records *r); /* the key in force; valid until records_rekey_end() */
/* A fresh data key for a record that is to be made. */
int records_new_key(struct secret *data_key) MUSTER_MUST_CHECK;
/* MUSTER_ENOTFOUND, _ECORRUPT. */
int records_load(struct records *r, const char *name, struct secret *data_key, struct secret *body, struct err *err) MUSTER_MUST_CHECK;
/* Makes or replaces; when it returns 0 the change is durable and the version one higher; otherwise nothing has changed that anybody
 * may rely on: after a failure of the disk the next change first makes sure of what is there. */
int records_store(struct records *r, const char *name, struct span data_key, struct span body, struct err *err) MUSTER_MUST_CHECK;
/* Absent: MUSTER_ENOTFOUND. */
int records_drop(struct records *r, const char *name, struct err *err) MUSTER_MUST_CHECK;

/* --- another master key ------------------------------------------------------------------------------------------------------
 *
 * Every record is written once more beside itself, with its data key under the next master key; then the next index beside the index; then the
 * head is replaced, which is the whole change: before it the vault opens with the old key, behind it with the next one.  Records that change
 * meanwhile are written again.  What a crash leaves is finished, or removed, at the next opening.  In pieces, so that nobody waits for it. */

struct records_rekey {
    enum key_master_kind kind;
    struct key_master_costs costs;
    struct span key; /* SEAL_KEY_LEN bytes */
};
/* MUSTER_EBUSY (one is under way), _EINVALID (no such kind; or it is the key that the vault has). */
int records_rekey_begin(struct records *r, const struct records_rekey *next, int64_t now, struct err *err) MUSTER_MUST_CHECK;
/* At most `most` records further.  1: there are more; 0: all are written.  On a failure the change is given up. */
int records_rekey_step(struct records *r, size_t most, struct err *err) MUSTER_MUST_CHECK;
/* After a step that returned 0, with nothing stored in between.  *head_in_doubt: it failed where it is not known which of the two heads is
 * there; then nothing may be done with r but free it. */
int records_rekey_end(struct records *r, bool *head_in_doubt, struct err *err) MUSTER_MUST_CHECK;
/* Gives up one that is under way. */
void records_rekey_cancel(struct records *r);
/* Removes at most `most` files of the key before.  True: there may be more. */
bool records_rekey_tidy(struct records *r, size_t most);

/* A sealed file of its own, outside index and version (a copy of an older state opens: it holds only what may be lost). */
int records_side_load(struct records *r, const char *name, struct span data_key, struct buf *content, struct err *err) MUSTER_MUST_CHECK;
int records_side_store(struct records *r, const char *name, struct span data_key, struct span content, struct err *err) MUSTER_MUST_CHECK;
int records_side_drop(struct records *r, const char *name, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(records_free, struct records *)

#endif
