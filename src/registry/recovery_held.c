/* recovery_held: see recovery_held.h. */
#include "registry/recovery_held.h"

#include "registry/admit_part.h"
#include "registry/device_identity.h"
#include "registry/event.h"
#include "registry/line.h"
#include "registry/own_key.h"
#include "registry/recovery_crl.h"
#include "registry/snapshot.h"

#define STEP 100          /* certificates in one transaction */
#define SWEEP 1000
#define TOLERANCE 300      /* seconds between clocks */

enum held_state { HELD_WAITS = 1, HELD_LEFT_OUT = 2 };

/* --- holding ------------------------------------------------------------------------------------------------------------------- */

static struct span serial_of(const struct cert *c) {
    const ASN1_INTEGER *serial = X509_get0_serialNumber(c->x);
    return span_of(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial));
}

static int64_t issued_at(const struct cert *c) { return c->not_before + DEVICE_ISSUED_BACK; }

/* Issued behind the backup, and not by the restored server itself, which knows what it issues.  Where the backup was made behind its own restoring one of the two clocks was wrong, the one
 * that made it ahead or a new machine's behind: when either was nobody knows, and what came in between must not be shut out for that.  Nor what bears a day to come: a clock made it that ran
 * ahead, and of what came before the backup the registry would know. */
static bool is_of_the_gap(const struct recovery *r, const struct cert *c) {
    const int64_t issued = issued_at(c), now = clock_now();
    const bool known = r->made <= r->since + TOLERANCE;
    return issued > now + TOLERANCE || (issued >= (known ? r->made : 0) - TOLERANCE && issued <= (known ? r->since : now) + TOLERANCE);
}

/* The account whose own root it is; 1 there. */
static int account_of(struct store_tx *tx, struct admit *a, struct account *out, struct err *err) {
    for (size_t i = 0; i < a->n_anchors; i++) {
        struct store_row *row;
        struct root r;
        bool ok;
        int found = first_row(tx, &row, err, SQL_ROOT_PRINT_ANY, "b", hash_span(&a->anchors[i]));
        if (found < 0)
            return found;
        if (!found)
            continue;
        int rc = row_root(row, &r, err);
        store_row_end(row);
        if (rc || (r.origin == ROOT_MUSTER && ((rc = admit_account(tx, a, r.account, out, &ok, err)) || ok)))
            return rc ? rc : 1;
    }
    return 0;
}

/* A device that is known and cut off stays so. */
static int find_device(struct store_tx *tx, int64_t account, struct span id, struct device *d, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_DEVICE_BY_ID, "it", account, id);
    if (found <= 0)
        return found;
    int rc = row_device(row, d, err);
    store_row_end(row);
    return rc ? rc : 1;
}

static int refuse_held(struct admit *a, const char *code) {
    int why = *code ? err_from_code(code) : 0;
    return admit_refuse(a, why ? why : MUSTER_EHELD, NULL);
}

static int keep(struct store_tx *tx, struct admit *a, const struct account *account, struct span id, struct err *err) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(CERT_DER_MAX);
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_HELD_BY_SERIAL, "b", serial_of(a->leaf));
    if (found < 0)
        return found;
    if (found) {
        char code[64];
        bool same = span_eq(store_blob(row, 0), hash_span(&a->leaf->fingerprint));
        row_text(row, 1, code, sizeof code);
        store_row_end(row);
        return same ? refuse_held(a, code) : admit_refuse(a, MUSTER_ECERTUNKNOWN, NULL);
    }
    if (!store_writable(tx)) {
        a->must_write = true;
        return 0;
    }
    int rc = cert_der(a->leaf, &der);
    if (rc)
        return err_set(err, rc, NULL);
    rc = store_exec(tx, NULL, err, SQL_HELD_ADD, "bbitbiiis", serial_of(a->leaf), hash_span(&a->leaf->fingerprint), account->row, id, buf_span(&der), a->leaf->not_before, a->leaf->not_after,
                    clock_now(), a->address);
    return rc ? rc : refuse_held(a, "");
}

