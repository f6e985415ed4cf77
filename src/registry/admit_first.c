/* admit_first: a device under a fleet root of a customer's, or of a factory line under whichever root, whose key nobody has shown before: to which account it comes, and
 * whether it is registered; see admit.h. */
#include "base/unseen.h"
#include "registry/admit_part.h"
#include "registry/device_chain.h"
#include "registry/device_identity.h"
#include "registry/event.h"
#include "registry/line.h"
#include "registry/line_revoke.h"

/* --- which account -------------------------------------------------------------------------------------------------------------------- */

static bool counts_as_proved(const struct root *r) { return r->state == ROOT_ACTIVE || r->state == ROOT_KNOWN_ONLY || r->state == ROOT_DISABLED; }

struct choice {
    struct account account;
    bool have, proved, ambiguous, elsewhere, method_off;
};

/* One more account that has one of the anchors. */
static int consider(struct store_tx *tx, struct admit *a, const struct root *r, struct choice *c, struct err *err) {
    struct account one;
    struct line line;
    int found = admit_account_row(tx, a, r->account, &one, err);
    if (found < 0)
        return found;
    if (!found || one.state != ACCOUNT_ACTIVE)
        return 0;
    if (r->origin != ROOT_UPLOADED && (found = line_of(tx, a, r->account, &line, err)) <= 0)
        return found;
    bool here = !*a->account || strcmp(a->account, one.name) == 0;
    if (!admit_has_method(&one, r)) {
        c->method_off = c->method_off || (here && counts_as_proved(r));
        return 0;
    }
    if (!here) {
        c->elsewhere = true;
        return 0;
    }
    bool same = c->have && c->account.row == one.row, proved = counts_as_proved(r);
    if (proved && c->proved && !same)
        c->ambiguous = true;
    if (!c->have || (proved && !c->proved))
        c->account = one;
    c->have = true;
    c->proved = c->proved || proved;
    return 0;
}

/* Which account: the one that SNI names, or the only one in which an anchor of the chain is proved.  1 found, 0 refused. */
static int choose_account(struct store_tx *tx, struct admit *a, struct account *account, struct root *root, struct err *err) {
    struct choice c = {0};
    for (size_t i = 0; i < a->n_anchors; i++) {
        CLEANUP(store_row_end) struct store_row *row = NULL;
        int rc = store_query(tx, &row, err, SQL_ROOT_PRINT_ANY, "b", hash_span(&a->anchors[i]));
        if (rc)
            return rc;
        while ((rc = store_next(row, err)) > 0) {
            struct root r;
            if ((rc = row_root(row, &r, err)) || (rc = consider(tx, a, &r, &c, err)))
                return rc;
        }
        if (rc < 0)
            return rc;
    }
    if (!c.have)
        return admit_refuse(a, c.method_off ? MUSTER_EMETHODOFF : c.elsewhere ? MUSTER_EOTHERACCOUNT : MUSTER_ECERTUNTRUSTED, NULL);
    if (c.ambiguous)
        return admit_refuse(a, MUSTER_EACCOUNTAMBIGUOUS, NULL);
    *account = c.account;
    snprintf(a->account_name, sizeof a->account_name, "%s", account->name);
    a->account_row = account->row;
    int found = admit_root(tx, a, account->row, root, err);
    if (found > 0)
        admit_root_rules(a, root);
    return found ? found : admit_refuse(a, MUSTER_ECERTUNTRUSTED, NULL);
}

/* --- first contact ------------------------------------------------------------------------------------------------------------------- */

static int read_device(struct store_tx *tx, const struct account *account, const char *id, struct device *out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_DEVICE_BY_ID, "is", account->row, id);
    if (found <= 0)
        return found;
    int rc = row_device(row, out, err);
    store_row_end(row);
    return rc ? rc : 1;
}

/* What the line's bounds say of it; *objection NULL: nothing.  *full: it is not even registered, for so many are held already. */
static int judge_line(struct store_tx *tx, struct admit *a, const struct account *account, const char *id, struct line *line, const char **objection, bool *full, struct err *err) {
    int found = admit_note_line(tx, a, account->row, line, err);
    *objection = found > 0 ? line_objection(line, span_str(id), a->leaf, clock_now()) : NULL;
    a->outside = *objection;
    *full = *objection && line->held >= line->max_devices + LINE_HELD_MORE;
    return found < 0 ? found : 0;
}

static int refuse_line(struct admit *a) { return admit_refuse(a, MUSTER_ELINEREVOKED, "The factory line %s, which made the certificate, was revoked.", a->line); }

