/* forecast: see forecast.h.  The walk: account by account, then chains, devices and provisioning keys, in steps that are bounded. */
#include "verifier/forecast_part.h"

#define STEP_DEVICES 2500
#define STEP_CHAINS 4
#define STEP_KEYS 200
#define RENEWS_ASKED 32 /* devices of an account, until one says that it renews */

int forecast_new(const char *only, int64_t from, int days, const struct forecast_server *server, struct forecast **out, struct err *err) {
    struct forecast *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(err, MUSTER_ENOMEM, NULL);
    snprintf(f->only, sizeof f->only, "%s", only);
    f->from = from;
    f->to = from + days * CLOCK_DAY;
    f->bin = (days / FORECAST_BINS_MAX + 1) * CLOCK_DAY;
    f->server = *server;
    *out = f;
    return 0;
}

void forecast_free(struct forecast *f) {
    if (!f)
        return;
    snapshot_unref(f->snapshot);
    for (size_t i = 0; i < f->n; i++) {
        free(f->causes[i]->days);
        free(f->causes[i]);
    }
    free(f->causes);
    free(f);
}

int forecast_skip(struct forecast *f, int rc, struct err *err) {
    if (rc != MUSTER_ECORRUPT && rc != MUSTER_ECERTMALFORMED)
        return rc;
    if (!f->damaged++)
        f->damage = *err;
    *err = ERR_INIT;
    return 0;
}

bool forecast_more(const struct forecast *f) { return f->phase != FORECAST_AT_END; }

/* --- one device ------------------------------------------------------------------------------------------------------------------------ */

static const struct forecast_class *class_of(const struct forecast *f, bool own, int64_t root, int64_t chain) {
    const struct forecast_class *of_root = NULL;
    for (size_t i = 0; i < f->n_classes; i++) {
        const struct forecast_class *c = &f->classes[i];
        if (own ? c->own : !c->own && c->root == root && c->chain == chain)
            return c;
        if (!own && !c->own && c->root == root && !c->chain)
            of_root = c;
    }
    return of_root;
}

/* The name of what ends with a certificate of Muster's own: leaves are cut to the end of their CA, and that to its root's. */
static void name_own_end(const struct forecast *f, int64_t end, struct forecast_cause *like) {
    for (size_t i = 0; i < f->n_cas; i++) {
        const struct forecast_ca *ca = &f->cas[i];
        if (ca->end != end || (like->object && ca->kind != FORECAST_ROOT))
            continue;
        like->kind = ca->kind;
        like->object = ca->object;
        like->id = ca->id;
        memcpy(like->subject, ca->subject, sizeof like->subject);
    }
}

static int name_device(struct store_tx *tx, struct forecast_cause *c, int64_t row, int64_t at, bool renews, struct err *err) {
    struct store_row *name;
    size_t to = c->n_devices;
    for (size_t i = 0; !renews && i < to; i++)
        if (c->devices[i].renews)
            to = i;
    if (to == FORECAST_NAMES)
        return 0;
    int found = first_row(tx, &name, err, SQL_DEVICE_NAME, "i", row);
    if (found <= 0)
        return found;
    c->n_devices -= c->n_devices == FORECAST_NAMES; /* one that renews gives way */
    struct forecast_device *d = &c->devices[to];
    memmove(d + 1, d, (c->n_devices++ - to) * sizeof *d);
    *d = (struct forecast_device){.at = at, .renews = renews};
    row_text(name, 1, d->device_id, sizeof d->device_id);
    int rc = store_uuid(name, 0, &d->id);
    store_row_end(name);
    return rc ? err_set(err, rc, "A row of the table device is damaged.") : 0;
}

/* As a row says it. */
struct ending {
    int64_t device, end, state;
    bool own, asks;      /* by EST: it may renew */
    int64_t root, chain; /* of an uploaded root's */
    int64_t waiting;     /* the certificate, where the device has not used one yet; 0: it has */
};