int recovery_hold(struct store_tx *tx, struct admit *a, struct err *err) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(512);
    struct recovery r;
    struct account account;
    struct device d;
    int rc = recovery_get(tx, &r, err);
    if (rc)
        return rc;
    if (!r.since)
        return admit_refuse(a, a->leaf->not_before > clock_now() ? MUSTER_ECERTEARLY : MUSTER_ECERTUNKNOWN, NULL);
    /* A CA of Muster's own signed it: what the registry has lost is no reason to send its device away for good. */
    if (a->ended || !is_of_the_gap(&r, a->leaf) || cert_own_device_id(a->leaf, &id, NULL) || device_id_check(buf_span(&id), NULL))
        return admit_refuse(a, MUSTER_ERECOVERY, NULL);
    int found = account_of(tx, a, &account, err);
    if (found <= 0)
        return found < 0 || a->verdict.code ? found : admit_refuse(a, MUSTER_ECERTUNKNOWN, NULL);
    if (!(account.method & METHOD_SHARED))
        return admit_refuse(a, MUSTER_EMETHODOFF, NULL);
    snprintf(a->claimed, sizeof a->claimed, "%s", buf_str(&id));
    found = find_device(tx, account.row, buf_span(&id), &d, err);
    if (found < 0)
        return found;
    if (found && (d.state == DEVICE_REVOKED || d.state == DEVICE_DELETED))
        return admit_state(a, &account, &d);
    int listed;
    if ((rc = recovery_listed(tx, account.row, serial_of(a->leaf), &listed, err)) || listed)
        return rc ? rc : admit_refuse(a, listed, NULL);
    return keep(tx, a, &account, buf_span(&id), err);
}

/* --- looking ------------------------------------------------------------------------------------------------------------------- */

int recovery_held_count(struct store_tx *tx, int64_t *waiting, int64_t *left_out, struct err *err) {
    int rc = one_int(tx, waiting, 0, err, SQL_HELD_COUNT, "ii", I(HELD_WAITS), I(HELD_COUNT_MAX));
    return rc ? rc : one_int(tx, left_out, 0, err, SQL_HELD_COUNT, "ii", I(HELD_LEFT_OUT), I(HELD_COUNT_MAX));
}

int recovery_held_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct recovery_held_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int64_t last = l->page.after, n = 0;
    int rc = store_query(tx, &row, err, SQL_HELD_PAGE, "ii", l->page.after, l->page.limit + 1);
    if (rc)
        return rc;
    for (; (rc = store_next(row, err)) > 0 && n < l->page.limit; n++) {
        json_t *o = json_object();
        struct span code = store_text(row, 8);
        last = store_int(row, 0);
        json_set_hex(o, "id", store_blob(row, 1));
        json_set_hex(o, "fingerprint", store_blob(row, 2));
        json_set_span(o, "account", store_text(row, 3));
        json_set_span(o, "device_id", store_text(row, 4));
        json_set_time(o, "not_before", store_int(row, 5));
        json_set_time(o, "not_after", store_int(row, 6));
        json_set_str(o, "state", store_int(row, 7) == HELD_WAITS ? "waiting" : "left-out");
        if (code.n)
            json_set_span(o, "code", code);
        else
            json_set_str(o, "code", NULL);
        json_set_time(o, "first_seen", store_int(row, 9));
        json_set_span(o, "address", store_text(row, 10));
        json_array_append_new(items, o);
    }
    return rc < 0 ? rc : page_finish(&l->page, TAKE(items), last, rc > 0);
}

/* --- admitting ------------------------------------------------------------------------------------------------------------------- */

struct one {
    int64_t row, account;
    struct cert *cert;
    struct buf der;
    char address[64];
    bool left_line; /* it follows a certificate that a factory line made, under a root of Muster's own */
    json_t *lines;  /* owned: names of the factory lines that are charged with it; NULL: none is */
};

static void one_fini(struct one *o) {
    cert_free(o->cert);
    buf_fini(&o->der);
    json_decref(o->lines);
}
DEFINE_CLEANUP_FINI(one_fini, struct one)

/* Those that begin later than `from`.  Copied: the rows change while they are walked. */
static int load_from(struct store_tx *tx, int64_t from, struct one at[STEP], size_t *n, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_HELD_NEXT, "iii", I(HELD_WAITS), from, I(STEP));
    for (*n = 0; !rc && *n < STEP && (rc = store_next(row, err)) > 0; ++*n) {
        struct one *o = &at[*n];
        o->row = store_int(row, 0);
        o->account = store_int(row, 1);
        o->der = BUF_INIT(CERT_DER_MAX);
        buf_add(&o->der, store_blob(row, 2));
        row_text(row, 3, o->address, sizeof o->address);
        if (cert_from_der(buf_span(&o->der), &o->cert, NULL))
            o->cert = NULL; /* left out below */
        rc = 0;
    }
    return rc < 0 ? rc : 0;
}

