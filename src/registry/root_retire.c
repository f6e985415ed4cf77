/* root_retire: which root may be rotated, who depends on a fleet root, and taking it out of use; see root.h. */
#include "base/clock.h"
#include "registry/audit.h"
#include "registry/dependents.h"
#include "registry/event.h"
#include "registry/root.h"
#include "registry/root_json.h"

/* The devices that were seen last, by name. */
static int name_dependents(struct store_tx *tx, const struct root *r, int64_t hour, json_t *list, struct err *err) {
    struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_ANCHOR_SEEN_PAGE, "iii", r->row, hour, I(ROOT_NAMED_MAX));
    return dependents_take(row, rc, list, err);
}

int root_seen_json(struct store_tx *tx, const struct root *r, json_t *out, struct err *err) {
    static const int64_t days[] = {7, 30, 90, 365};
    json_t *seen = json_object(), *named = json_array();
    int64_t n;
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof days / sizeof *days; i++) {
        char name[16];
        snprintf(name, sizeof name, "%dd", (int)days[i]);
        if (!(rc = one_int(tx, &n, 0, err, SQL_ANCHOR_SEEN, "ii", r->row, dependents_hour(days[i]))))
            json_set_int(seen, name, n);
    }
    if (!rc && !(rc = one_int(tx, &n, 0, err, SQL_ANCHOR_DEVICES, "i", r->row)))
        json_set_int(seen, "ever", n);
    if (!rc)
        rc = name_dependents(tx, r, 0, named, err);
    json_set(out, "seen", seen);
    json_set(out, "newest", named);
    return rc;
}

static int refuse_seen(struct store_tx *tx, struct root_retire *t, const struct root *r, struct err *err) {
    CLEANUP_JSON json_t *named = json_array();
    CLEANUP(buf_fini) struct buf text = BUF_INIT(2048);
    int rc = one_int(tx, &t->devices, 0, err, SQL_ANCHOR_SEEN, "ii", r->row, t->hour);
    if (rc || !t->devices || (rc = name_dependents(tx, r, t->hour, named, err)))
        return rc;
    dependents_name(&text, named, t->devices);
    return err_set(err, MUSTER_EROOTINUSE, "%lld device%s seen in the last %lld days depend%s on the fleet root: %s.", (long long)t->devices, t->devices == 1 ? "" : "s", (long long)t->days,
                   t->devices == 1 ? "s" : "", buf_str(&text));
}

/* The ends behind which a certificate under the root is of no use any more: of one that does not renew, and of one that does, or may while its request waits
 * for the customer's CA (csr_queue).  Under a root that has ended itself only renewing is left, and that as long as behind a certificate's own end. */
static void useless_until(const struct account *a, const struct root *r, int64_t now, int64_t *plain, int64_t *renews) {
    const int64_t late = now - a->late_renewal;
    const bool ended = r->not_after <= now && r->expired != EXPIRED_KNOWN;
    *renews = ended && r->not_after <= late ? INT64_MAX : late;
    *plain = r->origin == ROOT_UPLOADED && a->csr_queue ? *renews : ended ? INT64_MAX : now;
}

/* The newest issuing CA under it: what a later one has signed, and waits for its first use, stands under another root.  0: it has none. */
static int newest_issuing(struct store_tx *tx, const struct root *r, int64_t *out, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    CLEANUP(cert_free) struct cert *root = NULL;
    *out = 0;
    if (r->origin != ROOT_MUSTER)
        return 0;
    int rc = root_cert(tx, r, &root, err);
    if (rc || (rc = store_query(tx, &row, err, SQL_CRL_ISSUING, "i", r->account)))
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *ca = NULL;
        if (store_int(row, 0) > *out && cert_from_der(store_blob(row, 1), &ca, NULL) == 0 && cert_signed_by(ca, root))
            *out = store_int(row, 0);
    }
    return rc;
}

