/* line: see line.h. */
#include "registry/line.h"

#include "pki/line_ca.h"
#include "registry/audit.h"
#include "registry/device.h"
#include "registry/event.h"

#define NAME_MAX_CHARACTERS 63

static const char *const words[] = {[LINE_OPEN] = "open", [LINE_CLOSED] = "closed", [LINE_REVOKED] = "revoked"};
const struct words WORDS_LINE_STATE = {words, sizeof words / sizeof *words};

/* --- rows ---------------------------------------------------------------------------------------------------------------------------- */

enum col { L_ID, L_UUID, L_ACCOUNT, L_ROOT, L_NAME, L_STATE, L_SPKI, L_NOT_AFTER, L_MAX, L_SPENT, L_HELD, L_PATTERN, L_BEGINS, L_EXPIRES, L_CREATED };

int row_line(struct store_row *row, struct line *out, struct err *err) {
    *out = (struct line){.row = store_int(row, L_ID), .account = store_int(row, L_ACCOUNT), .root = store_int(row, L_ROOT), .state = (enum line_state)store_int(row, L_STATE),
                         .not_after = store_int(row, L_NOT_AFTER), .max_devices = store_int(row, L_MAX), .spent = store_int(row, L_SPENT), .held = store_int(row, L_HELD),
                         .begins = store_int(row, L_BEGINS), .expires = store_int(row, L_EXPIRES), .created = store_int(row, L_CREATED)};
    row_text(row, L_NAME, out->name, sizeof out->name);
    row_text(row, L_PATTERN, out->id_pattern, sizeof out->id_pattern);
    bool bad = store_uuid(row, L_UUID, &out->uuid) || row_hash(row, L_SPKI, &out->spki);
    return bad ? err_set(err, MUSTER_ECORRUPT, "A row of the table line is damaged.") : 0;
}

static int take_row(struct store_row *row, int found, struct line *out, struct err *err) {
    if (found <= 0)
        return found;
    int rc = row_line(row, out, err);
    store_row_end(row);
    return rc ? rc : 1;
}

int line_find_row(struct store_tx *tx, int64_t at, struct line *out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_LINE_BY_ROW, "i", at);
    return take_row(row, found, out, err);
}

static int find_spki(struct store_tx *tx, int64_t account, const struct hash *spki, struct line *out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_LINE_BY_SPKI, "ib", account, hash_span(spki));
    return take_row(row, found, out, err);
}

int line_need(struct store_tx *tx, const struct account *a, struct span name, struct line *out, struct err *err) {
    struct store_row *row;
    struct uuid uuid;
    int found = 0;
    if (uuid_parse(name, &uuid) == 0) {
        found = first_row(tx, &row, err, SQL_LINE_BY_UUID, "u", &uuid);
        found = take_row(row, found, out, err);
        found = found > 0 && out->account != a->row ? 0 : found;
    }
    if (!found) {
        found = first_row(tx, &row, err, SQL_LINE_BY_NAME, "it", a->row, name);
        found = take_row(row, found, out, err);
    }
    return found < 0 ? found : found ? 0 : err_set(err, MUSTER_ENOTFOUND, "The account %s has no factory line \"%.*s\".", a->name, (int)(name.n > 64 ? 64 : name.n), (const char *)name.p);
}

/* --- at the gateway ------------------------------------------------------------------------------------------------------------------ */

int line_of(struct store_tx *tx, const struct admit *a, int64_t account, struct line *out, struct err *err) {
    for (size_t i = 0; i < a->n_between; i++) {
        int found = find_spki(tx, account, &a->between[i]->key.spki, out, err);
        if (found)
            return found;
    }
    return 0;
}

const char *line_objection(const struct line *l, struct span device_id, const struct cert *leaf, int64_t now) {
    if (l->state != LINE_OPEN)
        return "its factory line is closed";
    if (!id_pattern_match(l->id_pattern, device_id))
        return "its ID is none that its factory line may make";
    if (now >= l->expires || leaf->not_before >= l->expires || leaf->not_before < l->begins - LINE_BACKDATE)
        return "its factory line's time is over, or its certificate is not of that time";
    if (l->spent >= l->max_devices)
        return "its factory line has brought in as many devices as it may";
    return NULL;
}

