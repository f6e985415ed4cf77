/* admit_uploaded: devices under fleet roots of customers, and of factory lines under whichever root: known keys, and other keys for known devices; see admit.h.  Who comes for
 * the first time is admit_first.c's. */
#include "registry/admit_part.h"
#include "registry/audit.h"
#include "registry/device_chain.h"
#include "registry/device_identity.h"
#include "registry/event.h"
#include "registry/line.h"
#include "registry/line_revoke.h"
#include "registry/root_crl.h"

#define OFFER_FRESH CLOCK_HOUR /* an offer seen within this time is not written again */

bool admit_above_lasts(struct admit *a, const struct root *r, bool known) {
    if (!a->above || (r->expired == EXPIRED_KNOWN && known))
        return true;
    if (r->expired == EXPIRED_KNOWN)
        admit_refuse(a, MUSTER_EROOTKNOWNONLY, "What the certificate stands under has expired, and lets in devices that are known alone.");
    else
        admit_refuse(a, MUSTER_ECERTEXPIRED, "%s", err_text(a->above));
    return false;
}

int admit_check_lists(struct store_tx *tx, struct admit *a, const struct root *r, bool *ok, struct err *err) {
    static const char *const reasons[] = {[0] = "", [1] = " (key compromise)", [2] = " (CA compromise)", [4] = " (superseded)", [6] = " (on hold)"};
    const struct cert *certs[1 + CHAIN_MAX_CERTS] = {a->leaf};
    int64_t reason = 0;
    int which;
    memcpy(certs + 1, a->between, a->n_between * sizeof *certs);
    int rc = root_crl_find(tx, r, certs, 1 + a->n_between, &which, &reason, err);
    *ok = !rc && which < 0;
    if (rc || *ok)
        return rc;
    const char *why = reason >= 0 && reason < (int64_t)(sizeof reasons / sizeof *reasons) && reasons[reason] ? reasons[reason] : "";
    return admit_refuse(a, MUSTER_ECERTLISTED, which ? "A CA certificate above the device's stands on a revocation list of the fleet CA%s." : "The certificate stands on a revocation list of the fleet CA%s.", why);
}

bool admit_read_id(struct admit *a, const struct root *r, struct buf *id) {
    struct err why = ERR_INIT;
    int code = cert_device_id(a->leaf, r->id_rule, id, &why);
    if (!code)
        code = device_id_check(buf_span(id), &why);
    if (!code && enrol_is_reserved(a->reserved, buf_span(id)))
        code = err_set(&why, MUSTER_EIDTAKEN, "The device ID is a host name of the gateway.");
    if (code)
        admit_refuse(a, code, "%s", why.text);
    else
        snprintf(a->claimed, sizeof a->claimed, "%s", buf_str(id));
    return code == 0;
}

int admit_audit_device(struct store_tx *tx, const struct admit *a, const struct account *account, const char *action, const char *device_id, const struct root *r, int64_t state, struct err *err) {
    const struct actor actor = actor_of("device", span_str(device_id));
    json_t *detail = json_object();
    json_set_uuid(detail, "root", &r->uuid);
    json_set_hex(detail, "spki", hash_span(&a->leaf->key.spki));
    json_set_hex(detail, "fingerprint", hash_span(&a->leaf->fingerprint));
    json_set_str(detail, "address", a->address);
    if (a->of_line)
        json_set_str(detail, "line", a->line);
    if (a->of_line && a->outside)
        json_set_str(detail, "outside", a->outside);
    if (state)
        json_set_str(detail, "state", word_of(&WORDS_DEVICE_STATE, state));
    return audit_add(tx, account->row, &actor, action, span_str(device_id), detail, err);
}

int admit_announce(struct store_tx *tx, const struct admit *a, const struct account *account, const struct device *d, enum event_kind kind, struct err *err) {
    json_t *more = json_object();
    if (kind == EVENT_DEVICE_REGISTERED || kind == EVENT_DEVICE_PENDING) {
        json_set_str(more, "method", word_of(&WORDS_METHOD, METHOD_DEVICE));
        json_set_str(more, "key", NULL);
        json_set_str(more, "invitation", NULL);
    } else {
        json_set_hex(more, "spki", hash_span(&a->leaf->key.spki));
    }
    json_set_str(more, "address", a->address);
    return event_device(tx, account, d, d->state, kind, more, err);
}

