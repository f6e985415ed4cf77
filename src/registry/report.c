/* report: see report.h. */
#include "registry/report.h"

#include "registry/root_crl.h"
#include "registry/row.h"

#define SWEEP_MAX 500 /* rows in one transaction: others wait meanwhile */

static const char *const kinds[] = {[REPORT_SYSTEM] = "hardware", [REPORT_NETWORK] = "network", [REPORT_INSTALLED] = "installed", [REPORT_CONFIG] = "config"};
#define KINDS_N ((int64_t)(sizeof kinds / sizeof *kinds))

/* The device may have been deleted since its connection was judged. */
static int need_device(struct store_tx *tx, int64_t account, int64_t device, struct err *err) {
    int64_t state;
    int rc = one_int(tx, &state, 0, err, SQL_DEVICE_LIVES, "ii", device, account);
    return rc ? rc : !state || state == DEVICE_DELETED ? err_set(err, MUSTER_ENOTFOUND, NULL) : 0;
}

int report_put_run(struct store_tx *tx, void *arg, struct err *err) {
    struct report_put *r = arg;
    struct store_row *row;
    r->unchanged = false;
    int found = first_row(tx, &row, err, SQL_REPORT_GET, "iii", r->account, r->device, I(r->kind));
    if (found < 0)
        return found;
    if (found) {
        r->unchanged = span_eq(store_text(row, 0), r->body) && span_eq(store_text(row, 1), r->summary);
        store_row_end(row);
        return r->unchanged ? 0 : store_exec(tx, NULL, err, SQL_REPORT_SET, "iiiittt", r->account, r->device, I(r->kind), clock_now(), r->name, r->summary, r->body);
    }
    int rc = need_device(tx, r->account, r->device, err);
    return rc ? rc : store_exec(tx, NULL, err, SQL_REPORT_ADD, "iiiittt", r->account, r->device, I(r->kind), clock_now(), r->name, r->summary, r->body);
}

/* --- events --------------------------------------------------------------------------------------------------------------------- */

struct ring {
    char id[EVENTS_KEPT][EVENT_ID_MAX + 1];
    size_t n;
    int64_t last; /* seq */
};

static int ring_load(struct store_tx *tx, const struct said_put *e, struct ring *r, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_SAID_IDS, "iii", e->account, e->device, I(EVENTS_KEPT));
    r->n = 0;
    r->last = 0;
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0 && r->n < EVENTS_KEPT) {
        if (!r->n)
            r->last = store_int(row, 0); /* the newest comes first */
        row_text(row, 1, r->id[r->n++], sizeof r->id[0]);
    }
    return rc;
}

static bool is_known(const struct ring *r, const struct said_put *e, size_t i) {
    for (size_t j = 0; j < r->n; j++)
        if (span_eq_str(e->at[i].id, r->id[j]))
            return true;
    for (size_t j = 0; j < i; j++)
        if (span_eq(e->at[i].id, e->at[j].id))
            return true;
    return false;
}

int said_put_run(struct store_tx *tx, void *arg, struct err *err) {
    const struct said_put *e = arg;
    struct ring ring;
    int rc = need_device(tx, e->account, e->device, err);
    if (rc || (rc = ring_load(tx, e, &ring, err)))
        return rc;
    const int64_t before = ring.last;
    for (size_t i = 0; i < e->n; i++) {
        if (is_known(&ring, e, i))
            continue;
        if ((rc = store_exec(tx, NULL, err, SQL_SAID_ADD, "iiitit", e->account, e->device, ++ring.last, e->at[i].id, clock_now(), e->at[i].body)))
            return rc;
    }
    return ring.last == before ? 0 : store_exec(tx, NULL, err, SQL_SAID_TRIM, "iii", e->account, e->device, ring.last - EVENTS_KEPT);
}

static json_t *said_json(struct store_row *row) {
    CLEANUP_JSON json_t *body = json_parse(store_text(row, 3), NULL);
    json_t *o = json_object(), *type = json_object_get(body, "eventType"), *event = json_object_get(body, "event"), *time = json_object_get(body, "deviceTime");
    json_set_span(o, "id", store_text(row, 1));
    json_set_int(o, "seq", store_int(row, 0));
    json_set_time(o, "received", store_int(row, 2));
    json_set_str(o, "device_time", json_string_value(time));
    json_set_str(o, "type", json_string_value(json_object_get(type, "id")));
    json_set(o, "event", json_is_object(event) ? json_incref(event) : json_null());
    return o;
}