int line_spend(struct store_tx *tx, const struct line *l, bool held, struct err *err) {
    return store_exec(tx, NULL, err, held ? SQL_LINE_HOLD : SQL_LINE_SPEND, "i", l->row);
}

/* --- JSON ---------------------------------------------------------------------------------------------------------------------------- */

static int add_pem(struct store_tx *tx, json_t *o, const char *member, int sql, int64_t row, struct err *err) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    CLEANUP(cert_free) struct cert *cert = NULL;
    struct store_row *at;
    int found = first_row(tx, &at, err, sql, "i", row);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, "A factory line has no fleet root.");
    int rc = cert_from_der(store_blob(at, 0), &cert, err);
    store_row_end(at);
    if (rc || cert_pem(cert, &pem))
        return rc ? rc : err_set(err, MUSTER_ENOMEM, NULL);
    json_set_span(o, member, buf_span(&pem));
    return 0;
}

static int line_json(struct store_tx *tx, const struct account *a, const struct line *l, bool certificates, json_t **out, struct err *err) {
    CLEANUP_JSON json_t *o = json_object();
    struct root r;
    int found = root_find_row(tx, l->root, &r, err);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, "A factory line has no fleet root.");
    json_set_uuid(o, "id", &l->uuid);
    json_set_str(o, "account", a->name);
    json_set_str(o, "name", l->name);
    json_set_str(o, "state", l->state == LINE_OPEN && l->expires <= clock_now() ? "expired" : word_of(&WORDS_LINE_STATE, l->state));
    json_set_uuid(o, "root", &r.uuid);
    json_set_int(o, "max_devices", l->max_devices);
    json_set_int(o, "devices", l->spent);
    json_set_int(o, "held", l->held);
    json_set_str(o, "id_pattern", l->id_pattern);
    json_set_time(o, "begins", l->begins);
    json_set_time(o, "expires", l->expires);
    json_set_time(o, "not_after", l->not_after);
    json_set_hex(o, "spki", hash_span(&l->spki));
    json_set_time(o, "created", l->created);
    int rc = certificates ? add_pem(tx, o, "certificate", SQL_LINE_DER, l->row, err) : 0;
    if (!rc && certificates)
        rc = add_pem(tx, o, "root_certificate", SQL_ROOT_DER, l->root, err);
    if (rc)
        return rc;
    json_decref(*out);
    *out = TAKE(o);
    return 0;
}

/* --- what an operator may ask for ------------------------------------------------------------------------------------------------------ */

static int check_name(struct span name, struct err *err) {
    bool ok = name.n >= 1 && name.n <= NAME_MAX_CHARACTERS && name.p[0] != '-' && name.p[name.n - 1] != '-';
    for (size_t i = 0; ok && i < name.n; i++)
        ok = (name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= '0' && name.p[i] <= '9') || name.p[i] == '-';
    return ok ? 0 : err_set(err, MUSTER_EINVALID, "A factory line's name is 1 to %d characters of a-z, 0-9 and \"-\", which is neither first nor last.", NAME_MAX_CHARACTERS);
}

static int check_bounds(const struct line_bounds *b, int64_t spent, struct err *err) {
    if (b->max_devices && (b->max_devices < 1 || b->max_devices > LINE_DEVICES_MAX))
        return err_set(err, MUSTER_EINVALID, "max_devices is between 1 and %d.", LINE_DEVICES_MAX);
    if (b->max_devices && b->max_devices < spent)
        return err_set(err, MUSTER_EINVALID, "The factory line has brought in %lld devices already; it can be closed.", (long long)spent);
    return b->id_pattern ? id_pattern_check(b->id_pattern, err) : 0;
}