static int take_ending(struct store_tx *tx, struct forecast *f, const struct ending *e, struct err *err) {
    const int64_t id = e->device, end = e->end;
    const bool own = e->own;
    const struct forecast_class *c = class_of(f, own, e->root, e->chain);
    if (e->state != DEVICE_ACTIVE || !c || c->out)
        return 0;
    const bool above = c->end <= end;
    const int64_t stop = above ? c->end : end;
    if (stop <= f->from || stop > f->to)
        return 0;
    const bool may = e->asks && (own || c->renews);
    if (may && own && !f->renews && f->asked_renews < RENEWS_ASKED) {
        f->asked_renews++;
        int rc = forecast_skip(f, forecast_own_renews(tx, f, id, e->waiting, err), err);
        if (rc)
            return rc;
    }
    const bool renews = may && (f->renews || c->renews) && f->own_end > stop;
    struct forecast_cause like = {.kind = FORECAST_DEVICE, .account_row = f->account.row, .code = above ? c->code : c->leaf_code};
    memcpy(like.account, f->account.name, sizeof like.account);
    if (above) {
        like.kind = c->kind;
        like.object = c->object;
        like.id = c->id;
        memcpy(like.subject, c->subject, sizeof like.subject);
    } else if (own) {
        name_own_end(f, end, &like);
    }
    struct forecast_cause *cause = forecast_cause(f, &like);
    if (!cause)
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = forecast_add(f, cause, stop, !renews, renews, err);
    return rc ? rc : forecast_skip(f, name_device(tx, cause, id, stop, renews, err), err);
}

static int take_device(struct store_tx *tx, struct forecast *f, struct store_row *row, struct err *err) {
    const struct ending e = {.device = store_int(row, 0), .end = store_int(row, 1), .state = store_int(row, 2), .own = store_int(row, 3) == METHOD_SHARED, .root = store_int(row, 4),
                             .chain = store_int(row, 5), .asks = store_int(row, 6) != 0};
    return take_ending(tx, f, &e, err);
}

/* One that was enrolled and has not come yet stops with the newest certificate that waits for it. */
static int take_waiting(struct store_tx *tx, struct forecast *f, struct store_row *row, struct err *err) {
    const struct ending e = {.waiting = store_int(row, 0), .end = store_int(row, 1), .state = store_int(row, 2), .device = store_int(row, 3), .own = true, .asks = store_int(row, 4) != 0};
    return store_int(row, 5) || store_int(row, 6) ? 0 : take_ending(tx, f, &e, err);
}

/* --- the walk -------------------------------------------------------------------------------------------------------------------------- */

static int count_active(struct store_tx *tx, struct forecast *f, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_ACCOUNT_DEVICES, "i", f->account.row);
    while (!rc && (rc = store_next(row, err)) > 0) {
        if (store_int(row, 0) == DEVICE_ACTIVE)
            f->active += store_int(row, 1);
        rc = 0;
    }
    return rc;
}

static int count_late(struct store_tx *tx, struct forecast *f, struct err *err) {
    struct renewable late;
    int rc = renewable_late(tx, &f->account, f->from, &late, err);
    if (rc || !late.n)
        return rc;
    f->late.first = f->late.n && f->late.first < late.first ? f->late.first : late.first;
    f->late.n += late.n;
    return 0;
}

static int server_ends(struct forecast *f, enum forecast_kind kind, int64_t end, struct err *err) {
    const struct forecast_cause like = {.kind = kind, .code = MUSTER_ETLSREJECTED};
    if (!end || end <= f->from || end > f->to || !f->active)
        return 0;
    struct forecast_cause *c = forecast_cause(f, &like);
    return c ? forecast_add(f, c, end, f->active, 0, err) : err_set(err, MUSTER_ENOMEM, NULL);
}

