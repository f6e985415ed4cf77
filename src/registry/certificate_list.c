/* certificate_list: pages of certificates; see certificate.h. */
#include "registry/certificate.h"

#define LOOKED_AT_MAX 2500 /* certificates that one page looks at, and accounts where it goes through all of them */
#define CURSOR_MAX 96

/* The way through the certificates: along an index, from where the cursor stands.  The filters alone choose it, so that the cursors of a
 * walk are all of one kind: "123" by row, "e:END:ROW" by the end. */
enum way { BY_SERIAL, BY_FINGERPRINT, BY_SPKI, BY_DEVICE, BY_KEY, BY_REVOKED, BY_END };
struct walk {
    enum way way;
    int64_t row, end;        /* after these */
    bool later;              /* BY_END: what ends at that second is through; BY_DEVICE, BY_SPKI: what a released device had is */
    int64_t from, to;        /* ends that are asked for: at or after; before */
    int64_t now;
    int64_t device;          /* 0: there is none of that ID any more */
    char device_id[DEVICE_ID_MAX + 1];
    int64_t holder;          /* BY_SPKI: the device that has the key, or had it; 0: none */
    struct prov_key key;
};

/* --- which way ------------------------------------------------------------------------------------------------------------------- */

static bool read_number(struct span s, int64_t *out) {
    uint64_t n;
    if (!span_to_u64(s, &n) || n > INT64_MAX)
        return false;
    *out = (int64_t)n;
    return true;
}

static int read_cursor(struct span c, struct walk *w, struct err *err) {
    if (!c.n)
        return 0;
    if (w->way != BY_END && read_number(c, &w->row))
        return 0;
    struct span rest = w->way == BY_END && span_starts(c, SPAN_LIT("e:")) ? span_sub(c, 2, c.n) : SPAN_NONE;
    long colon = span_index(rest, ':');
    if (colon > 0 && read_number(span_sub(rest, 0, (size_t)colon), &w->end) && read_number(span_sub(rest, (size_t)colon + 1, rest.n), &w->row))
        return 0;
    return err_set(err, MUSTER_EINVALID, "cursor is not one that this list gave.");
}

/* The device as it is, or one that was and whose certificates are still there. */
static int find_device(struct store_tx *tx, const struct certificate_list *l, const struct account *a, struct walk *w, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct err why = ERR_INIT;
    struct device d;
    int rc = device_need(tx, a, l->device, &d, &why);
    if (!rc) {
        w->device = d.row;
        snprintf(w->device_id, sizeof w->device_id, "%s", d.device_id);
        return 0;
    }
    int found = rc != MUSTER_ENOTFOUND || l->device.n > DEVICE_ID_MAX ? 0 : first_row(tx, &row, err, SQL_CERT_PAGE_WAS, "itii", a->row, l->device, I(0), I(1));
    if (found < 0)
        return found;
    if (!found) {
        *err = why;
        return rc;
    }
    snprintf(w->device_id, sizeof w->device_id, "%.*s", SPAN_FMT(l->device));
    return 0;
}

/* A key is one device's (device_identity.h), and so are all certificates for it but those of devices that are gone. */
static int find_holder(struct store_tx *tx, const struct certificate_list *l, const struct account *a, struct walk *w, struct err *err) {
    return one_int(tx, &w->holder, 0, err, SQL_DKEY_GET, "ib", a->row, hash_span(&l->spki));
}

static int prepare(struct store_tx *tx, const struct certificate_list *l, const struct account *a, struct span cursor, struct walk *w, struct err *err) {
    int rc = l->device.n ? find_device(tx, l, a, w, err) : 0;
    if (rc || (l->key.n && (rc = key_need(tx, a, l->key, &w->key, err))) || (l->has_spki && (rc = find_holder(tx, l, a, w, err))))
        return rc;
    w->way = l->serial.n ? BY_SERIAL : l->fingerprint.n ? BY_FINGERPRINT : l->has_spki ? BY_SPKI : l->device.n ? BY_DEVICE : l->key.n ? BY_KEY : l->state == CERTIFICATES_REVOKED && a->state != ACCOUNT_DELETED ? BY_REVOKED : BY_END;
    w->now = clock_now();
    w->from = l->ends_after;
    w->to = l->ends_before ? l->ends_before : INT64_MAX;
    if (l->state == CERTIFICATES_ACTIVE && w->from <= w->now)
        w->from = w->now + 1;
    if (l->state == CERTIFICATES_EXPIRED && w->to > w->now)
        w->to = w->now + 1;
    w->end = w->from;
    return read_cursor(cursor, w, err);
}

