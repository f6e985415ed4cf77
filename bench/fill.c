/* fill: writes many devices into the registry of a stopped server, through the store and the registry's own statements.  Not as enrolments,
 * which would need a certificate each: rows of the sizes that enrolments leave, spread over keys, a root, states and times.  The same number
 * gives the same rows.  Usage: bench_fill REGISTRY.DB ACCOUNT DEVICES */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/report.h"
#include "registry/row.h"

#define BATCH 500 /* more pages than the cache holds, changed in one transaction, cost SQLite a walk through all of them each */
#define DER_BYTES 600 /* of a certificate */

struct fill {
    const char *account;
    int64_t from, to, all;
    int64_t keys[64], roots[8];
    size_t n_keys, n_roots;
    int64_t row, own_root;
};

/* splitmix64: spread, and the same for the same number. */
static uint64_t mixed(uint64_t n) {
    n += 0x9e3779b97f4a7c15u;
    n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9u;
    n = (n ^ (n >> 27)) * 0x94d049bb133111ebu;
    return n ^ (n >> 31);
}

static struct hash made_hash(uint64_t n) {
    struct hash h;
    for (size_t i = 0; i < sizeof h.b; i += 8)
        memcpy(h.b + i, (uint64_t[]){mixed(n * 4 + i)}, 8);
    for (size_t i = 0; i < 8; i++) /* in order: what random keys cost is measured elsewhere, and here it would be most of the time */
        h.b[i] = (uint8_t)(n >> (56 - 8 * i));
    return h;
}

static int numbers(struct store_tx *tx, int statement, int64_t account, int64_t *out, size_t max, size_t *n, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, statement, "iii", account, I(0), I(max));
    *n = 0;
    while (!rc && (rc = store_next(row, err)) > 0 && *n < max) {
        out[(*n)++] = store_int(row, 0);
        rc = 0;
    }
    return rc < 0 ? rc : 0;
}

static int look_up(struct store_tx *tx, void *arg, struct err *err) {
    struct fill *f = arg;
    struct account a;
    int rc = account_need(tx, span_str(f->account), &a, err);
    if (rc)
        return rc;
    f->row = a.row;
    f->own_root = a.own_root;
    rc = numbers(tx, SQL_KEY_PAGE, a.row, f->keys, 64, &f->n_keys, err);
    if (rc || (rc = numbers(tx, SQL_ROOT_PAGE, a.row, f->roots, 8, &f->n_roots, err)))
        return rc;
    return f->n_keys && f->n_roots ? 0 : err_set(err, MUSTER_ENOTFOUND, "The account needs a key and a root.");
}

static int64_t state_of(uint64_t r) {
    r %= 1000;
    return r < 960 ? DEVICE_ACTIVE : r < 965 ? DEVICE_PENDING : r < 975 ? DEVICE_QUARANTINED : r < 995 ? DEVICE_REVOKED : DEVICE_DELETED;
}

static int add(struct store_tx *tx, const struct fill *f, int64_t i, struct err *err) {
    const uint64_t r = mixed((uint64_t)i);
    const int64_t now = 1790000000, created = now - (f->all - i) * 30, seen = r % 50 == 0 ? 0 : now - (int64_t)((r >> 20) % (40 * CLOCK_DAY));
    const bool shared = r % 10 < 8;
    const int64_t key = f->keys[r % 100 < 60 ? 0 : (r >> 8) % f->n_keys], root = f->roots[(r >> 8) % f->n_roots], state = state_of(r >> 16);
    static uint8_t der[DER_BYTES];
    struct hash spki = made_hash((uint64_t)i), fingerprint = made_hash((uint64_t)i + ((uint64_t)1 << 40));
    struct uuid uuid = uuid_new();
    struct store_row *found;
    char id[64];
    snprintf(id, sizeof id, "%s-%08lld", r % 7 == 0 ? "truck" : "car", (long long)i);
    int rc = shared ? store_exec(tx, NULL, err, SQL_DEVICE_ADD, "uisiiinii" "sisbibiiii", &uuid, f->row, id, state, I(METHOD_SHARED), key, created, seen ? seen : created, "192.0.2.1", I(0), "",
                                 hash_span(&fingerprint), now + CLOCK_YEAR, hash_span(&spki), created, created * 1000, I(1), f->own_root)
                    : store_exec(tx, NULL, err, SQL_DEVICE_ADD, "uisiiniii" "sisbibiiii", &uuid, f->row, id, state, I(METHOD_DEVICE), root, created, seen ? seen : created, "192.0.2.1", I(1), "",
                                 hash_span(&fingerprint), now + CLOCK_YEAR, hash_span(&spki), I(0), I(0), I(0), root);
    if (rc || (rc = first_row(tx, &found, err, SQL_DEVICE_BY_ID, "is", f->row, id)) <= 0)
        return rc ? rc : MUSTER_ECORRUPT;
    int64_t device = store_int(found, 0);
    store_row_end(found);
    rc = store_exec(tx, NULL, err, SQL_DKEY_ADD, "ibiii", f->row, hash_span(&spki), device, I(1), created);
    if (!rc && shared)
        rc = store_exec(tx, NULL, err, SQL_CERT_ADD, "bbiiibbiiiiibbi", span_of(fingerprint.b, 16), hash_span(&fingerprint), f->row, device, key, hash_span(&spki), span_of(der, sizeof der), created,
                        now + CLOCK_YEAR, created, created, I(r % 3 == 0), SPAN_NONE, SPAN_NONE, I(0));
    return rc;
}

static int add_batch(struct store_tx *tx, void *arg, struct err *err) {
    struct fill *f = arg;
    int rc = 0;
    for (int64_t i = f->from; !rc && i < f->to; i++)
        rc = add(tx, f, i, err);
    return rc;
}

int main(int argc, char **argv) {
    struct store *store = NULL;
    struct err err = ERR_INIT;
    uint64_t n;
    if (argc != 4 || !span_to_u64(span_str(argv[3]), &n) || n > 100000000) {
        fprintf(stderr, "usage: bench_fill REGISTRY.DB ACCOUNT DEVICES\n");
        return 2;
    }
    struct fill f = {.account = argv[2], .all = (int64_t)n};
    int rc = registry_open(&(struct registry_open){.path = argv[1], .queue_max = 10, .unsafe_no_sync = true}, &store, &err);
    if (!rc)
        rc = store_read_now(store, look_up, &f, &err);
    for (; !rc && f.from < f.all; f.from = f.to) {
        f.to = f.from + BATCH < f.all ? f.from + BATCH : f.all;
        rc = store_write_now(store, add_batch, &f, &err);
    }
    if (rc)
        fprintf(stderr, "bench_fill: %s\n", err_text(&err));
    if (store)
        store_close(store);
    return rc ? 1 : 0;
}
