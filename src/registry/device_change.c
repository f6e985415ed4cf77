/* device_change: what operators do to devices; see device.h. */
#include "registry/audit.h"
#include "registry/device.h"
#include "registry/device_identity.h"
#include "registry/event.h"
#include "registry/key_json.h"
#include "registry/report.h"

static int wrong_state(struct err *err, const struct device *d, const char *verb) {
    return err_set(err, MUSTER_ESTATE, "The device is %s and cannot be %s.", word_of(&WORDS_DEVICE_STATE, d->state), verb);
}

static int audit_device(struct store_tx *tx, const struct account *a, const struct device *d, const struct actor *actor, const char *action, json_t *detail, struct err *err) {
    json_t *with = detail ? detail : json_object();
    json_set_uuid(with, "id", &d->uuid);
    return audit_add(tx, a->row, actor, action, span_str(d->device_id), with, err);
}

static json_t *reason_detail(const char *reason) {
    json_t *o = json_object();
    if (*reason)
        json_set_str(o, "reason", reason);
    return o;
}

/* reason NULL: none is said; refused: an operator's refusal of a device that waited. */
static int announce(struct store_tx *tx, const struct account *a, const struct device *d, enum device_state now, enum event_kind kind, const char *reason, bool refused, struct err *err) {
    json_t *more = json_object();
    if (reason)
        json_set_str(more, "reason", *reason ? reason : NULL);
    if (kind == EVENT_DEVICE_REVOKED)
        json_set_bool(more, "refused", refused);
    return event_device(tx, a, d, now, kind, more, err);
}

static int announce_released(struct store_tx *tx, const struct account *a, const struct device *d, enum device_state now, bool for_reprovision, struct err *err) {
    json_t *more = json_object();
    json_set_bool(more, "for_reprovision", for_reprovision);
    return event_device(tx, a, d, now, EVENT_DEVICE_RELEASED, more, err);
}

int device_cut_off(struct store_tx *tx, const struct account *a, const struct device *d, enum device_state to, const struct actor *actor, const char *reason, struct err *err) {
    enum device_state before = d->state == DEVICE_QUARANTINED ? d->state_before : d->state;
    int rc = store_exec(tx, NULL, err, SQL_DEVICE_STATE, "iiisi", d->row, I(to), I(before), reason, I(0));
    if (!rc && to == DEVICE_REVOKED)
        rc = device_identity_revoke(tx, d, err);
    if (!rc)
        rc = announce(tx, a, d, to, to == DEVICE_REVOKED ? EVENT_DEVICE_REVOKED : EVENT_DEVICE_QUARANTINED, reason, false, err);
    return rc ? rc : audit_device(tx, a, d, actor, to == DEVICE_REVOKED ? "device.revoke" : "device.quarantine", reason_detail(reason), err);
}

static int approve(struct store_tx *tx, const struct device_set *s, const struct account *a, const struct device *d, struct err *err) {
    int rc;
    if (d->state == DEVICE_PENDING)
        rc = store_exec(tx, NULL, err, SQL_DEVICE_STATE, "iiisi", d->row, I(DEVICE_ACTIVE), I(DEVICE_ACTIVE), "", I(0));
    else if (d->state == DEVICE_ACTIVE && (d->again == AGAIN_ASKED || d->again == AGAIN_REFUSED))
        rc = store_exec(tx, NULL, err, SQL_DEVICE_AGAIN, "ii", d->row, I(AGAIN_GRANTED));
    else
        return err_set(err, MUSTER_ESTATE, "The device waits for no decision: it is %s.", word_of(&WORDS_DEVICE_STATE, d->state));
    if (!rc && d->state == DEVICE_PENDING) {
        json_t *announced = json_object();
        json_set_bool(announced, "announced", false);
        rc = event_device(tx, a, d, DEVICE_ACTIVE, EVENT_DEVICE_APPROVED, announced, err);
    } else if (!rc) {
        rc = announce_released(tx, a, d, d->state, true, err);
    }
    return rc ? rc : audit_device(tx, a, d, &s->actor, "device.approve", NULL, err);
}

