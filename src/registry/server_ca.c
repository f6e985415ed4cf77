/* server_ca: see server_ca.h. */
#include "registry/server_ca.h"

#include "base/clock.h"
#include "registry/dependents.h"

#define KEPT_MAX 64 /* that are looked at, retired ones among them; the newest */

struct kept {
    int64_t number;
    struct hash spki;
    enum server_ca_state state;
    bool told;
};

/* --- what the vault says ---------------------------------------------------------------------------------------------------- */

static int load(struct store_tx *tx, struct kept *out, size_t *n, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    *n = 0;
    int rc = store_query(tx, &row, err, SQL_SERVER_CA_ALL, "i", I(KEPT_MAX));
    while (!rc && (rc = store_next(row, err)) > 0) {
        struct kept *k = &out[*n];
        *k = (struct kept){.number = store_int(row, 0), .state = (enum server_ca_state)store_int(row, 6)};
        rc = row_hash(row, 2, &k->spki) ? err_set(err, MUSTER_ECORRUPT, "A row of the table server_ca is damaged.") : 0;
        ++*n;
    }
    return rc < 0 ? rc : 0;
}

static struct kept *find(struct kept *at, size_t n, const struct hash *spki) {
    for (size_t i = 0; i < n; i++)
        if (hash_eq(&at[i].spki, spki))
            return &at[i];
    return NULL;
}

static int add(struct store_tx *tx, const struct cert *c, enum server_ca_state state, struct err *err) {
    CLEANUP(buf_fini) struct buf subject = BUF_INIT(1024);
    const struct uuid uuid = uuid_new();
    int rc = cert_common_name(c, &subject, err);
    return rc ? rc : store_exec(tx, NULL, err, SQL_SERVER_CA_ADD, "ubbtiii", &uuid, hash_span(&c->key.spki), hash_span(&c->fingerprint), buf_span(&subject), c->not_before, c->not_after, I(state));
}

int server_ca_told_run(struct store_tx *tx, void *arg, struct err *err) {
    struct server_ca_told *t = arg;
    struct kept kept[KEPT_MAX];
    size_t n;
    const bool writes = store_writable(tx);
    int rc = load(tx, kept, &n, err);
    t->due = false;
    for (size_t i = 0; !rc && i < t->n; i++) {
        const enum server_ca_state state = i + 1 == t->n ? SERVER_CA_CURRENT : SERVER_CA_FORMER;
        struct kept *k = find(kept, n, &t->at[i]->key.spki);
        if (k)
            k->told = true;
        if (k && k->state == state)
            continue;
        t->due = true;
        if (writes)
            rc = k ? store_exec(tx, NULL, err, SQL_SERVER_CA_STATE, "ii", k->number, I(state)) : add(tx, t->at[i], state, err);
    }
    for (size_t i = 0; !rc && i < n; i++) {
        if (kept[i].told || kept[i].state == SERVER_CA_RETIRED)
            continue;
        t->due = true;
        if (writes)
            rc = store_exec(tx, NULL, err, SQL_SERVER_CA_STATE, "ii", kept[i].number, I(SERVER_CA_RETIRED));
    }
    for (size_t i = 0; !rc && i < t->n; i++)
        rc = one_int(tx, &t->number[i], 0, err, SQL_SERVER_CA_NUMBER, "b", hash_span(&t->at[i]->key.spki));
    return rc;
}

/* --- what is shown ------------------------------------------------------------------------------------------------------------ */

static json_t *one_json(struct store_row *row) {
    static const char *const states[] = {[SERVER_CA_CURRENT] = "current", [SERVER_CA_FORMER] = "former", [SERVER_CA_RETIRED] = "retired"};
    struct uuid uuid;
    struct hash fingerprint, spki;
    char subject[256];
    const int64_t state = store_int(row, 6);
    if (store_uuid(row, 1, &uuid) || row_hash(row, 2, &spki) || row_hash(row, 3, &fingerprint) || state < SERVER_CA_CURRENT || state > SERVER_CA_RETIRED)
        return NULL;
    row_text(row, 7, subject, sizeof subject);
    json_t *o = json_object();
    json_set_uuid(o, "id", &uuid);
    json_set_int(o, "number", store_int(row, 0));
    json_set_str(o, "state", states[state]);
    json_set_str(o, "subject", subject);
    json_set_hex(o, "fingerprint", hash_span(&fingerprint));
    json_set_hex(o, "spki", hash_span(&spki));
    json_set_time(o, "not_before", store_int(row, 4));
    json_set_time(o, "not_after", store_int(row, 5));
    return o;
}

static int damaged(struct err *err) { return err_set(err, MUSTER_ECORRUPT, "A row of the table server_ca is damaged."); }

