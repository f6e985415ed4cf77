/* recovery_crl: see recovery_crl.h. */
#include "registry/recovery_crl.h"

#include "registry/audit.h"
#include "registry/certificate.h"
#include "registry/device.h"
#include "registry/root.h"
#include "registry/row.h"

#define STEP 200

_Static_assert(REVOCATION_FILE_LISTS <= 64, "a bit a list");

/* One CA's certificate against every list: bits of those that are its, and *named of those that say so, also. */
static uint64_t lists_of(const struct recovery_crl *c, struct span der, uint64_t *named) {
    CLEANUP(cert_free) struct cert *ca = NULL;
    uint8_t own[CRL_KEY_ID_LEN], says[CRL_KEY_ID_LEN];
    uint64_t bits = 0;
    if (cert_from_der(der, &ca, NULL))
        return 0;
    const bool has_id = crl_key_id(ca, own);
    for (size_t i = 0; i < revocation_file_lists(c->file); i++) {
        if (revocation_file_is_of(c->file, i, ca))
            bits |= 1ULL << i;
        if (!revocation_file_key_id(c->file, i, says) || (has_id && memcmp(own, says, sizeof own) == 0))
            *named |= 1ULL << i;
    }
    return bits;
}

/* What is said of a list that is of no CA of the account: of which, where there are several. */
static int refuse_list(const struct recovery_crl *c, uint64_t left, struct err *err) {
    if (!c->done.taken)
        return err_set(err, MUSTER_EINVALID, "The revocation list is signed by no issuing CA of the account.");
    return err_set(err, MUSTER_EINVALID, "List %d of the file is signed by no issuing CA of the account, and does not say either that it is another CA's.", __builtin_ctzll(left) + 1);
}

static int find_issuers(struct store_tx *tx, struct recovery_crl *c, int64_t account, struct err *err) {
    CLEANUP(store_row_end) struct store_row *ca = NULL;
    CLEANUP(store_row_end) struct store_row *root = NULL;
    uint64_t passed = 0, named = 0, all = revocation_file_lists(c->file) == 64 ? UINT64_MAX : (1ULL << revocation_file_lists(c->file)) - 1;
    int rc = store_query(tx, &ca, err, SQL_STATE_CAS, "i", account);
    while (!rc && (rc = store_next(ca, err)) > 0) {
        rc = 0;
        if (store_int(ca, 0) == CA_ISSUING)
            c->done.taken |= lists_of(c, store_blob(ca, 2), &named);
    }
    if (!rc)
        rc = store_query(tx, &root, err, SQL_ROOT_PAGE, "iii", account, I(0), I(ROOTS_MAX));
    while (!rc && (rc = store_next(root, err)) > 0) {
        rc = 0;
        if (store_int(root, 3) == ROOT_MUSTER)
            passed |= lists_of(c, store_blob(root, 8), &named);
    }
    if (rc)
        return rc;
    const uint64_t others = all & ~(c->done.taken | passed);
    c->done.unknown = __builtin_popcountll(others & ~named);
    return !c->done.taken || (others & named) ? refuse_list(c, others & named, err) : 0;
}

/* A list that cannot be read to its end is not begun. */
static int look_at_all(struct recovery_crl *c, struct err *err) {
    int rc = 0;
    for (size_t i = 0; !rc && i < revocation_file_lists(c->file); i++)
        for (size_t k = 0; !rc && c->done.taken & 1ULL << i && k < revocation_file_entries(c->file, i); k++) {
            struct revocation_file_entry e;
            rc = revocation_file_entry_at(c->file, i, k, &e, err);
            c->done.entries++;
        }
    return rc;
}

static enum revoke_reason reason_of(int listed) {
    switch (listed) {
    case REASON_KEY_COMPROMISE:
    case REASON_AFFILIATION:
    case REASON_SUPERSEDED:
    case REASON_CESSATION:
    case REASON_PRIVILEGE:
        return (enum revoke_reason)listed;
    }
    return REASON_UNSPECIFIED;
}

/* The device of a certificate that is on hold. */
static int quarantine(struct store_tx *tx, struct recovery_crl *c, const struct account *account, int64_t device, struct err *err) {
    struct device d;
    int found = device ? device_find_row(tx, device, &d, err) : 0;
    if (found < 0)
        return found;
    if (!found || d.state != DEVICE_ACTIVE) {
        c->done.known++;
        return 0;
    }
    c->done.quarantined++;
    return device_cut_off(tx, account, &d, DEVICE_QUARANTINED, &c->actor, "on hold in the last revocation list", err);
}

