/* event: see event.h.  What comes from time passing is event_sweep.c's. */
#include "registry/event.h"

#define DEVICE 'd'
#define KEY 'k'
#define ROOT 'r'
#define NOTHING 'n'
const struct event_type EVENT_TYPES[] = {
#define V(NAME, number, type, about, when, data) {EVENT_##NAME, type, when, data, about},
#include "registry/events.def"
#undef V
};
const size_t EVENT_TYPES_N = sizeof EVENT_TYPES / sizeof *EVENT_TYPES;

const char *event_name(int64_t kind) {
    for (size_t i = 0; i < EVENT_TYPES_N; i++)
        if ((int64_t)EVENT_TYPES[i].kind == kind)
            return EVENT_TYPES[i].type;
    return "?";
}

int event_parse(const char *type) {
    for (size_t i = 0; i < EVENT_TYPES_N; i++)
        if (strcmp(EVENT_TYPES[i].type, type) == 0)
            return (int)EVENT_TYPES[i].kind;
    return 0;
}

int event_is_wanted(struct store_tx *tx, int64_t account, enum event_kind kind, bool *wanted, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    *wanted = false;
    int rc = store_query(tx, &row, err, SQL_EVENT_WANTED, "i", account);
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0)
        if (store_int(row, 0) & event_bit(kind))
            *wanted = true;
    return rc;
}

int event_payload(const struct uuid *id, const char *account, enum event_kind kind, json_t *parts, struct buf *out) {
    CLEANUP_JSON json_t *owned = parts;
    CLEANUP_JSON json_t *o = json_object();
    json_set_uuid(o, "id", id);
    json_set_str(o, "type", event_name(kind));
    json_set_time(o, "at", clock_now());
    json_set_str(o, "account", account && *account ? account : NULL);
    if (!o || (parts && json_object_update_missing(o, parts)))
        return MUSTER_ENOMEM;
    return json_write(out, o);
}

static int add(struct store_tx *tx, const struct account *a, enum event_kind kind, const struct uuid *subject, json_t *parts, struct err *err) {
    CLEANUP(buf_fini) struct buf payload = BUF_INIT(EVENT_PAYLOAD_MAX);
    const struct uuid id = uuid_new();
    int64_t waiting;
    const char *account = a ? a->name : "";
    int rc = event_payload(&id, account, kind, parts, &payload);
    if (rc)
        return err_set(err, rc, "An event cannot be written.");
    if ((rc = one_int(tx, &waiting, 0, err, SQL_EVENT_SPAN, "")))
        return rc;
    if (waiting >= EVENT_OUTBOX_MAX)
        return store_exec(tx, NULL, err, SQL_EVENT_LOST, "");
    return store_exec(tx, NULL, err, SQL_EVENT_ADD, "usiuit", &id, account, I(kind), subject, clock_now(), buf_span(&payload));
}

/* Whether it is worth the while: 1, 0, or an error; `more` is let go of unless 1. */
static int wanted(struct store_tx *tx, int64_t account, enum event_kind kind, json_t *more, struct err *err) {
    bool yes = false;
    int rc = store_writable(tx) ? event_is_wanted(tx, account, kind, &yes, err) : 0;
    if (rc || !yes)
        json_decref(more);
    return rc ? rc : yes;
}

/* {what: object, …more} */
static json_t *parts_of(const char *what, json_t *object, json_t *more) {
    CLEANUP_JSON json_t *owned = more;
    json_t *parts = json_object();
    json_set(parts, what, object);
    if (more && json_object_update_missing(parts, more)) {
        json_decref(parts);
        return NULL;
    }
    return parts;
}

static int add_parts(struct store_tx *tx, const struct account *a, enum event_kind kind, const struct uuid *subject, json_t *parts, struct err *err) {
    return parts ? add(tx, a, kind, subject, parts, err) : err_set(err, MUSTER_ENOMEM, NULL);
}

int event_device(struct store_tx *tx, const struct account *a, const struct device *d, enum device_state now, enum event_kind kind, json_t *more, struct err *err) {
    int rc = wanted(tx, a->row, kind, more, err);
    if (rc <= 0)
        return rc;
    json_t *o = json_object();
    json_set_uuid(o, "id", &d->uuid);
    json_set_str(o, "device_id", d->device_id);
    json_set_str(o, "state", word_of(&WORDS_DEVICE_STATE, now));
    return add_parts(tx, a, kind, &d->uuid, parts_of("device", o, more), err);
}

int event_key(struct store_tx *tx, const struct account *a, const struct prov_key *k, enum event_kind kind, json_t *more, struct err *err) {
    int rc = wanted(tx, a->row, kind, more, err);
    if (rc <= 0)
        return rc;
    json_t *o = json_object();
    json_set_uuid(o, "id", &k->uuid);
    json_set_str(o, "name", k->name);
    json_set_time(o, "expires", k->expires);
    json_set_int(o, "spent", k->spent);
    json_set(o, "max_devices", k->max_devices ? json_integer(k->max_devices) : json_null());
    json_set_str(o, "build", k->build[0] ? k->build : NULL);
    return add_parts(tx, a, kind, &k->uuid, parts_of("key", o, more), err);
}

/* Of a key for fewer than 10 devices a tenth is none: the end alone is told. */
static int budget_level(const struct prov_key *k) {
    int64_t left = k->max_devices - k->spent;
    return !k->max_devices ? 0 : left <= 0 ? 2 : left <= k->max_devices / 10;
}

int event_key_budget(struct store_tx *tx, const struct account *a, const struct prov_key *before, const struct prov_key *now, struct err *err) {
    int level = budget_level(now);
    if (now->state != KEY_ACTIVE || level <= budget_level(before))
        return 0;
    return event_key(tx, a, now, level == 2 ? EVENT_KEY_EXHAUSTED : EVENT_KEY_NEARLY_EXHAUSTED, NULL, err);
}

