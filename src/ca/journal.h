/* journal: what the fleet CA has signed: journal.jsonl, one JSON object a line, in the order in which it happened.
 *
 * A serial is reserved by a durable line before anything is signed with it, and the certificate is handed out only after a second line says
 * that it was issued.  A reservation that a kill or a power cut left behind is closed by the next process ("abandon", or "issue" where the
 * certificate had reached the disk), so that no serial is ever used twice.  Lines are only ever added.
 *
 *   {"at":TIME,"event":"reserve","serial":HEX,"kind":"device","device_id":ID,"key":SHA256}    kind root, intermediate, proof and line have no device_id
 *   {"at":TIME,"event":"issue","serial":HEX,"fingerprint":SHA256,"not_after":TIME}
 *   {"at":TIME,"event":"abandon","serial":HEX}
 *   {"at":TIME,"event":"revoke","serial":HEX,"reason":REASON}    of a device or an intermediate that was issued; for good
 *   {"at":TIME,"event":"crl","issuer":"root"|"intermediate","number":N,"entries":N}    before the list leaves: no number is used twice
 *
 * Of a batch one line says it for up to JOURNAL_BATCH_MAX devices, so that here too only the last line of the file can be torn:
 *
 *   {"at":TIME,"event":"reserve","kind":"device","batch":[{"serial":HEX,"device_id":ID,"key":SHA256},…]}
 *   {"at":TIME,"event":"issue","batch":[{"serial":HEX,"fingerprint":SHA256,"not_after":TIME},…]}
 */
#ifndef MUSTER_CA_JOURNAL_H
#define MUSTER_CA_JOURNAL_H

#include <jansson.h>

#include "base/buf.h"
#include "base/clock.h"
#include "pki/make.h"

#define JOURNAL_FILE "journal.jsonl"
#define JOURNAL_LINE_MAX 4096
#define JOURNAL_BATCH_MAX 256
#define JOURNAL_BATCH_LINE_MAX (JOURNAL_BATCH_MAX * 1024)
#define JOURNAL_SERIAL_LEN (2 * MAKE_SERIAL_LEN)

struct journal {
    json_t *serials;  /* serial → record, in the order of reservation; owned */
    json_t *devices;  /* device ID → array of the records that have it (borrowed from serials, counted) */
    json_t *keys;     /* SHA-256 of a device's public key → its first record */
    json_t *open;     /* serial → record: reserved, and neither issued nor abandoned */
    json_t *order;    /* array of records, each where it was issued, and once more where it was revoked */
    uint64_t crl[2];  /* number of the newest revocation list of the root and of the intermediate; 0: none was made */
    int64_t newest;   /* the latest time that a line has; 0: there is none */
    size_t lines;
    size_t bytes;     /* of the file that stand for these lines */
};
/* A record: {"id": serial, "serial", "kind", "device_id"?, "state": "reserved"|"issued"|"abandoned"|"revoked", "key", "reserved": TIME, "fingerprint"?, "not_after"?,
 * "revoked"?: TIME, "reason"?} */

/* CRLReason (RFC 5280, 5.3.1) by the names that the server has for them; -1, NULL: none such. */
int journal_reason(const char *name);
const char *journal_reason_name(int reason);

int journal_init(struct journal *j) MUSTER_MUST_CHECK;
void journal_fini(struct journal *j);
/* Takes in whole lines from text, which begins where the journal ends; a last line without newline is left alone (it was torn, or is being
 * written).  MUSTER_ECORRUPT with the number of the line that is not what this module writes; the journal is then good for nothing. */
int journal_read(struct journal *j, struct span text, struct err *err) MUSTER_MUST_CHECK;

/* Appends a line, newline included, for the file. */
struct journal_reserve {
    const char *kind;      /* "root", "intermediate", "device", "proof", "line" */
    struct span device_id; /* kind device only */
    struct hash key;       /* of the SubjectPublicKeyInfo */
    char serial[JOURNAL_SERIAL_LEN + 1];
};
int journal_line_reserve(const struct journal_reserve *r, int64_t at, struct buf *out) MUSTER_MUST_CHECK;
int journal_line_issue(const char *serial, const struct hash *fingerprint, int64_t not_after, int64_t at, struct buf *out) MUSTER_MUST_CHECK;
int journal_line_abandon(const char *serial, int64_t at, struct buf *out) MUSTER_MUST_CHECK;
int journal_line_revoke(const char *serial, const char *reason, int64_t at, struct buf *out) MUSTER_MUST_CHECK;
int journal_line_crl(bool root, uint64_t number, size_t entries, int64_t at, struct buf *out) MUSTER_MUST_CHECK;
/* Of a batch: n of each, 1..JOURNAL_BATCH_MAX. */
struct journal_issue {
    char serial[JOURNAL_SERIAL_LEN + 1];
    struct hash fingerprint;
    int64_t not_after;
};
int journal_line_reserve_batch(const struct journal_reserve *r, size_t n, int64_t at, struct buf *out) MUSTER_MUST_CHECK;
int journal_line_issue_batch(const struct journal_issue *r, size_t n, int64_t at, struct buf *out) MUSTER_MUST_CHECK;

/* A new serial that the journal does not have. */
void journal_new_serial(const struct journal *j, uint8_t serial[MAKE_SERIAL_LEN], char text[JOURNAL_SERIAL_LEN + 1]);
/* The newest record of a device ID that was issued and not revoked, or NULL; borrowed. */
const json_t *journal_issued(const struct journal *j, const char *device_id);
/* The same of one that has this key. */
const json_t *journal_issued_key(const struct journal *j, const char *device_id, const struct hash *key);
bool journal_is(const json_t *record, const char *state);
bool journal_revocable(const json_t *record); /* by its kind */

/* What its fields are written as, and those of a manifest: so many bytes in lower case; a time of clock.h's one form. */
bool journal_is_hex(const char *s, size_t bytes);
bool journal_is_time(const char *s);

DEFINE_CLEANUP_FINI(journal_fini, struct journal)

#endif