/* --- a key that is registered ---------------------------------------------------------------------------------------------------- */

/* The same certificate, which may have other ones above it now. */
static int other_chain(struct store_tx *tx, struct admit *a, const struct root *r, const struct device *d, struct err *err) {
    int64_t chain;
    bool due;
    int rc = device_chain_find(tx, a, r, &chain, &due, err);
    if (rc || !a->between_known || (chain == d->chain && !due))
        return rc;
    if (!admit_writes(tx, a)) {
        a->must_write = true;
        return 0;
    }
    rc = device_chain_keep(tx, a, r, &chain, err);
    if (rc || (rc = store_exec(tx, NULL, err, SQL_DEVICE_CHAIN, "ii", d->row, chain)))
        return rc;
    return chain == d->chain ? 0 : device_chain_release(tx, d->chain, err);
}

static int newer_certificate(struct store_tx *tx, struct admit *a, const struct account *account, const struct root *r, const struct device *d, struct err *err) {
    const bool same = d->has_certificate && hash_eq(&d->certificate, &a->leaf->fingerprint) && d->root == r->row;
    if (same)
        return other_chain(tx, a, r, d, err);
    if (d->has_certificate && a->leaf->not_after <= d->certificate_not_after && d->root == r->row)
        return 0;
    if (!admit_writes(tx, a)) {
        a->must_write = true;
        return 0;
    }
    int64_t chain;
    int rc = device_chain_keep(tx, a, r, &chain, err);
    if (rc || (rc = device_identity_renew(tx, d, a->leaf, r->row, chain, err)) || (a->of_line && (rc = line_certificate_shown(tx, d, a->leaf, err))))
        return rc;
    return admit_audit_device(tx, a, account, "device.certificate", d->device_id, r, 0, err);
}

static int need_device(struct store_tx *tx, int64_t row, struct device *out, struct err *err) {
    int found = device_find_row(tx, row, out, err);
    return found < 0 ? found : found ? 0 : err_set(err, MUSTER_ECORRUPT, "A device's key belongs to no device.");
}

/* What the chain is refused for, and good for a renewal alone; NULL: nothing of it has ended, or the root's rule lets who is known go on. */
static const struct err *over(const struct admit *a, const struct root *r) { return a->over ? a->over : r->expired == EXPIRED_KNOWN ? NULL : a->above; }

/* Where what stands above may have expired, the certificate's own end counts. */
static int64_t ended_at(const struct admit *a, const struct root *r) { return r->expired == EXPIRED_KNOWN ? a->leaf->not_after : a->ended; }

/* One of the key that the device had shown before the newest that the registry has of it. */
static bool is_older(const struct device *d, const struct cert *leaf) { return !hash_eq(&d->certificate, &leaf->fingerprint) && leaf->not_after < d->certificate_not_after; }

bool admit_has_method(const struct account *account, const struct root *r) { return account->method & (r->origin == ROOT_MUSTER ? METHOD_SHARED : METHOD_DEVICE); }

/* A certificate of the line that brought the device in, which has one of the account's issuing CA since. */
static bool has_left_line(const struct root *r, const struct line *l, const struct device *d) {
    return r->origin == ROOT_MUSTER && l->row && d->line == l->row && d->method == METHOD_SHARED && d->has_certificate;
}

/* Likewise, and that one was revoked, or the line's own was: nothing stands in its place, and what the line has signed is over with it. */
static bool has_lost_identity(const struct root *r, const struct line *l, const struct device *d) { return r->origin == ROOT_MUSTER && l->row && d->line == l->row && !d->has_certificate; }

