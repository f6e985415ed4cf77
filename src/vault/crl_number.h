/* vault/crl_number: the numbers of an account's CRLs (RFC 5280, 5.2.3), which only ever grow.
 *
 * A number is at least the time in milliseconds, and above the last one of its CA, which is on the disk before anybody gets the new one: neither
 * kill -9, nor a vault put back from an older copy, nor a clock that went back while the file is there gives a number twice.  Called by crl.c;
 * crl_number_drop by account.c. */
#ifndef MUSTER_VAULT_CRL_NUMBER_H
#define MUSTER_VAULT_CRL_NUMBER_H

#include "pki/crl_make.h"
#include "vault/records.h"

/* The next number of that CA's lists, taken for good. */
int crl_number_take(struct records *r, const char *account, struct span data_key, const uint8_t key_id[CRL_KEY_ID_LEN], uint64_t *out, struct err *err) MUSTER_MUST_CHECK;
/* Removes the file. */
int crl_number_drop(struct records *r, const char *account, struct err *err) MUSTER_MUST_CHECK;

#endif
