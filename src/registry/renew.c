/* renew: see renew.h. */
#include "registry/renew.h"

#include "registry/audit.h"
#include "registry/device_identity.h"
#include "registry/event.h"
#include "registry/profile.h"
#include "registry/root_way.h"
#include "registry/tried.h"

struct loaded {
    struct account account;
    struct device device;
    struct prov_key key;     /* that brought the device in; row 0: an invitation did */
    struct root root;        /* under which a device stands that showed a certificate of another's CA; row 0: another has none */
    int64_t enrolled;        /* when */
    struct renew_facts facts;
    struct hook_ask ask;
    enum hook_trial trial; /* as of enrol.c */
};

/* --- the rule ---------------------------------------------------------------------------------------------------------------------- */

static void refuse(struct renew_verdict *v, int code, int retry_after) { v->err = (struct err){.code = code, .retry_after = retry_after}; }

static int state_of(const struct device *d) {
    int code = device_state_code(d);
    return !code && d->state == DEVICE_PENDING ? MUSTER_EPENDING : code;
}

/* The one that asks is the device's, or was until a short time ago, or an operator lets it come once more. */
static bool may_ask(const struct renew_facts *f, struct renew_verdict *v) {
    const bool shortly = f->superseded && lately(f->superseded, f->account->superseded_renewal, f->now), granted = f->superseded && f->device->again == AGAIN_GRANTED;
    v->superseded = !f->live;
    v->by_grant = !f->live && !shortly && granted;
    return f->live || shortly || granted;
}

static int64_t early(const struct renew_facts *f) {
    const int64_t due = f->device->certificate_not_after - f->account->renewal_window;
    return f->live && f->begins <= f->now && f->account->renewal_window && f->now < due ? due - f->now : 0;
}

/* A key that was barred when its certificate was replaced comes back with it. */
static bool key_good(const struct renew_facts *f, struct renew_verdict *v) {
    const bool back = v->superseded && f->former_key && f->own_is == OWN_KEY_BARRED;
    return own_key_judge(f->account, f->key, f->own, back ? OWN_KEY_OWN : f->own_is, &v->err) == 0;
}

static void decide(const struct renew_facts *f, struct renew_verdict *v) {
    int code = f->account->state != ACCOUNT_ACTIVE ? MUSTER_EDELETED : !(f->account->method & METHOD_SHARED) ? MUSTER_EMETHODOFF : state_of(f->device);
    if (f->now < f->newest - CLOCK_TOLERANCE)
        refuse(v, MUSTER_ECLOCK, 60);
    else if (code)
        refuse(v, code, code == MUSTER_EPENDING ? 300 : 0);
    else if (f->revoked) /* between admission and now */
        refuse(v, MUSTER_ECERTREVOKED, 0);
    else if (f->elsewhere)
        refuse(v, MUSTER_EFLEETCA, 0);
    else if (!may_ask(f, v)) /* or another one was used between admission and now */
        refuse(v, MUSTER_ECERTSUPERSEDED, 0);
    else if (!key_good(f, v))
        return;
    else if (f->same)
        v->how = RENEW_SAME;
    else if (early(f))
        refuse(v, MUSTER_ERENEWALEARLY, (int)early(f));
    else if (within(f->certificates_since, CLOCK_DAY, f->now)) /* one that keeps nothing, and asks over and over */
        refuse(v, MUSTER_EREISSUELIMIT, (int)(f->certificates_since + CLOCK_DAY - f->now));
    else
        v->how = RENEW_NEW;
    if (v->how != RENEW_REFUSED && (f->same ? f->same_shut : f->shut)) {
        v->how = RENEW_REFUSED;
        refuse(v, MUSTER_EROOTSHUT, ROOT_SHUT_WAIT);
    }
}

/* The same once more by what is tried.  Who may ask at all was tried where he was admitted (admit.h). */
static void try_it(const struct renew_facts *f, struct renew_verdict *v) {
    struct renew_verdict tried = {.how = RENEW_REFUSED};
    struct renew_facts t = *f;
    struct tried_room room;
    if (!tried_of(&t.account, &t.key, &room))
        return;
    if (t.account == &room.account) {
        room.account.method = f->account->method;
        room.account.superseded_renewal = f->account->superseded_renewal;
    }
    decide(&t, &tried);
    if (tried.how == RENEW_REFUSED)
        tried_refused(&v->shadow, &tried.err);
}

void renew_decide(const struct renew_facts *f, struct renew_verdict *v) {
    bool ask;
    *v = (struct renew_verdict){.how = RENEW_REFUSED};
    decide(f, v);
    if (v->how == RENEW_NEW && f->asks && hook_judge(&f->answer, f->now, &v->err, &ask))
        v->how = ask ? RENEW_ASK : RENEW_REFUSED;
    if (v->how == RENEW_NEW || v->how == RENEW_SAME)
        try_it(f, v);
}