static int refuse(struct store_tx *tx, const struct device_set *s, const struct account *a, const struct device *d, struct err *err) {
    int rc;
    if (d->state == DEVICE_PENDING) {
        rc = store_exec(tx, NULL, err, SQL_DEVICE_STATE, "iiisi", d->row, I(DEVICE_REVOKED), I(DEVICE_PENDING), s->reason, I(1));
        if (!rc)
            rc = device_identity_revoke(tx, d, err);
        if (!rc)
            rc = announce(tx, a, d, DEVICE_REVOKED, EVENT_DEVICE_REVOKED, s->reason, true, err);
    } else if (d->state == DEVICE_ACTIVE && (d->again == AGAIN_ASKED || d->again == AGAIN_GRANTED)) {
        rc = store_exec(tx, NULL, err, SQL_DEVICE_AGAIN, "ii", d->row, I(AGAIN_REFUSED));
    } else {
        return err_set(err, MUSTER_ESTATE, "The device waits for no decision: it is %s.", word_of(&WORDS_DEVICE_STATE, d->state));
    }
    return rc ? rc : audit_device(tx, a, d, &s->actor, "device.refuse", reason_detail(s->reason), err);
}

/* The ID may come again.  What Muster issued to the device stays revoked for ever, and keys stay barred in the account unless the
 * operator says that they may come again too. */
static int lift_tombstone(struct store_tx *tx, const struct device_set *s, const struct account *a, const struct device *d, struct err *err) {
    int rc = device_identity_release(tx, d, s->same_key, err);
    if (!rc)
        rc = store_exec(tx, NULL, err, SQL_OFFER_DROP_ALL, "i", d->row);
    if (!rc)
        rc = store_exec(tx, NULL, err, SQL_CSR_DROP_OF, "i", d->row);
    if (!rc)
        rc = report_drop(tx, a->row, d->row, err);
    if (!rc)
        rc = store_exec(tx, NULL, err, SQL_DEVICE_DROP, "i", d->row);
    if (!rc)
        rc = announce_released(tx, a, d, DEVICE_DELETED, false, err);
    if (rc)
        return rc;
    json_t *detail = json_object();
    json_set_str(detail, "state", word_of(&WORDS_DEVICE_STATE, d->state));
    json_set_bool(detail, "same_key", s->same_key);
    return audit_device(tx, a, d, &s->actor, "device.release", detail, err);
}

static int release(struct store_tx *tx, const struct device_set *s, const struct account *a, const struct device *d, bool *gone, struct err *err) {
    int rc;
    *gone = false;
    if (s->for_reprovision) {
        if (d->state != DEVICE_ACTIVE && d->state != DEVICE_PENDING)
            return wrong_state(err, d, "released for re-provisioning");
        rc = store_exec(tx, NULL, err, SQL_DEVICE_AGAIN, "ii", d->row, I(AGAIN_GRANTED));
        if (!rc)
            rc = announce_released(tx, a, d, d->state, true, err);
        json_t *detail = json_object();
        json_set_bool(detail, "for_reprovision", true);
        if (rc) {
            json_decref(detail);
            return rc;
        }
        return audit_device(tx, a, d, &s->actor, "device.release", detail, err);
    }
    if (d->state == DEVICE_REVOKED || d->state == DEVICE_DELETED) {
        *gone = true;
        return lift_tombstone(tx, s, a, d, err);
    }
    if (d->state != DEVICE_QUARANTINED)
        return wrong_state(err, d, "released");
    rc = store_exec(tx, NULL, err, SQL_DEVICE_STATE, "iiisi", d->row, I(d->state_before), I(d->state_before), "", I(0));
    if (!rc)
        rc = announce_released(tx, a, d, d->state_before, false, err);
    return rc ? rc : audit_device(tx, a, d, &s->actor, "device.release", NULL, err);
}

static int remove_device(struct store_tx *tx, const struct device_set *s, const struct account *a, const struct device *d, struct err *err) {
    if (d->state == DEVICE_DELETED)
        return wrong_state(err, d, "deleted again");
    int rc = store_exec(tx, NULL, err, SQL_DEVICE_STATE, "iiisi", d->row, I(DEVICE_DELETED), I(d->state), s->reason, I(0));
    if (!rc)
        rc = device_identity_revoke(tx, d, err);
    if (!rc)
        rc = announce(tx, a, d, DEVICE_DELETED, EVENT_DEVICE_DELETED, s->reason, false, err);
    if (!rc)
        rc = report_drop(tx, a->row, d->row, err);
    return rc ? rc : audit_device(tx, a, d, &s->actor, "device.delete", reason_detail(s->reason), err);
}

