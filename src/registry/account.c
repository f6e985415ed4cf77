/* account: see account.h. */
#include "registry/account.h"

#include "pki/crl_make.h"
#include "registry/audit_seal.h"
#include "registry/event.h"
#include "registry/profile.h"
#include "registry/root.h"
#include "registry/root_json.h"
#include "registry/row.h"
#include "registry/tried.h"
#include "registry/line_revoke.h"

/* --- what is shown ------------------------------------------------------------------------------------------------------------ */

static void add_warnings(json_t *out, const struct account *a) {
    json_t *w = json_array();
    if (a->method == METHOD_BOTH)
        json_array_append_new(w, json_string("Both provisioning methods are on: whoever holds a provisioning key can enrol devices beside those of your fleet CA. Keep testing and production apart."));
    if (a->kind == ACCOUNT_PRODUCTION && (a->method & METHOD_SHARED))
        json_array_append_new(w, json_string("A production account with shared credentials: the provisioning key is in every image, and a leaked one enrols devices of anybody until it is blacklisted. Prefer device credentials for production."));
    if (a->reprovision == REPROVISION_REPLACE)
        json_array_append_new(w, json_string("reprovision is \"replace\": whoever holds the provisioning key of a device can take over its ID. Prefer \"ask\", or `device release --for-reprovision` for the one device."));
    json_set(out, "warnings", w);
}

static int count_devices(struct store_tx *tx, const struct account *a, int64_t count[DEVICE_DELETED + 1], struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    memset(count, 0, (DEVICE_DELETED + 1) * sizeof *count);
    int rc = store_query(tx, &row, err, SQL_ACCOUNT_DEVICES, "i", a->row);
    while (!rc && (rc = store_next(row, err)) > 0) {
        int64_t state = store_int(row, 0);
        if (state >= 1 && state <= DEVICE_DELETED)
            count[state] += store_int(row, 1);
        rc = 0;
    }
    return rc;
}

static int account_json(struct store_tx *tx, const struct account *a, json_t **out, struct err *err) {
    int64_t count[DEVICE_DELETED + 1];
    int rc = count_devices(tx, a, count, err);
    if (rc)
        return rc;
    json_t *o = json_object(), *devices = json_object();
    struct account_settings settings;
    account_settings_of(a, &settings);
    json_set_str(o, "id", a->name);
    json_set_str(o, "kind", word_of(&WORDS_ACCOUNT_KIND, a->kind));
    json_set_str(o, "method", word_of(&WORDS_METHOD, a->method));
    json_set_str(o, "state", word_of(&WORDS_ACCOUNT_STATE, a->state));
    json_set_time(o, "created", a->created);
    add_warnings(o, a);
    json_set(o, "settings", account_settings_show(&settings));
    json_set(o, "shadow", tried_json(a->tried));
    for (int s = 1; s <= DEVICE_DELETED; s++)
        json_set_int(devices, word_of(&WORDS_DEVICE_STATE, s), count[s]);
    json_set(o, "devices", devices);
    json_decref(*out);
    *out = o;
    return 0;
}

int account_show_run(struct store_tx *tx, void *arg, struct err *err) {
    struct account_show *s = arg;
    struct account a;
    int rc = account_need(tx, s->name, &a, err);
    if (rc)
        return rc;
    s->kind = a.kind;
    s->method = a.method;
    account_settings_of(&a, &s->settings);
    if (s->profile)
        return (s->out = profile_json(&a)) ? 0 : err_set(err, MUSTER_ENOMEM, NULL);
    rc = one_int(tx, &s->devices_shared, 0, err, SQL_ACCOUNT_METHOD, "ii", a.row, I(METHOD_SHARED));
    if (!rc)
        rc = one_int(tx, &s->devices_device, 0, err, SQL_ACCOUNT_METHOD, "ii", a.row, I(METHOD_DEVICE));
    return rc ? rc : account_json(tx, &a, &s->out, err);
}