static int check_new(struct store_tx *tx, const struct account *a, struct span name, const struct hash *spki, const struct line_bounds *b, struct err *err) {
    struct store_row *row;
    struct line other;
    int64_t now = clock_now();
    int rc = check_name(name, err);
    if (rc || (rc = clock_check(tx, now, err)) || (rc = check_bounds(b, 0, err)))
        return rc;
    if (!b->max_devices || !b->id_pattern || b->expires <= now)
        return err_set(err, MUSTER_EINVALID, "A factory line needs a number of devices, a pattern of their IDs, and an end that lies ahead.");
    int found = first_row(tx, &row, err, SQL_LINE_BY_NAME, "it", a->row, name);
    found = take_row(row, found, &other, err);
    if (found)
        return found < 0 ? found : err_set(err, MUSTER_EEXISTS, "The account %s has a factory line of that name.", a->name);
    found = find_spki(tx, a->row, spki, &other, err);
    return found < 0 ? found : found ? err_set(err, MUSTER_EEXISTS, "The key is the one of the factory line %s: each has its own.", other.name) : 0;
}

int line_look_run(struct store_tx *tx, void *arg, struct err *err) {
    struct line_look *l = arg;
    struct account a;
    int rc = account_need(tx, l->account, &a, err);
    if (rc)
        return rc;
    if (!(a.method & (l->own ? METHOD_SHARED : METHOD_DEVICE)))
        return err_set(err, MUSTER_EMETHODOFF, l->own ? "The account %s has no fleet root of Muster's own: bring the line's certificate, signed by your fleet CA." : "The account %s does not take device credentials.", a.name);
    return check_new(tx, &a, l->name, &l->spki, &l->bounds, err);
}

/* The account's fleet root that has signed it. */
static int find_signer(struct store_tx *tx, const struct account *a, const struct cert *cert, struct root *out, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_ROOT_PAGE, "iii", a->row, I(0), I(ROOTS_MAX + PAGE_MAX));
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *root = NULL;
        struct root r;
        if ((rc = row_root(row, &r, err)) || (rc = cert_from_der(store_blob(row, 8), &root, err)))
            return rc;
        if ((r.state == ROOT_ACTIVE || r.state == ROOT_KNOWN_ONLY) && cert_signed_by(cert, root)) {
            *out = r;
            return r.state == ROOT_ACTIVE ? 0 : err_set(err, MUSTER_EROOTKNOWNONLY, NULL);
        }
    }
    return rc < 0 ? rc : err_set(err, MUSTER_EROOTUNFIT, "No fleet root of the account that is in use has signed the certificate.");
}

int line_create_run(struct store_tx *tx, void *arg, struct err *err) {
    struct line_create *c = arg;
    CLEANUP(buf_fini) struct buf der = BUF_INIT(CERT_DER_MAX);
    struct account a;
    struct root r;
    int64_t now = clock_now();
    int rc = account_need(tx, c->account, &a, err);
    if (rc || (rc = check_new(tx, &a, c->name, &c->cert->key.spki, &c->bounds, err)) || (rc = line_ca_fit(c->cert, span_str(a.name), c->name, now, err)) || (rc = find_signer(tx, &a, c->cert, &r, err)))
        return rc;
    if (!(a.method & (r.origin == ROOT_MUSTER ? METHOD_SHARED : METHOD_DEVICE)))
        return err_set(err, MUSTER_EMETHODOFF, NULL);
    if (cert_der(c->cert, &der))
        return err_set(err, MUSTER_ENOMEM, NULL);
    struct line l = {.account = a.row, .root = r.row, .uuid = c->id, .state = LINE_OPEN, .spki = c->cert->key.spki, .not_after = c->cert->not_after, .max_devices = c->bounds.max_devices,
                     .begins = now, .expires = c->bounds.expires, .created = now};
    snprintf(l.name, sizeof l.name, "%.*s", SPAN_FMT(c->name));
    snprintf(l.id_pattern, sizeof l.id_pattern, "%s", c->bounds.id_pattern);
    rc = store_exec(tx, NULL, err, SQL_LINE_ADD, "uiisibbiisiii", &l.uuid, l.account, l.root, l.name, I(l.state), hash_span(&l.spki), buf_span(&der), l.not_after, l.max_devices, l.id_pattern, l.begins,
                    l.expires, l.created);
    int found = rc ? rc : find_spki(tx, a.row, &l.spki, &l, err);
    if (found <= 0)
        return found < 0 ? found : MUSTER_ECORRUPT;
    if ((rc = line_json(tx, &a, &l, true, &c->out, err)) || (rc = epoch_raise(tx, err)))
        return rc;
    json_t *detail = json_object();
    json_set_uuid(detail, "id", &l.uuid);
    json_set_uuid(detail, "root", &r.uuid);
    json_set_hex(detail, "spki", hash_span(&l.spki));
    json_set_hex(detail, "fingerprint", hash_span(&c->cert->fingerprint));
    json_set_int(detail, "max_devices", l.max_devices);
    json_set_str(detail, "id_pattern", l.id_pattern);
    json_set_time(detail, "begins", l.begins);
    json_set_time(detail, "expires", l.expires);
    return audit_add(tx, a.row, &c->actor, "line.create", c->name, detail, err);
}