/* Who sleeps longer than the days that were said and has a certificate that is good still is cut off for good: that wants the number of them. */
static int confirm_asleep(struct store_tx *tx, struct root_retire *t, const struct account *a, const struct root *r, struct err *err) {
    CLEANUP_JSON json_t *named = json_array();
    CLEANUP(buf_fini) struct buf text = BUF_INIT(2048);
    struct store_row *row = NULL;
    int64_t plain, renews, issuing;
    useless_until(a, r, clock_now(), &plain, &renews);
    int rc = newest_issuing(tx, r, &issuing, err);
    if (rc || (rc = one_int(tx, &t->devices, 0, err, SQL_ANCHOR_ASLEEP, "iiiii", r->row, t->hour, plain, renews, issuing)) || !t->devices || t->confirm == t->devices)
        return rc;
    rc = store_query(tx, &row, err, SQL_ANCHOR_ASLEEP_PAGE, "iiiiii", r->row, t->hour, plain, renews, issuing, I(ROOT_NAMED_MAX));
    if ((rc = dependents_take(row, rc, named, err)))
        return rc;
    dependents_name(&text, named, t->devices);
    return err_set(err, MUSTER_ECONFIRM, "To retire the fleet root cuts off %lld device%s for good, not seen in the last %lld days, whose certificate%s good still: %s.", (long long)t->devices,
                   t->devices == 1 ? "" : "s", (long long)t->days, t->devices == 1 ? " is" : "s are", buf_str(&text));
}

/* What issues, or lets new devices in, is not taken out of use: the next one comes first. */
static int check_state(const struct account *a, const struct root *r, struct err *err) {
    if (r->state == ROOT_RETIRED || r->state == ROOT_REVOKED || r->state == ROOT_UNPROVED)
        return err_set(err, MUSTER_ESTATE, "The fleet root is %s and cannot be retired.", word_of(&WORDS_ROOT_STATE, r->state));
    if (r->origin == ROOT_MUSTER && r->row == a->own_root)
        return err_set(err, MUSTER_ESTATE, "Certificates are issued under this fleet root; `muster root rotate` makes the next one.");
    return 0;
}

int root_rotate_look_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_rotate_look *l = arg;
    struct account a;
    struct root r;
    int rc = clock_check(tx, clock_now(), err);
    if (rc || (rc = account_need(tx, l->account, &a, err)) || (rc = root_need(tx, &a, l->root, &r, err)))
        return rc;
    if (r.origin != ROOT_MUSTER)
        return err_set(err, MUSTER_ESTATE, "Muster does not have the key of this fleet root: upload and prove the next one, and retire this one when its devices have moved.");
    if (r.row != a.own_root)
        return err_set(err, MUSTER_ESTATE, "The account issues under another fleet root already; this one is %s.", word_of(&WORDS_ROOT_STATE, r.state));
    l->spki = r.spki;
    return 0;
}

int root_retire_look_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_retire *t = arg;
    struct account a;
    struct root r;
    t->hour = dependents_hour(t->days);
    int rc = account_need(tx, t->account, &a, err);
    if (rc || (rc = root_need(tx, &a, t->root, &r, err)) || (rc = check_state(&a, &r, err)) || (rc = refuse_seen(tx, t, &r, err)) || (rc = confirm_asleep(tx, t, &a, &r, err)))
        return rc;
    t->asleep = t->devices;
    t->looked = true;
    return 0;
}

int root_retire_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_retire *t = arg;
    struct account a;
    struct root r;
    if (!t->looked)
        return MUSTER_EINTERNAL;
    int rc = account_need(tx, t->account, &a, err);
    if (rc || (rc = root_need(tx, &a, t->root, &r, err)) || (rc = check_state(&a, &r, err)) || (rc = refuse_seen(tx, t, &r, err)) ||
        (rc = store_exec(tx, NULL, err, SQL_ROOT_STATE, "ii", r.row, I(ROOT_RETIRED))) || (rc = epoch_raise(tx, err)))
        return rc;
    json_t *detail = json_object(), *more = json_object();
    char id[UUID_TEXT_LEN + 1];
    uuid_text(&r.uuid, id);
    json_set_int(detail, "days", t->days);
    json_set_int(detail, "devices", t->asleep);
    json_set_str(more, "before", word_of(&WORDS_ROOT_STATE, r.state));
    if ((rc = audit_add(tx, a.row, &t->actor, "root.retire", span_str(id), detail, err))) {
        json_decref(more);
        return rc;
    }
    int found = root_find_row(tx, r.row, &r, err);
    if (found <= 0 || (rc = event_root(tx, &a, &r, r.state, EVENT_ROOT_STATE, more, err))) {
        if (found <= 0)
            json_decref(more);
        return found < 0 ? found : rc ? rc : MUSTER_ECORRUPT;
    }
    return root_json(tx, &a, &r, &t->out, err);
}
