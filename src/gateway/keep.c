/* keep: see keep.h. */
#include "gateway/keep.h"

#include "gateway/keep_part.h"

#define KIB 1024u
#define KEPT_MAX (512 * KIB) /* of one report, as it is written down */
#define SUMMARY_MAX (8 * KIB)

const struct keep KEEPS[] = {
    {"POST", "/director/ecus", 256 * KIB, 201, ecus_take, ecus_run},
    {"PUT", "/system_info", 512 * KIB, 200, system_take, report_put_run},
    {"PUT", "/system_info/network", 4 * KIB, 204, network_take, report_put_run},
    {"PUT", "/core/installed", 512 * KIB, 204, installed_take, report_put_run},
    {"POST", "/system_info/config", 64 * KIB, 204, config_take, report_put_run},
    {"POST", "/events", 256 * KIB, 204, events_take, said_put_run},
};
const size_t KEEPS_N = sizeof KEEPS / sizeof *KEEPS;

const struct keep *keep_of(struct span method, struct span path) {
    for (size_t i = 0; i < KEEPS_N; i++)
        if (span_eq_str(method, KEEPS[i].method) && span_eq_str(path, KEEPS[i].path))
            return &KEEPS[i];
    return NULL;
}

static void finish(struct keeping *k, int rc, const struct err *err) {
    k->done(k->x, rc, err, k->status, k->status == 204 ? SPAN_NONE : SPAN_LIT("{}"));
    http_exchange_unref(k->x);
    /* Not what was left out of the device's configuration, but it came out of the same body. */
    buf_wipe(&k->body);
    buf_wipe(&k->summary);
    free(k->events);
    free(k);
}

static void stored(void *arg, int rc, const struct err *err) { finish(arg, rc, err); }

void keep_start(const struct keep *keep, struct http_exchange *x, struct worker *w, keep_fn done) {
    struct err err = ERR_INIT;
    struct keeping *k = calloc(1, sizeof *k);
    if (!k) {
        err.code = MUSTER_ENOMEM;
        done(x, err.code, &err, 0, SPAN_NONE);
        return;
    }
    *k = (struct keeping){.keep = keep, .x = x, .done = done, .status = keep->status, .body = BUF_INIT(KEPT_MAX), .summary = BUF_INIT(SUMMARY_MAX)};
    http_exchange_ref(x);
    struct span body = http_body(x);
    int rc = body.n > keep->body_max ? MUSTER_EHTTPBODY : keep->take(body, k, &err);
    if (!rc && !(rc = store_write(w->gateway->store, w->loop, keep->run, stored, k, &err)))
        return;
    if (!err.code)
        err.code = rc;
    finish(k, rc, &err);
}

void keep_answer(struct http_exchange *x, int rc, const struct err *err, int status, struct span body) {
    if (rc)
        http_reply_err(x, err);
    else if (status == 204)
        http_reply_empty(x, status);
    else
        http_reply(x, status, "application/json", body);
}

/* --- for the rows ----------------------------------------------------------------------------------------------------------------- */

int take_text(json_t *from, const char *key, size_t least, size_t most, const char **out, struct err *err) {
    json_t *v = json_object_get(from, key);
    size_t n = json_is_string(v) ? json_string_length(v) : 0;
    *out = json_string_value(v);
    if (!json_is_string(v) || n < least || n > most || span_has_control(span_of(*out, n)))
        return err_set(err, MUSTER_EJSON, "%s is a text of %zu to %zu bytes without control characters.", key, least, most);
    return 0;
}

int report_take(struct keeping *k, enum report_kind kind, const char *name, json_t *summary, json_t *body, struct err *err) {
    const struct identity *id = http_exchange_peer(k->x);
    CLEANUP_JSON json_t *s = summary;
    CLEANUP_JSON json_t *b = body;
    int rc = json_write_sorted(&k->summary, s);
    if (rc || (rc = json_write_sorted(&k->body, b)))
        return err_set(err, rc, NULL);
    snprintf(k->name, sizeof k->name, "%s", name);
    k->op.report = (struct report_put){.account = id->admit.account_row, .device = id->admit.device_row, .kind = kind, .name = span_str(k->name),
                                       .summary = buf_span(&k->summary), .body = buf_span(&k->body)};
    return 0;
}