static int register_device(struct store_tx *tx, struct admit *a, const struct account *account, const struct root *r, const char *id, struct err *err) {
    struct device d;
    struct line line;
    const char *objection;
    bool with_key, may, full;
    bool ok;
    struct err unseen = ERR_INIT;
    if (unseen_refuse(span_str(id), "The device ID in the certificate", MUSTER_EIDUNDECODABLE, &unseen))
        return admit_refuse(a, unseen.code, "%s", err_text(&unseen));
    int rc = judge_line(tx, a, account, id, &line, &objection, &full, err);
    if (rc || (rc = admit_check_line_revoked(tx, a, account->row, &ok, err)) || !ok)
        return rc;
    if (a->of_line && line.state == LINE_REVOKED)
        return refuse_line(a);
    /* A root that was followed by another one is that; what a line under it has built comes later, and the line's own bounds are the gate. */
    if (r->state == ROOT_KNOWN_ONLY && !(r->origin == ROOT_MUSTER && a->of_line))
        return admit_refuse(a, MUSTER_EROOTKNOWNONLY, NULL);
    if (full)
        return admit_refuse(a, MUSTER_EPENDING, "The device is outside the bounds of its factory line, and so many are that no more are written down: %s.", objection);
    rc = admit_may_change(tx, a, &may, err);
    if (rc || !may) /* who was shut out since the backup is a stranger here, and must not come in as one */
        return rc;
    int expected = admit_announced(tx, a, account, id, &with_key, err);
    if (expected < 0)
        return expected;
    if (expected == 2)
        return admit_refuse(a, MUSTER_EKEYMISMATCH, "The device was announced with another key.");
    const bool wait = account->approval || (account->expected_only && !expected) || objection;
    if (a->tried && wait)
        return admit_refuse(a, account->expected_only && !account->approval && !expected ? MUSTER_EUNEXPECTED : MUSTER_EPENDING, NULL);
    if (!admit_writes(tx, a)) {
        a->must_write = true;
        return 0;
    }
    int64_t now = clock_now();
    struct uuid uuid = uuid_new();
    rc = store_exec(tx, NULL, err, SQL_DEVICE_ADD, "uisiiniiisisniniiii", &uuid, account->row, id, I(wait ? DEVICE_PENDING : DEVICE_ACTIVE), I(METHOD_DEVICE), r->row, now, now, a->address,
                        I(expected), "", I(0), I(0), I(0), I(0), r->row);
    if (rc)
        return rc;
    int found = read_device(tx, account, id, &d, err);
    if (found <= 0)
        return found < 0 ? found : MUSTER_ECORRUPT;
    if (a->of_line && ((rc = line_spend(tx, &line, objection != NULL, err)) || (rc = store_exec(tx, NULL, err, SQL_DEVICE_LINE, "iisb", d.row, line.row, objection ? objection : "", hash_span(&a->leaf->key.spki)))))
        return rc;
    if (a->of_line) { /* as the row has it now */
        d.line = line.row;
        d.has_line_key = true;
        d.line_key = a->leaf->key.spki;
        if ((rc = line_certificate_shown(tx, &d, a->leaf, err)))
            return rc;
        snprintf(d.reason, sizeof d.reason, "%s", objection ? objection : "");
    }
    struct device_identity to = {.leaf = a->leaf, .root = r->row, .address = a->address};
    if ((rc = device_chain_keep(tx, a, r, &to.chain, err)) || (rc = device_identity_take(tx, &d, &to, err)) || (rc = admit_audit_device(tx, a, account, "device.first_contact", id, r, d.state, err)) ||
        (rc = admit_announce(tx, a, account, &d, wait ? EVENT_DEVICE_PENDING : EVENT_DEVICE_REGISTERED, err)))
        return rc;
    a->registered = true;
    admit_found(a, &d);
    return admit_state(a, account, &d);
}

int admit_first_contact(struct store_tx *tx, struct admit *a, struct err *err) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(512);
    struct account account;
    struct root r = {.row = 0};
    struct device d;
    struct store_row *row;
    bool ok;
    int found = choose_account(tx, a, &account, &r, err);
    if (found <= 0)
        return found;
    if (!admit_root_usable(a, &r) || !admit_above_lasts(a, &r, false))
        return 0;
    int rc = admit_check_lists(tx, a, &r, &ok, err);
    if (rc || !ok || !admit_read_id(a, &r, &id))
        return rc;
    found = first_row(tx, &row, err, SQL_DKEY_GET, "ib", account.row, hash_span(&a->leaf->key.spki));
    if (found < 0)
        return found;
    if (found) { /* not held, so it was barred when its device's tombstone was lifted */
        store_row_end(row);
        return admit_refuse(a, MUSTER_EKEYBARRED, NULL);
    }
    found = read_device(tx, &account, buf_str(&id), &d, err);
    if (found < 0)
        return found;
    struct line line = {.row = 0};
    if (found && (rc = admit_note_line(tx, a, account.row, &line, err)) < 0)
        return rc;
    if (found && line.state == LINE_REVOKED) /* it offers no keys for devices that are known either, whatever the root's rule is */
        return refuse_line(a);
    return found ? admit_other_key(tx, a, &account, &r, &d, err) : register_device(tx, a, &account, &r, buf_str(&id), err);
}