int line_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct line_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct account a;
    int64_t last = l->page.after, n = 0;
    int rc = account_need(tx, l->account, &a, err);
    if (rc || (rc = store_query(tx, &row, err, SQL_LINE_PAGE, "iii", a.row, l->page.after, l->page.limit + 1)))
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < l->page.limit) {
        struct line one;
        json_t *o = NULL;
        if ((rc = row_line(row, &one, err)) || (rc = line_json(tx, &a, &one, false, &o, err)))
            return rc;
        json_array_append_new(items, o);
        last = one.row;
        n++;
    }
    return rc < 0 ? rc : page_finish(&l->page, TAKE(items), last, rc > 0);
}

int line_show_run(struct store_tx *tx, void *arg, struct err *err) {
    struct line_show *s = arg;
    struct account a;
    struct line l;
    int rc = account_need(tx, s->account, &a, err);
    return rc || (rc = line_need(tx, &a, s->line, &l, err)) ? rc : line_json(tx, &a, &l, true, &s->out, err);
}

int line_set_run(struct store_tx *tx, void *arg, struct err *err) {
    struct line_set *s = arg;
    struct account a;
    struct line l;
    int rc = account_need(tx, s->account, &a, err);
    if (rc || (rc = line_need(tx, &a, s->line, &l, err)) || (rc = check_bounds(&s->bounds, l.spent, err)))
        return rc;
    if (l.state == LINE_REVOKED)
        return err_set(err, MUSTER_ESTATE, "The factory line %s is revoked, for good; make another one, with a key of its own.", l.name);
    json_t *detail = json_object();
    json_set_uuid(detail, "id", &l.uuid);
    if (s->bounds.max_devices) {
        l.max_devices = s->bounds.max_devices;
        json_set_int(detail, "max_devices", l.max_devices);
    }
    if (s->bounds.id_pattern) {
        snprintf(l.id_pattern, sizeof l.id_pattern, "%s", s->bounds.id_pattern);
        json_set_str(detail, "id_pattern", l.id_pattern);
    }
    if (s->bounds.expires) {
        l.expires = s->bounds.expires;
        json_set_time(detail, "expires", l.expires);
    }
    if (s->bounds.state) {
        l.state = s->bounds.state;
        json_set_str(detail, "state", word_of(&WORDS_LINE_STATE, l.state));
    }
    if ((rc = store_exec(tx, NULL, err, SQL_LINE_SET, "iisii", l.row, l.max_devices, l.id_pattern, l.expires, I(l.state))) || (rc = line_json(tx, &a, &l, false, &s->out, err)) ||
        (rc = epoch_raise(tx, err))) {
        json_decref(detail);
        return rc;
    }
    return audit_add(tx, a.row, &s->actor, "line.set", span_str(l.name), detail, err);
}

int line_revoke_run(struct store_tx *tx, void *arg, struct err *err) {
    struct line_revoke *s = arg;
    struct account a;
    struct line l;
    int rc = account_need(tx, s->account, &a, err);
    if (rc || (rc = line_need(tx, &a, s->line, &l, err)) || l.state == LINE_REVOKED)
        return rc ? rc : line_json(tx, &a, &l, false, &s->out, err);
    l.state = LINE_REVOKED;
    json_t *more = json_object();
    json_set_uuid(more, "line_id", &l.uuid);
    json_set_str(more, "line", l.name);
    json_set_int(more, "devices", l.spent);
    json_set_int(more, "held", l.held);
    json_set_str(more, "reason", s->reason);
    if ((rc = event_plain(tx, &a, EVENT_LINE_REVOKED, more, err)) || (rc = store_exec(tx, NULL, err, SQL_LINE_SET, "iisii", l.row, l.max_devices, l.id_pattern, l.expires, I(l.state))) ||
        (rc = line_json(tx, &a, &l, false, &s->out, err)) || (rc = epoch_raise(tx, err)))
        return rc;
    json_t *detail = json_object();
    json_set_uuid(detail, "id", &l.uuid);
    json_set_str(detail, "state", word_of(&WORDS_LINE_STATE, l.state));
    json_set_str(detail, "reason", s->reason);
    return audit_add(tx, a.row, &s->actor, "line.revoke", span_str(l.name), detail, err);
}

