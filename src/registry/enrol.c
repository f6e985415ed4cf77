/* enrol: loads the facts and applies the verdict of enrol_decide(); see enrol.h. */
#include "registry/enrol.h"

#include "registry/audit.h"
#include "registry/device_identity.h"
#include "registry/event.h"
#include "registry/profile.h"
#include "registry/root_way.h"

struct loaded {
    struct account account;
    struct prov_key key; /* row 0: an invitation */
    struct invitation invitation;
    struct device device;
    struct enrol_facts facts;
    struct hook_ask ask;
    enum hook_trial trial; /* on which the same is asked, once it was issued */
};

static void refuse(struct enrol *e, int code) { e->verdict = (struct enrol_verdict){.how = ENROL_REFUSED, .err = {.code = code}}; }

bool enrol_is_reserved(const struct enrol_reserved *r, struct span device_id) {
    static const char *const always[] = {"localhost", "127.0.0.1", "::1"};
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        if (span_eq_nocase(device_id, span_str(always[i])))
            return true;
    for (size_t i = 0; r && i < r->n; i++) {
        struct span host = span_str(r->hosts[i]);
        if (span_eq_nocase(device_id, host))
            return true;
        if (i == 0 && device_id.n > host.n && device_id.p[device_id.n - host.n - 1] == '.' && span_eq_nocase(span_sub(device_id, device_id.n - host.n, host.n), host))
            return true;
    }
    return false;
}

/* The key, and the account that it belongs to.  1 there, 0 refused (verdict set), <0 error. */
static int load_key(struct store_tx *tx, struct enrol *e, struct loaded *l, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_KEY_BY_SPKI, "b", hash_span(&e->key_spki));
    if (found < 0)
        return found;
    if (!found) {
        refuse(e, MUSTER_EKEYUNKNOWN);
        return 0;
    }
    int rc = row_key(row, &l->key, err);
    store_row_end(row);
    if (rc || (found = account_find_row(tx, l->key.account, &l->account, err)) < 0)
        return rc ? rc : found;
    if (!found)
        return err_set(err, MUSTER_ECORRUPT, "A provisioning key belongs to no account.");
    if (*e->account && strcmp(e->account, l->account.name) != 0) {
        refuse(e, MUSTER_EOTHERACCOUNT);
        return 0;
    }
    return 1;
}

/* The same of an invitation: whether there is one, and of that code, is one question. */
static int load_invitation(struct store_tx *tx, struct enrol *e, struct loaded *l, struct err *err) {
    l->key.row = 0;
    l->key.name[0] = '\0';
    int found = account_find(tx, span_str(e->account), &l->account, err);
    if (found > 0)
        found = invitation_find(tx, l->account.row, e->device_id, &l->invitation, err);
    if (found < 0)
        return found;
    if (!invitation_is_of(found ? &l->invitation : NULL, e->code)) {
        refuse(e, MUSTER_EINVITATION);
        return 0;
    }
    return 1;
}

static int load_certificates(struct store_tx *tx, int64_t device, int64_t *since, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_CERT_NEWEST_BUT, "ii", device, I(REPLACE_MAX - 1));
    if (found <= 0)
        return found;
    *since = store_int(row, 0);
    store_row_end(row);
    return 0;
}

/* Whether the ID was announced, and with which key. */
static int load_expected(struct store_tx *tx, const struct enrol *e, struct loaded *l, struct err *err) {
    struct enrol_facts *f = &l->facts;
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_EXPECTED_GET, "it", l->account.row, e->device_id);
    if (found <= 0)
        return found;
    f->pinned = !store_is_null(row, 0) && !(e->own && span_eq(store_blob(row, 0), hash_span(&e->own->spki)));
    f->expected = !f->pinned || !f->device;
    store_row_end(row);
    return 0;
}

/* The certificate that the device got for this very key. */
static int load_same(struct store_tx *tx, struct enrol *e, struct loaded *l, struct err *err) {
    struct enrol_facts *f = &l->facts;
    struct store_row *row;
    if (f->own_is != OWN_KEY_OWN)
        return 0;
    if (f->invitation && f->invitation->spent && !hash_eq(&f->invitation->spki, &e->own->spki))
        return 0;
    int found = first_row(tx, &row, err, SQL_CERT_SAME, "ibr", f->device->row, hash_span(&e->own->spki), l->key.row);
    if (found <= 0)
        return found;
    f->same = store_int(row, 1) > f->now;
    const int64_t issuer = store_int(row, 2);
    const bool unused = store_int(row, 3) == CERT_ISSUED && !store_int(row, 4); /* nor any other of the same enrolment: it may be a renewal */
    buf_clear(&e->same);
    buf_add(&e->same, store_blob(row, 0));
    store_row_end(row);
    int rc = buf_check(&e->same, err);
    enum root_way way;
    if (rc || (rc = root_way_of(tx, &l->account, issuer, &way, err)))
        return rc;
    const bool for_nothing = way == ROOT_WAY_OVER || (way == ROOT_WAY_SHUT && unused && !f->shut);
    f->over = unused && (for_nothing || !f->same);
    f->same = f->same && !for_nothing;
    f->same_shut = f->same && way == ROOT_WAY_SHUT;
    return 0;
}