int server_ca_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct server_ca_list *l = arg;
    CLEANUP_JSON json_t *all = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_SERVER_CA_ALL, "i", I(KEPT_MAX));
    while (!rc && (rc = store_next(row, err)) > 0) {
        json_t *one = one_json(row);
        if (!one)
            return damaged(err);
        json_array_append_new(all, one);
        rc = 0;
    }
    if (rc < 0)
        return rc;
    l->out = TAKE(all);
    return 0;
}

static int add_seen(struct store_tx *tx, int64_t number, json_t *out, struct err *err) {
    static const char *const names[] = {"ever", "7d", "30d", "90d", "365d"};
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_SERVER_CA_SEEN, "iiiii", number, dependents_hour(7), dependents_hour(30), dependents_hour(90), dependents_hour(365));
    if (found <= 0)
        return found;
    json_t *seen = json_object();
    for (int i = 1; i < 5; i++)
        json_set_int(seen, names[i], store_int(row, i));
    json_set_int(seen, names[0], store_int(row, 0));
    json_set(out, "seen", seen);
    store_row_end(row);
    return 0;
}

/* Who depends on it, for whoever wants to know, and for who wants to retire it. */
static int add_named(struct store_tx *tx, struct server_ca_show *s, int64_t number, int64_t hour, json_t *out, struct err *err) {
    CLEANUP_JSON json_t *list = json_array();
    struct store_row *row = NULL;
    int rc;
    if (!s->days)
        rc = store_query(tx, &row, err, SQL_SERVER_CA_SEEN_PAGE, "ii", number, I(SERVER_CA_NAMED_MAX));
    else if (s->learn)
        rc = store_query(tx, &row, err, SQL_SERVER_CA_LEARN_PAGE, "iiii", number, hour, I(SERVER_CA_NAMED_MAX), clock_now());
    else
        rc = store_query(tx, &row, err, SQL_SERVER_CA_LOSE_PAGE, "iiii", number, hour, I(SERVER_CA_NAMED_MAX), clock_now());
    if (!(rc = dependents_take(row, rc, list, err)))
        json_set(out, "newest", TAKE(list));
    return rc;
}

static int add_dependents(struct store_tx *tx, struct server_ca_show *s, int64_t number, json_t *out, struct err *err) {
    const int64_t hour = dependents_hour(s->days);
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_SERVER_CA_DEPEND, "iii", number, hour, clock_now());
    if (found <= 0)
        return found;
    s->learn = store_int(row, 0);
    s->asleep = store_int(row, 1);
    s->stuck = store_int(row, 2);
    s->held = store_int(row, 3);
    store_row_end(row);
    json_set_int(out, "cannot_renew", s->stuck);
    json_set_int(out, "held", s->held);
    return add_named(tx, s, number, hour, out, err);
}

static int find_row(struct store_tx *tx, const struct server_ca_show *s, struct store_row **row, struct err *err) {
    const struct span id = s->id;
    struct uuid uuid;
    uint64_t number = 0;
    int found = 0;
    if (s->by_spki)
        found = first_row(tx, row, err, SQL_SERVER_CA_BY_SPKI, "b", hash_span(&s->spki));
    else if (uuid_parse(id, &uuid) == 0)
        found = first_row(tx, row, err, SQL_SERVER_CA_BY_UUID, "u", &uuid);
    else if (span_to_u64(id, &number) && number <= INT64_MAX)
        found = first_row(tx, row, err, SQL_SERVER_CA_BY_NUMBER, "i", I(number));
    return found < 0 ? found : found ? 0 : err_set(err, MUSTER_ENOTFOUND, "There is no server CA of that id or number.");
}

int server_ca_show_run(struct store_tx *tx, void *arg, struct err *err) {
    struct server_ca_show *s = arg;
    struct store_row *row;
    int rc = find_row(tx, s, &row, err);
    if (rc)
        return rc;
    CLEANUP_JSON json_t *o = one_json(row);
    const int64_t number = store_int(row, 0);
    s->state = (enum server_ca_state)store_int(row, 6);
    s->not_after = store_int(row, 5);
    rc = row_hash(row, 2, &s->spki);
    store_row_end(row);
    if (rc || !o)
        return damaged(err);
    if ((rc = add_seen(tx, number, o, err)) || (rc = add_dependents(tx, s, number, o, err)))
        return rc;
    s->out = TAKE(o);
    return 0;
}

/* --- what a device has been given ---------------------------------------------------------------------------------------------- */

int server_ca_given_run(struct store_tx *tx, void *arg, struct err *err) {
    struct server_ca_given *g = arg;
    int64_t number, known;
    int rc = one_int(tx, &number, 0, err, SQL_SERVER_CA_NUMBER, "b", hash_span(&g->spki));
    if (rc || (rc = one_int(tx, &known, INT64_MAX, err, SQL_DEVICE_SERVER_CA, "i", g->device)))
        return rc;
    g->due = known < number;
    return g->due && store_writable(tx) ? store_exec(tx, NULL, err, SQL_DEVICE_GIVEN, "ii", g->device, number) : 0;
}