int account_show_clock_run(struct store_tx *tx, void *arg, struct err *err) {
    int rc = clock_check(tx, clock_now(), err);
    return rc ? rc : account_show_run(tx, arg, err);
}

int account_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct account_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int64_t last = l->page.after, n = 0;
    int rc = store_query(tx, &row, err, SQL_ACCOUNT_PAGE, "ii", l->page.after, *l->only ? I(PAGE_MAX) * 1000 : l->page.limit + 1);
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < l->page.limit) {
        struct account a;
        json_t *one = NULL;
        if ((rc = row_account(row, &a, err)))
            return rc;
        last = a.row;
        if (a.state != ACCOUNT_ACTIVE || (*l->only && strcmp(l->only, a.name) != 0))
            continue;
        if ((rc = account_json(tx, &a, &one, err)))
            return rc;
        json_array_append_new(items, one);
        n++;
    }
    return rc < 0 ? rc : page_finish(&l->page, TAKE(items), last, rc > 0);
}

/* --- changes --------------------------------------------------------------------------------------------------------------------- */

#define SIGNED_BEFORE_MAX (1u << 20) /* bytes of the rows of certificates */

/* The vault issues under a CA from when it has made it on, and until the registry knows of that such certificates are nobody's. */
static int take_signed_before(struct store_tx *tx, const struct account *a, int64_t ca, const struct cert *c, const uint8_t key_id[CRL_KEY_ID_LEN], struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    CLEANUP(buf_fini) struct buf ids = BUF_INIT(SIGNED_BEFORE_MAX);
    uint8_t above[CRL_KEY_ID_LEN];
    int rc = store_query(tx, &row, err, SQL_CERT_NO_ISSUER, "ii", a->row, c->not_before - CLOCK_DAY);
    while (!rc && (rc = store_next(row, err)) > 0) {
        const int64_t id = store_int(row, 0);
        if (crl_issuer_key_id(store_blob(row, 1), above) && memcmp(above, key_id, sizeof above) == 0)
            buf_add(&ids, span_of(&id, sizeof id));
        rc = 0;
    }
    if (rc || (rc = buf_check(&ids, err)))
        return rc;
    for (size_t at = 0; !rc && at < ids.n; at += sizeof(int64_t)) {
        int64_t id;
        memcpy(&id, ids.p + at, sizeof id);
        rc = store_exec(tx, NULL, err, SQL_CERT_ISSUER_SET, "ii", id, ca);
    }
    return rc;
}

static int add_ca(struct store_tx *tx, const struct account *a, enum ca_kind kind, struct span der, struct err *err) {
    CLEANUP(cert_free) struct cert *c = NULL;
    int64_t have;
    if (!der.n)
        return 0;
    int rc = cert_from_der(der, &c, err);
    if (rc || (rc = one_int(tx, &have, 0, err, SQL_CA_HAS, "iib", a->row, I(kind), hash_span(&c->key.spki))) || have)
        return rc;
    uint8_t key_id[CRL_KEY_ID_LEN];
    bool has_id = crl_key_id(c, key_id);
    rc = store_exec(tx, NULL, err, SQL_CA_ADD, "iibbiib", a->row, I(kind), hash_span(&c->key.spki), der, c->not_after, clock_now(), has_id ? span_of(key_id, sizeof key_id) : SPAN_NONE);
    if (rc || kind != CA_ISSUING || !has_id || (rc = one_int(tx, &have, 0, err, SQL_CA_HAS, "iib", a->row, I(kind), hash_span(&c->key.spki))))
        return rc;
    return take_signed_before(tx, a, have, c, key_id, err);
}

static int find_own(struct store_tx *tx, const struct account *a, const struct hash *spki, struct root *out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_ROOT_BY_SPKI, "ib", a->row, hash_span(spki));
    if (found <= 0)
        return found;
    int rc = row_root(row, out, err);
    store_row_end(row);
    return rc ? rc : out->origin == ROOT_MUSTER;
}

