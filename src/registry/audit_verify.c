/* audit_verify: walks a chain; see audit.h. */
#include "registry/audit.h"

#include "registry/row.h"

#define STEP 5000 /* entries in one transaction */

void audit_verify_bad(struct audit_verify *v, int64_t seq, const char *fmt, ...) {
    va_list ap;
    if (v->bad)
        return;
    v->bad = true;
    v->first_bad = seq;
    v->more = false;
    va_start(ap, fmt);
    vsnprintf(v->reason, sizeof v->reason, fmt, ap);
    va_end(ap);
}

/* Heads that were signed have to be met exactly. */
static bool meets(const struct audit_head *points, size_t n, size_t *met, int64_t seq, const struct hash *hash) {
    while (*met < n && points[*met].seq == seq) {
        if (!hash_eq(&points[*met].hash, hash))
            return false;
        ++*met;
    }
    return true;
}

static int finish(struct store_tx *tx, struct audit_verify *v, struct err *err) {
    int rc = audit_head_get(tx, v->chain, &v->head, err);
    if (rc)
        return rc;
    v->more = false;
    if (v->head.seq != v->seq || !hash_eq(&v->head.hash, &v->hash))
        audit_verify_bad(v, v->seq + 1, "The stored head is not the last entry: entries are missing at the end.");
    else if (v->met < v->n_points || v->met_fixed < v->n_fixed)
        audit_verify_bad(v, v->seq + 1, "The vault has signed a later entry than the last one that is there: entries are missing at the end.");
    return 0;
}

/* The next entry. */
static void take(struct audit_verify *v, struct store_row *row) {
    struct audit_entry e = {.seq = store_int(row, 0), .at = store_int(row, 1), .actor = store_text(row, 2), .action = store_text(row, 3), .object = store_text(row, 4),
                            .detail = store_text(row, 5), .seal = store_blob(row, 7)};
    struct hash stored;
    if (e.seq != v->seq + 1) {
        audit_verify_bad(v, v->seq + 1, "The entry is missing.");
        return;
    }
    if (row_hash(row, 6, &stored) || audit_hash(&v->hash, e.seq, e.at, e.actor, e.action, e.object, e.detail, &e.hash) || !hash_eq(&stored, &e.hash)) {
        audit_verify_bad(v, e.seq, "The entry, or one before it, was changed.");
        return;
    }
    v->seq = e.seq;
    v->hash = e.hash;
    if (!meets(v->points, v->n_points, &v->met, e.seq, &e.hash) || !meets(v->fixed, v->n_fixed, &v->met_fixed, e.seq, &e.hash))
        audit_verify_bad(v, e.seq, "The entry is not the one whose hash the vault has signed.");
    else if (v->each)
        v->each(v->each_arg, &e);
}

int audit_verify_run(struct store_tx *tx, void *arg, struct err *err) {
    struct audit_verify *v = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int64_t n = 0, want = v->until && v->until - v->seq < STEP ? v->until - v->seq : STEP;
    int rc = v->bad ? 0 : store_query(tx, &row, err, SQL_AUDIT_FROM, "iii", v->chain, v->seq, want);
    if (rc || v->bad)
        return rc;
    for (; !v->bad && (rc = store_next(row, err)) > 0; n++)
        take(v, row);
    if (rc < 0 || v->bad)
        return rc < 0 ? rc : 0;
    store_row_end(TAKE(row));
    return n < want ? finish(tx, v, err) : 0;
}
