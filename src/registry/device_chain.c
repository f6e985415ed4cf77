/* device_chain: see device_chain.h. */
#include "registry/device_chain.h"

static int by_bytes(const void *a, const void *b) { return memcmp(a, b, sizeof(struct hash)); }

/* Of the set: devices may send them in any order. */
static void name_of(const struct admit *a, struct hash *out) {
    struct hash all[CHAIN_MAX_CERTS];
    for (size_t i = 0; i < a->n_between; i++)
        all[i] = a->between[i]->fingerprint;
    if (a->n_between)
        qsort(all, a->n_between, sizeof *all, by_bytes);
    hash_of(span_of(all, a->n_between * sizeof *all), out);
}

/* Whether the account may have one more; *ended: the row that makes room for it, 0: none has to. */
static int find_room(struct store_tx *tx, int64_t account, bool *is_room, int64_t *ended, struct err *err) {
    int64_t many;
    *ended = 0;
    int rc = one_int(tx, &many, 0, err, SQL_CHAIN_COUNT, "i", account);
    *is_room = !rc && many < DEVICE_CHAINS_MAX;
    if (rc || *is_room)
        return rc;
    rc = one_int(tx, ended, 0, err, SQL_CHAIN_ENDED, "ii", account, clock_now());
    *is_room = !rc && *ended;
    return rc;
}

int device_chain_find(struct store_tx *tx, const struct admit *a, const struct root *r, int64_t *row, bool *due, struct err *err) {
    struct store_row *at;
    struct hash name;
    int64_t ended;
    *row = 0;
    *due = false;
    if (!a->between_known)
        return 0;
    name_of(a, &name);
    int found = first_row(tx, &at, err, SQL_CHAIN_GET, "ib", r->row, hash_span(&name));
    if (found < 0)
        return found;
    if (found) {
        *row = store_int(at, 0);
        *due = store_int(at, 1) < a->leaf->not_after;
        store_row_end(at);
        return 0;
    }
    return find_room(tx, r->account, due, &ended, err);
}

int device_chain_keep(struct store_tx *tx, const struct admit *a, const struct root *r, int64_t *row, struct err *err) {
    CLEANUP(buf_fini) struct buf leaf = BUF_INIT(CERT_DER_MAX), cas = BUF_INIT(DEVICE_CHAIN_BYTES);
    struct hash name;
    int64_t ended;
    bool due;
    int rc = device_chain_find(tx, a, r, row, &due, err);
    if (rc || !due)
        return rc;
    if (cert_der(a->leaf, &leaf))
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (*row)
        return store_exec(tx, NULL, err, SQL_CHAIN_LEAF, "ibi", *row, buf_span(&leaf), a->leaf->not_after);
    for (size_t i = 0; i < a->n_between; i++)
        if (cert_der(a->between[i], &cas))
            return err_set(err, MUSTER_ENOMEM, NULL);
    name_of(a, &name);
    if ((rc = find_room(tx, r->account, &due, &ended, err)) || (ended && (rc = store_exec(tx, NULL, err, SQL_CHAIN_DROP, "i", ended))))
        return rc;
    rc = store_exec(tx, NULL, err, SQL_CHAIN_ADD, "iibbbi", r->account, r->row, hash_span(&name), cas.n ? buf_span(&cas) : SPAN_LIT(""), buf_span(&leaf), a->leaf->not_after);
    return rc ? rc : one_int(tx, row, 0, err, SQL_CHAIN_GET, "ib", r->row, hash_span(&name));
}

int device_chain_release(struct store_tx *tx, int64_t row, struct err *err) { return row ? store_exec(tx, NULL, err, SQL_CHAIN_DROP_UNUSED, "i", row) : 0; }

/* Like cert_from_der_next(), of a row. */
static int next_cert(struct span *all, struct cert **out, struct err *err) {
    return cert_from_der_next(all, out, err) ? err_set(err, MUSTER_ECORRUPT, "A row of the table chain is damaged.") : 0;
}

int device_chain_read(struct span leaf, struct span cas, struct device_chain *out, struct err *err) {
    int rc = next_cert(&leaf, &out->leaf, err);
    while (!rc && cas.n && out->n < CHAIN_MAX_CERTS - 1)
        if (!(rc = next_cert(&cas, &out->cas[out->n], err)))
            out->n++;
    return rc ? rc : leaf.n || cas.n ? err_set(err, MUSTER_ECORRUPT, "A row of the table chain holds more than a device can show.") : 0;
}

int row_device_chain(struct store_row *row, struct device_chain *out, struct err *err) {
    *out = (struct device_chain){.row = store_int(row, 0), .root = store_int(row, 1)};
    return device_chain_read(store_blob(row, 3), store_blob(row, 2), out, err);
}

void device_chain_fini(struct device_chain *c) {
    cert_free(c->leaf);
    for (size_t i = 0; i < c->n; i++)
        cert_free(c->cas[i]);
    *c = (struct device_chain){0};
}
