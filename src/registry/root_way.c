/* root_way: see root_way.h. */
#include "registry/root_way.h"

#include "pki/cert.h"
#include "registry/model.h"

#define ROOT_DER 8 /* its column in ROOT_COLUMNS */

static int load_ca(struct store_tx *tx, int64_t account, int64_t issuer, struct cert **out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_CA_DER, "ii", issuer, account);
    if (found <= 0)
        return found;
    int rc = cert_from_der(store_blob(row, 0), out, err);
    store_row_end(row);
    return rc;
}

/* By the signature, which alone tells a root from the one before it; of those that let nobody in, which are few. */
static int signed_by_one(struct store_tx *tx, int64_t account, const struct cert *ca, enum root_way *way, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_ROOT_PAGE, "iii", account, I(0), I(ROOTS_MAX));
    while (!rc && *way != ROOT_WAY_OVER && (rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *root = NULL;
        struct root r;
        if ((rc = row_root(row, &r, err)))
            return rc;
        const enum root_way leads = r.state == ROOT_RETIRED || r.state == ROOT_REVOKED ? ROOT_WAY_OVER : r.state == ROOT_DISABLED ? ROOT_WAY_SHUT : ROOT_WAY_IN;
        if (r.origin != ROOT_MUSTER || leads == ROOT_WAY_IN || (rc = cert_from_der(store_blob(row, ROOT_DER), &root, err)))
            continue;
        if (cert_signed_by(ca, root))
            *way = leads;
    }
    return rc < 0 ? rc : 0;
}

int root_way_of(struct store_tx *tx, const struct account *a, int64_t issuer, enum root_way *way, struct err *err) {
    CLEANUP(cert_free) struct cert *ca = NULL;
    *way = ROOT_WAY_IN;
    int rc = issuer ? load_ca(tx, a->row, issuer, &ca, err) : 0;
    return rc || !ca ? rc : signed_by_one(tx, a->row, ca, way, err);
}

int root_way_shut(struct store_tx *tx, const struct account *a, bool *shut, struct err *err) {
    int64_t state;
    int rc = one_int(tx, &state, ROOT_ACTIVE, err, SQL_ROOT_STATE_OF, "i", a->own_root);
    *shut = !rc && state != ROOT_ACTIVE && state != ROOT_KNOWN_ONLY;
    return rc;
}
