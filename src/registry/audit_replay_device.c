/* audit_replay_device: devices, entry by entry. */
#include "registry/audit_replay_part.h"

#define BIT(state) ((uint8_t)(1U << (state)))
#define LIVE (BIT(DEVICE_ACTIVE) | BIT(DEVICE_PENDING))
#define GONE (BIT(DEVICE_REVOKED) | BIT(DEVICE_DELETED))

/* --- devices ------------------------------------------------------------------------------------------------------------------------- */

static struct audit_device *device_at(struct audit_replay *r, const struct audit_entry *e) {
    struct audit_device *d = audit_devices_find(r->devices, e->object);
    if (d)
        d->entry = (uint32_t)e->seq;
    else
        replay_bad(r, e, "There was no such device");
    return d;
}

/* One that was not there, in whatever state. */
static struct audit_device *device_add(struct audit_replay *r, const struct audit_entry *e) {
    if (audit_devices_find(r->devices, e->object)) {
        replay_bad(r, e, "The device was there already");
        return NULL;
    }
    struct audit_device *d = audit_devices_add(r->devices, e->object);
    if (d)
        d->entry = (uint32_t)e->seq;
    else
        r->full = true;
    return d;
}

static struct audit_device *device_new(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_add(r, e);
    int state = word_parse(&WORDS_DEVICE_STATE, replay_text(detail, "state"));
    if (!d)
        return NULL;
    /* Entries from before the state was written down leave it open, where it is not the account's to say. */
    d->states = state ? BIT(state) : r->approval ? BIT(DEVICE_PENDING) : r->expected_only ? LIVE : BIT(DEVICE_ACTIVE);
    if (state && ((state != DEVICE_ACTIVE && state != DEVICE_PENDING) || (state == DEVICE_ACTIVE && r->approval)))
        replay_bad(r, e, "The device could not be in that state");
    d->loose = e->seq <= r->unsealed; /* what became of its certificates was another version's to say */
    return d;
}

/* An entry that is no older than seals says under which fleet root; rules that are not kept end the walk. */
static const struct audit_root *root_of(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct uuid uuid;
    const struct audit_root *root = uuid_parse(span_str(replay_text(detail, "root")), &uuid) ? NULL : audit_replay_root(r, &uuid);
    if (e->seq <= r->unsealed)
        return root;
    const bool line = *replay_text(detail, "line") != 0; /* which comes by a root of Muster's own too, of which the log may say nothing */
    if (!root && line && uuid_parse(span_str(replay_text(detail, "root")), &uuid) == 0)
        root = replay_root_named(r, &uuid);
    if (!root || (!root->uploaded && !line))
        replay_bad(r, e, "The account does not have the fleet root");
    else if (root->state != ROOT_ACTIVE && root->state != ROOT_KNOWN_ONLY)
        replay_bad(r, e, "The fleet root was not in use");
    else if (!(r->method & (root->uploaded ? METHOD_DEVICE : METHOD_SHARED)))
        replay_bad(r, e, "The account did not take device credentials");
    return root;
}

/* Whatever becomes the identity ends all that waited. */
static void identity(struct audit_replay *r, struct audit_device *d, const json_t *detail, const struct audit_root *root) {
    d->identity = replay_mark_by(r, detail, root ? &root->uuid : NULL, 0);
    d->spki = replay_mark(r, detail, "spki");
    d->own = !root && d->identity;
    d->waiting = d->waiting_held = 0;
    d->unsure = false;
    d->loose = d->loose || (d->last && r->rows_seen);
    d->last = 0; /* another one came behind it */
}

void replay_device_enrol(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    const char *how = replay_text(detail, "how");
    const bool is_new = strcmp(how, "new") == 0;
    struct audit_device *d = is_new ? device_new(r, e, detail) : device_at(r, e);
    if (!d)
        return;
    if (!(d->states & LIVE))
        replay_bad(r, e, "The device was cut off");
    d->states &= LIVE;
    const bool invited = json_object_get(detail, "invitation");
    const struct audit_prov_key *key = invited ? NULL : replay_key_named(r, replay_text(detail, "key"));
    if (invited)
        replay_invitation_spend(r, e, detail);
    if (strcmp(how, "answer lost") != 0 || json_object_get(detail, "ask")) /* else it is the same enrolment; one that is over was asked for again */
        replay_allowed(r, e, detail, false);
    d->certs += replay_mark_by(r, detail, key ? &key->uuid : NULL, 0);
    d->waiting += replay_mark(r, detail, "fingerprint");
    if (strcmp(how, "re-provisioned") == 0)
        d->granted = false;
}

