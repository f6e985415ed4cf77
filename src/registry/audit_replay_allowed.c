/* audit_replay_allowed: what was allowed by whoever is asked before certificates are issued (hook.h), and what it was used for. */
#include "registry/audit_replay_part.h"

#include "registry/hook.h"

/* What is too old to be used makes room: there are never more than were allowed within minutes. */
static void forget_old(struct audit_replay *r, int64_t now) {
    for (size_t i = 0; i < r->n_allowed;)
        if (now - r->allowed[i].at > HOOK_ALLOWED_FOR + REPLAY_TOLERANCE)
            r->allowed[i] = r->allowed[--r->n_allowed];
        else
            i++;
}

void replay_device_allow(struct audit_replay *r, const struct audit_entry *e, const json_t *detail) {
    struct audit_allowed one = {.device = audit_devices_hash(r->devices, e->object), .renews = json_is_true(json_object_get(detail, "renews")), .at = e->at};
    if (uuid_parse(span_str(replay_text(detail, "ask")), &one.ask))
        return;
    size_t before = r->n_allowed;
    forget_old(r, e->at);
    struct audit_allowed *more = r->n_allowed < before ? r->allowed : replay_grown(r->allowed, r->n_allowed, sizeof one);
    if (!more) {
        r->full = true;
        return;
    }
    r->allowed = more;
    r->allowed[r->n_allowed++] = one;
}

void replay_allowed(struct audit_replay *r, const struct audit_entry *e, const json_t *detail, bool renews) {
    const uint64_t device = audit_devices_hash(r->devices, e->object);
    struct uuid ask;
    if (r->hook != HOOK_ALL && (r->hook != HOOK_NEW || renews))
        return;
    for (size_t i = 0; i < r->n_allowed && !uuid_parse(span_str(replay_text(detail, "ask")), &ask); i++)
        if (uuid_eq(&r->allowed[i].ask, &ask) && r->allowed[i].device == device && r->allowed[i].renews == renews && e->at - r->allowed[i].at <= HOOK_ALLOWED_FOR + REPLAY_TOLERANCE) {
            r->allowed[i] = r->allowed[--r->n_allowed];
            return;
        }
    replay_bad(r, e, "Whoever is asked before certificates are issued did not allow it");
}
