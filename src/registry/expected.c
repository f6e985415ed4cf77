/* expected: the devices that were announced; see device.h. */
#include "base/hex.h"
#include "registry/audit_seal.h"
#include "registry/device.h"

#define IMPORT_MAX 100000
#define LOOKED_AT_MAX 1000 /* announcements that one page looks at: each asks for its device, which lies anywhere among a million */

static int expected_json(struct store_tx *tx, const struct account *a, struct store_row *row, enum device_state *state, json_t **out, struct err *err) {
    int64_t arrived;
    struct span id = store_text(row, 0), key = store_blob(row, 1);
    int rc = one_int(tx, &arrived, 0, err, SQL_DEVICE_ARRIVED, "it", a->row, id);
    if (rc)
        return rc;
    *state = (enum device_state)arrived;
    *out = json_object();
    json_set_span(*out, "id", id);
    json_set_span(*out, "device_id", id);
    json_set_hex(*out, "fingerprint", key);
    json_set_time(*out, "announced", store_int(row, 2));
    json_set_str(*out, "state", arrived ? word_of(&WORDS_DEVICE_STATE, arrived) : NULL);
    return 0;
}

int expected_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct expected_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct account a;
    char last[DEVICE_ID_MAX + 1] = "";
    int64_t looked_at = 0;
    int rc = account_need(tx, l->account, &a, err);
    if (rc || (rc = store_query(tx, &row, err, SQL_EXPECTED_PAGE, "iti", a.row, l->cursor.n ? l->cursor : l->prefix.n ? l->prefix : SPAN_LIT(""), I(LOOKED_AT_MAX + 2))))
        return rc;
    bool more = false;
    while ((rc = store_next(row, err)) > 0) {
        enum device_state state;
        json_t *one = NULL;
        if (!span_starts(store_text(row, 0), l->prefix))
            break; /* behind the last one of the prefix */
        if (l->cursor.n && span_eq(store_text(row, 0), l->cursor))
            continue; /* the last one of the page before */
        more = (int64_t)json_array_size(items) >= l->page.limit || looked_at >= LOOKED_AT_MAX;
        if (more)
            break;
        if ((rc = expected_json(tx, &a, row, &state, &one, err)))
            return rc;
        row_text(row, 0, last, sizeof last);
        looked_at++;
        if (l->missing && state)
            json_decref(one);
        else
            json_array_append_new(items, one);
    }
    if (rc < 0 || (rc = page_finish(&l->page, TAKE(items), 0, false)))
        return rc;
    if (more)
        json_set_str(l->page.out, "next", last);
    return 0;
}

int expected_remove_run(struct store_tx *tx, void *arg, struct err *err) {
    struct expected_remove *r = arg;
    struct account a;
    struct store_row *row;
    struct audit_sum sum = {{0}};
    int rc = account_need(tx, r->account, &a, err);
    if (rc)
        return rc;
    int found = first_row(tx, &row, err, SQL_EXPECTED_GET, "it", a.row, r->device_id);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ENOTFOUND, "No device of that ID is announced.");
    audit_sum_add(&sum, a.row, r->device_id, store_blob(row, 0), true);
    store_row_end(row);
    if ((rc = store_exec(tx, NULL, err, SQL_EXPECTED_DROP, "it", a.row, r->device_id)))
        return rc;
    json_decref(r->out);
    r->out = json_object();
    json_set_span(r->out, "id", r->device_id);
    json_set_span(r->out, "device_id", r->device_id);
    json_t *detail = json_object();
    audit_sum_write(detail, &sum);
    return audit_add(tx, a.row, &r->actor, "device.unannounce", r->device_id, detail, err);
}

/* --- import ------------------------------------------------------------------------------------------------------------------- */

static int import_one(struct store_tx *tx, struct device_import *in, const struct account *a, json_t *item, size_t at, struct audit_sum *sum, struct err *err) {
    const char *id = NULL, *fingerprint = NULL;
    struct hash spki;
    int rc = json_take(item, err, "{s:s, s?s}", "device_id", &id, "fingerprint", &fingerprint);
    if (!rc && !(rc = device_id_check(span_str(id), err)))
        rc = device_id_check_new(span_str(id), err);
    if (!rc && fingerprint && hex_decode(span_str(fingerprint), spki.b, sizeof spki.b))
        rc = err_set(err, MUSTER_EINVALID, "The fingerprint is not the SHA-256 of a public key in 64 hex digits.");
    if (rc)
        return err_prefix(err, "item %zu", at + 1);
    struct span key = fingerprint ? hash_span(&spki) : SPAN_NONE;
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_EXPECTED_GET, "is", a->row, id);
    if (found < 0)
        return found;
    if (!found) {
        in->added++;
        audit_sum_add(sum, a->row, span_str(id), key, false);
        return store_exec(tx, NULL, err, SQL_EXPECTED_ADD, "isbi", a->row, id, key, clock_now());
    }
    bool same = span_eq(store_blob(row, 0), key);
    if (!same) {
        audit_sum_add(sum, a->row, span_str(id), store_blob(row, 0), true);
        audit_sum_add(sum, a->row, span_str(id), key, false);
    }
    store_row_end(row);
    if (same)
        return 0;
    in->changed++;
    return store_exec(tx, NULL, err, SQL_EXPECTED_SET, "isb", a->row, id, key);
}

int device_import_run(struct store_tx *tx, void *arg, struct err *err) {
    struct device_import *in = arg;
    struct account a;
    struct audit_sum sum = {{0}};
    size_t i;
    json_t *item;
    in->added = in->changed = 0;
    int rc = account_need(tx, in->account, &a, err);
    if (rc)
        return rc;
    if (json_array_size(in->items) > IMPORT_MAX)
        return err_set(err, MUSTER_EINVALID, "At most %d devices at a time.", IMPORT_MAX);
    json_array_foreach(in->items, i, item) {
        if ((rc = import_one(tx, in, &a, item, i, &sum, err)))
            return rc;
    }
    if (in->added + in->changed == 0)
        return 0;
    json_t *detail = json_object();
    json_set_int(detail, "added", in->added);
    json_set_int(detail, "changed", in->changed);
    audit_sum_write(detail, &sum);
    return audit_add(tx, a.row, &in->actor, "device.import", SPAN_NONE, detail, err);
}
