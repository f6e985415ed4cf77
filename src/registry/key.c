/* key: provisioning keys: making, lists; see key.h.  Changes of one that is there stand in key_change.c. */
#include "registry/key.h"

#include "registry/audit.h"
#include "registry/event.h"
#include "registry/key_json.h"
#include "registry/profile.h"
#include "registry/row.h"
#include "registry/tried.h"

#define ENROLLED_SHOWN 1000

static enum key_state state_now(const struct prov_key *k, int64_t now) {
    if (k->state == KEY_BLACKLISTED)
        return KEY_BLACKLISTED;
    if (k->expires <= now)
        return KEY_EXPIRED;
    return k->max_devices && k->spent >= k->max_devices ? KEY_EXHAUSTED : KEY_ACTIVE;
}

/* The bounds that can be tried. */
static json_t *bounds_json(const struct key_bounds *b) {
    json_t *o = json_object();
    json_set_time(o, "expires", b->expires);
    json_set(o, "max_devices", b->max_devices ? json_integer(b->max_devices) : json_null());
    json_set(o, "per_hour", b->per_hour ? json_integer(b->per_hour) : json_null());
    json_set_str(o, "id_pattern", b->id_pattern[0] ? b->id_pattern : NULL);
    json_set_str(o, "sources", b->sources[0] ? b->sources : NULL);
    return o;
}

/* What of the certificates is tried, whole, and those of the bounds that are. */
static json_t *shadow_json(const struct prov_key *k) {
    if (device_profile_is_default(&k->shadow) && !k->tried[0])
        return json_null();
    json_t *o = tried_json(k->tried);
    o = json_is_object(o) ? o : json_object();
    profile_key_add(o, &k->shadow);
    return o;
}

int key_json(struct store_tx *tx, const struct account *a, const struct prov_key *k, json_t **out, struct err *err) {
    int64_t devices;
    int rc = one_int(tx, &devices, 0, err, SQL_KEY_DEVICES, "i", k->row);
    if (rc)
        return rc;
    json_t *o = json_object();
    json_set_uuid(o, "id", &k->uuid);
    json_set_str(o, "account", a->name);
    json_set_str(o, "name", k->name);
    json_set_str(o, "state", word_of(&WORDS_KEY_STATE, state_now(k, clock_now())));
    json_set_time(o, "created", k->created);
    json_set_time(o, "expires", k->expires);
    json_set_time(o, "certificate_not_after", k->certificate_not_after);
    json_set(o, "max_devices", k->max_devices ? json_integer(k->max_devices) : json_null());
    json_set_int(o, "spent", k->spent);
    json_set(o, "per_hour", k->per_hour ? json_integer(k->per_hour) : json_null());
    json_set_str(o, "id_pattern", k->id_pattern[0] ? k->id_pattern : NULL);
    json_set_str(o, "sources", k->sources[0] ? k->sources : NULL);
    json_set_str(o, "build", k->build[0] ? k->build : NULL);
    profile_key_add(o, &k->profile);
    json_set(o, "shadow", shadow_json(k));
    json_set_hex(o, "fingerprint", hash_span(&k->fingerprint));
    json_set_int(o, "devices", devices);
    json_set_time(o, "last_used", k->last_used);
    json_decref(*out);
    *out = o;
    return 0;
}

/* --- bounds -------------------------------------------------------------------------------------------------------------------- */

static int text_check(const char *what, const char *text, struct err *err) {
    struct span s = span_str(text);
    return span_is_utf8(s) && !span_has_control(s) ? 0 : err_set(err, MUSTER_EINVALID, "%s is UTF-8 without control characters.", what);
}

int key_bounds_check(const struct key_bounds *b, struct err *err) {
    int rc = text_check("name", b->name, err);
    if (!rc)
        rc = text_check("build", b->build, err);
    if (!rc)
        rc = id_pattern_check(b->id_pattern, err);
    if (!rc)
        rc = sources_check(b->sources, err);
    if (!rc)
        rc = device_profile_check(&b->profile, err);
    if (rc)
        return rc;
    if (b->max_devices < 0 || b->max_devices > 1000000000 || b->per_hour < 0 || b->per_hour > 1000000000)
        return err_set(err, MUSTER_EINVALID, "max_devices and per_hour are between 1 and 1000000000, or null for any number.");
    struct uuid id;
    return uuid_parse(span_str(b->name), &id) ? 0 : err_set(err, MUSTER_EINVALID, "A name in the form of an id would be ambiguous.");
}

static int take_text(json_t *v, const char *key, char *out, size_t n, struct err *err) {
    if (json_is_null(v)) {
        out[0] = '\0';
        return 0;
    }
    if (!json_is_string(v) || json_string_length(v) >= n)
        return err_set(err, MUSTER_EINVALID, "%s is a text of at most %zu bytes, or null.", key, n - 1);
    memcpy(out, json_string_value(v), json_string_length(v) + 1);
    return 0;
}

static int take_count(json_t *v, const char *key, int64_t *out, struct err *err) {
    *out = json_is_integer(v) ? json_integer_value(v) : 0;
    bool ok = json_is_null(v) || (json_is_integer(v) && *out >= 1);
    return ok ? 0 : err_set(err, MUSTER_EINVALID, "%s is a number from 1, or null for any number.", key);
}