void replay_device_renew(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    const struct audit_prov_key *key = replay_key_named(r, replay_text(detail, "key"));
    const bool superseded = json_is_true(json_object_get(detail, "superseded")), released = json_is_true(json_object_get(detail, "released"));
    struct hash before;
    struct uuid uuid;
    if (!d)
        return;
    /* One that a factory line made has had a certificate of that line's, under a root of Muster's own. */
    const struct audit_root *root = uuid_parse(span_str(replay_text(detail, "root")), &uuid) ? NULL : replay_root_named(r, &uuid);
    if (!(d->states & BIT(DEVICE_ACTIVE)))
        replay_bad(r, e, "The device could not renew");
    else if (root && root->uploaded)
        replay_bad(r, e, "The device's certificate was of the customer's own CA, which alone could renew it");
    else if (!(r->method & METHOD_SHARED))
        replay_bad(r, e, "The account did not take shared credentials");
    else if (!replay_hash(detail, "replaces", &before) || !d->identity || (audit_replay_mark(r, hash_span(&before), root ? &root->uuid : NULL, 0) != d->identity) != superseded)
        replay_bad(r, e, "The device renewed another certificate than its own");
    else if (released && !d->granted)
        replay_bad(r, e, "No operator let the device renew a certificate that it had replaced");
    else if (superseded && !released && !r->superseded_renewal)
        replay_bad(r, e, "The account renewed no certificates that were replaced");
    replay_allowed(r, e, detail, true);
    if (released)
        d->granted = false;
    d->states &= LIVE;
    d->certs += replay_mark_by(r, detail, key ? &key->uuid : NULL, replay_time(detail, "enrolled"));
    d->waiting += replay_mark(r, detail, "fingerprint");
}

void replay_device_first_contact(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    const struct audit_root *root = root_of(r, e, detail);
    struct audit_device *d = device_new(r, e, detail);
    if (root && root->state == ROOT_KNOWN_ONLY && (root->uploaded || !*replay_text(detail, "line"))) /* a former one of Muster's own lets in what a line under it has built */
        replay_bad(r, e, "The fleet root brought no new devices in");
    if (!d)
        return;
    struct hash spki;
    d->line = audit_replay_line_mark(r, span_str(replay_text(detail, "line")), replay_hash(detail, "spki", &spki) ? hash_span(&spki) : SPAN_NONE);
    identity(r, d, detail, root);
}

void replay_device_first_use(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    if (!(d->states & ~GONE))
        replay_bad(r, e, "The device was cut off");
    else if (e->seq > r->unsealed && !(r->method & METHOD_SHARED))
        replay_bad(r, e, "The account did not take shared credentials");
    identity(r, d, detail, NULL);
}

/* An operator admitted a certificate that is younger than the backup from which the server was put back: as an enrolment and a first use at once. */
void replay_device_recover(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    const bool known = json_is_true(json_object_get(detail, "known"));
    struct audit_device *d = known ? device_at(r, e) : device_add(r, e);
    if (!d)
        return;
    if (!known)
        d->states = BIT(DEVICE_ACTIVE);
    else if (!(d->states & ~GONE))
        replay_bad(r, e, "The device was cut off");
    if (!(r->method & METHOD_SHARED))
        replay_bad(r, e, "The account did not take shared credentials");
    const json_t *lines = json_object_get(detail, "lines");
    if (!known && json_array_size(lines) == 1 && json_is_string(json_array_get(lines, 0)))
        d->line = audit_replay_line_mark(r, span_str(json_string_value(json_array_get(lines, 0))), SPAN_NONE);
    d->certs += replay_mark_by(r, detail, NULL, 0);
    identity(r, d, detail, NULL);
}

void replay_device_certificate(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    const struct audit_root *root = root_of(r, e, detail);
    if (!(d->states & BIT(DEVICE_ACTIVE)) || (d->spki && d->spki != replay_mark(r, detail, "spki")))
        replay_bad(r, e, "The device could not bring that certificate");
    d->identity = replay_mark_by(r, detail, root ? &root->uuid : NULL, 0);
}

void replay_device_key_changed(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    const struct audit_root *root = root_of(r, e, detail);
    uint32_t *accepted = d ? audit_replay_accepted(r, d, replay_mark(r, detail, "spki")) : NULL;
    if (!d)
        return;
    if (!(d->states & LIVE))
        replay_bad(r, e, "The device was cut off");
    else if (root && root->rules && (root->key_rule == KEY_RULE_REFUSE || (root->key_rule == KEY_RULE_ASK && !accepted)))
        replay_bad(r, e, "Nobody had accepted the device's other key");
    identity(r, d, detail, root);
    if (accepted) /* it waits no longer */
        *accepted = r->accepted[*accepted - 1].next;
}