/* In the order in which they were made, so that the last of a device's is its own; those of a day to come first: once the clock was right again they were renewed. */
static int load_some(struct store_tx *tx, struct one at[STEP], size_t *n, struct err *err) {
    int rc = load_from(tx, clock_now(), at, n, err);
    return rc || *n ? rc : load_from(tx, INT64_MIN, at, n, err);
}

/* Whether a CA of the account's own signed it, as the rules of a connection have it: one that begins later is good from now on. */
static int signed_by_own(struct store_tx *tx, const struct snapshot *s, const struct one *o, bool *yes, struct err *why, struct err *err) {
    const int64_t now = clock_now();
    struct chain_found found;
    *yes = false;
    if (chain_judge(snapshot_fleet(s), o->cert, NULL, 0, o->cert->not_before > now ? o->cert->not_before : now, &found, why))
        return 0;
    for (size_t i = 0; i < found.n && !*yes; i++) {
        struct store_row *row;
        int there = first_row(tx, &row, err, SQL_ROOT_BY_PRINT, "bi", hash_span(&found.at[i]->cert->fingerprint), o->account);
        if (there < 0)
            return there;
        struct root root;
        int rc = there ? row_root(row, &root, err) : 0;
        store_row_end(row);
        if (rc)
            return rc;
        if (!there || !snapshot_is_own(found.at[i]))
            continue;
        if (root.state == ROOT_ACTIVE || root.state == ROOT_KNOWN_ONLY)
            *yes = true;
        else /* shut, by an operator: nobody comes in under it, and nobody back */
            err_set(why, root.state == ROOT_REVOKED ? MUSTER_EROOTREVOKED : root.state == ROOT_RETIRED ? MUSTER_EROOTRETIRED : MUSTER_EROOTDISABLED, NULL);
    }
    if (!*yes && !why->code)
        err_set(why, MUSTER_ECERTUNKNOWN, NULL);
    return 0;
}

/* 0: it may be the device's; otherwise the code that it is left out for.  d NULL: a device that is not known. */
static int judge(const struct one *o, const struct account *account, const struct device *d, enum own_key whose, int64_t current) {
    if (account->state != ACCOUNT_ACTIVE)
        return MUSTER_EDELETED;
    if (!(account->method & METHOD_SHARED))
        return MUSTER_EMETHODOFF;
    if (d && (d->state == DEVICE_REVOKED || d->state == DEVICE_DELETED))
        return device_state_code(d);
    if (whose == OWN_KEY_BARRED)
        return MUSTER_EKEYBARRED;
    if (whose != OWN_KEY_FREE && whose != OWN_KEY_OWN)
        return MUSTER_EKEYELSEWHERE;
    if (d && d->has_certificate && d->method != METHOD_SHARED && !o->left_line) /* which of the two is the newer one nobody can tell */
        return MUSTER_EKEYMISMATCH;
    return current > o->cert->not_before ? MUSTER_ECERTSUPERSEDED : 0;
}

static int record(struct store_tx *tx, const struct recovery_admit *a, const struct one *o, const struct device *d, bool known, struct err *err) {
    json_t *detail = json_object();
    json_set_uuid(detail, "id", &d->uuid);
    json_set_bool(detail, "known", known);
    json_set_hex(detail, "serial", serial_of(o->cert));
    json_set_hex(detail, "fingerprint", hash_span(&o->cert->fingerprint));
    json_set_hex(detail, "spki", hash_span(&o->cert->key.spki));
    json_set_str(detail, "state", word_of(&WORDS_DEVICE_STATE, d->state));
    if (o->lines)
        json_set(detail, "lines", json_incref(o->lines));
    return audit_add(tx, o->account, &a->actor, "device.recover", span_str(d->device_id), detail, err);
}

static int announce(struct store_tx *tx, const struct one *o, const struct account *account, const struct device *d, struct err *err) {
    json_t *how = json_object();
    json_set_str(how, "method", word_of(&WORDS_METHOD, METHOD_SHARED));
    json_set_str(how, "key", NULL);
    json_set_str(how, "invitation", NULL);
    json_set_str(how, "address", o->address);
    return event_device(tx, account, d, d->state, EVENT_DEVICE_REGISTERED, how, err);
}

