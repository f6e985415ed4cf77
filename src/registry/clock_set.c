/* clock_set: see clock_set.h. */
#include "registry/clock_set.h"

#include "registry/event.h"

int clock_set_get(struct store_tx *tx, struct clock_set *out, struct err *err) {
    int rc = meta_get(tx, "clock_set_net", &out->net, err);
    if (!rc)
        rc = meta_get(tx, "clock_set_last", &out->last, err);
    return rc ? rc : meta_get(tx, "clock_set_at", &out->at, err);
}

static int put(struct store_tx *tx, const struct clock_set *s, struct err *err) {
    int rc = meta_put(tx, "clock_set_net", s->net, err);
    if (!rc)
        rc = meta_put(tx, "clock_set_last", s->last, err);
    return rc ? rc : meta_put(tx, "clock_set_at", s->at, err);
}

int clock_set_forget(struct store_tx *tx, struct err *err) { return put(tx, &(struct clock_set){0}, err); }

static int tell(struct store_tx *tx, const struct clock_look *l, struct err *err) {
    json_t *more = json_object();
    json_set_int(more, "seconds", l->by);
    json_set_time(more, "before", l->now - l->by);
    return event_plain(tx, NULL, EVENT_CLOCK_WAS_SET, more, err);
}

int clock_look_run(struct store_tx *tx, void *arg, struct err *err) {
    struct clock_look *l = arg;
    struct clock_set s;
    int64_t boot, known, newest;
    int rc = meta_get(tx, "clock_boot", &boot, err);
    l->by = 0;
    if (rc || (rc = meta_get(tx, "clock_ahead", &known, err)))
        return rc;
    if (boot == l->boot && !clock_look_differs(l->ahead_ms, known)) {
        l->ahead_ms = known; /* so that steps which are each less come to something */
        return 0;
    }
    if ((rc = meta_put(tx, "clock_boot", l->boot, err)) || (rc = meta_put(tx, "clock_ahead", l->ahead_ms, err)) || boot != l->boot)
        return rc;
    l->by = (l->ahead_ms - known) / 1000;
    if ((rc = clock_set_get(tx, &s, err)) || (rc = meta_get(tx, "newest", &newest, err)))
        return rc;
    if (s.last || l->by < 0 || l->now - l->by >= newest - CLOCK_TOLERANCE) /* otherwise it was known to be behind, and nothing was issued by it */
        rc = put(tx, &(struct clock_set){.net = s.net + l->by, .last = l->by, .at = l->now}, err);
    return rc ? rc : tell(tx, l, err);
}