int admit_check_line_revoked(struct store_tx *tx, struct admit *a, int64_t account, bool *ok, struct err *err) {
    int64_t when, reason;
    int found = a->of_line ? line_certificate_revoked(tx, account, &a->leaf->fingerprint, &a->leaf->key.spki, &when, &reason, err) : 0;
    *ok = !found;
    return found <= 0 ? found : admit_refuse(a, MUSTER_ECERTREVOKED, "An operator has revoked this certificate of the factory line %s (%s). `muster device release --for-reprovision` and `muster device invite` let the device in again.", a->line,
                                             word_of(&WORDS_REVOKE_REASON, reason));
}

/* As of any certificate that was replaced (admit.c): it may be the device, which has lost its newest one, or whoever has a copy. */
static int superseded(struct store_tx *tx, struct admit *a, const struct account *account, const struct device *d, struct err *err) {
    int64_t since;
    int rc = device_identity_superseded_key(tx, d, &a->leaf->key.spki, &since, err);
    a->may_renew = !rc && since && (d->again == AGAIN_GRANTED || lately(since, account->superseded_renewal, clock_now()));
    if (a->may_renew)
        a->renewable_until = admit_superseded_until(account, a->leaf, d->again == AGAIN_GRANTED ? 0 : since);
    return rc ? rc : admit_refuse(a, MUSTER_ECERTSUPERSEDED, NULL);
}

/* As known_key(), of who comes late: only who is in by this very key goes on, nothing is written, and the verdict says what is in the way. */
static int judge_late(struct store_tx *tx, struct admit *a, const struct account *account, const struct root *r, const struct line *l, int64_t device_row, bool barred, struct err *err) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(512);
    struct device d;
    bool ok;
    int rc = admit_check_lists(tx, a, r, &ok, err);
    if (rc || !ok)
        return rc;
    if (!admit_has_method(account, r))
        return admit_refuse(a, MUSTER_EMETHODOFF, NULL);
    if ((rc = need_device(tx, device_row, &d, err)))
        return rc;
    admit_found(a, &d);
    if (admit_state(a, account, &d), a->verdict.code)
        return 0;
    if ((rc = admit_check_line_revoked(tx, a, account->row, &ok, err)) || !ok)
        return rc;
    const bool left = has_left_line(r, l, &d);
    if (barred && !left)
        return admit_refuse(a, MUSTER_EKEYBARRED, "The device has another key now.");
    if (!admit_read_id(a, r, &id))
        return 0;
    if (strcmp(buf_str(&id), d.device_id) != 0)
        return admit_refuse(a, MUSTER_EKEYELSEWHERE, "The certificate names another device than the one that its key is registered for.");
    if (!left && !device_identity_is_key(&d, a->leaf))
        return admit_refuse(a, MUSTER_EKEYMISMATCH, NULL);
    if (!left && is_older(&d, a->leaf))
        return admit_refuse(a, MUSTER_ECERTSUPERSEDED, NULL);
    if (admit_too_late(account, ended_at(a, r)))
        return admit_refuse_late(a, account, ended_at(a, r));
    return left ? superseded(tx, a, account, &d, err) : 0;
}

/* Refused by the chain's end in any case; but the device may ask for the certificate that follows and collect it, where the account keeps such
 * requests, or where it is a line's under Muster's own root, so that Muster signs it.  Of a certificate that has expired itself nothing else is asked here, and what is in the way of that is the answer. */
static int renew_only(struct store_tx *tx, struct admit *a, const struct account *account, const struct root *r, const struct line *l, int64_t device_row, bool barred, struct err *err) {
    const struct err *why = over(a, r);
    const bool renews = a->ended && (r->origin == ROOT_UPLOADED ? account->csr_queue : a->of_line);
    int rc = renews ? judge_late(tx, a, account, r, l, device_row, barred, err) : 0;
    a->may_renew = renews && !rc && (!a->verdict.code || a->may_renew);
    if (a->may_renew && !a->verdict.code)
        a->renewable_until = ended_at(a, r) + account->late_renewal;
    return rc || (a->over && a->verdict.code) ? rc : admit_refuse(a, why->code, "%s", err_text(why));
}