int event_root(struct store_tx *tx, const struct account *a, const struct root *r, enum root_state now, enum event_kind kind, json_t *more, struct err *err) {
    int rc = wanted(tx, a->row, kind, more, err);
    if (rc <= 0)
        return rc;
    json_t *o = json_object();
    json_set_uuid(o, "id", &r->uuid);
    json_set_str(o, "subject", r->subject);
    json_set_hex(o, "fingerprint", hash_span(&r->fingerprint));
    json_set_str(o, "state", word_of(&WORDS_ROOT_STATE, now));
    return add_parts(tx, a, kind, &r->uuid, parts_of("root", o, more), err);
}

int event_plain(struct store_tx *tx, const struct account *a, enum event_kind kind, json_t *more, struct err *err) {
    int rc = wanted(tx, a ? a->row : 0, kind, more, err);
    return rc <= 0 ? rc : add(tx, a, kind, NULL, more, err);
}

#define WHAT_REFUSED 10 /* beside those of event_sweep.c: `days` is the code then */

int event_refused_due(struct store_tx *tx, int64_t account, int code, bool *due, struct err *err) {
    int64_t last, now = clock_now();
    int rc = event_is_wanted(tx, account, EVENT_DEVICE_REFUSED, due, err);
    if (rc || !*due || (rc = one_int(tx, &last, 0, err, SQL_EVENT_SWEPT, "iii", account, I(WHAT_REFUSED), I(code))))
        return rc;
    *due = last > now || now - last >= CLOCK_HOUR;
    return *due ? store_exec(tx, NULL, err, SQL_EVENT_SWEPT_SET, "iiiii", account, I(WHAT_REFUSED), I(code), now, I(0)) : 0;
}

/* --- for control -------------------------------------------------------------------------------------------------------------------- */

void event_take_fini(struct event_take *t) {
    for (size_t i = 0; i < t->n; i++)
        buf_fini(&t->at[i].payload);
    t->n = 0;
}

int event_take_run(struct store_tx *tx, void *arg, struct err *err) {
    struct event_take *t = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    event_take_fini(t);
    int rc = meta_get(tx, "events_lost", &t->lost, err);
    if (rc || (rc = store_query(tx, &row, err, SQL_EVENT_FROM, "i", I(EVENT_BATCH))))
        return rc;
    while (t->n < EVENT_BATCH && (rc = store_next(row, err)) > 0) {
        struct event_row *e = &t->at[t->n++];
        *e = (struct event_row){.row = store_int(row, 0), .kind = (enum event_kind)store_int(row, 3), .payload = BUF_INIT(EVENT_PAYLOAD_MAX)};
        row_text(row, 2, e->account, sizeof e->account);
        buf_add(&e->payload, store_text(row, 5));
        if (store_uuid(row, 1, &e->id) || store_uuid(row, 4, &e->subject) || (rc = buf_check(&e->payload, err)))
            return rc ? rc : err_set(err, MUSTER_ECORRUPT, "A row of the table event is damaged.");
    }
    return rc < 0 ? rc : 0;
}

int event_forget_run(struct store_tx *tx, void *arg, struct err *err) { return store_exec(tx, NULL, err, SQL_EVENT_FORGET, "i", *(const int64_t *)arg); }

/* An account that begins to ask for what expires is told of what is near already: what it was told before does not count. */
static int want(struct store_tx *tx, int64_t account, int64_t events, struct err *err) {
    const int64_t expiring = event_bit(EVENT_CERTIFICATE_EXPIRING) | event_bit(EVENT_KEY_EXPIRING) | event_bit(EVENT_FORECAST_STOPS) | event_bit(EVENT_ROOT_CRL_DUE);
    int64_t before;
    int rc = one_int(tx, &before, 0, err, SQL_EVENT_WANT, "i", account);
    if (rc || before == events)
        return rc;
    if ((events & ~before & expiring) && (rc = store_exec(tx, NULL, err, SQL_EVENT_SWEPT_DROP, "i", account)))
        return rc;
    return events ? store_exec(tx, NULL, err, SQL_EVENT_WANT_SET, "ii", account, events) : store_exec(tx, NULL, err, SQL_EVENT_WANT_DROP, "i", account);
}

int event_wants_run(struct store_tx *tx, void *arg, struct err *err) {
    const struct event_wants *w = arg;
    int64_t keep[EVENT_WANTS_MAX], had[EVENT_WANTS_MAX];
    size_t n_keep = 0, n_had = 0;
    struct store_row *row;
    int rc = store_query(tx, &row, err, SQL_EVENT_WANTS, "i", I(EVENT_WANTS_MAX));
    if (rc)
        return rc;
    while (n_had < EVENT_WANTS_MAX && (rc = store_next(row, err)) > 0)
        had[n_had++] = store_int(row, 0);
    store_row_end(row);
    for (size_t i = 0; rc >= 0 && i < w->n; i++) {
        struct account a = {.row = 0};
        int found = w->at[i].account[0] ? account_find(tx, span_str(w->at[i].account), &a, err) : 1;
        if (found < 0)
            return found;
        if (!found || (w->at[i].account[0] && a.state == ACCOUNT_DELETED))
            continue;
        if ((rc = want(tx, a.row, w->at[i].events, err)))
            return rc;
        keep[n_keep++] = a.row;
    }
    for (size_t i = 0; rc >= 0 && i < n_had; i++) {
        bool kept = false;
        for (size_t k = 0; k < n_keep; k++)
            kept = kept || keep[k] == had[i];
        if (!kept && (rc = want(tx, had[i], 0, err)))
            return rc;
    }
    return rc < 0 ? rc : 0;
}