/* --- load ---------------------------------------------------------------------------------------------------------------------------- */

/* What brought the device in goes on with its certificates; where that was a factory line, no key did. */
static int load_lineage(struct store_tx *tx, struct loaded *l, struct err *err) {
    struct store_row *row;
    if (l->root.row) {
        l->enrolled = l->device.created;
        return 0;
    }
    int found = first_row(tx, &row, err, SQL_CERT_LINEAGE, "i", l->device.row);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, "A device's certificate is not there.");
    int64_t key = store_int(row, 0);
    l->enrolled = store_int(row, 1);
    store_row_end(row);
    if (!key)
        return 0;
    found = key_find_row(tx, key, &l->key, err);
    return found < 0 ? found : found ? 0 : err_set(err, MUSTER_ECORRUPT, "A certificate belongs to no provisioning key.");
}

static int load_same(struct store_tx *tx, struct renew *r, struct loaded *l, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_CERT_SAME_WAITING, "ib", l->device.row, hash_span(&r->own->spki));
    if (found <= 0)
        return found;
    const bool lives = store_int(row, 1) > l->facts.now;
    const int64_t issuer = store_int(row, 2);
    enum root_way way = ROOT_WAY_IN;
    buf_clear(&r->same);
    buf_add(&r->same, store_blob(row, 0));
    store_row_end(row);
    int rc = buf_check(&r->same, err);
    if (!rc && lives)
        rc = root_way_of(tx, &l->account, issuer, &way, err);
    l->facts.same = lives && way != ROOT_WAY_OVER && (way != ROOT_WAY_SHUT || l->facts.shut); /* where another root issues, nobody waits for that one */
    l->facts.same_shut = l->facts.same && way == ROOT_WAY_SHUT;
    return rc;
}

/* Whose CA has signed what the device has. */
static int load_root(struct store_tx *tx, struct loaded *l, struct err *err) {
    if (!l->device.has_certificate || l->device.method != METHOD_DEVICE)
        return 0;
    int found = root_find_row(tx, l->device.root, &l->root, err);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, "A device's fleet root is not there.");
    l->facts.elsewhere = l->root.origin != ROOT_MUSTER;
    return 0;
}

/* Of a factory line; the registry holds no certificate of it. */
static int load_lines(struct store_tx *tx, const struct renew *r, struct loaded *l, struct err *err) {
    struct renew_facts *f = &l->facts;
    f->live = l->root.row && !f->elsewhere && hash_eq(&l->device.spki, &r->key);
    f->former_key = hash_eq(&r->key, &r->own->spki);
    return f->live ? 0 : device_identity_superseded_key(tx, &l->device, &r->key, &f->superseded, err);
}

/* What is not the device's own may have been. */
static int load_shown(struct store_tx *tx, const struct renew *r, struct loaded *l, struct err *err) {
    struct store_row *row;
    struct renew_facts *f = &l->facts;
    f->live = l->device.has_certificate && l->device.method == METHOD_SHARED && hash_eq(&l->device.certificate, &r->certificate);
    int found = first_row(tx, &row, err, SQL_CERT_OF_PRINT, "ib", l->device.row, hash_span(&r->certificate));
    if (found <= 0)
        return found < 0 ? found : load_lines(tx, r, l, err);
    const int64_t cert = store_int(row, 0);
    f->former_key = span_eq(store_blob(row, 1), hash_span(&r->own->spki));
    f->revoked = store_int(row, 2) != 0;
    store_row_end(row);
    return f->live ? 0 : device_identity_superseded(tx, &l->device, cert, &f->superseded, err);
}

static int load_answer(struct store_tx *tx, const struct renew *r, struct loaded *l, struct err *err) {
    l->facts.asks = hook_asks(l->account.hook, true);
    l->trial = hook_trial_of(&l->account, true);
    if (!l->facts.asks && !l->trial)
        return 0;
    l->ask = (struct hook_ask){.device_id = span_str(l->device.device_id), .renews = true, .by = l->key.name, .spki = hash_span(&r->own->spki), .address = r->address};
    hook_what(true, l->key.row, 0, &r->certificate, l->ask.device_id, &r->own->spki, &l->ask.what);
    return l->facts.asks ? hook_find(tx, l->account.row, &l->ask.what, &l->facts.answer, err) : 0;
}

static int load(struct store_tx *tx, struct renew *r, struct loaded *l, struct err *err) {
    struct renew_facts *f = &l->facts;
    *f = (struct renew_facts){.now = clock_now(), .account = &l->account, .device = &l->device, .begins = r->begins, .own = r->own};
    int rc = load_root(tx, l, err);
    if (rc || (rc = load_shown(tx, r, l, err)) || (rc = meta_get(tx, "newest", &f->newest, err)) || (rc = own_key_load(tx, l->account.row, &l->device, &r->own->spki, &f->own_is, err)) ||
        (rc = one_int(tx, &f->certificates_since, 0, err, SQL_CERT_NEWEST_BUT, "ii", l->device.row, I(REPLACE_MAX - 1))) || (rc = root_way_shut(tx, &l->account, &f->shut, err)) ||
        (rc = load_same(tx, r, l, err)))
        return rc;
    if ((f->live || f->superseded) && (rc = load_lineage(tx, l, err)))
        return rc;
    return load_answer(tx, r, l, err);
}