/* A device's first renewal takes it from its factory line, whose certificates the backup does not count: what may have come by a line is charged to it, to several where it may be of
 * any of them, so that none brings in more than it might.  Too few an operator can mend (`factory kit set`). */
static int charge_lines(struct store_tx *tx, struct one *o, struct span id, struct device *d, struct err *err) {
    int64_t after = 0, only = 0;
    for (;;) {
        struct store_row *row;
        struct line l;
        int found = first_row(tx, &row, err, SQL_LINE_PAGE, "iii", o->account, after, I(1));
        if (found < 0)
            return found;
        if (!found)
            break;
        int rc = row_line(row, &l, err);
        store_row_end(row);
        if (rc)
            return rc;
        after = l.row;
        if (l.state != LINE_OPEN || l.spent >= l.max_devices || !id_pattern_match(l.id_pattern, id))
            continue;
        if ((rc = line_spend(tx, &l, false, err)))
            return rc;
        o->lines = o->lines ? o->lines : json_array();
        json_array_append_new(o->lines, json_string(l.name));
        only = json_array_size(o->lines) == 1 ? l.row : 0;
    }
    d->line = only;
    return only ? store_exec(tx, NULL, err, SQL_DEVICE_LINE_GIVEN, "ii", d->row, only) : 0;
}

static int take(struct store_tx *tx, const struct recovery_admit *a, struct one *o, const struct account *account, struct span id, struct device *d, bool known, struct err *err) {
    const int64_t now = clock_now();
    const struct made_cert made = {.der = buf_span(&o->der), .serial = serial_of(o->cert), .fingerprint = o->cert->fingerprint, .spki = o->cert->key.spki,
                                   .not_before = o->cert->not_before, .not_after = o->cert->not_after};
    struct uuid uuid = uuid_new();
    struct store_row *row;
    int rc = known ? 0 : store_exec(tx, NULL, err, SQL_DEVICE_ADD, "uitiirniisisniniiii", &uuid, account->row, id, I(DEVICE_ACTIVE), I(METHOD_SHARED), I(0), now, now, o->address, I(0), "", I(0),
                                    now, now * 1000, I(1), account->own_root);
    if (rc)
        return rc;
    if (!known && (rc = find_device(tx, account->row, id, d, err)) <= 0)
        return rc < 0 ? rc : err_set(err, MUSTER_ECORRUPT, NULL);
    if (!known && (rc = charge_lines(tx, o, id, d, err)))
        return rc;
    /* Whether it can renew the certificate does not say: who is taken for one that cannot would be cut off by a number. */
    const struct device_issued issued = {.cert = &made, .device = d->row, .account = account->row, .own_key = true, .renews = true};
    if ((rc = device_identity_issued(tx, &issued, issued_at(o->cert), err)) || (rc = first_row(tx, &row, err, SQL_CERT_BY_SERIAL, "b", made.serial)) <= 0)
        return rc < 0 ? rc : err_set(err, MUSTER_ECORRUPT, NULL);
    const struct device_identity to = {.leaf = o->cert, .cert = store_int(row, 0), .renews = true, .anchor = account->own_root, .address = o->address};
    store_row_end(row);
    if ((rc = device_identity_take(tx, d, &to, err)) || (rc = record(tx, a, o, d, known, err)))
        return rc;
    return known ? 0 : announce(tx, o, account, d, err);
}

static int leave_out(struct store_tx *tx, const struct one *o, int code, struct err *err) { return store_exec(tx, NULL, err, SQL_HELD_LEAVE_OUT, "iis", o->row, I(HELD_LEFT_OUT), err_code(code)); }

/* Of a factory line's device under a root of Muster's own the certificate that Muster made is the later one: it renewed by the other. */
static int look_for_line(struct store_tx *tx, struct one *o, const struct device *d, struct err *err) {
    struct root r;
    int found = d->line && d->method == METHOD_DEVICE && d->root ? root_find_row(tx, d->root, &r, err) : 0;
    o->left_line = found > 0 && r.origin == ROOT_MUSTER;
    return found < 0 ? found : 0;
}