/* Up to `limit` of them into the list; *last: seq of the last one; *more: there are others behind. */
static int said_page(struct store_tx *tx, int64_t account, int64_t device, int64_t before, int64_t limit, json_t *list, int64_t *last, bool *more, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_SAID_PAGE, "iiii", account, device, before ? before : INT64_MAX, limit + 1);
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0 && (int64_t)json_array_size(list) < limit) {
        *last = store_int(row, 0);
        json_array_append_new(list, said_json(row));
    }
    *more = rc > 0;
    return rc < 0 ? rc : 0;
}

int said_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct said_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    struct account a;
    struct device d;
    int64_t last = 0;
    bool more = false;
    int rc = account_need(tx, l->account, &a, err);
    if (rc || (rc = device_need(tx, &a, l->device, &d, err)) || (rc = said_page(tx, a.row, d.row, l->page.after, l->page.limit, items, &last, &more, err)))
        return rc;
    return page_finish(&l->page, TAKE(items), last, more);
}

/* --- shown with the device --------------------------------------------------------------------------------------------------------- */

static int add_summaries(struct store_tx *tx, int64_t account, int64_t device, json_t *o, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    for (int64_t k = REPORT_SYSTEM; k < KINDS_N; k++)
        json_set(o, kinds[k], json_null());
    int rc = store_query(tx, &row, err, SQL_REPORT_SUMMARIES, "ii", account, device);
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        int64_t kind = store_int(row, 0);
        json_t *summary = json_parse(store_text(row, 2), NULL);
        if (!summary || kind < REPORT_SYSTEM || kind >= KINDS_N) {
            json_decref(summary);
            return err_set(err, MUSTER_ECORRUPT, "A row of the table device_report is damaged.");
        }
        json_set_time(summary, "changed", store_int(row, 1));
        json_set(o, kinds[kind], summary);
    }
    return rc;
}

static int add_bodies(struct store_tx *tx, int64_t account, int64_t device, json_t *o, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    json_t *reports = json_object();
    json_set(o, "reports", reports);
    int rc = store_query(tx, &row, err, SQL_REPORT_BODIES, "ii", account, device);
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        int64_t kind = store_int(row, 0);
        if (kind >= REPORT_SYSTEM && kind < KINDS_N)
            json_set(reports, kinds[kind], json_parse(store_text(row, 1), NULL));
    }
    return rc;
}

int report_add_json(struct store_tx *tx, int64_t account, int64_t device, bool whole, json_t *o, struct err *err) {
    json_t *events = json_array();
    int64_t last;
    bool more;
    int rc = add_summaries(tx, account, device, o, err);
    json_set(o, "events", events);
    if (!rc)
        rc = said_page(tx, account, device, 0, EVENTS_SHOWN, events, &last, &more, err);
    return rc || !whole ? rc : add_bodies(tx, account, device, o, err);
}

/* --- removed ----------------------------------------------------------------------------------------------------------------------- */

int report_drop(struct store_tx *tx, int64_t account, int64_t device, struct err *err) {
    int rc = store_exec(tx, NULL, err, SQL_REPORT_DROP, "ii", account, device);
    return rc ? rc : store_exec(tx, NULL, err, SQL_SAID_DROP, "ii", account, device);
}

int report_sweep_run(struct store_tx *tx, void *arg, struct err *err) {
    struct report_sweep *s = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    s->more = false;
    int rc = store_query(tx, &row, err, SQL_ACCOUNT_GONE, "");
    if (rc)
        return rc;
    while (!s->more && (rc = store_next(row, err)) > 0) {
        int64_t account = store_int(row, 0), reports = 0, events = 0;
        if ((rc = store_exec(tx, &reports, err, SQL_REPORT_SWEEP, "ii", account, I(SWEEP_MAX))) ||
            (rc = store_exec(tx, &events, err, SQL_SAID_SWEEP, "ii", account, I(SWEEP_MAX))))
            return rc;
        struct root_crl_sweep lists = {.account = account};
        if ((rc = root_crl_sweep_run(tx, &lists, err)))
            return rc;
        s->more = reports + events > 0 || lists.more;
    }
    return rc < 0 ? rc : 0;
}