int admit_note_line(struct store_tx *tx, struct admit *a, int64_t account, struct line *out, struct err *err) {
    int found = line_of(tx, a, account, out, err);
    a->of_line = found > 0;
    snprintf(a->line, sizeof a->line, "%s", found > 0 ? out->name : "");
    return found;
}

static int known_key(struct store_tx *tx, struct admit *a, int64_t account_row, int64_t device_row, bool barred, struct err *err) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(512);
    struct account account;
    struct root r = {.row = 0};
    struct device d;
    struct line line = {.row = 0};
    bool ok;
    int rc = admit_account(tx, a, account_row, &account, &ok, err);
    if (rc || !ok || (rc = admit_note_line(tx, a, account_row, &line, err)) < 0)
        return rc;
    int found = admit_root(tx, a, account_row, &r, err);
    if (found <= 0)
        return found < 0 ? found : admit_refuse(a, MUSTER_ECERTUNTRUSTED, "The device belongs to the account %s, which does not have the fleet root of its certificate.", account.name);
    admit_root_rules(a, &r);
    if (!admit_root_usable(a, &r))
        return 0;
    if (over(a, &r))
        return renew_only(tx, a, &account, &r, &line, device_row, barred, err);
    if ((rc = admit_check_lists(tx, a, &r, &ok, err)) || !ok)
        return rc;
    if (!admit_has_method(&account, &r))
        return admit_refuse(a, MUSTER_EMETHODOFF, NULL);
    if (r.origin == ROOT_MUSTER && !a->of_line) /* the line that the device came by is another account's */
        return admit_refuse(a, MUSTER_ECERTUNKNOWN, NULL);
    if ((rc = need_device(tx, device_row, &d, err)))
        return rc;
    admit_found(a, &d);
    if (admit_state(a, &account, &d), a->verdict.code && a->verdict.code != MUSTER_EPENDING && a->verdict.code != MUSTER_EUNEXPECTED)
        return 0;
    a->verdict = ERR_INIT;
    if ((rc = admit_check_line_revoked(tx, a, account_row, &ok, err)) || !ok)
        return rc;
    const bool left = has_left_line(&r, &line, &d);
    if (barred && !left)
        return admit_refuse(a, MUSTER_EKEYBARRED, "The device has another key now.");
    if (!admit_read_id(a, &r, &id))
        return 0;
    if (strcmp(buf_str(&id), d.device_id) != 0)
        return admit_refuse(a, MUSTER_EKEYELSEWHERE, "The certificate names another device than the one that its key is registered for.");
    if (left)
        return admit_state(a, &account, &d), a->verdict.code ? 0 : superseded(tx, a, &account, &d, err);
    if (has_lost_identity(&r, &line, &d))
        return admit_refuse(a, MUSTER_ECERTREVOKED, "The device's certificate was revoked, and what its factory line has signed is over with it. An operator lets the device in again with `muster device release --for-reprovision` and `muster device invite`.");
    if (!device_identity_is_key(&d, a->leaf) && !admit_above_lasts(a, &r, false))
        return 0;
    if (!device_identity_is_key(&d, a->leaf)) /* a key that Muster made for the device, under a root that Muster did not */
        return admit_other_key(tx, a, &account, &r, &d, err);
    if ((rc = admit_promote(tx, a, &account, &d, err)) || a->must_write || a->verdict.code || (admit_state(a, &account, &d), a->verdict.code))
        return rc;
    return newer_certificate(tx, a, &account, &r, &d, err);
}

int admit_announced(struct store_tx *tx, const struct admit *a, const struct account *account, const char *id, bool *with_key, struct err *err) {
    struct store_row *row;
    *with_key = false;
    int found = first_row(tx, &row, err, SQL_EXPECTED_GET, "is", account->row, id);
    if (found <= 0)
        return found;
    bool any = store_is_null(row, 0), same = !any && span_eq(store_blob(row, 0), hash_span(&a->leaf->key.spki));
    store_row_end(row);
    *with_key = same;
    return any || same ? 1 : 2;
}

/* --- another key for a known ID ------------------------------------------------------------------------------------------------------- */