/* What was in use at the backup is older than whatever is held, also where its dates say otherwise; what was admitted in this recovery, which began at `since`, may be newer, unless
 * it begins on a day to come. */
static int admit_one(struct store_tx *tx, struct recovery_admit *a, int64_t since, const struct snapshot *s, struct one *o, struct err *err) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(512);
    struct err why = ERR_INIT;
    struct account account;
    struct device d;
    enum own_key whose;
    bool own = false;
    int64_t current = 0;
    a->done.left_out++; /* unless it comes to its end below */
    if (!o->cert || cert_own_device_id(o->cert, &id, NULL) || device_id_check(buf_span(&id), NULL))
        return leave_out(tx, o, MUSTER_ECERTMALFORMED, err);
    int rc = signed_by_own(tx, s, o, &own, &why, err);
    if (rc || !own)
        return rc ? rc : leave_out(tx, o, why.code, err);
    int found = account_find_row(tx, o->account, &account, err), known = found > 0 ? find_device(tx, o->account, buf_span(&id), &d, err) : 0;
    if (found <= 0 || known < 0)
        return found < 0 ? found : known < 0 ? known : leave_out(tx, o, MUSTER_EDELETED, err);
    if ((rc = own_key_load(tx, o->account, known ? &d : NULL, &o->cert->key.spki, &whose, err)) ||
        (known && ((rc = one_int(tx, &current, 0, err, SQL_CERT_LIVE_SINCE, "iii", d.row, since, clock_now())) || (rc = look_for_line(tx, o, &d, err)))))
        return rc;
    int code = judge(o, &account, known ? &d : NULL, whose, current);
    if (code)
        return leave_out(tx, o, code, err);
    a->done.left_out--;
    a->done.admitted++;
    if ((rc = take(tx, a, o, &account, buf_span(&id), &d, known > 0, err)))
        return rc;
    return store_exec(tx, NULL, err, SQL_HELD_DROP, "i", o->row);
}

static int admit_some(struct store_tx *tx, struct recovery_admit *a, int64_t since, struct err *err) {
    struct one at[STEP] = {0};
    struct snapshot_load load = {0};
    size_t n = 0;
    int rc = snapshot_run(tx, &load, err);
    if (!rc)
        rc = load_some(tx, at, &n, err);
    for (size_t i = 0; !rc && i < n; i++)
        rc = admit_one(tx, a, since, load.out, &at[i], err);
    for (size_t i = 0; i < n; i++)
        one_fini(&at[i]);
    snapshot_unref(load.out);
    a->more = n > 0;
    return rc ? rc : epoch_raise(tx, err);
}

int recovery_admit_run(struct store_tx *tx, void *arg, struct err *err) {
    struct recovery_admit *a = arg;
    struct recovery r;
    int64_t left_out;
    int rc = recovery_get(tx, &r, err);
    if (rc)
        return rc;
    if (!r.since)
        return err_set(err, MUSTER_ESTATE, "The server is in no recovery.");
    a->done = a->before;
    if (!a->begun) {
        if ((rc = recovery_held_count(tx, &a->count, &left_out, err)))
            return rc;
        if (a->confirm != a->count)
            return err_set(err, MUSTER_ECONFIRM, "This would admit %lld certificate%s that %s younger than the backup: each becomes its device's, and devices that are not known are registered. One that was voided, "
                           "revoked or stolen since looks the same.",
                           (long long)a->count, a->count == 1 ? "" : "s", a->count == 1 ? "is" : "are");
    }
    if ((rc = admit_some(tx, a, r.since, err)) || a->more)
        return rc;
    json_decref(a->out);
    a->out = json_object();
    json_set_str(a->out, "id", "recovery");
    json_set_int(a->out, "admitted", a->done.admitted);
    json_set_int(a->out, "left_out", a->done.left_out);
    return 0;
}

int recovery_held_sweep_run(struct store_tx *tx, void *arg, struct err *err) {
    struct recovery_sweep *s = arg;
    struct recovery r;
    int64_t held = 0, listed = 0;
    int rc = recovery_get(tx, &r, err);
    if (!rc && !r.since && !(rc = store_exec(tx, &held, err, SQL_HELD_SWEEP, "i", I(SWEEP))))
        rc = store_exec(tx, &listed, err, SQL_LISTED_SWEEP, "i", I(SWEEP));
    s->more = held == SWEEP || listed == SWEEP;
    return rc;
}
