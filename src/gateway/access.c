/* access: see internal.h. */
#include "base/log.h"
#include "gateway/internal.h"
#include "metrics/metrics.h"

#define STRANGERS_LOGGED 20 /* lines a second and loop for clients that nobody knows */
#define PATH_LOGGED 512

/* Strangers must not fill the disk with their refusals. */
static bool may_log(struct worker *w, const struct identity *peer) {
    bool known = peer && peer->admitted_epoch && peer->admit.device_row;
    return known || log_within(&w->strangers, STRANGERS_LOGGED, "refusals_not_logged");
}

/* What kind of request it is, by the words of a stock device's paths. */
static enum metrics_class class_of(struct span path) {
    static const struct {
        const char *prefix;
        enum metrics_class class;
    } CLASSES[] = {
        {"/devices", CLASS_ENROL}, {"/.well-known/est/", CLASS_ENROL}, {"/director/ecus", CLASS_REGISTER},   {"/repo/targets/", CLASS_TARGETS}, {"/director/", CLASS_METADATA},
        {"/repo/", CLASS_METADATA},       {"/system_info", CLASS_TELEMETRY},    {"/core/", CLASS_TELEMETRY},       {"/events", CLASS_TELEMETRY},
    };
    for (size_t i = 0; i < sizeof CLASSES / sizeof *CLASSES; i++)
        if (span_starts(path, span_str(CLASSES[i].prefix)))
            return CLASSES[i].class;
    return CLASS_OTHER;
}

static const char *or_null(const char *text) { return text && text[0] ? text : NULL; }

void gateway_answered(struct http_exchange *x, int status, uint64_t bytes, const struct err *refusal) {
    struct worker *w = http_exchange_arg(x);
    const struct identity *peer = http_exchange_peer(x);
    bool refused = status >= 400;
    metrics_count(METRIC_REQUESTS, class_of(http_path(x)), metrics_status(status));
    if (refusal)
        metrics_count(refusal_is_one(refusal, peer) ? METRIC_REFUSALS : METRIC_ERRORS, metrics_code(refusal->code), 0);
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