static int record_offer(struct store_tx *tx, struct admit *a, const struct account *account, const struct root *r, const struct device *d, struct err *err) {
    struct store_row *row;
    int64_t now = clock_now(), seen = -1, many;
    int found = first_row(tx, &row, err, SQL_OFFER_SEEN_AT, "ib", d->row, hash_span(&a->leaf->key.spki));
    if (found < 0)
        return found;
    if (found) {
        seen = store_int(row, 0);
        store_row_end(row);
    }
    admit_refuse(a, MUSTER_EKEYMISMATCH, NULL);
    if (seen >= 0 && within(seen, OFFER_FRESH, now))
        return 0;
    int rc = one_int(tx, &many, 0, err, SQL_OFFER_COUNT, "i", d->row);
    if (rc || (seen < 0 && many >= OFFERS_MAX)) /* bounded: somebody who makes up keys fills no disk */
        return rc;
    if (!admit_writes(tx, a)) {
        a->must_write = true;
        return 0;
    }
    if (seen >= 0)
        return store_exec(tx, NULL, err, SQL_OFFER_SEEN, "ibis", d->row, hash_span(&a->leaf->key.spki), now, a->address);
    rc = store_exec(tx, NULL, err, SQL_OFFER_ADD, "ibiis", d->row, hash_span(&a->leaf->key.spki), r->row, now, a->address);
    if (!rc)
        rc = admit_announce(tx, a, account, d, EVENT_DEVICE_KEY_OFFERED, err);
    return rc ? rc : admit_audit_device(tx, a, account, "device.key_offered", d->device_id, r, 0, err);
}

static int switch_key(struct store_tx *tx, struct admit *a, const struct account *account, const struct root *r, const struct device *d, struct err *err) {
    if (!admit_writes(tx, a)) {
        a->must_write = true;
        return 0;
    }
    struct device_identity to = {.leaf = a->leaf, .root = r->row, .address = a->address};
    int rc = device_chain_keep(tx, a, r, &to.chain, err);
    if (!rc)
        rc = device_identity_take(tx, d, &to, err);
    if (!rc)
        rc = store_exec(tx, NULL, err, SQL_OFFER_DROP, "ib", d->row, hash_span(&a->leaf->key.spki));
    if (!rc)
        rc = admit_announce(tx, a, account, d, EVENT_DEVICE_KEY_CHANGED, err);
    return rc ? rc : admit_audit_device(tx, a, account, "device.key_changed", d->device_id, r, 0, err);
}

int admit_other_key(struct store_tx *tx, struct admit *a, const struct account *account, const struct root *r, const struct device *d, struct err *err) {
    int64_t accepted;
    bool with_key, may;
    admit_found(a, d);
    if (admit_state(a, account, d), a->verdict.code && d->state != DEVICE_PENDING)
        return 0;
    a->verdict = ERR_INIT;
    int rc = one_int(tx, &accepted, 0, err, SQL_OFFER_GET, "ib", d->row, hash_span(&a->leaf->key.spki));
    if (rc)
        return rc;
    int expected = r->key_rule == KEY_RULE_ANNOUNCED ? admit_announced(tx, a, account, d->device_id, &with_key, err) : 0;
    if (expected < 0)
        return expected;
    bool take = (r->key_rule == KEY_RULE_ASK && accepted > 0) || (expected == 1 && with_key);
    if (!take)
        return record_offer(tx, a, account, r, d, err);
    if ((rc = admit_may_change(tx, a, &may, err)) || !may)
        return rc;
    rc = switch_key(tx, a, account, r, d, err);
    return rc || a->must_write ? rc : admit_state(a, account, d);
}

int admit_uploaded(struct store_tx *tx, struct admit *a, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_DKEY_HELD, "b", hash_span(&a->leaf->key.spki));
    if (found < 0)
        return found;
    if (!found)
        return a->over ? admit_refuse(a, a->over->code, "%s", err_text(a->over)) : admit_first_contact(tx, a, err);
    int64_t account = store_int(row, 0), device = store_int(row, 1);
    bool barred = store_int(row, 2) != 0;
    store_row_end(row);
    return known_key(tx, a, account, device, barred, err);
}
