/* renewable: see renewable.h. */
#include "registry/renewable.h"

#include "base/clock.h"
#include "registry/device_chain.h"

static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }

static int own_end(struct store_tx *tx, const struct device *d, int64_t *end, struct err *err) {
    int rc = one_int(tx, end, 0, err, SQL_CERT_WAITING_END, "i", d->row);
    *end = *end > d->certificate_not_after ? *end : d->certificate_not_after;
    return rc;
}

/* Where what stands above may have expired, the certificate's own end counts. */
static int chain_end(struct store_tx *tx, const struct device *d, const struct root *r, int64_t *end, struct err *err) {
    CLEANUP(device_chain_fini) struct device_chain chain = {0};
    struct store_row *row;
    *end = d->certificate_not_after;
    if (r->expired == EXPIRED_KNOWN || !*end)
        return 0;
    *end = lesser(*end, r->not_after);
    int found = d->chain ? first_row(tx, &row, err, SQL_CHAIN_BY_ROW, "i", d->chain) : 0;
    if (found <= 0)
        return found;
    int rc = row_device_chain(row, &chain, err);
    store_row_end(row);
    for (size_t i = 0; !rc && i < chain.n; i++)
        *end = lesser(*end, chain.cas[i]->not_after);
    return rc;
}

/* Under a root that is out of use nobody renews. */
static int root_carries(struct store_tx *tx, const struct device *d, struct root *r, bool *carries, struct err *err) {
    int64_t anchor;
    int rc = one_int(tx, &anchor, 0, err, SQL_DEVICE_ANCHOR, "i", d->row);
    int found = rc ? rc : anchor ? root_find_row(tx, anchor, r, err) : 0;
    *carries = found > 0 && (r->state == ROOT_ACTIVE || r->state == ROOT_KNOWN_ONLY);
    return found < 0 ? found : 0;
}

int renewable_until(struct store_tx *tx, const struct account *a, const struct device *d, int64_t *until, struct err *err) {
    struct root r;
    bool carries;
    int64_t end = 0;
    *until = 0;
    int rc = root_carries(tx, d, &r, &carries, err);
    if (rc || !carries || d->state != DEVICE_ACTIVE || d->refused || !(a->method & (r.origin == ROOT_MUSTER ? METHOD_SHARED : METHOD_DEVICE)))
        return rc;
    if (d->method == METHOD_SHARED)
        rc = own_end(tx, d, &end, err);
    else if (r.origin == ROOT_MUSTER || a->csr_queue) /* a line's, or one whose requests are kept for its own CA */
        rc = chain_end(tx, d, &r, &end, err);
    if (!rc && end && end < CLOCK_NO_EXPIRY)
        *until = end + a->late_renewal;
    return rc;
}

int renewable_late(struct store_tx *tx, const struct account *a, int64_t now, struct renewable *out, struct err *err) {
    struct store_row *row;
    *out = (struct renewable){0};
    int found = first_row(tx, &row, err, SQL_DEVICE_LATE, "iiiii", a->row, now - a->late_renewal, now, I(RENEWABLE_COUNT_MAX), I(a->method));
    if (found <= 0)
        return found;
    out->n = store_int(row, 0);
    out->first = out->n ? store_int(row, 1) + a->late_renewal : 0;
    store_row_end(row);
    return 0;
}