static int start_walk(struct store_tx *tx, const struct certificate_list *l, const struct account *a, const struct walk *w, struct store_row **row, struct err *err) {
    const int64_t limit = LOOKED_AT_MAX + 1; /* one to see that there are more */
    switch (w->way) {
    case BY_SERIAL:
        return store_query(tx, row, err, SQL_CERT_GET_SERIAL, "b", certificate_name_span(&l->serial));
    case BY_FINGERPRINT:
        return store_query(tx, row, err, SQL_CERT_GET_PRINT, "b", certificate_name_span(&l->fingerprint));
    case BY_DEVICE: /* what is issued to a device of the ID anew comes behind what the one before had */
        return w->later ? store_query(tx, row, err, SQL_CERT_PAGE_DEVICE, "iii", w->device, w->row, limit)
                        : store_query(tx, row, err, SQL_CERT_PAGE_WAS, "isii", a->row, w->device_id, w->row, limit);
    case BY_SPKI:
        return w->later ? store_query(tx, row, err, SQL_CERT_PAGE_SPKI, "ibii", w->holder, hash_span(&l->spki), w->row, limit)
                        : store_query(tx, row, err, SQL_CERT_PAGE_SPKI_GONE, "ibii", a->row, hash_span(&l->spki), w->row, limit);
    case BY_KEY:
        return store_query(tx, row, err, SQL_CERT_PAGE_KEY, "iii", w->key.row, w->row, limit);
    case BY_REVOKED:
        return store_query(tx, row, err, SQL_CERT_PAGE_REVOKED, "iii", a->row, w->row, limit);
    case BY_END:
        return w->later ? store_query(tx, row, err, SQL_CERT_PAGE_END, "iiii", a->row, w->end, w->to, limit)
                        : store_query(tx, row, err, SQL_CERT_PAGE_SAME_END, "iiii", a->row, w->end, w->row, limit);
    }
    return MUSTER_EINTERNAL;
}

/* 1, 0 or an error, as store_next(). */
static int next_row(struct store_tx *tx, const struct certificate_list *l, const struct account *a, struct walk *w, struct store_row **row, struct err *err) {
    int rc = store_next(*row, err);
    if (rc || w->later || !(w->way == BY_END || (w->way == BY_DEVICE && w->device) || (w->way == BY_SPKI && w->holder)))
        return rc;
    store_row_end(*row);
    *row = NULL;
    w->later = true;
    rc = start_walk(tx, l, a, w, row, err);
    return rc ? rc : store_next(*row, err);
}

/* --- the page ---------------------------------------------------------------------------------------------------------------------- */

static bool state_fits(enum certificate_filter f, const struct certificate *c, int64_t now) {
    const bool live = !c->revoked && c->state <= CERT_CURRENT;
    switch (f) {
    case CERTIFICATES_ALL:
        return true;
    case CERTIFICATES_ACTIVE:
        return live && c->not_after > now;
    case CERTIFICATES_EXPIRED:
        return live && c->not_after <= now;
    case CERTIFICATES_REVOKED:
        return c->revoked != 0;
    case CERTIFICATES_ISSUED:
        return !c->revoked && c->state == CERT_ISSUED;
    case CERTIFICATES_CURRENT:
        return !c->revoked && c->state == CERT_CURRENT;
    case CERTIFICATES_VOID:
        return !c->revoked && c->state == CERT_VOID;
    case CERTIFICATES_SUPERSEDED:
        return !c->revoked && c->state == CERT_SUPERSEDED;
    }
    return false;
}

static bool is_of_device(const struct walk *w, const struct certificate *c) { return c->device ? c->device == w->device : strcmp(c->device_id, w->device_id) == 0; }

static bool fits(const struct certificate_list *l, const struct account *a, const struct walk *w, const struct certificate *c) {
    return c->account == a->row && (!l->serial.n || span_eq(certificate_name_span(&l->serial), span_of(c->serial, c->serial_n))) &&
           (!l->fingerprint.n || span_eq(certificate_name_span(&l->fingerprint), hash_span(&c->fingerprint))) && (!l->has_spki || hash_eq(&l->spki, &c->spki)) && (!l->device.n || is_of_device(w, c)) &&
           (!l->key.n || c->prov_key == w->key.row) && c->not_after >= w->from && c->not_after < w->to && state_fits(l->state, c, w->now);
}

