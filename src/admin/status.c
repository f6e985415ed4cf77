/* status: GET /api/v1/status: the server, or what of it an account's token may see, on one page. */
#include "admin/facts.h"
#include "metrics/metrics.h"

#define ACCOUNTS_SHOWN 100

/* --- the server ------------------------------------------------------------------------------------------------------------------------ */

static json_t *store_json(const struct facts_store *s) {
    json_t *o = json_object();
    json_set_str(o, "state", s->code ? err_code(s->code) : "ok");
    json_set_int(o, "bytes", s->bytes);
    json_set_int(o, "wal_bytes", s->wal_bytes);
    return o;
}

static json_t *vault_json(const struct facts *f) {
    json_t *o = json_object();
    json_set_str(o, "state", pulse_word(f->vault));
    json_set(o, "answered_us", f->vault_took_us < 0 ? json_null() : json_integer(f->vault_took_us));
    return o;
}

static json_t *stores_json(const struct facts *f) {
    json_t *o = json_object();
    json_set(o, "registry", store_json(&f->registry_db));
    json_set(o, "control", store_json(&f->control_db));
    json_set(o, "free_bytes", f->disk_free < 0 ? json_null() : json_integer(f->disk_free));
    return o;
}

static json_t *sandbox_json(const struct facts *f) {
    json_t *o = json_object(), *all = json_array();
    bool on = true;
    for (size_t i = 0; i < f->processes; i++) {
        json_t *p = json_object();
        json_set_str(p, "process", FACTS_PROCESS[i]);
        json_set_bool(p, "confined", f->confined[i]);
        json_set_int(p, "landlock", f->landlock[i]);
        json_array_append_new(all, p);
        on = on && f->confined[i];
    }
    json_set_bool(o, "on", on);
    json_set(o, "processes", all);
    return o;
}

static json_t *clock_json(const struct facts *f) {
    json_t *o = json_object();
    json_set_str(o, "state", f->registry.clock_behind > CLOCK_TOLERANCE ? err_code(MUSTER_ECLOCK) : "ok");
    json_set_int(o, "behind", f->registry.clock_behind);
    json_set_int(o, "set", f->registry.clock_set.net);
    json_set_time(o, "set_at", f->registry.clock_set.last ? f->registry.clock_set.at : 0); /* 0: null */
    return o;
}

static json_t *recovery_json(const struct facts *f) {
    const struct recovery *r = &f->registry.recovery;
    json_t *o = json_object();
    json_set_str(o, "state", r->since ? "recovery" : "none");
    json_set_time(o, "since", r->since); /* 0: null */
    json_set_time(o, "backup_made", r->since ? r->made : 0);
    return o;
}

static json_t *gateway_json(const struct facts *f) {
    json_t *o = json_object();
    json_set_int(o, "connections", f->open);
    json_set_int(o, "requests_hour", f->recent.requests_hour);
    json_set_int(o, "refused_hour", f->recent.refused_hour);
    json_set_int(o, "counted_seconds", f->recent.since_s);
    return o;
}

static json_t *enrolments_json(const struct facts *f) {
    json_t *o = json_object();
    json_set_int(o, "hour", f->recent.enrolled_hour);
    json_set_int(o, "minute", f->recent.enrolled_minute);
    return o;
}

/* Out of the records that are kept, so that the account's own token sees what its devices were refused for. */
static json_t *refused_json(const struct refusal_tally *t) {
    json_t *o = json_object(), *items = json_array();
    for (size_t i = 0; i < t->n; i++) {
        const struct refusal_tally_code *c = &t->at[i];
        int code = err_from_code(c->code);
        json_t *one = json_object();
        json_set_str(one, "code", c->code);
        json_set_int(one, "count", c->count);
        json_set_int(one, "records", c->records);
        json_set_time(one, "last_seen", c->last);
        json_set_str(one, "device_id", c->device_id[0] ? c->device_id : NULL);
        json_set_str(one, "reason", code ? err_what(code) : NULL);
        json_set_str(one, "fix", code ? err_fix(code) : NULL);
        json_array_append_new(items, one);
    }
    json_set_time(o, "since", t->since);
    json_set_int(o, "count", t->total);
    json_set_bool(o, "complete", t->all);
    json_set(o, "items", items);
    return o;
}

/* --- what ends, the first first ---------------------------------------------------------------------------------------------------------- */

struct ending {
    const char *kind, *account;
    int64_t at;
};

static int by_end(const void *a, const void *b) {
    int64_t x = ((const struct ending *)a)->at, y = ((const struct ending *)b)->at;
    return x < y ? -1 : x > y;
}

static void note(struct ending *e, size_t *n, const char *kind, const char *account, int64_t at) {
    if (at && at < CLOCK_NO_EXPIRY)
        e[(*n)++] = (struct ending){kind, account, at};
}

#define ENDINGS_SHOWN 20
#define ENDINGS_EACH 4 /* of an account */