/* An answer with a key that Muster made cannot be given again. */
static int load_invited(struct store_tx *tx, const struct enrol *e, struct loaded *l, struct err *err) {
    struct enrol_facts *f = &l->facts;
    struct store_row *row;
    if (!f->invitation || !f->invitation->server_key || !f->device)
        return 0;
    int found = first_row(tx, &row, err, SQL_CERT_WAITING, "i", f->device->row);
    if (found <= 0)
        return found;
    f->invited_waits = store_is_null(row, 0);
    store_row_end(row);
    return 0;
}

static int load_hour(struct store_tx *tx, struct loaded *l, struct err *err) {
    struct enrol_facts *f = &l->facts;
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_KEY_HOUR, "iii", l->key.row, f->now - CLOCK_HOUR, f->now + CLOCK_AHEAD);
    if (found <= 0)
        return found;
    f->hour_ahead = store_is_null(row, 2) ? 0 : store_int(row, 2);
    f->last_hour = store_int(row, 0) - f->hour_ahead;
    f->oldest = store_int(row, 1);
    store_row_end(row);
    return 0;
}

/* What is only explained is not asked for. */
static int load_answer(struct store_tx *tx, const struct enrol *e, struct loaded *l, struct err *err) {
    struct enrol_facts *f = &l->facts;
    const bool explains = e->leave_out || e->at;
    f->asks = !explains && hook_asks(l->account.hook, false);
    l->trial = explains ? HOOK_DECIDES : hook_trial_of(&l->account, false);
    if (!f->asks && !l->trial)
        return 0;
    l->ask = (struct hook_ask){.device_id = e->device_id, .by = e->code ? "invitation" : l->key.name, .spki = e->own ? hash_span(&e->own->spki) : SPAN_NONE, .address = e->address};
    hook_what(false, l->key.row, e->code ? l->invitation.row : 0, NULL, e->device_id, e->own ? &e->own->spki : NULL, &l->ask.what);
    return f->asks ? hook_find(tx, l->account.row, &l->ask.what, &f->answer, err) : 0;
}

static int load(struct store_tx *tx, struct enrol *e, struct loaded *l, struct err *err) {
    struct store_row *row;
    struct enrol_facts *f = &l->facts;
    int64_t now_ms = e->at ? e->at * 1000 : clock_now_ms();
    *f = (struct enrol_facts){.now = e->at ? e->at : clock_now(), .now_ms = now_ms, .address = e->address, .device_id = e->device_id, .leave_out = e->leave_out, .account = &l->account,
                              .key = e->code ? NULL : &l->key, .invitation = e->code ? &l->invitation : NULL, .server_keygen = e->server_keygen};
    int rc = e->at ? 0 : meta_get(tx, "newest", &f->newest, err);
    if (rc || (f->key && (rc = load_hour(tx, l, err))) || (rc = load_answer(tx, e, l, err)) || (rc = root_way_shut(tx, &l->account, &f->shut, err)))
        return rc;
    int found = first_row(tx, &row, err, SQL_DEVICE_BY_ID, "it", l->account.row, e->device_id);
    if (found < 0)
        return found;
    if (found) {
        rc = row_device(row, &l->device, err);
        store_row_end(row);
        f->device = &l->device;
        if (rc || (rc = device_identity_waiting(tx, l->device.row, &f->waiting_key, err)) || (rc = load_certificates(tx, l->device.row, &f->certificates_since, err)))
            return rc;
    }
    if (!found || (e->own && l->device.state == DEVICE_PENDING)) {
        if ((rc = load_expected(tx, e, l, err)))
            return rc;
    }
    if (!e->own)
        return load_invited(tx, e, l, err);
    f->own = e->own;
    return (rc = own_key_load(tx, l->account.row, f->device, &e->own->spki, &f->own_is, err)) ? rc : load_same(tx, e, l, err);
}

/* --- apply -------------------------------------------------------------------------------------------------------------------- */

