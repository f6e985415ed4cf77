/* refusal: see internal.h. */
#include "base/log.h"
#include "gateway/internal.h"

static bool is_target(const struct http_exchange *x) {
    return span_starts(http_path(x), SPAN_LIT("/repo/targets/")) || span_eq_str(http_path(x), "/repo/targets");
}

#define STRANGERS_LOGGED 20 /* lines a second and loop for clients that nobody knows */

/* Whether the line may be written.  Strangers must not fill the disk with their refusals. */
static bool may_log(struct worker *w, const struct identity *peer) {
    int64_t now = clock_mono_ms() / 1000;
    if (peer && peer->admitted_epoch && peer->admit.device_row)
        return true;
    if (w->log_second != now) {
        if (w->log_count > STRANGERS_LOGGED)
            log_event(LOG_WARN, "refusals_not_logged", "count", log_num(w->log_count - STRANGERS_LOGGED), NULL);
        w->log_second = now;
        w->log_count = 0;
    }
    return ++w->log_count <= STRANGERS_LOGGED;
}

static void log_refusal(struct http_exchange *x, const struct err *err, const struct uuid *id) {
    const struct identity *peer = http_exchange_peer(x);
    char error_id[UUID_TEXT_LEN + 1];
    if (!may_log(http_exchange_arg(x), peer))
        return;
    uuid_text(id, error_id);
    log_event(err_http(err->code) >= 500 ? LOG_ERROR : LOG_INFO, "refused", "code", err_code(err->code), "error_id", error_id, "address", peer ? peer->address : NULL, "account",
              peer && peer->admit.account_name[0] ? peer->admit.account_name : NULL, "device", peer && peer->admit.device_id[0] ? peer->admit.device_id : NULL, "text",
              err->text[0] ? err->text : NULL, NULL);
}

void refusal_body(struct http_exchange *x, const struct err *err, struct buf *body, const char **content_type) {
    if (is_target(x))
        return;
    CLEANUP_JSON json_t *o = json_object();
    struct uuid id = uuid_new();
    json_set_str(o, "code", err_code(err->code));
    json_set_str(o, "description", err_text(err));
    json_set_str(o, "cause", NULL); /* OTA Connect's shape has it */
    json_set_str(o, "fix", err_fix(err->code));
    json_set_uuid(o, "errorId", &id);
    *content_type = "application/json";
    if (json_write(body, o))
        buf_clear(body);
    log_refusal(x, err, &id);
}
