/* events: POST /events, [{id, deviceTime, eventType: {id, version}, event}].  The stock client drops its queue on 404; on 413 it sends
 * half as many, and drops an event that is too large alone; anything else it sends again, whole, until it is taken. */
#include "gateway/keep_part.h"

#define EVENTS_MAX 500
#define EVENT_MAX 4096 /* bytes of one, written compactly */

static int too_large(struct err *err) { return err_set(err, MUSTER_EHTTPBODY, "At most %d events at a time, each of at most %d bytes.", EVENTS_MAX, EVENT_MAX); }

/* The id of the event in doc, and its bytes behind those in k->body. */
static int take_event(json_t *doc, struct keeping *k, struct said *out, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(EVENT_MAX);
    const char *id, *type;
    int rc = take_text(doc, "id", 1, EVENT_ID_MAX, &id, err);
    if (rc || (rc = take_text(json_object_get(doc, "eventType"), "id", 1, 64, &type, err)))
        return rc;
    if (json_write_sorted(&text, doc))
        return too_large(err);
    *out = (struct said){.id = span_of(NULL, strlen(id)), .body = span_of(NULL, text.n)};
    buf_adds(&k->body, id);
    buf_add(&k->body, buf_span(&text));
    return buf_ok(&k->body) ? 0 : too_large(err);
}

int events_take(struct span body, struct keeping *k, struct err *err) {
    const struct identity *id = http_exchange_peer(k->x);
    CLEANUP_JSON json_t *doc = json_parse(body, err);
    const size_t n = json_array_size(doc);
    size_t i;
    json_t *one;
    if (!doc)
        return err->code;
    if (!json_is_array(doc))
        return err_set(err, MUSTER_EJSON, "The body is a list of events.");
    if (n > EVENTS_MAX)
        return too_large(err);
    k->events = calloc(n + 1, sizeof *k->events);
    if (!k->events)
        return err_set(err, MUSTER_ENOMEM, NULL);
    json_array_foreach(doc, i, one) {
        int rc = take_event(one, k, &k->events[i], err);
        if (rc)
            return rc;
    }
    const uint8_t *at = k->body.p; /* it grows no more */
    for (i = 0; i < n; i++) {
        k->events[i].id.p = at;
        k->events[i].body.p = at += k->events[i].id.n;
        at += k->events[i].body.n;
    }
    k->op.events = (struct said_put){.account = id->admit.account_row, .device = id->admit.device_row, .at = k->events, .n = n};
    return 0;
}
