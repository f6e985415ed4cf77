/* device_list: pages of devices, and what was announced; see device.h. */
#include "base/hex.h"
#include "registry/audit.h"
#include "registry/device.h"

#define IMPORT_MAX 100000

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

static int start_page(struct store_tx *tx, struct device_list *l, const struct account *a, struct store_row **row, struct err *err) {
    const int64_t limit = l->page.limit + 1;
    if (l->prefix.n) {
        char end[DEVICE_ID_MAX + 1];
        if (l->prefix.n > DEVICE_ID_MAX)
            return err_set(err, MUSTER_EDEVICEID, NULL);
        const char *upper = after_prefix(l->prefix, end);
        struct span after = l->after_id.n ? l->after_id : SPAN_LIT("");
        return store_query(tx, row, err, SQL_DEVICE_PAGE_PREFIX, "itits", a->row, after, limit, l->prefix, upper ? upper : "\xff");
    }
    if (l->key.n) {
        struct prov_key k;
        int rc = key_need(tx, a, l->key, &k, err);
        return rc ? rc : store_query(tx, row, err, SQL_DEVICE_PAGE_KEY, "iiiii", a->row, l->page.after, limit, k.row, l->since);
    }
    if (l->root.n) {
        struct root r;
        int rc = root_need(tx, a, l->root, &r, err);
        return rc ? rc : store_query(tx, row, err, SQL_DEVICE_PAGE_ROOT, "iiii", a->row, l->page.after, limit, r.row);
    }
    if (l->state)
        return store_query(tx, row, err, SQL_DEVICE_PAGE_STATE, "iiii", a->row, l->page.after, limit, I(l->state));
    return store_query(tx, row, err, SQL_DEVICE_PAGE, "iii", a->row, l->page.after, limit);
}

int device_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct device_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct account a;
    struct device d = {0};
    int64_t n = 0;
    int rc = account_need(tx, l->account, &a, err);
    if (rc || (rc = start_page(tx, l, &a, &row, err)))
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < l->page.limit) {
        json_t *one = NULL;
        if ((rc = row_device(row, &d, err)) || (rc = device_json(tx, &a, &d, false, &one, err)))
            return rc;
        json_array_append_new(items, one);
        n++;
    }
    bool more = rc > 0;
    if (rc < 0 || (rc = page_finish(&l->page, TAKE(items), d.row, more)))
        return rc;
    if (l->prefix.n && more)
        json_set_str(l->page.out, "next", d.device_id);
    return 0;
}

/* --- import ------------------------------------------------------------------------------------------------------------------- */

static int import_one(struct store_tx *tx, struct device_import *in, const struct account *a, json_t *item, size_t at, struct err *err) {
    const char *id = NULL, *fingerprint = NULL;
    struct hash spki;
    int rc = json_take(item, err, "{s:s, s?s}", "device_id", &id, "fingerprint", &fingerprint);
    if (!rc)
        rc = device_id_check(span_str(id), err);
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
        return store_exec(tx, NULL, err, SQL_EXPECTED_ADD, "isbi", a->row, id, key, clock_now());
    }
    bool same = span_eq(store_blob(row, 0), key);
    store_row_end(row);
    if (same)
        return 0;
    in->changed++;
    return store_exec(tx, NULL, err, SQL_EXPECTED_SET, "isb", a->row, id, key);
}

int device_import_run(struct store_tx *tx, void *arg, struct err *err) {
    struct device_import *in = arg;
    struct account a;
    size_t i;
    json_t *item;
    in->added = in->changed = 0;
    int rc = account_need(tx, in->account, &a, err);
    if (rc)
        return rc;
    if (json_array_size(in->items) > IMPORT_MAX)
        return err_set(err, MUSTER_EINVALID, "At most %d devices at a time.", IMPORT_MAX);
    json_array_foreach(in->items, i, item) {
        if ((rc = import_one(tx, in, &a, item, i, err)))
            return rc;
    }
    if (in->added + in->changed == 0)
        return 0;
    json_t *detail = json_object();
    json_set_int(detail, "added", in->added);
    json_set_int(detail, "changed", in->changed);
    return audit_add(tx, a.row, &in->actor, "device.import", SPAN_NONE, detail, err);
}
