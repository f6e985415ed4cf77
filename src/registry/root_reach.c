/* root_reach: see root_reach.h. */
#include "registry/root_reach.h"

#include "registry/dependents.h"
#include "registry/device_chain.h"
#include "registry/root_json.h"
#include "registry/root_path.h"

#define LIST_BYTES (DEVICE_CHAINS_MAX * 24)

struct other {
    struct cert *cert; /* owned; NULL: its row is damaged, and admits nobody */
    bool good;         /* lets devices in */
};

/* The account's roots beside the one that it is about. */
struct others {
    struct cert *root; /* that one; owned */
    struct other at[ROOTS_MAX];
    struct hash past[1 + ROOTS_MAX]; /* keys that are out of use, its own first */
    size_t n, n_past;
};

static void others_fini(struct others *o) {
    cert_free(o->root);
    for (size_t i = 0; i < o->n; i++)
        cert_free(o->at[i].cert);
}
DEFINE_CLEANUP_FINI(others_fini, struct others)

static int load_others(struct store_tx *tx, const struct root *r, struct others *o, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    o->past[o->n_past++] = r->spki;
    int rc = root_cert(tx, r, &o->root, err);
    if (rc || (rc = store_query(tx, &row, err, SQL_ROOT_BESIDE, "iii", r->account, r->row, I(ROOTS_MAX))))
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        struct root one;
        if ((rc = row_root(row, &one, err)))
            return rc;
        if (one.state == ROOT_UNPROVED)
            continue;
        struct other *to = &o->at[o->n++];
        *to = (struct other){.good = one.state == ROOT_ACTIVE || one.state == ROOT_KNOWN_ONLY};
        if (!to->good)
            o->past[o->n_past++] = one.spki;
        else if (root_cert(tx, &one, &to->cert, NULL))
            to->cert = NULL;
    }
    return rc;
}

/* Whether what the devices of a chain show comes under the root, and with that alone. */
static bool comes_under(const struct others *o, const struct device_chain *c, bool retired) {
    const struct root_path path = {.leaf = c->leaf, .cas = (const struct cert *const *)c->cas, .n = c->n};
    if (!root_path_reaches(&path, o->root, NULL, 0))
        return false;
    for (size_t i = 0; retired && i < o->n; i++)
        if (o->at[i].good && o->at[i].cert && root_path_reaches(&path, o->at[i].cert, o->past, o->n_past))
            return false;
    return true;
}

static void add_row(struct buf *list, int64_t row) { buf_addf(list, "%s%lld", list->n > 1 ? "," : "", (long long)row); }

static int sort_chains(struct store_tx *tx, const struct root *r, const struct others *o, bool retired, struct root_reach *out, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_CHAIN_PAGE, "iii", r->account, I(0), I(DEVICE_CHAINS_MAX));
    while (!rc && (rc = store_next(row, err)) > 0) {
        CLEANUP(device_chain_fini) struct device_chain chain = {0};
        const bool damaged = row_device_chain(row, &chain, NULL) != 0;
        const bool under = damaged ? chain.root == r->row : comes_under(o, &chain, retired);
        if (under && chain.root != r->row)
            add_row(&out->with, chain.row);
        if (!under && chain.root == r->row)
            add_row(&out->without, chain.row);
        rc = 0;
    }
    return rc;
}

int root_reach_find(struct store_tx *tx, const struct root *r, bool retired, struct root_reach *out, struct err *err) {
    CLEANUP(others_fini) struct others o = {.n = 0};
    *out = (struct root_reach){.anchor = r->row, .with = BUF_INIT(LIST_BYTES), .without = BUF_INIT(LIST_BYTES)};
    buf_adds(&out->with, "[");
    buf_adds(&out->without, "[");
    int rc = load_others(tx, r, &o, err);
    if (!rc && o.n)
        rc = sort_chains(tx, r, &o, retired, out, err);
    buf_adds(&out->with, "]");
    buf_adds(&out->without, "]");
    return rc ? rc : buf_ok(&out->with) && buf_ok(&out->without) ? 0 : err_set(err, MUSTER_ENOMEM, NULL);
}

void root_reach_fini(struct root_reach *r) {
    buf_fini(&r->with);
    buf_fini(&r->without);
}

/* --- counts: those that have it as their root, without; and those that have another one, with ------------------------------------------ */

static int add_two(struct store_row *row, int found, int64_t *n, int64_t *held) {
    if (found <= 0)
        return found;
    *n += store_int(row, 0);
    *held += store_int(row, 1);
    store_row_end(row);
    return 0;
}

int root_reach_count(struct store_tx *tx, const struct root_reach *r, int64_t *n, int64_t *held, struct err *err) {
    struct store_row *row;
    *n = *held = 0;
    int rc = first_row(tx, &row, err, SQL_ANCHOR_DEVICES, "is", r->anchor, buf_str(&r->without));
    if ((rc = add_two(row, rc, n, held)))
        return rc;
    rc = first_row(tx, &row, err, SQL_CHAINS_DEVICES, "is", r->anchor, buf_str(&r->with));
    return add_two(row, rc, n, held);
}