int line_devices_run(struct store_tx *tx, void *arg, struct err *err) {
    struct line_devices *s = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct account a;
    struct line l;
    int64_t last = s->page.after, n = 0;
    int rc = account_need(tx, s->account, &a, err);
    if (rc || (rc = line_need(tx, &a, s->line, &l, err)) || (rc = store_query(tx, &row, err, SQL_DEVICE_PAGE_LINE, "iii", l.row, s->page.after, s->page.limit + 1)))
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < s->page.limit) {
        struct device d;
        json_t *o = NULL;
        if ((rc = row_device(row, &d, err)) || (rc = device_json(tx, &a, &d, false, &o, err)))
            return rc;
        json_array_append_new(items, o);
        last = d.row;
        n++;
    }
    return rc < 0 ? rc : page_finish(&s->page, TAKE(items), last, rc > 0);
}

/* --- taking devices out again -------------------------------------------------------------------------------------------------------------- */

/* It waits again, for the reason that is given. */
static int hold(struct store_tx *tx, const struct line_act *s, const struct account *a, const struct device *d, struct err *err) {
    json_t *more = json_object(), *detail = json_object();
    json_set_str(more, "reason", s->reason);
    json_set_uuid(detail, "id", &d->uuid);
    json_set_str(detail, "reason", s->reason);
    int rc = event_device(tx, a, d, DEVICE_PENDING, EVENT_DEVICE_HELD, more, err);
    if (!rc)
        rc = store_exec(tx, NULL, err, SQL_DEVICE_STATE, "iiisi", d->row, I(DEVICE_PENDING), I(DEVICE_PENDING), s->reason, I(0));
    if (rc) {
        json_decref(detail);
        return rc;
    }
    return audit_add(tx, a->row, &s->actor, "device.hold", span_str(d->device_id), detail, err);
}

static int act_on(struct store_tx *tx, struct line_act *s, const struct account *a, const struct line *l, const char *device_id, struct err *err) {
    struct store_row *row;
    struct device d;
    int found = device_id ? first_row(tx, &row, err, SQL_DEVICE_BY_ID, "is", a->row, device_id) : 0;
    if (found < 0)
        return found;
    int rc = found ? row_device(row, &d, err) : 0;
    if (found)
        store_row_end(row);
    if (rc)
        return rc;
    if (!found || d.line != l->row)
        return err_set(err, MUSTER_ENOTFOUND, "The factory line %s has brought no device %.128s.", l->name, device_id ? device_id : "without an ID");
    bool can = d.state == DEVICE_ACTIVE || (s->action == LINE_QUARANTINE_DEVICES && d.state == DEVICE_PENDING);
    if (!can) {
        s->passed++;
        return 0;
    }
    s->acted++;
    return s->action == LINE_HOLD_DEVICES ? hold(tx, s, a, &d, err) : device_cut_off(tx, a, &d, DEVICE_QUARANTINED, &s->actor, s->reason, err);
}

int line_act_run(struct store_tx *tx, void *arg, struct err *err) {
    struct line_act *s = arg;
    struct account a;
    struct line l;
    const json_t *one;
    size_t i;
    s->acted = s->passed = 0;
    int rc = account_need(tx, s->account, &a, err);
    if (rc || (rc = line_need(tx, &a, s->line, &l, err)))
        return rc;
    json_array_foreach(s->devices, i, one)
        if ((rc = act_on(tx, s, &a, &l, json_string_value(one), err)))
            return rc;
    return s->acted ? epoch_raise(tx, err) : 0;
}