static int spend(struct store_tx *tx, const struct enrol *e, const struct loaded *l, struct err *err) {
    int64_t now = l->facts.now;
    if (e->code)
        return invitation_spend(tx, &l->invitation, e->own ? &e->own->spki : NULL, now, err);
    int rc = 0;
    if (l->facts.hour_ahead && !(rc = store_exec(tx, NULL, err, SQL_KEY_HOUR_AHEAD, "ii", l->key.row, now + CLOCK_AHEAD)))
        rc = store_exec(tx, NULL, err, SQL_KEY_HOUR_AHEAD_DROP, "ii", l->key.row, now + CLOCK_AHEAD);
    if (!rc)
        rc = store_exec(tx, NULL, err, SQL_KEY_SPEND, "iii", l->key.row, now, now - CLOCK_HOUR);
    if (!rc) /* counted without a bound as well: one that is set later is exact from the start */
        rc = store_exec(tx, NULL, err, SQL_KEY_HOUR_DROP, "ii", l->key.row, now - CLOCK_HOUR);
    return rc ? rc : store_exec(tx, NULL, err, SQL_KEY_HOUR_ADD, "ii", l->key.row, now);
}

static int new_device(struct store_tx *tx, struct enrol *e, struct loaded *l, struct err *err) {
    const struct enrol_facts *f = &l->facts;
    int rc = store_exec(tx, NULL, err, SQL_DEVICE_ADD, "uitiirniisisniniiii", &e->uuid, l->account.row, e->device_id, I(e->verdict.state), I(METHOD_SHARED), l->key.row, f->now, f->now,
                        f->address, I(f->expected), "", I(0), f->now, f->now_ms, I(1), l->account.own_root);
    return rc == MUSTER_EEXISTS ? err_retry(err, MUSTER_EBUSY, 1, "Two enrolments took the device ID at once.") : rc;
}

static json_t *detail_of(const struct enrol *e, const struct loaded *l, const struct uuid *device) {
    static const char *const how[] = {[ENROL_NEW] = "new", [ENROL_AGAIN] = "answer lost", [ENROL_REPLACE] = "re-provisioned"};
    json_t *d = json_object();
    json_set_uuid(d, "id", device);
    json_set_str(d, "how", how[e->verdict.how]);
    if (e->code) {
        json_set_uuid(d, "invitation", &l->invitation.uuid);
        if (e->own) /* one that Muster made is not what the code was spent for (invitation.h) */
            json_set_hex(d, "spki", hash_span(&e->cert->spki));
    } else {
        json_set_str(d, "key", l->key.name);
    }
    json_set_str(d, "address", e->address);
    json_set_hex(d, "serial", e->cert->serial);
    json_set_hex(d, "fingerprint", hash_span(&e->cert->fingerprint));
    if (l->facts.asks && enrol_is_asked_for(&e->verdict))
        json_set_uuid(d, "ask", &l->facts.answer.uuid);
    if (e->verdict.how == ENROL_NEW)
        json_set_str(d, "state", word_of(&WORDS_DEVICE_STATE, l->device.state));
    return d;
}

/* Whoever brings the credential. */
static struct actor actor_of_enrolment(const struct enrol *e, const struct loaded *l) {
    char id[UUID_TEXT_LEN + 1];
    if (!e->code)
        return actor_of("key", span_str(l->key.name));
    uuid_text(&l->invitation.uuid, id);
    return actor_of("invitation", span_str(id));
}

static int find_new(struct store_tx *tx, struct enrol *e, struct loaded *l, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_DEVICE_BY_ID, "it", l->account.row, e->device_id);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, NULL);
    int rc = row_device(row, &l->device, err);
    store_row_end(row);
    return rc;
}

static int store_certificate(struct store_tx *tx, const struct enrol *e, const struct loaded *l, struct err *err) {
    const struct device_issued issued = {.cert = e->cert, .device = l->device.row, .account = l->account.row, .prov_key = l->key.row, .own_key = e->own != NULL, .renews = e->own || e->server_keygen,
                                          .server_ca = e->server_ca};
    return device_identity_issued(tx, &issued, l->facts.now, err);
}

static json_t *how_of(const struct enrol *e, const struct loaded *l) {
    json_t *o = json_object();
    json_set_str(o, "method", word_of(&WORDS_METHOD, METHOD_SHARED));
    json_set_str(o, "key", e->code ? NULL : l->key.name);
    json_set_str(o, "invitation", NULL);
    if (e->code)
        json_set_uuid(o, "invitation", &l->invitation.uuid);
    json_set_str(o, "address", e->address);
    return o;
}

static int announce(struct store_tx *tx, const struct enrol *e, const struct loaded *l, struct err *err) {
    if (e->verdict.how == ENROL_AGAIN) /* it was said before */
        return 0;
    enum event_kind kind = e->verdict.how == ENROL_REPLACE ? EVENT_DEVICE_REPROVISIONED : l->device.state == DEVICE_PENDING ? EVENT_DEVICE_PENDING : EVENT_DEVICE_REGISTERED;
    int rc = event_device(tx, &l->account, &l->device, l->device.state, kind, how_of(e, l), err);
    if (rc || e->code)
        return rc;
    struct prov_key spent = l->key;
    spent.spent++;
    return event_key_budget(tx, &l->account, &l->key, &spent, err);
}

