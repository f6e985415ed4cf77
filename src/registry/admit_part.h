/* admit_part: what admit.c, admit_uploaded.c and admit_first.c share. */
#ifndef MUSTER_REGISTRY_ADMIT_PART_H
#define MUSTER_REGISTRY_ADMIT_PART_H

#include "registry/admit.h"
#include "registry/event.h"
#include "registry/line.h"

/* Sets the verdict; always 0. */
int admit_refuse(struct admit *a, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int admit_state(struct admit *a, const struct account *account, const struct device *d);
void admit_found(struct admit *a, const struct device *d);
/* Whether what is first may be written: never by what is tried. */
bool admit_writes(const struct store_tx *tx, const struct admit *a);
/* The account, or what is tried of it where that is what is asked by. */
int admit_account_row(struct store_tx *tx, struct admit *a, int64_t row, struct account *out, struct err *err) MUSTER_MUST_CHECK;
void admit_root_rules(struct admit *a, struct root *r); /* likewise of a root that was found */
/* Sets the verdict and *ok false where the account is another than SNI names, or gone. */
int admit_account(struct store_tx *tx, struct admit *a, int64_t row, struct account *out, bool *ok, struct err *err) MUSTER_MUST_CHECK;
/* A device that waited because nobody had announced it, and now was. */
int admit_promote(struct store_tx *tx, struct admit *a, const struct account *account, struct device *d, struct err *err) MUSTER_MUST_CHECK;
/* Before whatever changes which key or certificate is a device's: in recovery nothing does, for what the registry knows of it may be undone since
 * (a certificate void, an offer withdrawn).  Sets the verdict and *ok false there. */
int admit_may_change(struct store_tx *tx, struct admit *a, bool *ok, struct err *err) MUSTER_MUST_CHECK;
/* The root of the account under which the chain holds, of several the one that lets fewest in, the roots among the CAs between included; a retired one only
 * where none that is good is reached without its key.  1 there, 0 not. */
int admit_root(struct store_tx *tx, const struct admit *a, int64_t account, struct root *out, struct err *err) MUSTER_MUST_CHECK;
/* False: its state lets nobody in; sets the verdict. */
bool admit_root_usable(struct admit *a, const struct root *r);
/* Until when one that was replaced then may be renewed; since 0: an operator lets it, so long as it is good at all, late renewing included. */
int64_t admit_superseded_until(const struct account *account, const struct cert *leaf, int64_t since);
/* What ended then is renewed no more: the account's late_renewal is over. */
bool admit_too_late(const struct account *account, int64_t ended);
int admit_refuse_late(struct admit *a, const struct account *account, int64_t ended); /* sets the verdict; always 0 */
int admit_uploaded(struct store_tx *tx, struct admit *a, struct err *err) MUSTER_MUST_CHECK;

/* What admit_uploaded.c and admit_first.c share.  What stands above the certificate has expired: by the root's rule that is the end, or who is known goes on.
 * Nothing new comes by it.  False: sets the verdict. */
bool admit_above_lasts(struct admit *a, const struct root *r, bool known);
/* *ok false: its CA has taken the certificate back, or one above it; sets the verdict. */
int admit_check_lists(struct store_tx *tx, struct admit *a, const struct root *r, bool *ok, struct err *err) MUSTER_MUST_CHECK;
/* The device ID, by the root's rule; false: there is none that is good; sets the verdict. */
bool admit_read_id(struct admit *a, const struct root *r, struct buf *id);
/* Under a root of Muster's own it is a line's device, of an account that issues under it. */
bool admit_has_method(const struct account *account, const struct root *r);
/* *ok false: it is of a line, and an operator has taken it back; sets the verdict. */
int admit_check_line_revoked(struct store_tx *tx, struct admit *a, int64_t account, bool *ok, struct err *err) MUSTER_MUST_CHECK;
/* Whether the certificate is of a line of the account's: 1 and which, 0 not. */
int admit_note_line(struct store_tx *tx, struct admit *a, int64_t account, struct line *out, struct err *err) MUSTER_MUST_CHECK;
/* Announced: 0 not, 1 announced, 2 announced with another key. */
int admit_announced(struct store_tx *tx, const struct admit *a, const struct account *account, const char *id, bool *with_key, struct err *err) MUSTER_MUST_CHECK;
/* Another key for a known device: offered, or taken, by the root's rule. */
int admit_other_key(struct store_tx *tx, struct admit *a, const struct account *account, const struct root *r, const struct device *d, struct err *err) MUSTER_MUST_CHECK;
/* state: that it begins with; 0: it has one already. */
int admit_audit_device(struct store_tx *tx, const struct admit *a, const struct account *account, const char *action, const char *device_id, const struct root *r, int64_t state, struct err *err) MUSTER_MUST_CHECK;
int admit_announce(struct store_tx *tx, const struct admit *a, const struct account *account, const struct device *d, enum event_kind kind, struct err *err) MUSTER_MUST_CHECK;
/* Nobody has shown its key before. */
int admit_first_contact(struct store_tx *tx, struct admit *a, struct err *err) MUSTER_MUST_CHECK;

#endif
