/* crl: control makes the certificate revocation lists of Muster's own CAs (registry/crl.h): one after the other, each by the vault out of entries
 * that control reads in the registry.
 *
 * A list is made when something on it may have changed (seen within LOOK_MS), when it is `crl_interval` old, and when there is none yet.
 * What changes meanwhile is on the next one: lists of one CA follow each other no faster than half of the time goes into them, so that
 * many revocations in a row make few lists.  Finished, its bytes are in DIR/crl/ACCOUNT.KEY.crl, replaced whole, before control.db and
 * operators are told of it.  Where one cannot be made it is tried again, and those of others go on; the one before stays, and `status`
 * says so after a minute.  In recovery (registry/recovery.h) none is made: it would let in again who was revoked since the backup. */
#ifndef MUSTER_ADMIN_CRL_H
#define MUSTER_ADMIN_CRL_H

#include "registry/crl.h"
#include "admin/internal.h"

#define CRL_FILE_MAX 128                 /* bytes of a file's name under DIR/crl */
#define CRL_BYTES_MAX (256u << 20)       /* of a list */

#define CRL_BEHIND_MS 60000

struct crls *crls_new(struct control *c, struct err *err);
void crls_free(struct crls *k); /* NULL accepted */

/* What control knows of an account's lists. */
struct crls_tally {
    size_t n;            /* of CAs that have not ended */
    int64_t next_update; /* the first one; 0: no list is there */
    int64_t entries;
    bool missing;        /* a CA has no list, although the vault is there */
    bool behind;         /* one waits for more than CRL_BEHIND_MS for a list with what has changed, or cannot be read */
    int64_t left_out;    /* damaged rows that are on none of them */
};
void crls_tally(const struct control *c, const char *account, struct crls_tally *out);

/* Whether the list of that CA lacks what has changed since it was made; why->code: no newer one can be made at the moment, and that is why. */
bool crls_lacks(const struct control *c, const char *account, const uint8_t key_id[CRL_KEY_ID_LEN], struct err *why);
/* Of any list of the account: why it cannot be made; code 0: nothing failed. */
void crls_why(const struct control *c, const char *account, struct err *why);

/* Whether a change of the account, up to that revision, will be on its lists in a moment: not where it has not been for CRL_FRESH_MS, where the token with
 * the CA's key is away, nor in recovery. */
#define CRL_FRESH_MS 10000
bool crls_catch_up(const struct control *c, const char *account, int64_t revision);

/* "ACCOUNT.KEY.crl" */
void crl_file_name(const char *account, const uint8_t key_id[CRL_KEY_ID_LEN], char out[CRL_FILE_MAX]);
/* On a store's thread: whole, from DIR/crl. */
int crl_file_read(const struct control *c, const struct crl_row *row, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

#endif
