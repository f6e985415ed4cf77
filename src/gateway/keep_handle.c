/* keep_handle: where a path that Muster keeps a copy of may be another server's as well; see keep.h. */
#include "base/log.h"
#include "gateway/internal.h"
#include "gateway/keep.h"
#include "gateway/proxy.h"

/* Behind a route the answer is the upstream's, also to what is of no use here.  Where storing failed the device asks again. */
static void kept(struct http_exchange *x, int rc, const struct err *err, int status, struct span body) {
    if ((rc && err_http(err->code) >= 500) || !proxy_forward(x, http_exchange_arg(x)))
        keep_answer(x, rc, err, status, body);
    else if (rc)
        log_event(LOG_INFO, "passed_on_not_kept", "request", http_exchange_id(x), "code", err_code(err->code), "text", err->text, NULL);
}

void keep_handle(struct http_exchange *x, void *arg) {
    const struct http_route *route = http_exchange_route(x);
    const struct identity *id = http_exchange_peer(x);
    struct worker *w = arg;
    struct err err = ERR_INIT;
    if (limits_report(w->gateway->limits, id->admit.device_row, &err)) {
        http_reply_err(x, &err);
        return;
    }
    keep_start(keep_of(span_str(route->method), span_str(route->path)), x, arg, kept);
}