static json_t *expires_json(const struct facts *f, bool server) {
    json_t *all = json_array();
    size_t n = 0;
    struct ending *e = calloc(f->registry.n * ENDINGS_EACH + 2 + SERVER_CAS_MAX, sizeof *e);
    if (e && server) {
        note(e, &n, "server", NULL, f->server_end);
        note(e, &n, "server_ca", NULL, f->server_ca_end);
        for (size_t i = 0; i < f->former_server_cas; i++)
            note(e, &n, "former_server_ca", NULL, f->former_server_ca[i].end);
    }
    for (size_t i = 0; e && i < f->registry.n; i++) {
        const struct overview_account *a = &f->registry.at[i];
        note(e, &n, "fleet_root", a->name, a->root_end);
        note(e, &n, "issuing_ca", a->name, a->ca_end[CA_ISSUING]);
        note(e, &n, "provisioning_ca", a->name, a->ca_end[CA_PROVISIONING]);
        note(e, &n, "provisioning_key", a->name, a->key_end);
    }
    if (n)
        qsort(e, n, sizeof *e, by_end);
    for (size_t i = 0; i < n && i < ENDINGS_SHOWN; i++) {
        json_t *o = json_object();
        json_set_str(o, "kind", e[i].kind);
        json_set_str(o, "account", e[i].account);
        json_set_time(o, "at", e[i].at);
        json_array_append_new(all, o);
    }
    free(e);
    return all;
}

/* --- accounts, the most troubled first, then the busiest ------------------------------------------------------------------------------------ */

static json_t *account_json(const struct overview_account *a) {
    json_t *o = json_object(), *devices = json_object(), *keys = json_object(), *roots = json_object();
    json_set_str(o, "id", a->name);
    json_set_str(o, "kind", word_of(&WORDS_ACCOUNT_KIND, a->kind));
    json_set_str(o, "method", word_of(&WORDS_METHOD, a->method));
    for (int s = 1; s <= DEVICE_DELETED; s++)
        json_set_int(devices, word_of(&WORDS_DEVICE_STATE, s), a->devices[s]);
    json_set(o, "devices", devices);
    json_set_int(o, "registered_hour", a->registered_hour);
    json_set_int(o, "certificates_ended", a->ends[WITHIN_ENDED]);
    json_set_int(o, "renewable", a->late.n);
    json_set_time(o, "renewable_until", a->late.first);
    json_set_int(o, "certificates_end_7d", a->ends[WITHIN_WEEK]);
    json_set_int(o, "certificates_end_30d", a->ends[WITHIN_MONTH]);
    json_set_int(o, "certificates_end_90d", a->ends[WITHIN_QUARTER]);
    json_set_int(keys, "active", a->keys[KEY_ACTIVE]);
    json_set_int(keys, "expired", a->keys[KEY_EXPIRED]);
    json_set_int(keys, "exhausted", a->keys[KEY_EXHAUSTED]);
    json_set(o, "keys", keys);
    for (int s = 1; s <= ROOT_REVOKED; s++)
        json_set_int(roots, word_of(&WORDS_ROOT_STATE, s), a->roots[s]);
    json_set(o, "roots", roots);
    return o;
}

struct ranked {
    const struct overview_account *a;
    int weight;
};

static int by_trouble(const void *l, const void *r) {
    const struct ranked *a = l, *b = r;
    if (a->weight != b->weight)
        return b->weight - a->weight;
    if (a->a->registered_hour != b->a->registered_hour)
        return a->a->registered_hour < b->a->registered_hour ? 1 : -1;
    if (a->a->devices[DEVICE_ACTIVE] != b->a->devices[DEVICE_ACTIVE])
        return a->a->devices[DEVICE_ACTIVE] < b->a->devices[DEVICE_ACTIVE] ? 1 : -1;
    return strcmp(a->a->name, b->a->name);
}

static json_t *accounts_json(const struct facts *f) {
    json_t *o = json_object(), *items = json_array();
    const struct overview *v = &f->registry;
    struct ranked *r = calloc(v->n + 1, sizeof *r);
    for (size_t i = 0; r && i < v->n; i++)
        r[i] = (struct ranked){&v->at[i], attention_weight(f, &v->at[i])};
    if (r && v->n)
        qsort(r, v->n, sizeof *r, by_trouble);
    for (size_t i = 0; r && i < v->n && i < ACCOUNTS_SHOWN; i++)
        json_array_append_new(items, account_json(r[i].a));
    free(r);
    json_set_int(o, "total", v->total);
    json_set_int(o, "left_out", v->total - (int64_t)json_array_size(items));
    json_set(o, "items", items);
    return o;
}

static void collected(struct http_exchange *x, const struct facts *f) {
    const struct control *c = http_exchange_arg(x);
    const char *account = grant_of(x)->account;
    bool server = !*account, critical;
    json_t *attention = attention_of(f, server, &critical), *o = json_object();
    json_set_str(o, "version", MUSTER_VERSION);
    json_set_time(o, "at", f->now);
    json_set_str(o, "account", server ? NULL : account);
    json_set_str(o, "gateway_url", c->o->gateway_url);
    json_set_bool(o, "ok", !critical);
    json_set(o, "attention", attention);
    json_set(o, "accounts", accounts_json(f));
    json_set(o, "expires", expires_json(f, server));
    json_set(o, "refused", refused_json(&f->registry.refused));
    if (server) {
        json_set(o, "enrolments", enrolments_json(f));
        json_set(o, "gateway", gateway_json(f));
        json_set(o, "vault", vault_json(f));
        json_set(o, "store", stores_json(f));
        json_set(o, "clock", clock_json(f));
        json_set(o, "recovery", recovery_json(f));
        json_set(o, "audit_head_age", f->head_age < 0 ? json_null() : json_integer(f->head_age));
        json_set(o, "sandbox", sandbox_json(f));
    }
    reply_json(x, 200, o);
}

void admin_STATUS(struct http_exchange *x, void *arg) { facts_collect(x, grant_of(x)->account, true, collected); }