void replay_device_accept_key(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    uint64_t key = replay_mark(r, detail, "fingerprint");
    if (!d || audit_replay_accepted(r, d, key))
        return;
    struct audit_accepted *more = replay_grown(r->accepted, r->n_accepted, sizeof *more);
    if (!more) {
        r->full = true;
        return;
    }
    r->accepted = more;
    r->accepted[r->n_accepted++] = (struct audit_accepted){key, d->accepted};
    d->accepted = (uint32_t)r->n_accepted;
}

uint32_t *audit_replay_accepted(struct audit_replay *r, struct audit_device *d, uint64_t key) {
    uint32_t *at = &d->accepted;
    while (*at && r->accepted[*at - 1].key != key)
        at = &r->accepted[*at - 1].next;
    return *at ? at : NULL;
}

void replay_device_approve(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    d->granted = d->granted || (d->states & BIT(DEVICE_ACTIVE));
    d->states = BIT(DEVICE_ACTIVE);
}

void replay_device_announced(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    if (!(d->states & BIT(DEVICE_PENDING)) || r->approval || !r->expected_only)
        replay_bad(r, e, "The device did not wait for being announced");
    d->states = BIT(DEVICE_ACTIVE);
}

/* Whatever it has, or could use, is revoked with it. */
static void cut_off(const struct audit_replay *r, struct audit_device *d, enum device_state to) {
    d->loose = d->loose || d->unsure || r->rows_seen;
    if (!(d->states & GONE)) {
        d->revoked += d->waiting + (d->own ? d->identity : 0);
        d->last += d->waiting + (d->own ? d->identity : 0);
    }
    d->states = BIT(to);
    d->waiting = d->waiting_held = 0;
    d->unsure = false;
}

void replay_device_refuse(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    if (d->states == BIT(DEVICE_PENDING)) { /* a leave to come again stays with the tombstone */
        cut_off(r, d, DEVICE_REVOKED);
    } else if (d->states & BIT(DEVICE_PENDING)) { /* whichever it was */
        d->states = BIT(DEVICE_REVOKED) | BIT(DEVICE_ACTIVE);
        d->unsure = d->loose = true;
    } else {
        d->granted = false;
    }
}

void replay_device_revoke(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (d)
        cut_off(r, d, DEVICE_REVOKED);
}

void replay_device_delete(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (d)
        cut_off(r, d, DEVICE_DELETED);
}

/* One that waited beside an identity is void, one that was the last is revoked; what was neither stays what it was. */
void replay_device_certificate_revoke(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    const int state = word_parse(&WORDS_CERT_STATE, replay_text(detail, "state"));
    const uint64_t plain = replay_mark(r, detail, "fingerprint"), with_reason = replay_mark_by(r, detail, NULL, word_parse(&WORDS_REVOKE_REASON, replay_text(detail, "reason")));
    if (state == CERT_CURRENT && (!d->own || d->identity != plain))
        replay_bad(r, e, "The certificate was not the device's");
    d->loose = d->loose || r->rows_seen;
    d->unsure = d->unsure || (state == CERT_ISSUED && r->rows_seen);
    d->revoked += with_reason;
    if (state == CERT_CURRENT || (state == CERT_ISSUED && !d->identity))
        d->last += with_reason;
    if (state == CERT_ISSUED)
        d->waiting -= plain;
    if (state == CERT_CURRENT) {
        d->identity = d->spki = 0;
        d->own = false;
    }
}

/* One that a factory line has signed; it stays revoked whatever becomes of the device. */
void replay_device_line_certificate_revoke(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    r->line_revoked += replay_mark_by(r, detail, NULL, word_parse(&WORDS_REVOKE_REASON, replay_text(detail, "reason")));
    if (d && word_parse(&WORDS_CERT_STATE, replay_text(detail, "state")) == CERT_CURRENT)
        d->identity = d->spki = 0;
}

/* One that was in waits again. */
void replay_device_hold(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (d)
        d->states = BIT(DEVICE_PENDING);
}

void replay_device_quarantine(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    d->states_before = d->states & LIVE;
    d->states = BIT(DEVICE_QUARANTINED);
}

void replay_device_release(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_device *d = device_at(r, e);
    if (!d)
        return;
    if (json_is_true(json_object_get(detail, "for_reprovision"))) {
        d->granted = true;
    } else if (json_object_get(detail, "state")) { /* its tombstone: nobody has its certificates any more */
        r->orphans += d->certs;
        r->orphans_held += d->certs_held;
        audit_devices_remove(r->devices, d);
    } else {
        d->states = d->states_before;
    }
}