static int apply(struct store_tx *tx, struct enrol *e, struct loaded *l, struct err *err) {
    int rc = 0;
    switch (e->verdict.how) {
    case ENROL_NEW:
        rc = new_device(tx, e, l, err);
        if (!rc)
            rc = find_new(tx, e, l, err);
        break;
    case ENROL_AGAIN:
        rc = l->device.issue_first > l->facts.now + CLOCK_AHEAD ? store_exec(tx, NULL, err, SQL_DEVICE_ISSUED_ANEW, "iii", l->device.row, l->facts.now, l->facts.now_ms)
                                                                : store_exec(tx, NULL, err, SQL_DEVICE_REISSUED, "ii", l->device.row, l->facts.now_ms);
        break;
    case ENROL_REPLACE:
        rc = store_exec(tx, NULL, err, SQL_DEVICE_REENROLLED, "iii", l->device.row, l->facts.now, l->facts.now_ms);
        break;
    case ENROL_REFUSED:
    case ENROL_ASK:
    case ENROL_SAME:
        return MUSTER_EINTERNAL;
    }
    if (rc)
        return rc;
    rc = e->verdict.how == ENROL_AGAIN && !e->code ? store_exec(tx, NULL, err, SQL_KEY_USED, "ii", l->key.row, l->facts.now) : spend(tx, e, l, err);
    if (!rc && l->facts.asks && enrol_is_asked_for(&e->verdict))
        rc = hook_use(tx, &l->facts.answer, err);
    if (!rc && l->trial && enrol_is_asked_for(&e->verdict))
        rc = hook_try(tx, l->account.row, &l->ask, l->trial, l->facts.now, err);
    if (rc || (rc = store_certificate(tx, e, l, err)))
        return rc;
    e->device = l->device.uuid;
    if ((rc = announce(tx, e, l, err)))
        return rc;
    const struct actor actor = actor_of_enrolment(e, l);
    return audit_add(tx, l->account.row, &actor, "device.enrol", e->device_id, detail_of(e, l, &e->device), err);
}

static int write_wish(struct store_tx *tx, const struct enrol *e, const struct loaded *l, struct err *err) {
    int rc = store_exec(tx, NULL, err, SQL_DEVICE_AGAIN, "ii", l->device.row, I(AGAIN_ASKED));
    if (rc)
        return rc;
    if ((rc = event_device(tx, &l->account, &l->device, l->device.state, EVENT_DEVICE_ASKS_AGAIN, how_of(e, l), err)))
        return rc;
    const struct actor actor = actor_of_enrolment(e, l);
    json_t *detail = json_object();
    json_set_uuid(detail, "id", &l->device.uuid);
    json_set_str(detail, "address", e->address);
    return audit_add(tx, l->account.row, &actor, "device.asks_again", e->device_id, detail, err);
}

int enrol_run(struct store_tx *tx, void *arg, struct err *err) {
    struct enrol *e = arg;
    struct loaded l;
    struct err why = ERR_INIT;
    e->account_name[0] = '\0';
    if ((e->leave_out || e->at) && e->cert)
        return err_set(err, MUSTER_EINTERNAL, "What is only explained issues nothing.");
    bool any_id = e->leave_out & ENROL_ANY_ID;
    int code = any_id ? 0 : device_id_check(e->device_id, &why);
    if (code || (!any_id && enrol_is_reserved(e->reserved, e->device_id))) {
        refuse(e, code ? code : MUSTER_EIDTAKEN);
        return 0;
    }
    int rc = e->code ? load_invitation(tx, e, &l, err) : load_key(tx, e, &l, err);
    if (rc <= 0)
        return rc;
    snprintf(e->account_name, sizeof e->account_name, "%s", l.account.name);
    e->device_key = l.account.device_key;
    profile_of(&l.account, e->code ? NULL : &l.key, &e->profile);
    memset(&e->narrow, 0, sizeof e->narrow);
    if (!e->code)
        e->narrow = l.key.profile;
    if ((rc = load(tx, e, &l, err)))
        return rc;
    enrol_decide(&l.facts, &e->verdict);
    e->device = l.facts.device ? l.device.uuid : e->uuid;
    if (e->verdict.how == ENROL_ASK && store_writable(tx))
        return e->verdict.ask ? hook_write(tx, l.account.row, &l.ask, l.facts.now, err) : write_wish(tx, e, &l, err);
    if (e->verdict.how == ENROL_REFUSED || e->verdict.how == ENROL_ASK || e->verdict.how == ENROL_SAME || !e->cert || !store_writable(tx))
        return 0;
    return apply(tx, e, &l, err);
}