/* Who has no newer one stops with it, whatever comes after. */
static int former_ends(struct store_tx *tx, struct forecast *f, const struct forecast_former_ca *ca, struct err *err) {
    struct forecast_cause like = {.kind = FORECAST_SERVER_CA, .object = ca->number, .code = MUSTER_ETLSREJECTED};
    int64_t devices;
    if (ca->end <= f->from || ca->end > f->to || ca->end == f->server.ca_end)
        return 0;
    int rc = one_int(tx, &devices, 0, err, SQL_SERVER_CA_STOPS, "ii", ca->number, f->only[0] ? f->account.row : I(0));
    if (rc || !devices)
        return rc;
    snprintf(like.subject, sizeof like.subject, "server CA %lld", (long long)ca->number);
    struct forecast_cause *c = forecast_cause(f, &like);
    return c ? forecast_add(f, c, ca->end, devices, 0, err) : err_set(err, MUSTER_ENOMEM, NULL);
}

static int finish(struct store_tx *tx, struct forecast *f, struct err *err) {
    f->phase = FORECAST_AT_END;
    int rc = server_ends(f, FORECAST_SERVER, f->server.certificate_end, err);
    if (!rc)
        rc = server_ends(f, FORECAST_SERVER_CA, f->server.ca_end, err);
    for (size_t i = 0; !rc && i < f->server.n_former; i++)
        rc = former_ends(tx, f, &f->server.former[i], err);
    forecast_sort(f);
    return rc;
}

static int next_account(struct store_tx *tx, struct forecast *f, struct err *err) {
    struct store_row *row;
    int rc = 0;
    if (f->only[0]) {
        if (f->account_row)
            return finish(tx, f, err);
        if ((rc = account_need(tx, span_str(f->only), &f->account, err)))
            return rc;
    } else {
        int found = first_row(tx, &row, err, SQL_ACCOUNT_PAGE, "ii", f->account_row, I(1));
        if (found <= 0)
            return found < 0 ? found : finish(tx, f, err);
        f->account_row = store_int(row, 0);
        rc = row_account(row, &f->account, err);
        store_row_end(row);
        if (rc)
            return forecast_skip(f, rc, err);
    }
    f->account_row = f->account.row;
    if (f->account.state != ACCOUNT_ACTIVE)
        return 0;
    f->n_classes = f->n_cas = 0;
    f->after = f->after_row = 0;
    if ((rc = count_active(tx, f, err)) || (rc = count_late(tx, f, err)) || (rc = forecast_skip(f, forecast_own_class(tx, f, err), err)) || (rc = forecast_root_classes(tx, f, err)))
        return rc;
    f->phase = FORECAST_AT_CHAINS;
    return 0;
}

/* How far the ends have to be walked: to the last day, or to the last device where something above them ends before. */
static void begin_devices(struct forecast *f) {
    f->limit = f->to;
    for (size_t i = 0; i < f->n_classes; i++)
        if (!f->classes[i].out && f->classes[i].end > f->from && f->classes[i].end <= f->to)
            f->limit = INT64_MAX;
    f->after = f->from;
    f->after_row = INT64_MAX;
    f->phase = FORECAST_AT_DEVICES;
}

static int step_chains(struct store_tx *tx, struct forecast *f, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int n = 0, rc = store_query(tx, &row, err, SQL_CHAIN_PAGE, "iii", f->account.row, f->after, I(STEP_CHAINS));
    while (!rc && (rc = store_next(row, err)) > 0) {
        CLEANUP(device_chain_fini) struct device_chain chain = {0};
        if (!(rc = row_device_chain(row, &chain, err)))
            rc = forecast_chain_class(tx, f, &chain, err);
        f->after = chain.row;
        n++;
        if ((rc = forecast_skip(f, rc, err)))
            return rc;
    }
    if (!rc && n < STEP_CHAINS)
        begin_devices(f);
    return rc;
}

