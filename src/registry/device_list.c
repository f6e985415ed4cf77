/* device_list: pages of devices; see device.h. */
#include "registry/device.h"

#define LOOKED_AT_MAX 2500 /* devices that one page looks at: 10 to 25 ms */
#define PASSED_MAX 20000   /* that it passes over by their certificates' dates alone: as much */
#define ANCHORED_MAX 100000 /* entries of an index alone that it reads, to find the next devices under a root by their rows: as much */

/* The way through the devices: along an index, from where the cursor stands.  A cursor says which order it is of: "123" by row, "d:…" by
 * device ID, "s:HOUR:ROW" by the hour of the last request. */
enum way { BY_ROW, BY_STATE, BY_KEY, BY_ROOT, BY_ANCHOR, BY_SPKI, BY_ID, BY_SEEN };
struct walk {
    enum way way;
    int64_t row, hour;      /* after these */
    struct span id;         /* after this; with BY_ID */
    bool later;             /* with BY_SEEN: what was seen in that hour itself is through */
    struct prov_key key;
    struct root root;
    bool anchor; /* root is one of Muster's own: what devices stand under, by whichever way they came, is their anchor */
};

/* The smallest text above every one that begins with the prefix; NULL: there is none. */
static const char *after_prefix(struct span prefix, char out[DEVICE_ID_MAX + 1]) {
    size_t n = prefix.n;
    memcpy(out, prefix.p, n);
    while (n && (uint8_t)out[n - 1] == 0xff)
        n--;
    if (!n)
        return NULL;
    out[n - 1] = (char)((uint8_t)out[n - 1] + 1);
    out[n] = '\0';
    return out;
}

/* --- which way ------------------------------------------------------------------------------------------------------------------- */

/* How many devices each of the filters leaves, by the counts that are kept. */
struct counts {
    int64_t state, key, root;
    int64_t anchor; /* up to ANCHORED_MAX + 1: more */
};

static int count(struct store_tx *tx, const struct device_list *l, const struct account *a, const struct walk *w, struct counts *out, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_ACCOUNT_DEVICES, "i", a->row);
    *out = (struct counts){0};
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        int64_t n = store_int(row, 1);
        out->state += store_int(row, 0) == (int64_t)l->state ? n : 0;
        out->root += l->root.n && store_int(row, 2) == w->root.row ? n : 0;
    }
    if (!rc && w->anchor)
        rc = one_int(tx, &out->anchor, 0, err, SQL_DEVICES_ANCHORED, "ii", w->root.row, I(ANCHORED_MAX + 1));
    return rc || !l->key.n ? rc : one_int(tx, &out->key, 0, err, SQL_KEY_DEVICES, "i", w->key.row);
}

static bool read_number(struct span s, int64_t *out) {
    uint64_t n;
    if (!span_to_u64(s, &n) || n > INT64_MAX)
        return false;
    *out = (int64_t)n;
    return true;
}

/* The order of a cursor that an earlier page gave; BY_ROW stands for every way in that order. */
static int read_cursor(const struct device_list *l, struct walk *w, struct err *err) {
    struct span c = l->cursor;
    w->way = BY_ROW;
    if (read_number(c, &w->row))
        return 0;
    if (span_starts(c, SPAN_LIT("d:")) && l->prefix.n) {
        w->way = BY_ID;
        w->id = span_sub(c, 2, c.n);
        return 0;
    }
    struct span rest = span_starts(c, SPAN_LIT("s:")) ? span_sub(c, 2, c.n) : SPAN_NONE;
    long colon = span_index(rest, ':');
    w->way = BY_SEEN;
    if (colon > 0 && read_number(span_sub(rest, 0, (size_t)colon), &w->hour) && read_number(span_sub(rest, (size_t)colon + 1, rest.n), &w->row))
        return 0;
    return err_set(err, MUSTER_EINVALID, "cursor is not one that this list gave.");
}

