/* admit: see admit.h.  Certificates of Muster's own and provisioning keys; those of uploaded roots are admit_uploaded.c's. */
#include "registry/admit.h"

#include "registry/admit_part.h"
#include "registry/audit.h"
#include "registry/device_identity.h"
#include "registry/event.h"
#include "registry/line.h"
#include "registry/recovery.h"
#include "registry/recovery_held.h"
#include "registry/root_json.h"
#include "registry/root_path.h"
#include "registry/tried.h"
#include "registry/trust.h"

int admit_refuse(struct admit *a, int code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    err_vset(&a->verdict, code, fmt, ap);
    va_end(ap);
    if (code == MUSTER_EACCOUNTAMBIGUOUS || code == MUSTER_EPENDING || code == MUSTER_EUNEXPECTED || code == MUSTER_ERECOVERY || code == MUSTER_EHELD)
        a->verdict.retry_after = code == MUSTER_EACCOUNTAMBIGUOUS ? 0 : 300;
    return 0;
}

int admit_state(struct admit *a, const struct account *account, const struct device *d) {
    int code = device_state_code(d);
    if (!code && d->state == DEVICE_PENDING)
        code = account->expected_only && !d->expected && !account->approval ? MUSTER_EUNEXPECTED : MUSTER_EPENDING;
    if (code == MUSTER_EPENDING && d->line && d->reason[0])
        return admit_refuse(a, code, "The device waits for an operator's approval: %s.", d->reason);
    return code ? admit_refuse(a, code, NULL) : 0;
}

void admit_found(struct admit *a, const struct device *d) {
    a->device_row = d->row;
    a->device = d->uuid;
    a->last_seen = d->last_seen;
    snprintf(a->device_id, sizeof a->device_id, "%s", d->device_id);
}

bool admit_writes(const struct store_tx *tx, const struct admit *a) { return !a->tried && store_writable(tx); }

int admit_account_row(struct store_tx *tx, struct admit *a, int64_t row, struct account *out, struct err *err) {
    struct account tried;
    int found = account_find_row(tx, row, out, err);
    if (found <= 0 || !out->tried[0])
        return found;
    a->tries = true;
    if (a->tried && tried_account(out, &tried))
        *out = tried;
    return found;
}

void admit_root_rules(struct admit *a, struct root *r) {
    struct root tried;
    a->tries = a->tries || r->tried[0];
    if (a->tried && tried_root(r, &tried))
        *r = tried;
}

int admit_account(struct store_tx *tx, struct admit *a, int64_t row, struct account *out, bool *ok, struct err *err) {
    *ok = false;
    int found = admit_account_row(tx, a, row, out, err);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, "A device belongs to no account.");
    if (*a->account && strcmp(a->account, out->name) != 0)
        return admit_refuse(a, MUSTER_EOTHERACCOUNT, NULL);
    snprintf(a->account_name, sizeof a->account_name, "%s", out->name);
    a->account_row = out->row;
    if (out->state != ACCOUNT_ACTIVE)
        return admit_refuse(a, MUSTER_EDELETED, NULL);
    *ok = true;
    return 0;
}

int admit_may_change(struct store_tx *tx, struct admit *a, bool *ok, struct err *err) {
    struct recovery r;
    int rc = recovery_get(tx, &r, err);
    *ok = !rc && !r.since;
    return rc || *ok ? rc : admit_refuse(a, MUSTER_ERECOVERY, NULL);
}

int admit_promote(struct store_tx *tx, struct admit *a, const struct account *account, struct device *d, struct err *err) {
    struct store_row *row;
    if (d->state != DEVICE_PENDING || !account->expected_only || account->approval || d->expected || (d->line && d->reason[0])) /* outside a line's bounds an announcement is not enough */
        return 0;
    int found = first_row(tx, &row, err, SQL_EXPECTED_GET, "is", account->row, d->device_id);
    if (found <= 0)
        return found;
    bool fits = store_is_null(row, 0) || span_eq(store_blob(row, 0), hash_span(&a->leaf->key.spki));
    store_row_end(row);
    if (!fits)
        return 0;
    bool ok;
    int rc = admit_may_change(tx, a, &ok, err);
    if (rc || !ok)
        return rc;
    if (!admit_writes(tx, a)) {
        a->must_write = true;
        return 0;
    }
    const struct actor actor = actor_of("device", span_str(d->device_id));
    rc = store_exec(tx, NULL, err, SQL_DEVICE_STATE, "iiisi", d->row, I(DEVICE_ACTIVE), I(DEVICE_ACTIVE), "", I(0));
    trust_change(); /* its certificate is on hold in answers that OCSP keeps; the snapshot rests on no device, and need not be loaded again */
    d->state = DEVICE_ACTIVE;
    json_t *announced = json_object();
    json_set_bool(announced, "announced", true);
    if (rc)
        json_decref(announced);
    else
        rc = event_device(tx, account, d, d->state, EVENT_DEVICE_APPROVED, announced, err);
    return rc ? rc : audit_add(tx, account->row, &actor, "device.announced", span_str(d->device_id), NULL, err);
}