/* A point in time, or a length of time from now. */
static int take_expiry(json_t *v, int64_t *out, struct err *err) {
    const char *text = json_is_string(v) ? json_string_value(v) : "";
    int64_t length;
    if (clock_parse_rfc3339(span_str(text), out) == 0)
        return 0;
    if (clock_parse_span(span_str(text), &length) == 0) {
        *out = clock_now() + length;
        return 0;
    }
    return err_set(err, MUSTER_EINVALID, "expires is a time like \"2027-01-31T00:00:00Z\", or a length of time from now like \"30d\".");
}

static int take_sources(json_t *v, struct key_bounds *b, struct err *err) {
    if (!json_is_array(v))
        return take_text(v, "sources", b->sources, sizeof b->sources, err);
    CLEANUP(buf_fini) struct buf all = BUF_INIT(sizeof b->sources - 1);
    size_t i;
    json_t *one;
    json_array_foreach(v, i, one) {
        if (!json_is_string(one))
            return err_set(err, MUSTER_EINVALID, "sources is a list of networks.");
        buf_adds(&all, i ? " " : "");
        buf_adds(&all, json_string_value(one));
    }
    if (!buf_ok(&all))
        return err_set(err, MUSTER_EINVALID, "sources is too long.");
    memcpy(b->sources, buf_str(&all), all.n + 1);
    return 0;
}

int key_bounds_json(struct key_bounds *b, json_t *from, struct err *err) {
    const char *key;
    json_t *v;
    json_object_foreach(from, key, v) {
        bool known;
        int rc;
        if (strcmp(key, "name") == 0)
            rc = take_text(v, key, b->name, sizeof b->name, err);
        else if (strcmp(key, "build") == 0)
            rc = take_text(v, key, b->build, sizeof b->build, err);
        else if (strcmp(key, "id_pattern") == 0)
            rc = take_text(v, key, b->id_pattern, sizeof b->id_pattern, err);
        else if (strcmp(key, "sources") == 0)
            rc = take_sources(v, b, err);
        else if (strcmp(key, "max_devices") == 0)
            rc = take_count(v, key, &b->max_devices, err);
        else if (strcmp(key, "per_hour") == 0)
            rc = take_count(v, key, &b->per_hour, err);
        else if (strcmp(key, "expires") == 0)
            rc = take_expiry(v, &b->expires, err);
        else if ((rc = profile_take(&b->profile, key, v, &known, err)) == 0 && !known)
            rc = err_set(err, MUSTER_EINVALID, "A provisioning key has no \"%.40s\".", key);
        if (rc)
            return rc;
    }
    return key_bounds_check(b, err);
}

/* What is tried begins as what is tried already, and that as what holds. */
static int try_json(struct key_bounds *b, const json_t *from, struct err *err) {
    CLEANUP_JSON json_t *bounds = json_object(), *before = *b->tried ? tried_json(b->tried) : json_object(), *whole = NULL;
    struct device_profile p = device_profile_is_default(&b->shadow) ? b->profile : b->shadow;
    struct key_bounds t = *b;
    const char *key;
    json_t *v;
    bool certificates = false;
    json_object_foreach((json_t *)from, key, v) {
        bool known = strcmp(key, "shadow") == 0;
        int rc = known ? 0 : profile_take(&p, key, v, &known, err);
        if (rc)
            return rc;
        certificates = certificates || (known && strcmp(key, "shadow") != 0);
        if (!known)
            json_object_set(bounds, key, v);
    }
    int rc = device_profile_check(&p, err);
    if (rc || (rc = key_bounds_json(&t, before, err)) || (rc = key_bounds_json(&t, bounds, err)))
        return rc;
    if (certificates ? device_profile_is_default(&p) : !json_object_size(bounds))
        return err_set(err, MUSTER_EINVALID, "There is nothing to try: the key would allow all that its account does.");
    if (certificates)
        b->shadow = p;
    whole = bounds_json(&t);
    return tried_put(b->tried, sizeof b->tried, TRIED_OF_KEY, whole, bounds, err);
}

int key_change_json(struct key_bounds *b, json_t *from, struct err *err) {
    enum tried_change change;
    int rc = tried_change_of(from, &change, err);
    if (rc || change == TRIED_NOT)
        return rc ? rc : key_bounds_json(b, from, err);
    if (change == TRIED_TRY)
        return try_json(b, from, err);
    const bool certificates = !device_profile_is_default(&b->shadow);
    CLEANUP_JSON json_t *members = tried_settle(change, b->tried, certificates, from, err);
    if (!members)
        return err->code;
    if (change == TRIED_ENFORCE && certificates)
        b->profile = b->shadow;
    b->shadow = (struct device_profile){0};
    b->tried[0] = '\0';
    return key_bounds_json(b, members, err);
}

/* --- operations ------------------------------------------------------------------------------------------------------------------- */