int root_reach_seen(struct store_tx *tx, const struct root_reach *r, int64_t hour, int64_t *n, struct err *err) {
    int64_t more = 0;
    int rc = one_int(tx, n, 0, err, SQL_ANCHOR_SEEN, "isi", r->anchor, buf_str(&r->without), hour);
    if (!rc && !(rc = one_int(tx, &more, 0, err, SQL_CHAINS_SEEN, "isi", r->anchor, buf_str(&r->with), hour)))
        *n += more;
    return rc;
}

int root_reach_in_use(struct store_tx *tx, const struct root_reach *r, const struct root_asleep *a, int64_t *n, struct err *err) {
    int64_t more = 0;
    int rc = one_int(tx, n, 0, err, SQL_ANCHOR_IN_USE, "isiiii", r->anchor, buf_str(&r->without), a->hour, a->plain, a->renews, a->issuing);
    if (!rc && !(rc = one_int(tx, &more, 0, err, SQL_CHAINS_IN_USE, "isiiii", r->anchor, buf_str(&r->with), a->hour, a->plain, a->renews, a->issuing)))
        *n += more;
    return rc;
}

int root_reach_asleep(struct store_tx *tx, const struct root_reach *r, const struct root_asleep *a, int64_t *n, int64_t *held, struct err *err) {
    struct store_row *row;
    *n = *held = 0;
    int rc = first_row(tx, &row, err, SQL_ANCHOR_ASLEEP, "isiiii", r->anchor, buf_str(&r->without), a->hour, a->plain, a->renews, a->issuing);
    if ((rc = add_two(row, rc, n, held)))
        return rc;
    rc = first_row(tx, &row, err, SQL_CHAINS_ASLEEP, "isiiii", r->anchor, buf_str(&r->with), a->hour, a->plain, a->renews, a->issuing);
    return add_two(row, rc, n, held);
}

static const char *seen_of(const json_t *list, size_t i) {
    const char *text = json_string_value(json_object_get(json_array_get(list, i), "last_seen"));
    return text ? text : "";
}

/* The later half was in order, and so was the first: each of the later ones goes to where it belongs. */
static void merge(json_t *list, size_t from, size_t most) {
    for (size_t i = from; i < json_array_size(list); i++) {
        json_t *one = json_incref(json_array_get(list, i));
        size_t to = i;
        while (to && strcmp(seen_of(list, to - 1), seen_of(list, i)) < 0)
            to--;
        json_array_remove(list, i);
        json_array_insert_new(list, to, one);
    }
    while (json_array_size(list) > most)
        json_array_remove(list, json_array_size(list) - 1);
}

int root_reach_seen_names(struct store_tx *tx, const struct root_reach *r, int64_t hour, int64_t most, json_t *list, struct err *err) {
    struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_ANCHOR_SEEN_PAGE, "isii", r->anchor, buf_str(&r->without), hour, most);
    if ((rc = dependents_take(row, rc, list, err)))
        return rc;
    const size_t first = json_array_size(list);
    rc = store_query(tx, &row, err, SQL_CHAINS_SEEN_PAGE, "isii", r->anchor, buf_str(&r->with), hour, most);
    if (!(rc = dependents_take(row, rc, list, err)))
        merge(list, first, (size_t)most);
    return rc;
}

static int good_names(struct store_tx *tx, const struct root_reach *r, const struct root_asleep *a, int of_anchor, int of_chains, int64_t most, json_t *list, struct err *err) {
    struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, of_anchor, "isiiiii", r->anchor, buf_str(&r->without), a->hour, a->plain, a->renews, a->issuing, most);
    if ((rc = dependents_take(row, rc, list, err)))
        return rc;
    const size_t first = json_array_size(list);
    rc = store_query(tx, &row, err, of_chains, "isiiiii", r->anchor, buf_str(&r->with), a->hour, a->plain, a->renews, a->issuing, most);
    if (!(rc = dependents_take(row, rc, list, err)))
        merge(list, first, (size_t)most);
    return rc;
}

int root_reach_in_use_names(struct store_tx *tx, const struct root_reach *r, const struct root_asleep *a, int64_t most, json_t *list, struct err *err) {
    return good_names(tx, r, a, SQL_ANCHOR_IN_USE_PAGE, SQL_CHAINS_IN_USE_PAGE, most, list, err);
}

int root_reach_asleep_names(struct store_tx *tx, const struct root_reach *r, const struct root_asleep *a, int64_t most, json_t *list, struct err *err) {
    return good_names(tx, r, a, SQL_ANCHOR_ASLEEP_PAGE, SQL_CHAINS_ASLEEP_PAGE, most, list, err);
}
