/* refusal_list: what is shown of refusals; see refusal.h. */
#include "base/hex.h"
#include "registry/refusal.h"

#define NEAREST_MAX 8

struct shown {
    struct uuid id;
    int64_t row, account, last;
    char code[64], top_issuer[256];
};

static json_t *certificate_of(struct store_row *row) {
    if (store_is_null(row, 17))
        return json_null();
    json_t *c = json_object();
    json_set_span(c, "subject", store_text(row, 19));
    json_set_span(c, "issuer", store_text(row, 20));
    json_set_span(c, "serial", store_text(row, 16));
    json_set_hex(c, "fingerprint", store_blob(row, 17));
    json_set_hex(c, "spki", store_blob(row, 18));
    json_set_time(c, "not_before", store_int(row, 22));
    json_set_time(c, "not_after", store_int(row, 23));
    return c;
}

static void set_text(json_t *o, const char *key, struct store_row *row, int col) {
    struct span s = store_text(row, col);
    if (s.n)
        json_set_span(o, key, s);
    else
        json_set(o, key, json_null());
}

/* The row as JSON without what lies in other tables; device: its number. */
static int row_refusal(struct store_row *row, struct shown *s, int64_t *device, json_t **out, struct err *err) {
    if (store_uuid(row, 1, &s->id))
        return err_set(err, MUSTER_ECORRUPT, "A row of the table refusal is damaged.");
    s->row = store_int(row, 0);
    s->account = store_int(row, 2);
    s->last = store_int(row, 4);
    row_text(row, 6, s->code, sizeof s->code);
    row_text(row, 21, s->top_issuer, sizeof s->top_issuer);
    *device = store_int(row, 8);
    json_t *o = json_object();
    json_set_uuid(o, "id", &s->id);
    json_set_time(o, "first_seen", store_int(row, 3));
    json_set_time(o, "last_seen", s->last);
    json_set_int(o, "count", store_int(row, 5));
    json_set_str(o, "code", s->code);
    json_set_bool(o, "shadow", err_from_code(s->code) == MUSTER_ESHADOW);
    json_set_span(o, "reason", store_text(row, 7));
    json_set_str(o, "fix", err_fix(err_from_code(s->code)));
    json_set(o, "account", json_null());
    json_set(o, "device", json_null());
    set_text(o, "device_id", row, 9);
    set_text(o, "address", row, 10);
    set_text(o, "host", row, 11);
    set_text(o, "method", row, 12);
    set_text(o, "path", row, 13);
    set_text(o, "tls", row, 14);
    set_text(o, "user_agent", row, 15);
    json_set(o, "certificate", certificate_of(row));
    json_decref(*out);
    *out = o;
    return 0;
}

/* Names of what the row refers to by number.  a: the account, where it is known already. */
static int set_names(struct store_tx *tx, const struct shown *s, const struct account *a, int64_t device, json_t *o, struct err *err) {
    struct account looked_up;
    struct store_row *row;
    struct uuid id;
    int found = 0;
    if (s->account && (!a || a->row != s->account) && (found = account_find_row(tx, s->account, &looked_up, err)) > 0)
        a = &looked_up;
    if (s->account && a && a->row == s->account)
        json_set_str(o, "account", a->name);
    if (found < 0 || !device || (found = first_row(tx, &row, err, SQL_DEVICE_UUID, "i", device)) <= 0)
        return found < 0 ? found : 0;
    int rc = store_uuid(row, 0, &id);
    store_row_end(row);
    if (!rc)
        json_set_uuid(o, "device", &id);
    return rc ? err_set(err, MUSTER_ECORRUPT, "A row of the table device is damaged.") : 0;
}

/* --- lists -------------------------------------------------------------------------------------------------------------------------- */

static int start_page(struct store_tx *tx, const struct refusal_list *l, const struct account *a, struct store_row **row, struct err *err) {
    const int64_t before = l->page.after ? l->page.after : INT64_MAX, limit = l->page.limit + 1;
    struct uuid id;
    struct device d;
    if (l->has_fingerprint)
        return store_query(tx, row, err, SQL_REFUSAL_PAGE_PRINT, "iiib", a->row, before, limit, hash_span(&l->fingerprint));
    if (l->code.n)
        return store_query(tx, row, err, SQL_REFUSAL_PAGE_CODE, "iiit", a->row, before, limit, l->code);
    if (l->address.n)
        return store_query(tx, row, err, SQL_REFUSAL_PAGE_ADDRESS, "iiit", a->row, before, limit, l->address);
    if (l->serial.n)
        return store_query(tx, row, err, SQL_REFUSAL_PAGE_SERIAL, "iiit", a->row, before, limit, l->serial);
    if (!l->device.n)
        return store_query(tx, row, err, SQL_REFUSAL_PAGE, "iii", a->row, before, limit);
    /* A claimed ID may look like a UUID, and need not be a device's. */
    if (a->row && !uuid_parse(l->device, &id)) {
        struct err why = ERR_INIT;
        int rc = device_need(tx, a, l->device, &d, &why);
        if (rc && rc != MUSTER_ENOTFOUND)
            return rc;
        if (!rc)
            return store_query(tx, row, err, SQL_REFUSAL_PAGE_DEVICE, "iiis", a->row, before, limit, d.device_id);
    }
    return store_query(tx, row, err, SQL_REFUSAL_PAGE_DEVICE, "iiit", a->row, before, limit, l->device);
}

