/* audit_replay_invited: invitations, entry by entry. */
#include "registry/audit_replay_part.h"

struct audit_invited *audit_replay_invited(struct audit_replay *r, struct span device_id) { return audit_invited_find(&r->invited, audit_devices_hash(r->devices, device_id)); }

/* 0: there is none. */
static uint64_t uuid_mark(const struct audit_replay *r, const json_t *detail, const char *name) {
    struct uuid uuid;
    return uuid_parse(span_str(replay_text(detail, name)), &uuid) ? 0 : audit_devices_hash(r->devices, uuid_span(&uuid));
}

/* It takes the place of the one before. */
void replay_device_invite(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_invited *i = audit_invited_add(&r->invited, audit_devices_hash(r->devices, e->object));
    struct audit_sum sum;
    if (!i) {
        r->full = true;
        return;
    }
    *i = (struct audit_invited){.id = i->id, .invitation = uuid_mark(r, detail, "id"), .expires = replay_time(detail, "expires"), .entry = (uint32_t)e->seq};
    if (audit_sum_read(detail, &sum))
        i->sum = audit_devices_hash(r->devices, span_of(&sum, sizeof sum));
}

void replay_device_uninvite(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_invited *i = audit_replay_invited(r, e->object);
    if (!i)
        return;
    i->invitation = 0;
    i->entry = (uint32_t)e->seq;
}

void replay_invitation_spend(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_invited *i = audit_replay_invited(r, e->object);
    const bool again = strcmp(replay_text(detail, "how"), "answer lost") == 0;
    /* One of Muster's making is made anew; the device's own gets another certificate where the one before is over (root_way.h). */
    const uint64_t spent = json_object_get(detail, "spki") ? replay_mark(r, detail, "spki") : AUDIT_SERVER_KEY;
    if (!i || !i->invitation || i->invitation != uuid_mark(r, detail, "invitation"))
        replay_bad(r, e, "The device was not invited");
    else if (i->spent && !again)
        replay_bad(r, e, "The invitation had been spent");
    else if (again && i->spent != spent && (i->spent || spent == AUDIT_SERVER_KEY)) /* a newer invitation of a device whose certificate is over is spent by it */
        replay_bad(r, e, "The invitation had not been spent for that key");
    else if (e->at > i->expires + REPLAY_TOLERANCE)
        replay_bad(r, e, "The invitation had expired");
    else if (!(r->method & METHOD_SHARED))
        replay_bad(r, e, "The account did not take shared credentials");
    else
        i->spent = spent;
}
