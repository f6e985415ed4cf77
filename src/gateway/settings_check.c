/* settings_check: whether the gateway can live with its settings; before anything is opened.  See gateway.h. */
#include "gateway/gateway.h"
#include "gateway/identity_headers.h"
#include "gateway/upstreams.h"

int gateway_settings_check(const struct settings *s, struct err *err) {
    struct identity_headers headers;
    if (sources_check(s->proxy_from, err)) {
        err_prefix(err, "proxy_from");
        return err ? (err->code = MUSTER_ECONFIG) : MUSTER_ECONFIG;
    }
    int rc = identity_headers_parse(s->identity_headers, &headers, err);
    CLEANUP(upstreams_free) struct upstreams *behind = NULL;
    return rc ? rc : upstreams_new(s, &behind, err);
}