/* *added: it was not there; *out: its row. */
static int add_fleet_root(struct store_tx *tx, const struct account *a, const struct cert *c, struct span der, struct root *out, bool *added, struct err *err) {
    CLEANUP(buf_fini) struct buf subject = BUF_INIT(4096);
    int found = find_own(tx, a, &c->key.spki, out, err);
    *added = false;
    if (found != 0)
        return found < 0 ? found : 0;
    cert_subject_text(c, &subject);
    struct uuid id = uuid_new();
    int rc = store_exec(tx, NULL, err, SQL_ROOT_ADD, "uiiibbsbiiinii", &id, a->row, I(ROOT_MUSTER), I(ROOT_ACTIVE), hash_span(&c->fingerprint), hash_span(&c->key.spki),
                        buf_str(&subject), der, c->not_after, I(ID_RULE_CN), I(KEY_RULE_REFUSE), I(0), clock_now());
    if (rc)
        return rc;
    *added = true;
    found = find_own(tx, a, &c->key.spki, out, err);
    return found < 0 ? found : found ? 0 : MUSTER_ECORRUPT;
}

/* The one that issued so far: what stands under it goes on, and nothing new comes. */
static int rotate_out(struct store_tx *tx, const struct account *a, const struct root *next, const struct actor *actor, struct err *err) {
    char id[UUID_TEXT_LEN + 1];
    struct root old;
    if (!a->own_root || a->own_root == next->row)
        return 0;
    int found = root_find_row(tx, a->own_root, &old, err);
    if (found <= 0)
        return found < 0 ? found : MUSTER_ECORRUPT;
    const bool active = old.state == ROOT_ACTIVE;
    int rc = active                          ? store_exec(tx, NULL, err, SQL_ROOT_STATE, "ii", old.row, I(ROOT_KNOWN_ONLY))
             : old.state == ROOT_DISABLED ? store_exec(tx, NULL, err, SQL_ROOT_BEFORE, "ii", old.row, I(ROOT_KNOWN_ONLY)) /* what it is once it is enabled */
                                             : 0;
    if (rc)
        return rc;
    json_t *detail = json_object(), *more = json_object();
    uuid_text(&old.uuid, id);
    json_set_uuid(detail, "next", &next->uuid);
    json_set_hex(detail, "fingerprint", hash_span(&next->fingerprint));
    json_set_str(more, "before", word_of(&WORDS_ROOT_STATE, old.state));
    if ((rc = audit_add(tx, a->row, actor, "root.rotate", span_str(id), detail, err))) {
        json_decref(more);
        return rc;
    }
    if (!active) {
        json_decref(more);
        return 0;
    }
    old.state = ROOT_KNOWN_ONLY;
    return event_root(tx, a, &old, ROOT_KNOWN_ONLY, EVENT_ROOT_STATE, more, err);
}

static int add_current_root(struct store_tx *tx, const struct account *a, struct span der, const struct actor *actor, struct err *err) {
    CLEANUP(cert_free) struct cert *c = NULL;
    struct root r;
    bool added;
    if (!der.n)
        return 0;
    int rc = cert_from_der(der, &c, err);
    if (rc || (rc = add_fleet_root(tx, a, c, der, &r, &added, err)) || !added)
        return rc;
    if ((rc = rotate_out(tx, a, &r, actor, err)))
        return rc;
    return store_exec(tx, NULL, err, SQL_ACCOUNT_OWN_ROOT, "ii", a->row, r.row);
}

