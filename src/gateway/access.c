/* access: see internal.h. */
#include "base/log.h"
#include "gateway/internal.h"

#define STRANGERS_LOGGED 20 /* lines a second and loop for clients that nobody knows */
#define PATH_LOGGED 512

/* Strangers must not fill the disk with their refusals. */
static bool may_log(struct worker *w, const struct identity *peer) {
    bool known = peer && peer->admitted_epoch && peer->admit.device_row;
    return known || log_within(&w->strangers, STRANGERS_LOGGED, "refusals_not_logged");
}

static const char *or_null(const char *text) { return text && text[0] ? text : NULL; }

void gateway_answered(struct http_exchange *x, int status, uint64_t bytes, const struct err *refusal) {
    struct worker *w = http_exchange_arg(x);
    const struct identity *peer = http_exchange_peer(x);
    bool refused = status >= 400;
    int which = w->gateway->o->settings->log_requests;
    if (which == SETTINGS_REQUESTS_OFF || (which == SETTINGS_REQUESTS_REFUSED && !refused) || (refused && !may_log(w, peer)))
        return;
    char path[PATH_LOGGED + 1], method[16];
    snprintf(path, sizeof path, "%.*s", SPAN_FMT(http_path(x)));
    snprintf(method, sizeof method, "%.*s", SPAN_FMT(http_method(x)));
    log_event(status >= 500 ? LOG_ERROR : LOG_INFO, refused ? "refused" : "request", "request", http_exchange_id(x), "code", refusal ? err_code(refusal->code) : NULL,
              "address", peer ? peer->address : NULL, "account", peer ? or_null(peer->admit.account_name) : NULL, "device", peer ? or_null(peer->admit.device_id) : NULL,
              "method", or_null(method), "path", or_null(path), "status", log_num(status), "bytes", log_num((long long)bytes), "ms", log_num(http_exchange_ms(x)), "text",
              refusal ? or_null(refusal->text) : NULL, NULL);
}
