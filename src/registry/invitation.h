/* invitation: an operator's word that the device of one ID may enrol, once: a code of 128 random bits, of which SHA-256 alone is kept.
 *
 * Who brings the code (EST's simpleenroll, HTTP Basic) is judged as one with a provisioning key is (enrol.h), and the code is spent in the
 * transaction that stores the certificate.  The row stays: the same code and key asking again get the same certificate, until the
 * invitation expires, is withdrawn, or another one of the same ID takes its place.  Rows are made and removed by control alone; what it
 * writes of them into the log lets audit_state.h find a row that is not its. */
#ifndef MUSTER_REGISTRY_INVITATION_H
#define MUSTER_REGISTRY_INVITATION_H

#include "registry/registry.h"
#include "registry/row.h"

#define INVITATION_PREFIX "msi_"
#define INVITATION_CODE_LEN 26 /* prefix and 22 characters of base64url */
#define INVITATION_LIFE_DEFAULT (7 * CLOCK_DAY)
#define INVITATION_LIFE_MAX (366 * CLOCK_DAY)

struct invitation {
    int64_t row, account;
    struct uuid uuid;
    char device_id[DEVICE_ID_MAX + 1];
    struct hash code;
    int64_t created, expires, spent; /* spent: when; 0: it is not */
    struct hash spki;                /* the device's own key that it was spent for */
    bool server_key;                 /* or: it was spent for one that Muster made */
};

/* A new code, and its hash. */
void invitation_make(char code[INVITATION_CODE_LEN + 1], struct hash *hash);
/* Of any text. */
void invitation_hash(struct span code, struct hash *out);

/* 1 found, 0 not, <0 error. */
int invitation_find(struct store_tx *tx, int64_t account, struct span device_id, struct invitation *out, struct err *err) MUSTER_MUST_CHECK;
/* Whether it is of that code; i NULL: there is none, which takes as long to say. */
bool invitation_is_of(const struct invitation *i, const struct hash *code);
/* In the transaction that stores the certificate, for that key; NULL: one that Muster made. */
int invitation_spend(struct store_tx *tx, const struct invitation *i, const struct hash *spki, int64_t now, struct err *err) MUSTER_MUST_CHECK;

/* Whether there is one of that ID and code in the account; not whether it is still good, which is for enrol.h to say. */
struct invitation_check {
    const char *account, *device_id;
    struct hash code;
    int verdict; /* out: 0, or MUSTER_EINVITATION, whichever of the two is wrong */
};
int invitation_check_run(struct store_tx *tx, void *arg, struct err *err);

struct invitation_create {
    struct actor actor;
    struct span account, device_id;
    struct hash code;
    struct uuid id;
    int64_t expires;
    json_t *out; /* without the code */
};
/* In place of the one that the ID has.  MUSTER_EDEVICEID, _EMETHODOFF, _ESTATE: the device's own state keeps it out. */
int invitation_create_run(struct store_tx *tx, void *arg, struct err *err);

struct invitation_list {
    struct span account;
    struct page page;
};
int invitation_list_run(struct store_tx *tx, void *arg, struct err *err);

/* Named by its id or its device ID.  A device that it brought in stays.  MUSTER_ENOTFOUND */
struct invitation_remove {
    struct actor actor;
    struct span account, invitation;
    json_t *out;
};
int invitation_remove_run(struct store_tx *tx, void *arg, struct err *err);

/* For audit_state.h: what the log says of a row when it was made. */
struct audit_sum;
void invitation_sum(const struct invitation *i, struct audit_sum *out);
int row_invitation(struct store_row *row, struct invitation *out, struct err *err) MUSTER_MUST_CHECK;

#endif