/* Who certified whose key, by the keys: the roots are there already. */
static int add_cross(struct store_tx *tx, const struct account *a, const struct cert *c, struct span der, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct root of;
    int found = find_own(tx, a, &c->key.spki, &of, err);
    if (found <= 0)
        return found;
    int rc = store_query(tx, &row, err, SQL_ROOT_PAGE, "iii", a->row, I(0), I(ROOTS_MAX * 2));
    while (!rc && (rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *by = NULL;
        struct root r;
        if ((rc = row_root(row, &r, err)) || (rc = cert_from_der(store_blob(row, 8), &by, err)))
            return rc;
        if (r.origin == ROOT_MUSTER && r.row != of.row && cert_signed_by(c, by))
            return store_exec(tx, NULL, err, SQL_CROSS_SET, "iib", of.row, r.row, der);
    }
    return rc < 0 ? rc : 0;
}

static int add_crosses(struct store_tx *tx, const struct account *a, struct span all, struct err *err) {
    int rc = 0;
    while (!rc && all.n) {
        CLEANUP(cert_free) struct cert *c = NULL;
        struct span before = all;
        if (!(rc = cert_from_der_next(&all, &c, err)))
            rc = add_cross(tx, a, c, span_sub(before, 0, before.n - all.n), err);
    }
    return rc;
}

static int add_cas(struct store_tx *tx, const struct account *a, const struct account_cas *cas, const struct actor *actor, struct err *err) {
    int rc = add_current_root(tx, a, cas->fleet_root, actor, err);
    if (!rc)
        rc = add_crosses(tx, a, cas->crosses, err);
    if (!rc)
        rc = add_ca(tx, a, CA_ISSUING, cas->issuing_ca, err);
    if (!rc)
        rc = add_ca(tx, a, CA_PROVISIONING, cas->provisioning_ca, err);
    return rc ? rc : epoch_raise(tx, err);
}

/* As the API shows them, and what it does not; without what most accounts do not have. */
static json_t *settings_detail(enum account_kind kind, enum account_method method, const struct account_settings *s) {
    json_t *d = account_settings_show(s);
    json_set_str(d, "kind", word_of(&WORDS_ACCOUNT_KIND, kind));
    json_set_str(d, "method", word_of(&WORDS_METHOD, method));
    if (s->hook == HOOK_OFF)
        json_object_del(d, "hook");
    if (s->backend == BACKEND_SEALED)
        json_object_del(d, "backend");
    profile_detail_add(d, "profile", &s->profile);
    profile_detail_add(d, "shadow", &s->shadow);
    if (s->tried[0])
        json_set_str(d, "tried", s->tried);
    return d;
}

int account_create_run(struct store_tx *tx, void *arg, struct err *err) {
    struct account_create *c = arg;
    const struct account_settings *s = &c->settings;
    struct account a;
    int found = account_find(tx, c->name, &a, err);
    if (found < 0)
        return found;
    if (found)
        return a.state == ACCOUNT_DELETED ? err_set(err, MUSTER_EEXISTS, "There was an account \"%s\" before, and names of accounts are not used again.", a.name)
                                          : err_set(err, MUSTER_EEXISTS, "There is an account \"%s\" already.", a.name);
    char text[PROFILE_TEXT_MAX + 1], shadow[PROFILE_TEXT_MAX + 1];
    int rc = store_exec(tx, NULL, err, SQL_ACCOUNT_ADD, "tiiiiiiiiiiiiiiiissiis", c->name, I(c->kind), I(c->method), I(ACCOUNT_ACTIVE), clock_now(), I(s->reprovision), I(s->approval),
                        I(s->expected_only), I(s->device_key), s->device_life, s->lost_answer_window, s->issue_ceiling, s->renewal_window, s->late_renewal, s->superseded_renewal, I(s->server_keygen), I(s->csr_queue),
                        profile_text(&s->profile, text), profile_text(&s->shadow, shadow), I(s->hook), I(s->backend), s->tried);
    if (rc || (rc = account_need(tx, c->name, &a, err)) || (rc = add_cas(tx, &a, &c->cas, &c->actor, err)))
        return rc;
    rc = audit_add(tx, a.row, &c->actor, "account.create", c->name, settings_detail(c->kind, c->method, s), err);
    return rc ? rc : account_json(tx, &a, &c->out, err);
}

static int set(struct store_tx *tx, const struct account *a, enum account_method method, const struct account_settings *s, struct err *err) {
    char text[PROFILE_TEXT_MAX + 1], shadow[PROFILE_TEXT_MAX + 1];
    return store_exec(tx, NULL, err, SQL_ACCOUNT_SET, "iiiiiiiiiiiiiissiis", a->row, I(method), I(s->reprovision), I(s->approval), I(s->expected_only), I(s->device_key), s->device_life,
                      s->lost_answer_window, s->issue_ceiling, s->renewal_window, s->late_renewal, s->superseded_renewal, I(s->server_keygen), I(s->csr_queue), profile_text(&s->profile, text),
                      profile_text(&s->shadow, shadow), I(s->hook), I(s->backend), s->tried);
}

int account_set_run(struct store_tx *tx, void *arg, struct err *err) {
    struct account_set *c = arg;
    struct account a;
    int rc = account_need(tx, c->name, &a, err);
    if (rc || (rc = set(tx, &a, c->method, &c->settings, err)) || (rc = add_cas(tx, &a, &c->cas, &c->actor, err)) ||
        (rc = audit_add(tx, a.row, &c->actor, "account.set", c->name, settings_detail(a.kind, c->method, &c->settings), err)) || (rc = account_need(tx, c->name, &a, err)))
        return rc;
    if (c->profile)
        return (c->out = profile_json(&a)) ? 0 : err_set(err, MUSTER_ENOMEM, NULL);
    return account_json(tx, &a, &c->out, err);
}

int account_cas_add_run(struct store_tx *tx, void *arg, struct err *err) {
    struct account_cas_add *c = arg;
    struct account a;
    int rc = account_need(tx, c->name, &a, err);
    if (rc)
        return rc;
    if (c->settings && ((rc = set(tx, &a, c->method, c->settings, err)) ||
                        (rc = audit_add(tx, a.row, &c->actor, "account.set", c->name, settings_detail(a.kind, c->method, c->settings), err))))
        return rc;
    if ((rc = add_cas(tx, &a, &c->cas, &c->actor, err)))
        return rc;
    if ((rc = audit_add(tx, a.row, &c->actor, "account.cas", c->name, NULL, err)) || !c->show_root || (rc = account_need(tx, c->name, &a, err)))
        return rc;
    struct root r;
    int found = root_find_row(tx, a.own_root, &r, err);
    return found <= 0 ? found < 0 ? found : MUSTER_ECORRUPT : root_json(tx, &a, &r, &c->out, err);
}

int account_delete_run(struct store_tx *tx, void *arg, struct err *err) {
    struct account_delete *d = arg;
    struct account a;
    int64_t count[DEVICE_DELETED + 1];
    int rc = account_need(tx, d->name, &a, err);
    if (rc || (rc = count_devices(tx, &a, count, err)))
        return rc;
    d->devices = count[DEVICE_ACTIVE] + count[DEVICE_PENDING] + count[DEVICE_QUARANTINED];
    if (d->confirm != d->devices)
        return err_set(err, MUSTER_ECONFIRM, "Deleting the account %s cuts off %lld device%s for good.", a.name, (long long)d->devices, d->devices == 1 ? "" : "s");
    if ((rc = store_exec(tx, NULL, err, SQL_ACCOUNT_STATE, "ii", a.row, I(ACCOUNT_DELETED))) || (rc = store_exec(tx, NULL, err, SQL_ACCOUNT_KEYS_FREE, "i", a.row)) ||
        (rc = store_exec(tx, NULL, err, SQL_INVITATION_DROP_ALL, "i", a.row)) ||
        (rc = store_exec(tx, NULL, err, SQL_CSR_DROP_ALL, "i", a.row)) || (rc = store_exec(tx, NULL, err, SQL_ASK_DROP_ALL, "i", a.row)) ||
        (rc = store_exec(tx, NULL, err, SQL_ROOT_CRL_END_ALL, "i", a.row)) ||
        (rc = epoch_raise(tx, err)))
        return rc;
    json_t *detail = json_object();
    json_set_int(detail, "devices", d->devices);
    return audit_add(tx, a.row, &d->actor, "account.delete", d->name, detail, err);
}

int account_deletion_sealed(struct store_tx *tx, int64_t account, bool *out, struct err *err) {
    struct store_row *row;
    struct hash hash;
    *out = false;
    int found = first_row(tx, &row, err, SQL_AUDIT_LAST, "i", account);
    if (found <= 0)
        return found;
    *out = span_eq_str(store_text(row, 1), "account.delete") && row_hash(row, 2, &hash) == 0 && audit_seal_holds(account, store_int(row, 0), &hash, store_blob(row, 3));
    store_row_end(row);
    return 0;
}

/* The key, not the end: the one before may have been made for longer. */
static int newest_issuing(struct store_tx *tx, int64_t account, struct hash *out, struct err *err) {
    struct store_row *row;
    *out = (struct hash){0};
    int found = first_row(tx, &row, err, SQL_CA_ISSUING_NEWEST, "i", account);
    if (found <= 0)
        return found;
    int rc = row_hash(row, 1, out);
    store_row_end(row);
    return rc ? err_set(err, rc, NULL) : 0;
}

int account_issuing_run(struct store_tx *tx, void *arg, struct err *err) {
    struct account_issuing *out = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    const size_t max = sizeof out->at / sizeof *out->at;
    out->n = 0;
    int rc = store_query(tx, &row, err, SQL_ACCOUNT_ALL, "ii", out->after, I(max));
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        struct account a;
        if ((rc = row_account(row, &a, err)))
            return rc;
        snprintf(out->at[out->n].name, sizeof out->at[out->n].name, "%s", a.name);
        out->at[out->n].state = a.state;
        out->at[out->n].kind = a.kind;
        out->at[out->n].method = a.method;
        account_settings_of(&a, &out->at[out->n].settings);
        if ((rc = newest_issuing(tx, a.row, &out->at[out->n].issuing, err)))
            return rc;
        out->at[out->n].deletion_sealed = false;
        if (a.state == ACCOUNT_DELETED && (rc = account_deletion_sealed(tx, a.row, &out->at[out->n].deletion_sealed, err)))
            return rc;
        out->after = a.row;
        out->n++;
    }
    return rc;
}