/* A filter that leaves fewer than one page looks at is the best of ways; then the device ID, the key, the root, the time. */
static void choose(const struct device_list *l, const struct counts *n, struct walk *w) {
    const struct { bool there; enum way way; int64_t n; } of[] = {{l->key.n > 0, BY_KEY, n->key}, {l->root.n > 0 && !w->anchor, BY_ROOT, n->root}, {w->anchor && n->anchor <= ANCHORED_MAX, BY_ANCHOR, n->anchor}, {l->state != 0, BY_STATE, n->state}};
    const bool first = l->cursor.n == 0, other = first && !l->by_row, by_time = l->seen_since || l->not_seen_since;
    enum way best = BY_ROW;
    int64_t least = INT64_MAX;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        if (of[i].there && of[i].n < least) {
            best = of[i].way;
            least = of[i].n;
        }
    }
    if (l->has_spki) /* a few at most */
        w->way = BY_SPKI;
    else if (other && l->prefix.n && least > LOOKED_AT_MAX)
        w->way = BY_ID;
    else if (other && by_time && (best == BY_ROW || (best == BY_STATE && least > 8 * LOOKED_AT_MAX)))
        w->way = BY_SEEN;
    else if (first || w->way == BY_ROW)
        w->way = best;
}

static int start_walk(struct store_tx *tx, const struct device_list *l, const struct account *a, struct walk *w, struct store_row **row, struct err *err) {
    const int64_t limit = (w->way == BY_KEY ? PASSED_MAX : 0) + LOOKED_AT_MAX + 2; /* the one that the cursor names, which a walk by device ID meets again, and one to see that there are more */
    switch (w->way) {
    case BY_ROW:
        return store_query(tx, row, err, SQL_DEVICE_PAGE, "iii", a->row, w->row, limit);
    case BY_STATE:
        return store_query(tx, row, err, SQL_DEVICE_PAGE_STATE, "iiii", a->row, w->row, limit, I(l->state));
    case BY_KEY:
        return store_query(tx, row, err, SQL_DEVICE_PAGE_KEY, "iii", w->key.row, w->row, limit);
    case BY_ROOT:
        return store_query(tx, row, err, SQL_DEVICE_PAGE_ROOT, "iii", w->root.row, w->row, limit);
    case BY_ANCHOR:
        return store_query(tx, row, err, SQL_DEVICE_PAGE_ANCHOR, "iii", w->root.row, w->row, limit);
    case BY_SPKI:
        return store_query(tx, row, err, SQL_DEVICE_PAGE_SPKI, "ibii", a->row, hash_span(&l->spki), w->row, limit);
    case BY_ID: {
        char end[DEVICE_ID_MAX + 1];
        const char *upper = after_prefix(l->prefix, end);
        return store_query(tx, row, err, SQL_DEVICE_PAGE_PREFIX, "itis", a->row, w->id.n ? w->id : l->prefix, limit, upper ? upper : "\xff");
    }
    case BY_SEEN:
        if (!l->cursor.n) {
            w->hour = l->seen_since / CLOCK_HOUR - 1;
            w->row = INT64_MAX;
        }
        if (!w->later)
            return store_query(tx, row, err, SQL_DEVICE_PAGE_SEEN, "iiii", a->row, w->hour, w->row, limit);
        return store_query(tx, row, err, SQL_DEVICE_PAGE_SEEN_LATER, "iiii", a->row, w->hour, l->not_seen_since ? (l->not_seen_since - 1) / CLOCK_HOUR : INT64_MAX, limit);
    }
    return MUSTER_EINTERNAL;
}

/* 1, 0 or an error, as store_next(). */
static int next_row(struct store_tx *tx, const struct device_list *l, const struct account *a, struct walk *w, struct store_row **row, struct err *err) {
    int rc = store_next(*row, err);
    if (rc || w->way != BY_SEEN || w->later)
        return rc;
    store_row_end(*row);
    *row = NULL;
    w->later = true;
    rc = start_walk(tx, l, a, w, row, err);
    return rc ? rc : store_next(*row, err);
}

/* --- the page ---------------------------------------------------------------------------------------------------------------------- */

/* The device of a row of the walk: by key, rows only name it, with the newest certificate that the key gave it. */
static int read_device(struct store_tx *tx, const struct walk *w, struct store_row *row, struct device *out, struct err *err) {
    if (w->way != BY_KEY)
        return row_device(row, out, err);
    int found = device_find_row(tx, store_int(row, 0), out, err);
    return found < 0 ? found : found ? 0 : err_set(err, MUSTER_ECORRUPT, "A certificate names a device that is not there.");
}

