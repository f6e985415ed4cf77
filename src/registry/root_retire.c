/* root_retire: which root may be rotated, who depends on a fleet root, and taking it out of use; see root.h. */
#include "base/clock.h"
#include "registry/audit.h"
#include "registry/event.h"
#include "registry/root.h"
#include "registry/root_json.h"

static int64_t hour_before(int64_t days) {
    const int64_t since = clock_now() - days * CLOCK_DAY;
    return since > 0 ? since / CLOCK_HOUR : 0;
}

static json_t *dependent_json(struct store_row *row) {
    char id[DEVICE_ID_MAX + 1];
    struct uuid uuid;
    if (store_uuid(row, 0, &uuid))
        return NULL;
    row_text(row, 1, id, sizeof id);
    json_t *o = json_object();
    json_set_uuid(o, "id", &uuid);
    json_set_str(o, "device_id", id);
    json_set_time(o, "last_seen", store_int(row, 2));
    json_set_bool(o, "renews", store_int(row, 4) == METHOD_SHARED && store_int(row, 3) != 0);
    return o;
}

/* The devices that were seen last, by name. */
static int name_dependents(struct store_tx *tx, const struct root *r, int64_t hour, json_t *list, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_ANCHOR_SEEN_PAGE, "iii", r->row, hour, I(ROOT_NAMED_MAX));
    while (!rc && (rc = store_next(row, err)) > 0) {
        json_t *one = dependent_json(row);
        rc = one ? 0 : err_set(err, MUSTER_ECORRUPT, "A row of the table device is damaged.");
        if (one)
            json_array_append_new(list, one);
    }
    return rc < 0 ? rc : 0;
}

int root_seen_json(struct store_tx *tx, const struct root *r, json_t *out, struct err *err) {
    static const int64_t days[] = {7, 30, 90, 365};
    json_t *seen = json_object(), *named = json_array();
    int64_t n;
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof days / sizeof *days; i++) {
        char name[16];
        snprintf(name, sizeof name, "%dd", (int)days[i]);
        if (!(rc = one_int(tx, &n, 0, err, SQL_ANCHOR_SEEN, "ii", r->row, hour_before(days[i]))))
            json_set_int(seen, name, n);
    }
    if (!rc && !(rc = one_int(tx, &n, 0, err, SQL_ANCHOR_DEVICES, "i", r->row)))
        json_set_int(seen, "ever", n);
    if (!rc)
        rc = name_dependents(tx, r, 0, named, err);
    json_set(out, "seen", seen);
    json_set(out, "newest", named);
    return rc;
}

/* Names in a sentence: whoever reads it may have no other way to them. */
static void add_names(struct buf *text, const json_t *list) {
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) {
        if (i == 5)
            break;
        buf_addf(text, "%s%s", i ? ", " : "", json_string_value(json_object_get(one, "device_id")));
    }
}

static int refuse_dependents(struct store_tx *tx, struct root_retire *t, const struct root *r, struct err *err) {
    CLEANUP_JSON json_t *named = json_array();
    CLEANUP(buf_fini) struct buf text = BUF_INIT(2048);
    const int64_t hour = hour_before(t->days);
    int rc = one_int(tx, &t->devices, 0, err, SQL_ANCHOR_SEEN, "ii", r->row, hour);
    if (rc || !t->devices || (rc = name_dependents(tx, r, hour, named, err)))
        return rc;
    add_names(&text, named);
    return err_set(err, MUSTER_EROOTINUSE, "%lld device%s seen in the last %lld days depend%s on the fleet root: %s%s.", (long long)t->devices, t->devices == 1 ? "" : "s", (long long)t->days,
                   t->devices == 1 ? "s" : "", buf_str(&text), t->devices > 5 ? ", …" : "");
}

/* What issues, or lets new devices in, is not taken out of use: the next one comes first. */
static int check_state(const struct account *a, const struct root *r, struct err *err) {
    if (r->state == ROOT_RETIRED || r->state == ROOT_REVOKED || r->state == ROOT_UNPROVED)
        return err_set(err, MUSTER_ESTATE, "The fleet root is %s and cannot be retired.", word_of(&WORDS_ROOT_STATE, r->state));
    if (r->origin == ROOT_MUSTER && r->row == a->own_root)
        return err_set(err, MUSTER_ESTATE, "Certificates are issued under this fleet root; `muster root rotate` makes the next one.");
    return 0;
}

int root_rotate_look_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_rotate_look *l = arg;
    struct account a;
    struct root r;
    int rc = clock_check(tx, clock_now(), err);
    if (rc || (rc = account_need(tx, l->account, &a, err)) || (rc = root_need(tx, &a, l->root, &r, err)))
        return rc;
    if (r.origin != ROOT_MUSTER)
        return err_set(err, MUSTER_ESTATE, "Muster does not have the key of this fleet root: upload and prove the next one, and retire this one when its devices have moved.");
    if (r.row != a.own_root)
        return err_set(err, MUSTER_ESTATE, "The account issues under another fleet root already; this one is %s.", word_of(&WORDS_ROOT_STATE, r.state));
    l->spki = r.spki;
    return 0;
}

int root_retire_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_retire *t = arg;
    struct account a;
    struct root r;
    int rc = account_need(tx, t->account, &a, err);
    if (rc || (rc = root_need(tx, &a, t->root, &r, err)) || (rc = check_state(&a, &r, err)) || (rc = refuse_dependents(tx, t, &r, err)) ||
        (rc = store_exec(tx, NULL, err, SQL_ROOT_STATE, "ii", r.row, I(ROOT_RETIRED))) || (rc = epoch_raise(tx, err)))
        return rc;
    json_t *detail = json_object(), *more = json_object();
    char id[UUID_TEXT_LEN + 1];
    uuid_text(&r.uuid, id);
    json_set_int(detail, "days", t->days);
    json_set_str(more, "before", word_of(&WORDS_ROOT_STATE, r.state));
    if ((rc = audit_add(tx, a.row, &t->actor, "root.retire", span_str(id), detail, err))) {
        json_decref(more);
        return rc;
    }
    int found = root_find_row(tx, r.row, &r, err);
    if (found <= 0 || (rc = event_root(tx, &a, &r, r.state, EVENT_ROOT_STATE, more, err))) {
        if (found <= 0)
            json_decref(more);
        return found < 0 ? found : rc ? rc : MUSTER_ECORRUPT;
    }
    return root_json(tx, &a, &r, &t->out, err);
}