/* --- fleet roots --------------------------------------------------------------------------------------------------------------- */

bool admit_root_usable(struct admit *a, const struct root *r) {
    switch (r->state) {
    case ROOT_ACTIVE:
    case ROOT_KNOWN_ONLY:
        return true;
    case ROOT_UNPROVED:
        admit_refuse(a, MUSTER_EROOTUNPROVED, NULL);
        return false;
    case ROOT_DISABLED:
        admit_refuse(a, MUSTER_EROOTDISABLED, NULL);
        return false;
    case ROOT_RETIRED:
        admit_refuse(a, MUSTER_EROOTRETIRED, NULL);
        return false;
    case ROOT_REVOKED:
        break;
    }
    admit_refuse(a, MUSTER_EROOTREVOKED, NULL);
    return false;
}

/* Of two roots of one account on one chain the stricter one counts: what an operator has shut stays shut, wherever else the chain goes
 * on to; but for a retired one, see below.  Only one that was never proved says nothing. */
static bool is_stricter(enum root_state a, enum root_state than) {
    static const int rank[] = {[ROOT_UNPROVED] = 0, [ROOT_ACTIVE] = 1, [ROOT_KNOWN_ONLY] = 2, [ROOT_DISABLED] = 3, [ROOT_RETIRED] = 4, [ROOT_REVOKED] = 5};
    return rank[a] > rank[than];
}

/* Of a root's row, which ends here: *out is that root where there was none, or where it is the stricter one. */
static int take_stricter(struct store_row *row, bool have, struct root *out, struct err *err) {
    struct root r;
    int rc = row_root(row, &r, err);
    store_row_end(row);
    if (!rc && (!have || is_stricter(r.state, out->state)))
        *out = r;
    return rc;
}

/* The search for anchors is bounded, and whoever shows certificates that spend the bound chooses which of the anchors it reaches.  The CAs of a
 * path that holds he cannot leave out, so these are looked up by their keys: one that the account has shut as a root of its own is shut. */
