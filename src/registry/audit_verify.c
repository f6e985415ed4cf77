/* audit_verify: walks a chain; see audit.h. */
#include "registry/audit.h"

#include "registry/row.h"

#define STEP 5000 /* entries in one transaction */

static int bad(struct audit_verify *v, int64_t seq, const char *why) {
    v->first_bad = seq;
    v->more = false;
    snprintf(v->reason, sizeof v->reason, "%s", why);
    return 0;
}

/* Heads that were signed have to be met exactly. */
static bool points_hold(struct audit_verify *v) {
    while (v->met < v->n_points && v->points[v->met].seq == v->seq) {
        if (!hash_eq(&v->points[v->met].hash, &v->hash))
            return false;
        v->met++;
    }
    return true;
}

static int finish(struct store_tx *tx, struct audit_verify *v, struct err *err) {
    int rc = audit_head_get(tx, v->chain, &v->head, err);
    if (rc)
        return rc;
    v->more = false;
    if (v->head.seq != v->seq || !hash_eq(&v->head.hash, &v->hash))
        return bad(v, v->seq + 1, "The stored head is not the last entry: entries are missing at the end.");
    if (v->met < v->n_points)
        return bad(v, v->seq + 1, "The vault has signed a later entry than the last one that is there: entries are missing at the end.");
    return 0;
}

int audit_verify_run(struct store_tx *tx, void *arg, struct err *err) {
    struct audit_verify *v = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_AUDIT_FROM, "iii", v->chain, v->seq, (int64_t)STEP);
    if (rc)
        return rc;
    int64_t n = 0;
    for (; (rc = store_next(row, err)) > 0; n++) {
        struct hash stored, computed;
        int64_t seq = store_int(row, 0);
        if (seq != v->seq + 1)
            return bad(v, v->seq + 1, "The entry is missing.");
        if (row_hash(row, 6, &stored) ||
            audit_hash(&v->hash, seq, store_int(row, 1), store_text(row, 2), store_text(row, 3), store_text(row, 4), store_text(row, 5), &computed) ||
            !hash_eq(&stored, &computed))
            return bad(v, seq, "The entry, or one before it, was changed.");
        v->seq = seq;
        v->hash = computed;
        if (!points_hold(v))
            return bad(v, seq, "The entry is not the one whose hash the vault has signed.");
    }
    if (rc < 0)
        return rc;
    store_row_end(TAKE(row));
    return n < STEP ? finish(tx, v, err) : 0;
}
