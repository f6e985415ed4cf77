/* root_retire: which root may be rotated, who depends on a fleet root, and taking it out of use; see root.h. */
#include "base/clock.h"
#include "registry/audit.h"
#include "registry/dependents.h"
#include "registry/event.h"
#include "registry/root.h"
#include "registry/root_json.h"
#include "registry/root_reach.h"

/* Devices that its open factory lines may have made and that have not come: they are no rows, and their certificates are good. */
static int lines_to_come(struct store_tx *tx, const struct root *r, int64_t *n, struct err *err) {
    return one_int(tx, n, 0, err, SQL_LINE_TO_COME, "iii", r->account, r->row, clock_now());
}

int root_seen_json(struct store_tx *tx, const struct root *r, json_t *out, struct err *err) {
    static const int64_t days[] = {7, 30, 90, 365};
    CLEANUP(root_reach_fini) struct root_reach reach = {0};
    json_t *seen = json_object(), *named = json_array();
    int64_t n, held;
    int rc = root_reach_find(tx, r, true, &reach, err);
    for (size_t i = 0; !rc && i < sizeof days / sizeof *days; i++) {
        char name[16];
        snprintf(name, sizeof name, "%dd", (int)days[i]);
        if (!(rc = root_reach_seen(tx, &reach, dependents_hour(days[i]), &n, err)))
            json_set_int(seen, name, n);
    }
    if (!rc && !(rc = root_reach_count(tx, &reach, &n, &held, err))) {
        json_set_int(seen, "ever", n);
        json_set_int(out, "held", held);
    }
    if (!rc && !(rc = lines_to_come(tx, r, &n, err)))
        json_set_int(out, "to_come", n);
    if (!rc)
        rc = root_reach_seen_names(tx, &reach, 0, ROOT_NAMED_MAX, named, err);
    json_set(out, "seen", seen);
    json_set(out, "newest", named);
    return rc;
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

/* Which command lists devices under the root, of whom a sentence names the first ones. */
static void name_list(const struct root *r, const char *option, int64_t days, int64_t n, char out[160]) {
    char id[UUID_TEXT_LEN + 1];
    uuid_text(&r->uuid, id);
    out[0] = '\0';
    if (n > DEPENDENTS_NAMED)
        snprintf(out, 160, " (`muster device list --root %s --%s %lldd` lists those under it)", id, option, (long long)days);
}

/* Who was seen, is let in, and has a certificate that is good still, is waited for. */
static int refuse_seen(struct store_tx *tx, struct root_retire *t, const struct account *a, const struct root *r, const struct root_reach *reach, struct root_asleep *good, struct err *err) {
    CLEANUP_JSON json_t *named = json_array();
    CLEANUP(buf_fini) struct buf text = BUF_INIT(2048);
    good->hour = t->hour;
    useless_until(a, r, clock_now(), &good->plain, &good->renews);
    int rc = newest_issuing(tx, r, &good->issuing, err);
    if (rc || (rc = root_reach_in_use(tx, reach, good, &t->devices, err)) || !t->devices || (rc = root_reach_in_use_names(tx, reach, good, ROOT_NAMED_MAX, named, err)))
        return rc;
    char list[160];
    name_list(r, "seen-since", t->days, t->devices, list);
    dependents_name(&text, named, t->devices);
    return err_set(err, MUSTER_EROOTINUSE, "%lld device%s seen in the last %lld days depend%s on the fleet root%s: %s.", (long long)t->devices, t->devices == 1 ? "" : "s", (long long)t->days,
                   t->devices == 1 ? "s" : "", list, buf_str(&text));
}

static int refuse_asleep(const struct root_retire *t, const struct root *r, int64_t asleep, int64_t held, const char *names, struct err *err) {
    const int64_t come = t->devices - asleep, sleep = asleep - held;
    char lines[120] = "", sleepers[120] = "", apart[120] = "", list[160];
    name_list(r, "not-seen-since", t->days, sleep, list);
    if (come)
        snprintf(lines, sizeof lines, "as many as %lld device%s that its open factory lines may have made and that have not come yet", (long long)come, come == 1 ? "" : "s");
    if (sleep)
        snprintf(sleepers, sizeof sleepers, "%lld not seen in the last %lld days", (long long)sleep, (long long)t->days);
    if (held)
        snprintf(apart, sizeof apart, "%lld held apart (quarantined, or waiting for an operator)", (long long)held);
    if (!asleep)
        return err_set(err, MUSTER_ECONFIRM, "To retire the fleet root cuts off %s.", lines);
    return err_set(err, MUSTER_ECONFIRM, "To retire the fleet root cuts off %lld device%s for good, whose certificate%s good still, %s%s%s%s: %s%s%s.", (long long)asleep, asleep == 1 ? "" : "s",
                   asleep == 1 ? " is" : "s are", sleepers, list, sleep && held ? " and " : "", apart, names, come ? "; and " : "", lines);
}

/* Who sleeps longer than the days that were said and has a certificate that is good still is cut off for good, and so are those that are held apart, should they be let in again, and
 * what its lines have built: that wants the number of them. */
static int confirm_asleep(struct store_tx *tx, struct root_retire *t, const struct root *r, const struct root_reach *reach, const struct root_asleep *good, struct err *err) {
    CLEANUP_JSON json_t *named = json_array();
    CLEANUP(buf_fini) struct buf text = BUF_INIT(2048);
    int64_t n, held, come;
    int rc = root_reach_asleep(tx, reach, good, &n, &held, err);
    if (rc || (rc = lines_to_come(tx, r, &come, err)))
        return rc;
    t->devices = n + come;
    if (!t->devices || t->confirm == t->devices || (rc = root_reach_asleep_names(tx, reach, good, ROOT_NAMED_MAX, named, err)))
        return rc;
    dependents_name(&text, named, n);
    return refuse_asleep(t, r, n, held, buf_str(&text), err);
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
    CLEANUP(root_reach_fini) struct root_reach reach = {0};
    struct root_asleep good = {.hour = 0};
    t->hour = dependents_hour(t->days);
    int rc = account_need(tx, t->account, &a, err);
    if (rc || (rc = root_need(tx, &a, t->root, &r, err)) || (rc = check_state(&a, &r, err)) || (rc = root_reach_find(tx, &r, true, &reach, err)) || (rc = refuse_seen(tx, t, &a, &r, &reach, &good, err)) ||
        (rc = confirm_asleep(tx, t, &r, &reach, &good, err)))
        return rc;
    t->asleep = t->devices;
    t->looked = true;
    return 0;
}

int root_retire_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_retire *t = arg;
    struct account a;
    struct root r;
    CLEANUP(root_reach_fini) struct root_reach reach = {0};
    struct root_asleep good = {.hour = 0};
    if (!t->looked)
        return MUSTER_EINTERNAL;
    int rc = account_need(tx, t->account, &a, err);
    if (rc || (rc = root_need(tx, &a, t->root, &r, err)) || (rc = check_state(&a, &r, err)) || (rc = root_reach_find(tx, &r, true, &reach, err)) || (rc = refuse_seen(tx, t, &a, &r, &reach, &good, err)) ||
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