static int stricter_between(struct store_tx *tx, const struct admit *a, int64_t account, struct root *out, struct err *err) {
    for (size_t i = 0; i < a->n_between; i++) {
        struct store_row *row;
        int found = first_row(tx, &row, err, SQL_ROOT_BY_SPKI, "ib", account, hash_span(&a->between[i]->key.spki));
        if (found < 0)
            return found;
        int rc = found ? take_stricter(row, true, out, err) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

static int root_of(struct store_tx *tx, int64_t account, const struct hash *print, struct root *out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_ROOT_BY_PRINT, "bi", hash_span(print), account);
    if (found <= 0)
        return found;
    int rc = row_root(row, out, err);
    store_row_end(row);
    return rc ? rc : 1;
}

/* Of the roots of the account whose keys the chain goes over: those that are retired, by their keys; *shut: one is shut otherwise. */
static int retired_of(struct store_tx *tx, const struct admit *a, int64_t account, struct hash *past, size_t *n, bool *shut, struct err *err) {
    struct root r;
    for (size_t i = 0; i < a->n_anchors + a->n_between; i++) {
        struct store_row *row;
        int rc, found = i < a->n_anchors ? root_of(tx, account, &a->anchors[i], &r, err)
                                         : first_row(tx, &row, err, SQL_ROOT_BY_SPKI, "ib", account, hash_span(&a->between[i - a->n_anchors]->key.spki));
        if (found < 0)
            return found;
        if (found && i >= a->n_anchors) {
            rc = row_root(row, &r, err);
            store_row_end(row);
            if (rc)
                return rc;
        }
        if (found && r.state == ROOT_RETIRED)
            past[(*n)++] = r.spki;
        *shut = *shut || (found && (r.state == ROOT_DISABLED || r.state == ROOT_REVOKED));
    }
    return 0;
}

/* A root that is retired takes along what stands under its key alone: an anchor that is good, and that the chain reaches without that key, lets in as before. */
static int beside_retired(struct store_tx *tx, const struct admit *a, int64_t account, struct root *out, struct err *err) {
    const struct root_path path = {.leaf = a->leaf, .cas = a->between, .n = a->n_between};
    struct hash past[CHAIN_FOUND_MAX + CHAIN_MAX_CERTS];
    size_t n_past = 0;
    bool shut = false;
    int rc = retired_of(tx, a, account, past, &n_past, &shut, err);
    for (size_t i = 0; !rc && !shut && i < a->n_anchors; i++) {
        CLEANUP(cert_free) struct cert *anchor = NULL;
        struct root r;
        int found = root_of(tx, account, &a->anchors[i], &r, err);
        if (found < 0)
            return found;
        if (found && (r.state == ROOT_ACTIVE || r.state == ROOT_KNOWN_ONLY) && !(rc = root_cert(tx, &r, &anchor, err)) && root_path_reaches(&path, anchor, past, n_past) &&
            (out->state == ROOT_RETIRED || is_stricter(r.state, out->state)))
            *out = r;
    }
    return rc;
}

int admit_root(struct store_tx *tx, const struct admit *a, int64_t account, struct root *out, struct err *err) {
    bool have = false;
    for (size_t i = 0; i < a->n_anchors; i++) {
        struct store_row *row;
        int found = first_row(tx, &row, err, SQL_ROOT_BY_PRINT, "bi", hash_span(&a->anchors[i]), account);
        if (found < 0)
            return found;
        int rc = found ? take_stricter(row, have, out, err) : 0;
        if (rc)
            return rc;
        have = have || found;
    }
    int rc = have ? stricter_between(tx, a, account, out, err) : 0;
    if (!rc && have && out->state == ROOT_RETIRED)
        rc = beside_retired(tx, a, account, out, err);
    return rc ? rc : have;
}

/* --- certificates that Muster issued -------------------------------------------------------------------------------------------- */

struct held {
    int64_t row, account, device, prov_key;
    enum cert_state state;
    bool renews;
};

/* 1: the registry holds exactly this certificate. */
static int find_cert(struct store_tx *tx, const struct admit *a, struct held *out, struct err *err) {
    const ASN1_INTEGER *serial = X509_get0_serialNumber(a->leaf->x);
    struct store_row *row;
    struct hash fingerprint;
    int found = first_row(tx, &row, err, SQL_CERT_BY_SERIAL, "b", span_of(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial)));
    if (found <= 0)
        return found;
    *out = (struct held){.row = store_int(row, 0), .account = store_int(row, 2), .device = store_int(row, 3), .prov_key = store_int(row, 5), .renews = store_int(row, 7) != 0};
    out->state = store_int(row, 6) ? CERT_REVOKED : (enum cert_state)store_int(row, 4); /* whatever it was to its device */
    int rc = row_hash(row, 1, &fingerprint);
    store_row_end(row);
    return rc ? err_set(err, rc, "A row of the table cert is damaged.") : hash_eq(&fingerprint, &a->leaf->fingerprint);
}