static int change(struct store_tx *tx, struct device_set *s, const struct account *a, const struct device *d, bool *gone, struct err *err) {
    switch (s->change) {
    case DEVICE_APPROVE:
        return approve(tx, s, a, d, err);
    case DEVICE_REFUSE:
        return refuse(tx, s, a, d, err);
    case DEVICE_REVOKE:
        if (d->state == DEVICE_REVOKED || d->state == DEVICE_DELETED)
            return wrong_state(err, d, "revoked");
        return device_cut_off(tx, a, d, DEVICE_REVOKED, &s->actor, s->reason, err);
    case DEVICE_QUARANTINE:
        if (d->state != DEVICE_ACTIVE && d->state != DEVICE_PENDING)
            return wrong_state(err, d, "quarantined");
        return device_cut_off(tx, a, d, DEVICE_QUARANTINED, &s->actor, s->reason, err);
    case DEVICE_RELEASE:
        return release(tx, s, a, d, gone, err);
    case DEVICE_DELETE:
        return remove_device(tx, s, a, d, err);
    }
    return MUSTER_EINTERNAL;
}

int device_set_run(struct store_tx *tx, void *arg, struct err *err) {
    struct device_set *s = arg;
    struct account a;
    struct device d;
    bool gone = false;
    int rc = account_need(tx, s->account, &a, err);
    if (rc || (rc = device_need(tx, &a, s->device, &d, err)) || (rc = change(tx, s, &a, &d, &gone, err)) || (rc = epoch_raise(tx, err)))
        return rc;
    if (gone) {
        json_decref(s->out);
        s->out = json_object();
        json_set_uuid(s->out, "id", &d.uuid);
        json_set_str(s->out, "account", a.name);
        json_set_str(s->out, "device_id", d.device_id);
        json_set_str(s->out, "state", word_of(&WORDS_DEVICE_STATE, DEVICE_DELETED));
        json_set_bool(s->out, "released", true);
        return 0;
    }
    int found = device_find_row(tx, d.row, &d, err);
    if (found <= 0)
        return found < 0 ? found : MUSTER_ECORRUPT;
    if ((rc = device_json(tx, &a, &d, false, &s->out, err)))
        return rc;
    /* Whether somebody who holds the device could enrol it again under another ID. */
    return s->change == DEVICE_REVOKE ? key_live_json(tx, &a, d.method == METHOD_SHARED, s->out, err) : 0;
}

int device_accept_key_run(struct store_tx *tx, void *arg, struct err *err) {
    struct device_accept_key *k = arg;
    struct account a;
    struct device d;
    int64_t accepted, rule;
    int rc = account_need(tx, k->account, &a, err);
    if (rc || (rc = device_need(tx, &a, k->device, &d, err)) || (rc = one_int(tx, &accepted, -1, err, SQL_OFFER_GET, "ib", d.row, hash_span(&k->spki))))
        return rc;
    if (accepted < 0)
        return err_set(err, MUSTER_ENOTFOUND, "No key of that fingerprint was offered for the device %s.", d.device_id);
    if (d.state != DEVICE_ACTIVE && d.state != DEVICE_PENDING)
        return wrong_state(err, &d, "given another key");
    if ((rc = one_int(tx, &rule, 0, err, SQL_OFFER_RULE, "ib", d.row, hash_span(&k->spki))))
        return rc;
    if (rule != KEY_RULE_ASK) /* it would do nothing, until somebody changes the rule */
        return err_set(err, MUSTER_ESTATE, "The key rule of the fleet root under which the key was offered is %s; a key can be accepted where it is ask.", word_of(&WORDS_KEY_RULE, rule));
    if ((rc = store_exec(tx, NULL, err, SQL_OFFER_ACCEPT, "ib", d.row, hash_span(&k->spki))) || (rc = epoch_raise(tx, err)))
        return rc;
    json_t *detail = json_object();
    json_set_hex(detail, "fingerprint", hash_span(&k->spki));
    if ((rc = audit_device(tx, &a, &d, &k->actor, "device.accept_key", detail, err)))
        return rc;
    return device_json(tx, &a, &d, true, &k->out, err);
}
