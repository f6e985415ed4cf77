/* certificate: every certificate that Muster has issued to devices: what is shown of them, and revoking one of them.
 *
 * A certificate is named by its serial number (its id) or its SHA-256 fingerprint, in hex.  Its state is what it is to its device
 * (device_identity.h), and beside that it may have been revoked, by itself or with its device: then that is what is shown, and it is never
 * good for anything again.  Certificates of a device that is gone stay: revoked, with the device ID that they had.  Those that a factory line has
 * signed are none of these, but can be revoked in the same way (line_revoke.h).
 *
 * Revoking one (RFC 5280 5.3.1 has the reasons) does not block its device: whatever else was issued to it goes on.  The live one takes the
 * device its identity; the account's rules say how it gets another.  With key-compromise all certificates of that key are revoked, and the
 * key gets none any more. */
#ifndef MUSTER_REGISTRY_CERTIFICATE_H
#define MUSTER_REGISTRY_CERTIFICATE_H

#include "registry/registry.h"
#include "registry/row.h"

/* Serial number or fingerprint, as bytes. */
struct certificate_name {
    uint8_t b[PKI_HASH_LEN];
    size_t n; /* PKI_HASH_LEN: a fingerprint; 0: none */
};
/* Hex digits of either case, with or without colons.  MUSTER_EINVALID */
int certificate_name_parse(struct span text, struct certificate_name *out, struct err *err) MUSTER_MUST_CHECK;
static inline struct span certificate_name_span(const struct certificate_name *n) { return span_of(n->b, n->n); }

/* Which ones a list has.  active: issued or current, and not ended; expired: the same, and ended. */
enum certificate_filter { CERTIFICATES_ALL, CERTIFICATES_ACTIVE, CERTIFICATES_EXPIRED, CERTIFICATES_ISSUED, CERTIFICATES_CURRENT, CERTIFICATES_VOID, CERTIFICATES_SUPERSEDED, CERTIFICATES_REVOKED };
extern const struct words WORDS_CERTIFICATE_FILTER;

/* A page of those that fit everything that is asked for, of an account or of all of them (one behind the other).  Led along one index; as with devices a page looks at a bounded number and may be
 * short, or empty, and still have a cursor.  By their ends, or as they were issued: neither ever changes, so that a walk meets each
 * one once that was there at its beginning. */
struct certificate_list {
    struct span account;     /* .n 0: every account; whoever asks has to be one that sees them all */
    bool lenient;            /* a device or provisioning key that the account does not have is one of nothing; of every account it always is */
    struct page page;        /* `after` is not used */
    struct span cursor;      /* what the page before gave as next; .n 0: the first page */
    struct span device, key; /* .n 0: any; a device's ID finds what a released device of that ID had as well */
    struct certificate_name serial, fingerprint;
    struct hash spki;        /* SHA-256 of the public key; has_spki: it is asked for */
    bool has_spki;
    enum certificate_filter state;
    int64_t ends_after, ends_before; /* at or after; before; 0: any */
};
/* MUSTER_ENOTFOUND: the account has no such device or key (not lenient); MUSTER_EINVALID: the cursor */
int certificate_list_run(struct store_tx *tx, void *arg, struct err *err);

struct certificate_show {
    struct span account;
    struct certificate_name name;
    json_t *out;        /* with the certificate in PEM, and who signed it */
    struct buf *issuer; /* not NULL: and the certificate of that CA goes here, in PEM; where none is known MUSTER_ENOTFOUND */
};
int certificate_show_run(struct store_tx *tx, void *arg, struct err *err); /* MUSTER_ENOTFOUND */

/* MUSTER_ENOTFOUND; MUSTER_ESTATE: it was revoked before; MUSTER_ECONFIRM with `count` and a text that says what follows, unless `confirm` is
 * the number of certificates that this revokes. */
struct certificate_revoke {
    struct actor actor;
    struct span account;
    struct certificate_name name;
    enum revoke_reason reason;
    int64_t confirm;
    int64_t count; /* out */
    json_t *out;   /* the certificate; "also": serial numbers of the others, "usable": how many are left to the device, "warnings" */
};
/* The same for one that stands on a revocation list, without a question: *revoked false where it was before, or its device is gone, which
 * revoked it.  MUSTER_ENOTFOUND.  Raises no epoch. */
int certificate_revoke_listed(struct store_tx *tx, const struct account *a, const struct actor *by, struct span serial, enum revoke_reason reason, bool *revoked, struct err *err) MUSTER_MUST_CHECK;
int certificate_revoke_run(struct store_tx *tx, void *arg, struct err *err);

/* --- what its files share -------------------------------------------------------------------------------------------------------- */

struct certificate {
    int64_t row, account, device, prov_key; /* device 0: it is gone */
    uint8_t serial[64];
    size_t serial_n;
    struct hash fingerprint, spki;
    enum cert_state state;
    int64_t not_before, not_after, created, used, revoked, reason; /* revoked 0: it was not; 1: it was, and nobody wrote down when */
    struct uuid device_uuid, key_uuid; /* nil: none */
    char device_id[DEVICE_ID_MAX + 1], key_name[NAME_MAX_BYTES + 1]; /* "": not known */
};
int row_certificate(struct store_row *row, struct certificate *out, struct err *err) MUSTER_MUST_CHECK;
/* Of the account; MUSTER_ENOTFOUND. */
int certificate_need(struct store_tx *tx, const struct account *a, const struct certificate_name *name, struct certificate *out, struct err *err) MUSTER_MUST_CHECK;
/* With a deleted account all that it had are over: as revoked, at a time that the log has. */
void certificate_end_with(const struct account *a, struct certificate *c);
const char *certificate_state_word(const struct certificate *c);
json_t *certificate_json(const struct account *a, const struct certificate *c, int64_t now);
/* When and why, as it is shown; null where it was not revoked. */
void certificate_set_revoked(json_t *o, int64_t revoked, int64_t reason);

#endif
