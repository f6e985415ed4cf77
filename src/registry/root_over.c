/* root_over: see root_over.h. */
#include "registry/root_over.h"

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

static bool is_out(const struct root *r) { return r->state == ROOT_RETIRED || r->state == ROOT_REVOKED; }

/* By the signature, which alone tells a root from the one before it; of those that are over, which are few. */
static int signed_by_one(struct store_tx *tx, int64_t account, const struct cert *ca, bool *over, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_ROOT_PAGE, "iii", account, I(0), I(ROOTS_MAX));
    while (!rc && !*over && (rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *root = NULL;
        struct root r;
        if ((rc = row_root(row, &r, err)) || r.origin != ROOT_MUSTER || !is_out(&r) || (rc = cert_from_der(store_blob(row, ROOT_DER), &root, err)))
            continue;
        *over = cert_signed_by(ca, root);
    }
    return rc;
}

static int issues(struct store_tx *tx, const struct account *a, bool *does, struct err *err) {
    struct root own;
    int found = root_find_row(tx, a->own_root, &own, err);
    *does = found > 0 && !is_out(&own);
    return found < 0 ? found : 0;
}

int root_over(struct store_tx *tx, const struct account *a, int64_t issuer, bool *over, struct err *err) {
    CLEANUP(cert_free) struct cert *ca = NULL;
    bool does;
    *over = false;
    int rc = issuer ? load_ca(tx, a->row, issuer, &ca, err) : 0;
    if (rc || !ca || (rc = signed_by_one(tx, a->row, ca, over, err)) || !*over)
        return rc;
    rc = issues(tx, a, &does, err);
    *over = !rc && does;
    return rc;
}