/* Who has come, and who has not. */
static const struct {
    int same_end, later;
    int (*take)(struct store_tx *tx, struct forecast *f, struct store_row *row, struct err *err);
} ENDS[] = {{SQL_FORECAST_SAME_END, SQL_FORECAST_END, take_device}, {SQL_FORECAST_WAITING_SAME_END, SQL_FORECAST_WAITING_END, take_waiting}};

/* What is left of the end of the page before, and then what ends later. */
static int step_devices(struct store_tx *tx, struct forecast *f, struct err *err) {
    const bool waiting = f->phase == FORECAST_AT_WAITING;
    int64_t left = STEP_DEVICES;
    for (int later = f->after_row == INT64_MAX; later < 2; later++) {
        CLEANUP(store_row_end) struct store_row *row = NULL;
        int rc = later ? store_query(tx, &row, err, ENDS[waiting].later, "iiii", f->account.row, f->after, f->limit, left)
                       : store_query(tx, &row, err, ENDS[waiting].same_end, "iiii", f->account.row, f->after, f->after_row, left);
        while (!rc && (rc = store_next(row, err)) > 0) {
            f->after_row = store_int(row, 0);
            f->after = store_int(row, 1);
            left--;
            rc = ENDS[waiting].take(tx, f, row, err);
        }
        if (rc || !left)
            return rc;
    }
    f->after = f->from;
    f->after_row = INT64_MAX;
    f->phase = waiting ? FORECAST_AT_KEYS : FORECAST_AT_WAITING;
    return 0;
}

static int take_key(struct store_tx *tx, struct forecast *f, int64_t row, struct err *err) {
    struct prov_key k;
    int code, found = key_find_row(tx, row, &k, err);
    if (found <= 0)
        return found;
    int rc = forecast_key_code(tx, f, &k, &code, err);
    if (rc || !code)
        return rc;
    struct forecast_cause like = {.kind = FORECAST_KEY, .account_row = f->account.row, .object = k.row, .id = k.uuid, .code = code};
    memcpy(like.account, f->account.name, sizeof like.account);
    snprintf(like.subject, sizeof like.subject, "%s", k.name);
    struct forecast_cause *c = forecast_cause(f, &like);
    if (!c)
        return err_set(err, MUSTER_ENOMEM, NULL);
    c->keys++;
    return forecast_add(f, c, k.expires, 0, 0, err);
}

static int step_keys(struct store_tx *tx, struct forecast *f, struct err *err) {
    int64_t keys[STEP_KEYS];
    size_t n = 0;
    struct store_row *row;
    int rc = store_query(tx, &row, err, SQL_KEY_ENDING, "iiiii", f->account.row, f->after, f->after_row, f->to, I(STEP_KEYS));
    if (rc)
        return rc;
    while (n < STEP_KEYS && (rc = store_next(row, err)) > 0) {
        keys[n++] = f->after_row = store_int(row, 0);
        f->after = store_int(row, 1);
    }
    store_row_end(row);
    for (size_t i = 0; rc >= 0 && i < n; i++)
        rc = forecast_skip(f, take_key(tx, f, keys[i], err), err);
    if (rc >= 0 && n < STEP_KEYS)
        f->phase = FORECAST_AT_ACCOUNT;
    return rc < 0 ? rc : 0;
}

int forecast_run(struct store_tx *tx, void *arg, struct err *err) {
    struct forecast *f = arg;
    if (!f->snapshot) {
        struct snapshot_load load = {0};
        int rc = snapshot_run(tx, &load, err);
        if (rc)
            return rc;
        f->snapshot = load.out;
    }
    switch (f->phase) {
    case FORECAST_AT_ACCOUNT:
        return next_account(tx, f, err);
    case FORECAST_AT_CHAINS:
        return step_chains(tx, f, err);
    case FORECAST_AT_DEVICES:
    case FORECAST_AT_WAITING:
        return step_devices(tx, f, err);
    case FORECAST_AT_KEYS:
        return step_keys(tx, f, err);
    case FORECAST_AT_END:
        break;
    }
    return 0;
}