/* --- apply --------------------------------------------------------------------------------------------------------------------------- */

static json_t *detail_of(const struct renew *r, const struct loaded *l) {
    json_t *d = json_object();
    json_set_uuid(d, "id", &l->device.uuid);
    json_set_str(d, "key", l->key.row ? l->key.name : NULL);
    json_set_str(d, "address", r->address);
    json_set_hex(d, "serial", r->cert->serial);
    json_set_hex(d, "fingerprint", hash_span(&r->cert->fingerprint));
    json_set_hex(d, "spki", hash_span(&r->cert->spki));
    json_set_hex(d, "replaces", hash_span(l->root.row ? &l->device.certificate : &r->certificate)); /* of a line's, whichever was shown */
    if (l->root.row)
        json_set_uuid(d, "root", &l->root.uuid);
    json_set_time(d, "enrolled", l->enrolled == l->facts.now ? 0 : l->enrolled);
    if (l->facts.asks)
        json_set_uuid(d, "ask", &l->facts.answer.uuid);
    if (r->verdict.superseded)
        json_set_bool(d, "superseded", true);
    if (r->verdict.by_grant)
        json_set_bool(d, "released", true);
    return d;
}

static int announce(struct store_tx *tx, const struct renew *r, const struct loaded *l, struct err *err) {
    json_t *more = json_object();
    json_set_hex(more, "fingerprint", hash_span(&r->cert->fingerprint));
    json_set_hex(more, "spki", hash_span(&r->cert->spki));
    json_set_time(more, "not_after", r->cert->not_after);
    json_set_str(more, "address", r->address);
    if (r->verdict.superseded)
        json_set_hex(more, "replaces", hash_span(&r->certificate));
    return event_device(tx, &l->account, &l->device, l->device.state, r->verdict.superseded ? EVENT_DEVICE_POSSIBLE_CLONE : EVENT_DEVICE_RENEWED, more, err);
}

static int apply(struct store_tx *tx, const struct renew *r, const struct loaded *l, struct err *err) {
    const struct device_issued issued = {.cert = r->cert, .device = l->device.row, .account = l->account.row, .prov_key = l->key.row, .enrolled = l->enrolled, .own_key = true, .renews = true, .keeps_server_ca = true,
                                         .comes_back = r->verdict.superseded && l->facts.former_key};
    int rc = r->verdict.by_grant ? store_exec(tx, NULL, err, SQL_DEVICE_AGAIN, "ii", l->device.row, I(AGAIN_NO)) : 0;
    if (!rc && l->facts.asks)
        rc = hook_use(tx, &l->facts.answer, err);
    if (!rc && l->trial)
        rc = hook_try(tx, l->account.row, &l->ask, l->trial, l->facts.now, err);
    if (rc || (rc = device_identity_issued(tx, &issued, l->facts.now, err)) || (rc = announce(tx, r, l, err)))
        return rc;
    const struct actor actor = actor_of("device", span_str(l->device.device_id));
    return audit_add(tx, l->account.row, &actor, "device.renew", span_str(l->device.device_id), detail_of(r, l), err);
}

int renew_run(struct store_tx *tx, void *arg, struct err *err) {
    struct renew *r = arg;
    struct loaded l = {0};
    r->verdict = (struct renew_verdict){.how = RENEW_REFUSED, .err = {.code = MUSTER_ECERTREVOKED}};
    int found = device_find_row(tx, r->device, &l.device, err);
    if (found <= 0) /* its tombstone was lifted meanwhile */
        return found;
    if ((found = account_find_row(tx, l.device.account, &l.account, err)) <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, "A device belongs to no account.");
    snprintf(r->account_name, sizeof r->account_name, "%s", l.account.name);
    snprintf(r->device_id, sizeof r->device_id, "%s", l.device.device_id);
    r->uuid = l.device.uuid;
    int rc = load(tx, r, &l, err);
    if (rc)
        return rc;
    l.facts.key = l.key.row ? &l.key : NULL;
    profile_of(&l.account, l.facts.key, &r->profile);
    r->narrow = l.key.profile;
    renew_decide(&l.facts, &r->verdict);
    if (r->verdict.how == RENEW_ASK && store_writable(tx))
        return hook_write(tx, l.account.row, &l.ask, l.facts.now, err);
    return r->verdict.how == RENEW_NEW && r->cert && store_writable(tx) ? apply(tx, r, &l, err) : 0;
}
