/* admit_part: what admit.c and admit_uploaded.c share. */
#ifndef MUSTER_REGISTRY_ADMIT_PART_H
#define MUSTER_REGISTRY_ADMIT_PART_H

#include "registry/admit.h"

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

#endif