/* Nothing that is held is admitted any more. */
static int note(struct store_tx *tx, struct recovery_crl *c, const struct account *account, const struct revocation_file_entry *e, struct err *err) {
    const char *code = err_code(e->reason == REVOCATION_FILE_HOLD ? MUSTER_EQUARANTINED : MUSTER_ECERTREVOKED);
    c->done.noted++;
    int rc = store_exec(tx, NULL, err, SQL_LISTED_ADD, "ibs", account->row, e->serial, code);
    return rc ? rc : store_exec(tx, NULL, err, SQL_HELD_LISTED, "bis", e->serial, account->row, code);
}

static int take(struct store_tx *tx, struct recovery_crl *c, const struct account *account, const struct revocation_file_entry *e, struct err *err) {
    struct store_row *row;
    bool revoked = false;
    if (e->reason == REVOCATION_FILE_REMOVED)
        return 0;
    int found = first_row(tx, &row, err, SQL_CERT_BY_SERIAL, "b", e->serial);
    if (found < 0)
        return found;
    if (!found)
        return note(tx, c, account, e, err);
    int64_t of = store_int(row, 2), device = store_int(row, 3);
    store_row_end(row);
    if (of != account->row) {
        c->done.known++;
        return 0;
    }
    if (e->reason == REVOCATION_FILE_HOLD)
        return quarantine(tx, c, account, device, err);
    int rc = certificate_revoke_listed(tx, account, &c->actor, e->serial, reason_of(e->reason), &revoked, err);
    if (revoked)
        c->done.revoked++;
    else
        c->done.known++;
    return rc;
}

static int finish(struct store_tx *tx, struct recovery_crl *c, const struct account *account, struct err *err) {
    json_t *o = json_object(), *detail = json_object();
    json_set_int(detail, "entries", c->done.entries);
    json_set_int(detail, "revoked", c->done.revoked);
    json_set_int(detail, "quarantined", c->done.quarantined);
    json_set_int(detail, "known", c->done.known);
    json_set_int(detail, "noted", c->done.noted);
    json_set_int(detail, "unknown", c->done.unknown);
    json_set_str(o, "id", account->name);
    json_object_update(o, detail);
    json_decref(c->out);
    c->out = o;
    return audit_add(tx, account->row, &c->actor, "recovery.crl", SPAN_NONE, detail, err);
}

/* The next entries; c->more: there are others behind them. */
static int take_some(struct store_tx *tx, struct recovery_crl *c, const struct account *account, struct err *err) {
    struct recovery_crl_done *d = &c->done;
    int rc = 0;
    for (size_t n = 0; !rc && n < STEP && d->list < revocation_file_lists(c->file);) {
        struct revocation_file_entry e;
        if (!(d->taken & 1ULL << d->list) || d->entry == revocation_file_entries(c->file, d->list)) {
            d->list++;
            d->entry = 0;
            continue;
        }
        rc = revocation_file_entry_at(c->file, d->list, d->entry, &e, err);
        if (!rc)
            rc = take(tx, c, account, &e, err);
        d->entry++;
        n++;
    }
    c->more = d->list < revocation_file_lists(c->file);
    return rc;
}

int recovery_crl_run(struct store_tx *tx, void *arg, struct err *err) {
    struct recovery_crl *c = arg;
    struct recovery r;
    struct account account;
    int rc = recovery_get(tx, &r, err);
    if (rc || (rc = account_need(tx, c->account, &account, err)))
        return rc;
    if (!r.since)
        return err_set(err, MUSTER_ESTATE, "The server is in no recovery.");
    c->done = c->before;
    if (!c->begun && ((rc = find_issuers(tx, c, account.row, err)) || (rc = look_at_all(c, err))))
        return rc;
    if ((rc = take_some(tx, c, &account, err)) || (rc = epoch_raise(tx, err)) || c->more)
        return rc;
    return finish(tx, c, &account, err);
}

int recovery_listed(struct store_tx *tx, int64_t account, struct span serial, int *code, struct err *err) {
    struct store_row *row;
    char text[64];
    *code = 0;
    int found = first_row(tx, &row, err, SQL_LISTED_GET, "ib", account, serial);
    if (found <= 0)
        return found;
    row_text(row, 0, text, sizeof text);
    store_row_end(row);
    *code = err_from_code(text);
    if (!*code)
        *code = MUSTER_ECERTREVOKED;
    return 0;
}