static int expiry_fits(const struct key_bounds *b, int64_t certificate_not_after, struct err *err) {
    if (b->expires > certificate_not_after) {
        char end[CLOCK_RFC3339_LEN + 1];
        clock_rfc3339(certificate_not_after, end);
        return err_set(err, MUSTER_EINVALID, "The key's certificate ends at %s; expires cannot lie behind that.", end);
    }
    return 0;
}

int key_bounds_fit(const struct account *a, const struct key_bounds *b, int64_t certificate_not_after, struct err *err) {
    CLEANUP_JSON json_t *members = *b->tried ? tried_json(b->tried) : json_object();
    struct device_profile whole;
    struct key_bounds tried = *b;
    int rc = expiry_fits(b, certificate_not_after, err);
    if (rc || (rc = key_bounds_json(&tried, members, err)) || (rc = expiry_fits(&tried, certificate_not_after, err)))
        return rc;
    profile_of(a, NULL, &whole);
    rc = device_profile_narrows(&whole, &b->profile, err);
    return rc ? rc : device_profile_narrows(&whole, &b->shadow, err);
}

int key_create_run(struct store_tx *tx, void *arg, struct err *err) {
    struct key_create *c = arg;
    struct account a;
    struct prov_key k;
    char id[UUID_TEXT_LEN + 1], profile[PROFILE_TEXT_MAX + 1];
    int64_t now = clock_now();
    uuid_text(&c->id, id);
    if (!c->bounds.name[0])
        snprintf(c->bounds.name, sizeof c->bounds.name, "key-%.13s", id);
    int rc = account_need(tx, c->account, &a, err);
    if (rc || (rc = clock_check(tx, now, err)) || (rc = key_bounds_fit(&a, &c->bounds, c->cert->not_after, err)))
        return rc;
    if (!(a.method & METHOD_SHARED))
        return err_set(err, MUSTER_EMETHODOFF, "The account %s does not take shared credentials.", a.name);
    rc = store_exec(tx, NULL, err, SQL_KEY_ADD, "uisiiiiiisssbbs", &c->id, a.row, c->bounds.name, I(KEY_ACTIVE), now, c->bounds.expires, c->cert->not_after, c->bounds.max_devices,
                    c->bounds.per_hour, c->bounds.id_pattern, c->bounds.sources, c->bounds.build, hash_span(&c->cert->key.spki), hash_span(&c->cert->fingerprint), profile_text(&c->bounds.profile, profile));
    if (rc == MUSTER_EEXISTS)
        return err_set(err, rc, "The account %s has a provisioning key \"%s\" already.", a.name, c->bounds.name);
    if (rc || (rc = key_need(tx, &a, span_str(id), &k, err)) || (rc = key_json(tx, &a, &k, &c->out, err)) || (rc = event_key(tx, &a, &k, EVENT_KEY_CREATED, NULL, err)))
        return rc;
    json_t *detail = key_detail(&k);
    json_set_hex(detail, "fingerprint", hash_span(&k.fingerprint));
    json_set_hex(detail, "spki", hash_span(&c->cert->key.spki));
    json_set_time(detail, "certificate_not_after", k.certificate_not_after);
    return audit_add(tx, a.row, &c->actor, "key.create", span_str(k.name), detail, err);
}

int key_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct key_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct account a;
    int64_t last = l->page.after, n = 0;
    int rc = account_need(tx, l->account, &a, err);
    if (rc || (rc = store_query(tx, &row, err, SQL_KEY_PAGE, "iii", a.row, l->page.after, l->page.limit + 1)))
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < l->page.limit) {
        struct prov_key k;
        json_t *one = NULL;
        if ((rc = row_key(row, &k, err)) || (rc = key_json(tx, &a, &k, &one, err)))
            return rc;
        json_array_append_new(items, one);
        last = k.row;
        n++;
    }
    return rc < 0 ? rc : page_finish(&l->page, TAKE(items), last, rc > 0);
}

/* The newest devices that the key enrolled; all of them are a list of their own. */
static int add_enrolled(struct store_tx *tx, const struct prov_key *k, json_t *out, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    json_t *list = json_array();
    json_set(out, "enrolled", list);
    int rc = store_query(tx, &row, err, SQL_KEY_ENROLLED, "ii", k->row, I(ENROLLED_SHOWN));
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        json_t *d = json_object();
        struct uuid id;
        if (store_uuid(row, 0, &id))
            id = (struct uuid){{0}};
        json_set_uuid(d, "id", &id);
        json_set_span(d, "device_id", store_text(row, 1));
        json_set_str(d, "state", word_of(&WORDS_DEVICE_STATE, store_int(row, 2)));
        json_set_time(d, "created", store_int(row, 3));
        json_array_append_new(list, d);
    }
    return rc;
}

int key_show_run(struct store_tx *tx, void *arg, struct err *err) {
    struct key_show *s = arg;
    struct account a;
    struct prov_key k;
    int rc = account_need(tx, s->account, &a, err);
    if (rc || (rc = key_need(tx, &a, s->key, &k, err)))
        return rc;
    rc = key_json(tx, &a, &k, &s->out, err);
    return rc ? rc : add_enrolled(tx, &k, s->out, err);
}
