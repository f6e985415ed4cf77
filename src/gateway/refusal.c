/* refusal: see internal.h. */
#include "gateway/internal.h"

bool refusal_is_empty(const struct http_exchange *x) {
    struct span path = auth_is_asked(x) ? auth_asked_path(x) : http_claimed_path(x);
    return span_starts(path, SPAN_LIT("/repo/targets/")) || span_eq_str(path, "/repo/targets");
}

void refusal_body(struct http_exchange *x, const struct err *err, struct buf *body, const char **content_type) {
    refusal_keep_request(x, err);
    if (refusal_is_empty(x))
        return;
    const struct {
        const char *name, *value;
    } parts[] = {{"{\"code\":", err_code(err->code)}, {",\"description\":", err_text(err)}, {",\"cause\":null,\"fix\":", err_fix(err->code)}, {",\"errorId\":", http_exchange_id(x)}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) { /* OTA Connect's shape has a cause */
        buf_adds(body, parts[i].name);
        json_add_text(body, span_str(parts[i].value));
    }
    buf_addc(body, '}');
    *content_type = "application/json";
    if (!buf_ok(body))
        buf_clear(body);
}