/* Whether it is of a factory line that an account with one of these anchors has. */
static int admit_line_own(struct store_tx *tx, const struct admit *a, struct err *err) {
    for (size_t i = 0; i < a->n_anchors; i++) {
        CLEANUP(store_row_end) struct store_row *row = NULL;
        int rc = store_query(tx, &row, err, SQL_ROOT_PRINT_ANY, "b", hash_span(&a->anchors[i]));
        while (!rc && (rc = store_next(row, err)) > 0) {
            struct root r;
            struct line l;
            rc = row_root(row, &r, err);
            int found = rc ? rc : r.origin == ROOT_MUSTER ? line_of(tx, a, r.account, &l, err) : 0;
            if (found)
                return found;
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* A chain that has ended is good for a renewal, for as long as the account says. */
bool admit_too_late(const struct account *account, int64_t ended) { return ended && clock_now() - ended > account->late_renewal; }

int64_t admit_superseded_until(const struct account *account, const struct cert *leaf, int64_t since) {
    const int64_t late = leaf->not_after < CLOCK_NO_EXPIRY ? leaf->not_after + account->late_renewal : CLOCK_NO_EXPIRY;
    return since && since + account->superseded_renewal < late ? since + account->superseded_renewal : late;
}

int admit_refuse_late(struct admit *a, const struct account *account, int64_t ended) {
    if (!account->late_renewal)
        return admit_refuse(a, MUSTER_ECERTEXPIRED, "The certificate, or one of its chain, has expired, and the account renews none that has.");
    return admit_refuse(a, MUSTER_ECERTEXPIRED, "The certificate, or one of its chain, expired %lld days ago, and the account renews until %lld days behind the end.",
                        (long long)((clock_now() - ended) / CLOCK_DAY), (long long)(account->late_renewal / CLOCK_DAY));
}

/* One that the device has replaced: it may be the device, which has lost its newest one, or whoever has a copy. */
static int superseded(struct store_tx *tx, struct admit *a, const struct account *account, const struct device *d, const struct held *h, struct err *err) {
    int64_t since;
    int rc = device_identity_superseded(tx, d, h->row, &since, err);
    a->may_renew = !rc && since && (d->again == AGAIN_GRANTED || lately(since, account->superseded_renewal, clock_now()));
    if (a->may_renew)
        a->renewable_until = admit_superseded_until(account, a->leaf, d->again == AGAIN_GRANTED ? 0 : since);
    return rc ? rc : admit_refuse(a, MUSTER_ECERTSUPERSEDED, NULL);
}

/* The first certificate of an enrolment with which a request arrives becomes the device's; the others are void from here on. */
static int first_use(struct store_tx *tx, struct admit *a, const struct account *account, const struct held *h, const struct device *d, int64_t anchor, struct err *err) {
    if (!admit_writes(tx, a)) {
        a->must_write = true;
        snprintf(a->account_name, sizeof a->account_name, "%s", account->name); /* for who asks how late it may renew */
        return 0;
    }
    const struct device_identity to = {.leaf = a->leaf, .cert = h->row, .prov_key = h->prov_key, .renews = h->renews, .anchor = anchor, .address = a->address};
    int rc = device_identity_take(tx, d, &to, err);
    if (rc)
        return rc;
    const struct actor actor = actor_of("device", span_str(d->device_id));
    json_t *detail = json_object();
    json_set_hex(detail, "fingerprint", hash_span(&a->leaf->fingerprint));
    json_set_str(detail, "address", a->address);
    if ((rc = event_device(tx, account, d, d->state, EVENT_DEVICE_FIRST_USED, json_incref(detail), err))) {
        json_decref(detail);
        return rc;
    }
    return audit_add(tx, account->row, &actor, "device.first_use", span_str(d->device_id), detail, err);
}

/* A use is a use, whatever the answer will be; but not by a method that the account does not have, nor one that comes too late. */
static bool is_first_use(const struct admit *a, const struct account *account, const struct held *h, const struct device *d) {
    return h->state == CERT_ISSUED && account->state == ACCOUNT_ACTIVE && account->method & METHOD_SHARED && d->state != DEVICE_REVOKED && d->state != DEVICE_DELETED && !admit_too_late(account, a->ended);
}

static int admit_own(struct store_tx *tx, struct admit *a, struct err *err) {
    struct held h;
    struct account account;
    struct device d;
    bool ok;
    int found = find_cert(tx, a, &h, err);
    if (found < 0)
        return found;
    if (!found) {
        const int line = admit_line_own(tx, a, err);
        if (line > 0 && a->leaf->not_before > clock_now()) /* nothing that a server made: whoever did may have meant it */
            return admit_refuse(a, MUSTER_ECERTEARLY, NULL);
        return line < 0 ? line : line ? admit_uploaded(tx, a, err) : recovery_hold(tx, a, err);
    }
    found = admit_account_row(tx, a, h.account, &account, err);
    int known = found > 0 && h.device ? device_find_row(tx, h.device, &d, err) : 0;
    if (found < 0 || known < 0)
        return found < 0 ? found : known;
    struct root root;
    if ((found = admit_root(tx, a, h.account, &root, err)) < 0)
        return found;
    const bool usable = found > 0 && admit_root_usable(a, &root);
    a->renewable_until = a->ended ? a->ended + account.late_renewal : 0;
    a->verdict = ERR_INIT;
    int rc = 0;
    bool may = true;
    if (known && usable && is_first_use(a, &account, &h, &d) && ((rc = admit_may_change(tx, a, &may, err)) || (may && ((rc = first_use(tx, a, &account, &h, &d, root.row, err)) || a->must_write))))
        return rc;
    if ((rc = admit_account(tx, a, h.account, &account, &ok, err)) || !ok)
        return rc;
    if (!(account.method & METHOD_SHARED))
        return admit_refuse(a, MUSTER_EMETHODOFF, NULL);
    if (!found) /* one that was made under another root than the account has */
        return admit_refuse(a, MUSTER_ECERTUNTRUSTED, NULL);
    if (!admit_root_usable(a, &root))
        return 0;
    if (!known) /* its tombstone was lifted, and the certificate stays revoked */
        return admit_refuse(a, MUSTER_ECERTREVOKED, NULL);
    admit_found(a, &d);
    if (h.state == CERT_REVOKED) /* nothing that its device waits for comes of it; where an operator cut the device off, that is why */
        return device_state_code(&d) ? admit_state(a, &account, &d) : admit_refuse(a, MUSTER_ECERTREVOKED, NULL);
    if (admit_too_late(&account, a->ended))
        return admit_refuse_late(a, &account, a->ended);
    a->verdict = ERR_INIT;
    if (may && ((rc = admit_promote(tx, a, &account, &d, err)) || a->must_write || a->verdict.code))
        return rc;
    if (admit_state(a, &account, &d), a->verdict.code)
        return 0;
    switch (h.state) {
    case CERT_ISSUED: /* a renewal in hand is the known device's, and lets it in without being bound */
        return may || h.renews ? 0 : admit_refuse(a, MUSTER_ERECOVERY, NULL);
    case CERT_CURRENT:
        return device_identity_is_certificate(&d, a->leaf) ? 0 : admit_refuse(a, MUSTER_ECERTSUPERSEDED, NULL);
    case CERT_VOID:
        return admit_refuse(a, MUSTER_ECERTVOID, NULL);
    case CERT_SUPERSEDED:
        return superseded(tx, a, &account, &d, &h, err);
    case CERT_REVOKED:
        break;
    }
    return admit_refuse(a, MUSTER_ECERTREVOKED, NULL);
}

static int admit_key(struct store_tx *tx, struct admit *a, struct err *err) {
    struct prov_key k;
    struct account account;
    struct store_row *row;
    bool ok;
    int found = first_row(tx, &row, err, SQL_KEY_BY_SPKI, "b", hash_span(&a->leaf->key.spki));
    if (found <= 0)
        return found < 0 ? found : admit_refuse(a, MUSTER_EKEYUNKNOWN, NULL);
    int rc = row_key(row, &k, err);
    store_row_end(row);
    return rc ? rc : admit_account(tx, a, k.account, &account, &ok, err);
}

static int judge(struct store_tx *tx, struct admit *a, struct err *err) {
    a->must_write = a->registered = a->may_renew = a->of_line = a->tries = false;
    a->renewable_until = 0;
    a->outside = NULL;
    a->verdict = ERR_INIT;
    a->account_name[0] = a->device_id[0] = a->claimed[0] = '\0';
    a->account_row = a->device_row = 0;
    switch (a->class) {
    case ADMIT_DEVICE_OWN:
        return admit_own(tx, a, err);
    case ADMIT_DEVICE_UPLOADED:
        return admit_uploaded(tx, a, err);
    case ADMIT_KEY:
        return admit_key(tx, a, err);
    }
    return MUSTER_EINTERNAL;
}

/* The same once more by what is tried, before anything is written: afterwards who is new is known.  A fault of it is none of the device's. */
static int by_what_is_tried(struct store_tx *tx, const struct admit *a) {
    struct admit t = *a;
    struct err why = ERR_INIT;
    t.tried = true;
    const bool refused = judge(tx, &t, &why) == 0 && t.verdict.code;
    return refused && !(a->verdict.code && t.may_renew) ? t.verdict.code : 0;
}

int admit_run(struct store_tx *tx, void *arg, struct err *err) {
    struct admit *a = arg;
    const bool looks = !store_writable(tx);
    a->tried = false;
    if (looks)
        a->shadow = 0;
    int rc = judge(tx, a, err);
    if (!rc && looks && a->tries && (!a->verdict.code || a->may_renew))
        a->shadow = by_what_is_tried(tx, a);
    return rc;
}
