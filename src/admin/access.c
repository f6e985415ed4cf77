/* access: see internal.h. */
#include "admin/internal.h"
#include "metrics/metrics.h"

#define STRANGERS_LOGGED 20 /* lines a second for requests without a good token */
#define PATH_LOGGED 512

static enum metrics_class class_of(struct span path) {
    if (span_starts(path, SPAN_LIT("/api/")))
        return CLASS_API;
    return span_eq_str(path, "/healthz") || span_eq_str(path, "/readyz") ? CLASS_HEALTH : span_eq_str(path, "/metrics") ? CLASS_METRICS : CLASS_OTHER;
}

void admin_answered(struct http_exchange *x, int status, uint64_t bytes, const struct err *refusal) {
    struct control *c = http_exchange_arg(x);
    const struct grant *g = grant_of(x);
    bool refused = status >= 400;
    metrics_count(METRIC_REQUESTS, class_of(http_path(x)), metrics_status(status));
    if (refusal)
        metrics_count(METRIC_REFUSALS, metrics_code(refusal->code), 0);
    int which = c->o->settings->log_requests;
    if (which == SETTINGS_REQUESTS_OFF || (which == SETTINGS_REQUESTS_REFUSED && !refused) ||
        (refused && !g && !log_within(&c->strangers, STRANGERS_LOGGED, "refusals_not_logged")))
        return;
    const struct http_conn *conn = http_exchange_conn(x);
    char path[PATH_LOGGED + 1], method[16], address[HTTP_ADDRESS_MAX];
    snprintf(path, sizeof path, "%.*s", SPAN_FMT(http_path(x)));
    snprintf(method, sizeof method, "%.*s", SPAN_FMT(http_method(x)));
    http_conn_address_text(conn, address);
    log_event(status >= 500 ? LOG_ERROR : LOG_INFO, refused ? "refused" : "request", "request", http_exchange_id(x), "code", refusal ? err_code(refusal->code) : NULL,
              "address", *address ? address : NULL, "actor", g ? g->actor.text : NULL, "account", g && g->account[0] ? g->account : NULL, "method", *method ? method : NULL,
              "path", *path ? path : NULL, "status", log_num(status), "bytes", log_num((long long)bytes), "ms", log_num(http_exchange_ms(x)), "text",
              refusal && refusal->text[0] ? refusal->text : NULL, NULL);
}