static void cursor_write(const struct walk *w, const struct certificate *c, char out[CURSOR_MAX]) {
    if (w->way == BY_END)
        snprintf(out, CURSOR_MAX, "e:%lld:%lld", (long long)c->not_after, (long long)c->row);
    else
        snprintf(out, CURSOR_MAX, "%lld", (long long)c->row);
}

/* A page that is being made. */
struct paging {
    const struct certificate_list *l;
    json_t *items;
    int looked_at;
    char next[CURSOR_MAX]; /* "": there is no more */
};

static bool is_full(const struct paging *p) { return (int64_t)json_array_size(p->items) >= p->l->page.limit || p->looked_at >= LOOKED_AT_MAX; }

static int add_account(struct store_tx *tx, struct paging *p, const struct account *a, struct walk *w, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct certificate c = {.row = 0};
    int rc = start_walk(tx, p->l, a, w, &row, err);
    if (rc)
        return rc;
    while ((rc = next_row(tx, p->l, a, w, &row, err)) > 0 && !is_full(p)) {
        if ((rc = row_certificate(row, &c, err)))
            return rc;
        certificate_end_with(a, &c);
        p->looked_at++;
        if (fits(p->l, a, w, &c))
            json_array_append_new(p->items, certificate_json(a, &c, w->now));
    }
    if (rc > 0)
        cursor_write(w, &c, p->next);
    return rc < 0 ? rc : 0;
}

static int add_from(struct store_tx *tx, struct paging *p, const struct account *a, struct span cursor, struct err *err) {
    struct walk w = {.way = BY_END};
    struct err why = ERR_INIT;
    int rc = prepare(tx, p->l, a, cursor, &w, &why);
    if (rc == MUSTER_ENOTFOUND && (p->l->lenient || !p->l->account.n))
        return 0;
    if (rc)
        *err = why;
    return rc ? rc : add_account(tx, p, a, &w, err);
}

/* --- over all accounts: one behind the other; the cursor is "ACCOUNT/" and that of the account, or nothing at its beginning -------- */

static int read_outer(struct span cursor, int64_t *account, struct span *inner, struct err *err) {
    const long slash = span_index(cursor, '/');
    *account = 0;
    *inner = SPAN_NONE;
    if (!cursor.n)
        return 0;
    if (slash <= 0 || !read_number(span_sub(cursor, 0, (size_t)slash), account))
        return err_set(err, MUSTER_EINVALID, "cursor is not one that this list gave.");
    *inner = span_sub(cursor, (size_t)slash + 1, cursor.n);
    return 0;
}

static int add_all(struct store_tx *tx, struct paging *p, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct span inner;
    int64_t from;
    int rc = read_outer(p->l->cursor, &from, &inner, err);
    if (rc || (rc = store_query(tx, &row, err, SQL_ACCOUNT_PAGE_ANY, "ii", from ? from - 1 : 0, I(LOOKED_AT_MAX + 1))))
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        struct account a;
        if ((rc = row_account(row, &a, err)))
            return rc;
        const bool full = is_full(p);
        if (!full && (rc = add_from(tx, p, &a, a.row == from ? inner : SPAN_NONE, err)))
            return rc;
        if (full || p->next[0]) {
            char within[CURSOR_MAX];
            memcpy(within, p->next, sizeof within);
            snprintf(p->next, sizeof p->next, "%lld/%.64s", (long long)a.row, within);
            return 0;
        }
        p->looked_at++;
    }
    return rc;
}

int certificate_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct certificate_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    struct paging p = {.l = l, .items = items};
    struct account a = {.row = 0};
    int rc = l->account.n ? account_need_any(tx, l->account, &a, err) : add_all(tx, &p, err);
    if (!rc && l->account.n)
        rc = add_from(tx, &p, &a, l->cursor, err);
    if (rc || (rc = page_finish(&l->page, TAKE(items), 0, false)))
        return rc;
    if (!p.next[0])
        return 0;
    json_set_str(l->page.out, "next", p.next);
    return json_object_get(l->page.out, "next") ? 0 : MUSTER_ENOMEM;
}
