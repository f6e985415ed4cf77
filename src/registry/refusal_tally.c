/* refusal_tally: see refusal_tally.h. */
#include "registry/refusal_tally.h"

static struct refusal_tally_code *code_of(struct refusal_tally *t, struct store_row *row) {
    struct span code = store_text(row, 0);
    for (size_t i = 0; i < t->n; i++)
        if (span_eq_str(code, t->at[i].code))
            return &t->at[i];
    if (t->n == REFUSAL_TALLY_CODES)
        return NULL;
    struct refusal_tally_code *c = &t->at[t->n++];
    *c = (struct refusal_tally_code){0};
    row_text(row, 0, c->code, sizeof c->code);
    return c;
}

static void take(struct refusal_tally *t, struct store_row *row) {
    if (span_eq_str(store_text(row, 0), err_code(MUSTER_ESHADOW))) /* nothing was refused */
        return;
    int64_t count = store_int(row, 1), last = store_int(row, 2);
    struct refusal_tally_code *c = code_of(t, row);
    t->total += count;
    if (!c)
        return;
    c->count += count;
    c->records++;
    if (last > c->last)
        c->last = last;
    if (!c->device_id[0]) /* the newest comes first */
        row_text(row, 3, c->device_id, sizeof c->device_id);
}

static int by_count(const void *l, const void *r) {
    const struct refusal_tally_code *a = l, *b = r;
    if (a->count != b->count)
        return a->count < b->count ? 1 : -1;
    return strcmp(a->code, b->code);
}

int refusal_tally_read(struct store_tx *tx, int64_t account, struct refusal_tally *t, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    const int64_t most = REFUSAL_TALLY_LOOK + 1;
    int64_t looked = 0;
    int rc = account == REFUSAL_TALLY_SERVER ? store_query(tx, &row, err, SQL_REFUSAL_TALLY_ALL, "i", most) : store_query(tx, &row, err, SQL_REFUSAL_TALLY, "ii", account, most);
    if (rc)
        return rc;
    t->n = 0;
    t->total = 0;
    t->all = true;
    while ((rc = store_next(row, err)) > 0) {
        int64_t last = store_int(row, 2);
        if (last < t->since - REFUSAL_ORDER_SLACK)
            break;
        if (looked++ == REFUSAL_TALLY_LOOK) {
            t->all = false;
            break;
        }
        if (last >= t->since)
            take(t, row);
    }
    if (rc < 0)
        return rc;
    qsort(t->at, t->n, sizeof t->at[0], by_count);
    return 0;
}