int refusal_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct refusal_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct account a = {0};
    struct shown s = {0};
    int64_t device, n = 0;
    int rc = l->account.n ? account_need(tx, l->account, &a, err) : 0;
    if (rc || (rc = start_page(tx, l, &a, &row, err)))
        return rc;
    int64_t last = l->page.after;
    bool more = false;
    while ((rc = store_next(row, err)) > 0) {
        CLEANUP_JSON json_t *one = NULL;
        if ((rc = row_refusal(row, &s, &device, &one, err)) || (rc = set_names(tx, &s, &a, device, one, err)))
            return rc;
        if (s.last < l->since - REFUSAL_ORDER_SLACK)
            break;
        if (s.last < l->since)
            continue;
        if ((more = n == l->page.limit))
            break;
        json_array_append_new(items, TAKE(one));
        last = s.row;
        n++;
    }
    return rc < 0 ? rc : page_finish(&l->page, TAKE(items), last, more);
}

/* --- one of them ----------------------------------------------------------------------------------------------------------------------- */

static const char *why_not(enum root_state state) {
    switch (state) {
    case ROOT_UNPROVED:
        return "It was uploaded and not proved, so it lets nobody in.";
    case ROOT_DISABLED:
        return "It is disabled.";
    case ROOT_RETIRED:
    case ROOT_REVOKED:
        return "It was revoked.";
    case ROOT_ACTIVE:
    case ROOT_KNOWN_ONLY:
        break;
    }
    return "It has this name, but another key than the one that signed the device's chain.";
}

/* Roots named as the chain's issuer is: a namesake with another key, one that is disabled or unproved.  In the record's own account, or,
 * for a stranger, anywhere: strangers are shown to the whole server's operators alone. */
static int add_nearest(struct store_tx *tx, const struct shown *s, json_t *o, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    json_t *list = json_array();
    json_set(o, "nearest", list);
    if (err_from_code(s->code) != MUSTER_ECERTUNTRUSTED || !s->top_issuer[0])
        return 0;
    int rc = s->account ? store_query(tx, &row, err, SQL_ROOT_OF_SUBJECT, "sii", s->top_issuer, I(NEAREST_MAX), s->account)
                        : store_query(tx, &row, err, SQL_ROOT_BY_SUBJECT, "si", s->top_issuer, I(NEAREST_MAX));
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        struct root r;
        struct account a;
        if ((rc = row_root(row, &r, err)))
            return rc;
        int found = account_find_row(tx, r.account, &a, err);
        if (found < 0)
            return found;
        json_t *one = json_object();
        json_set_uuid(one, "root", &r.uuid);
        json_set_str(one, "account", found ? a.name : NULL);
        json_set_str(one, "subject", r.subject);
        json_set_str(one, "state", word_of(&WORDS_ROOT_STATE, r.state));
        json_set_str(one, "why", why_not(r.state));
        json_array_append_new(list, one);
    }
    return rc;
}

static int add_chain(struct store_tx *tx, const struct refusal_show *show, const struct shown *s, json_t *o, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_REFUSAL_CHAIN_GET, "u", &s->id);
    json_set(o, "chain", json_null());
    if (found <= 0)
        return found < 0 || !show->pem ? found : err_set(err, MUSTER_ENOTFOUND, "No certificate was kept with this refusal.");
    json_set_span(o, "chain", store_text(row, 0)); /* as the gateway wrote it: what strangers send is not parsed here */
    if (show->pem)
        buf_add(show->pem, store_text(row, 0));
    store_row_end(row);
    return show->pem ? buf_check(show->pem, err) : 0;
}

static int none(const struct refusal_show *show, struct err *err) {
    return err_set(err, MUSTER_ENOTFOUND, "There is no refusal \"%.*s\" here; those of the last 30 days are kept, as far as there is room.", (int)(show->refusal.n > 64 ? 64 : show->refusal.n),
                   (const char *)show->refusal.p);
}

int refusal_show_run(struct store_tx *tx, void *arg, struct err *err) {
    struct refusal_show *show = arg;
    CLEANUP_JSON json_t *o = NULL;
    struct account a = {0};
    struct shown s = {0};
    struct store_row *row;
    struct uuid id;
    int64_t device;
    int rc = show->account.n ? account_need(tx, show->account, &a, err) : 0;
    if (rc)
        return rc;
    if (uuid_parse(show->refusal, &id))
        return none(show, err);
    id = refusal_id_of(id);
    int found = first_row(tx, &row, err, SQL_REFUSAL_BY_UUID, "u", &id);
    if (found <= 0)
        return found < 0 ? found : none(show, err);
    rc = row_refusal(row, &s, &device, &o, err);
    row_text(row, 10, show->address, sizeof show->address);
    row_text(row, 11, show->host, sizeof show->host);
    row_text(row, 12, show->method, sizeof show->method);
    row_text(row, 13, show->path, sizeof show->path);
    store_row_end(row);
    if (rc)
        return rc;
    if (show->account.n && s.account != a.row)
        return none(show, err);
    if ((rc = set_names(tx, &s, NULL, device, o, err)) || (rc = add_nearest(tx, &s, o, err)) || (rc = add_chain(tx, show, &s, o, err)))
        return rc;
    json_decref(show->out);
    show->out = TAKE(o);
    return 0;
}