/* Whose a certificate of a factory line is. */
static int of_line(struct store_tx *tx, const struct account_of *o, int64_t *account, struct err *err) {
    struct certificate_name name = {.n = o->id_n};
    struct device d;
    memcpy(name.b, o->id, sizeof name.b);
    int found = line_certificate_find(tx, 0, &name, &d, err);
    *account = found > 0 ? d.account : 0;
    return found < 0 ? found : 0;
}

int account_of_run(struct store_tx *tx, void *arg, struct err *err) {
    struct account_of *o = arg;
    struct account a = {.row = 0};
    int64_t row;
    const int of = o->kind == 'k' ? SQL_KEY_ACCOUNT : o->kind == 'r' ? SQL_ROOT_ACCOUNT : o->kind == 'd' ? SQL_DEVICE_ACCOUNT : o->id_n == PKI_HASH_LEN ? SQL_CERT_ACCOUNT_PRINT : SQL_CERT_ACCOUNT;
    int rc = one_int(tx, &row, 0, err, of, "b", span_of(o->id, o->id_n));
    if (rc || (!row && o->kind == 'c' && (rc = of_line(tx, o, &row, err)) < 0))
        return rc;
    int found = row ? account_find_row(tx, row, &a, err) : 0;
    if (found < 0)
        return found;
    const bool shown = a.state == ACCOUNT_ACTIVE || (a.state == ACCOUNT_DELETED && o->kind == 'c'); /* what was issued is found for good */
    if (!found || !shown)
        return err_set(err, MUSTER_ENOTFOUND, NULL);
    snprintf(o->name, sizeof o->name, "%s", a.name);
    return 0;
}
