/* line_revoke: see line_revoke.h. */
#include "registry/line_revoke.h"

#define LOOKED_AT_MAX 64 /* devices that have a certificate of one serial number or fingerprint: in other accounts, or of other lines */

int line_certificate_shown(struct store_tx *tx, const struct device *d, const struct cert *leaf, struct err *err) {
    const ASN1_INTEGER *serial = X509_get0_serialNumber(leaf->x);
    const size_t n = (size_t)ASN1_STRING_length(serial);
    if (!d->has_line_key || !hash_eq(&d->line_key, &leaf->key.spki))
        return 0;
    return store_exec(tx, NULL, err, SQL_DEVICE_LINE_CERT, "ibb", d->row, hash_span(&leaf->fingerprint), n <= sizeof d->line_serial ? span_of(ASN1_STRING_get0_data(serial), n) : SPAN_NONE);
}

int line_certificate_find(struct store_tx *tx, int64_t account, const struct certificate_name *name, struct device *out, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int found = 0;
    int rc = store_query(tx, &row, err, name->n == PKI_HASH_LEN ? SQL_DEVICE_BY_LINE_PRINT : SQL_DEVICE_BY_LINE_SERIAL, "bi", certificate_name_span(name), I(LOOKED_AT_MAX));
    while (!rc && (rc = store_next(row, err)) > 0) {
        struct device d;
        if ((rc = row_device(row, &d, err)))
            return rc;
        if (account && d.account != account)
            continue;
        if (found++)
            return err_set(err, MUSTER_EINVALID, "Several devices of factory lines have a certificate of that serial number; name it by its fingerprint, which `muster device show` says.");
        *out = d;
    }
    return rc < 0 ? rc : found;
}

static int take(struct store_row *row, int found, int64_t *when, int64_t *reason) {
    if (found <= 0)
        return found;
    *when = store_int(row, 0);
    *reason = store_int(row, 1);
    store_row_end(row);
    return 1;
}

int line_certificate_revoked(struct store_tx *tx, int64_t account, const struct hash *fingerprint, const struct hash *spki, int64_t *when, int64_t *reason, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_LINE_REVOKED, "ib", account, hash_span(fingerprint));
    if ((found = take(row, found, when, reason)))
        return found;
    found = first_row(tx, &row, err, SQL_LINE_REVOKED_KEY, "ib", account, hash_span(spki));
    return take(row, found, when, reason);
}

int line_certificate_revoke(struct store_tx *tx, const struct certificate *c, enum revoke_reason reason, struct err *err) {
    return store_exec(tx, NULL, err, SQL_LINE_REVOKED_ADD, "ibbsii", c->account, hash_span(&c->fingerprint), hash_span(&c->spki), c->device_id, clock_now(), I(reason));
}