/* 1 it does, 0 not, or an error. */
static int fits(struct store_tx *tx, const struct device_list *l, const struct walk *w, const struct device *d, struct err *err) {
    int64_t certificates = 1, anchor = w->root.row;
    if ((l->state && d->state != l->state) || (l->root.n && !w->anchor && d->root != w->root.row) || (l->prefix.n && !span_starts(span_str(d->device_id), l->prefix)) ||
        (!l->key.n && d->created < l->since) || d->last_seen < l->seen_since || (l->not_seen_since && d->last_seen >= l->not_seen_since))
        return 0;
    int rc = !l->key.n || w->way == BY_KEY ? 0 : one_int(tx, &certificates, 0, err, SQL_KEY_HAS, "iii", w->key.row, d->row, l->since);
    if (!rc && w->anchor && w->way != BY_ANCHOR)
        rc = one_int(tx, &anchor, 0, err, SQL_DEVICE_ANCHOR, "i", d->row);
    return rc ? rc : certificates > 0 && anchor == w->root.row;
}

static int set_next(json_t *page, const struct walk *w, const struct device *d) {
    char text[DEVICE_ID_MAX + 8];
    if (w->way == BY_ID)
        snprintf(text, sizeof text, "d:%s", d->device_id);
    else if (w->way == BY_SEEN)
        snprintf(text, sizeof text, "s:%lld:%lld", (long long)(d->last_seen / CLOCK_HOUR), (long long)d->row);
    else
        snprintf(text, sizeof text, "%lld", (long long)d->row);
    json_set_str(page, "next", text);
    return json_object_get(page, "next") ? 0 : MUSTER_ENOMEM;
}

static int prepare(struct store_tx *tx, const struct device_list *l, const struct account *a, struct walk *w, struct err *err) {
    struct counts n = {0};
    int rc;
    if (l->prefix.n > DEVICE_ID_MAX)
        return err_set(err, MUSTER_EDEVICEID, NULL);
    if ((l->key.n && (rc = key_need(tx, a, l->key, &w->key, err))) || (l->root.n && (rc = root_need(tx, a, l->root, &w->root, err))) ||
        (l->cursor.n && (rc = read_cursor(l, w, err))))
        return rc;
    w->anchor = l->root.n && w->root.origin == ROOT_MUSTER;
    if ((l->state || l->key.n || l->root.n) && (rc = count(tx, l, a, w, &n, err)))
        return rc;
    choose(l, &n, w);
    return 0;
}

int device_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct device_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct walk w = {0};
    struct account a;
    struct device d = {0};
    int64_t looked_at = 0, passed = 0;
    int rc = account_need(tx, l->account, &a, err);
    if (rc || (rc = prepare(tx, l, &a, &w, err)) || (rc = start_walk(tx, l, &a, &w, &row, err)))
        return rc;
    while ((rc = next_row(tx, l, &a, &w, &row, err)) > 0 && (int64_t)json_array_size(items) < l->page.limit && looked_at < LOOKED_AT_MAX && passed < PASSED_MAX) {
        json_t *one = NULL;
        if (w.way == BY_KEY && store_int(row, 1) < l->since) {
            d.row = store_int(row, 0); /* where the cursor stands */
            passed++;
            continue;
        }
        if ((rc = read_device(tx, &w, row, &d, err)))
            return rc;
        if (w.id.n && span_eq_str(w.id, d.device_id))
            continue; /* the last one of the page before */
        looked_at++;
        if ((rc = fits(tx, l, &w, &d, err)) == 0)
            continue;
        if (rc < 0 || (rc = device_json(tx, &a, &d, false, &one, err)))
            return rc;
        json_array_append_new(items, one);
    }
    bool more = rc > 0;
    if (rc < 0 || (rc = page_finish(&l->page, TAKE(items), 0, false)))
        return rc;
    return more ? set_next(l->page.out, &w, &d) : 0;
}
