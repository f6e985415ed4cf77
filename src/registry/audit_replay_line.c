/* audit_replay_line: factory lines, entry by entry. */
#include "registry/audit_replay_part.h"
#include "registry/line.h"

struct audit_line *audit_replay_line(struct audit_replay *r, const struct uuid *uuid) {
    for (size_t i = 0; i < r->n_lines; i++)
        if (uuid_eq(&r->lines[i].uuid, uuid))
            return &r->lines[i];
    return NULL;
}

static struct audit_line *named(struct audit_replay *r, const char *name) {
    for (size_t i = 0; i < r->n_lines; i++)
        if (strcmp(r->lines[i].name, name) == 0)
            return &r->lines[i];
    return NULL;
}

/* What an entry says of the bounds; the others stay. */
static void bounds(struct audit_line *l, const json_t *d) {
    if (json_object_get(d, "max_devices"))
        l->max_devices = replay_int(d, "max_devices");
    if (json_object_get(d, "id_pattern"))
        snprintf(l->id_pattern, sizeof l->id_pattern, "%s", replay_text(d, "id_pattern"));
    if (json_object_get(d, "expires"))
        l->expires = replay_time(d, "expires");
    if (json_object_get(d, "state"))
        l->state = word_parse(&WORDS_LINE_STATE, replay_text(d, "state"));
}

void replay_line_create(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_line *more = replay_grown(r->lines, r->n_lines, sizeof *more), l = {.state = LINE_OPEN};
    if (!more) {
        r->full = true;
        return;
    }
    r->lines = more;
    if (uuid_parse(span_str(replay_text(d, "id")), &l.uuid) || !replay_hash(d, "spki", &l.spki))
        return;
    snprintf(l.name, sizeof l.name, "%.*s", SPAN_FMT(e->object));
    l.begins = replay_time(d, "begins");
    bounds(&l, d);
    r->lines[r->n_lines++] = l;
}

void replay_line_set(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct uuid uuid;
    struct audit_line *l = uuid_parse(span_str(replay_text(d, "id")), &uuid) ? NULL : audit_replay_line(r, &uuid);
    if (l && l->state == LINE_REVOKED)
        replay_bad(r, e, "The factory line was revoked");
    else if (l)
        bounds(l, d);
}

void replay_line_revoke(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct uuid uuid;
    struct audit_line *l = uuid_parse(span_str(replay_text(d, "id")), &uuid) ? NULL : audit_replay_line(r, &uuid);
    if (l && l->state != LINE_REVOKED)
        l->state = LINE_REVOKED;
    else
        replay_bad(r, e, l ? "The factory line was revoked already" : "There was no such factory line");
}

uint64_t audit_replay_line_mark(const struct audit_replay *r, struct span name, struct span spki) {
    if (!name.n)
        return 0;
    return 3 * audit_devices_hash(r->devices, name) + (spki.n ? audit_devices_hash(r->devices, spki) : 0);
}

void replay_line_charge(struct audit_replay *r, const struct audit_entry *e, const json_t *names) {
    size_t i;
    json_t *name;
    json_array_foreach(names, i, name) {
        struct audit_line *l = json_is_string(name) ? named(r, json_string_value(name)) : NULL;
        if (!l || l->spent >= l->max_devices)
            replay_bad(r, e, "The factory line could not have brought the device in");
        else
            l->spent++;
    }
}

/* By the bounds as the log has them at this moment: what is outside is held, and says so. */
void replay_line_spend(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct audit_line *l = named(r, replay_text(d, "line"));
    if (!l) {
        replay_bad(r, e, "There was no such factory line");
        return;
    }
    if (l->state == LINE_REVOKED)
        replay_bad(r, e, "The factory line was revoked");
    if (*replay_text(d, "outside")) {
        l->held++;
        if (strcmp(replay_text(d, "state"), word_of(&WORDS_DEVICE_STATE, DEVICE_PENDING)))
            replay_bad(r, e, "The device was outside its factory line's bounds, and came in");
        return;
    }
    l->spent++;
    if (l->state == LINE_CLOSED)
        replay_bad(r, e, "The factory line was closed");
    else if (l->spent > l->max_devices)
        replay_bad(r, e, "The factory line had brought in as many devices as it might");
    else if (e->at >= l->expires + REPLAY_TOLERANCE)
        replay_bad(r, e, "The factory line's time was over");
    else if (!id_pattern_match(l->id_pattern, e->object))
        replay_bad(r, e, "The factory line could not make a device of that ID");
}
