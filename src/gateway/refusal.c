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
    CLEANUP_JSON json_t *o = json_object();
    json_set_str(o, "code", err_code(err->code));
    json_set_str(o, "description", err_text(err));
    json_set_str(o, "cause", NULL); /* OTA Connect's shape has it */
    json_set_str(o, "fix", err_fix(err->code));
    json_set_str(o, "errorId", http_exchange_id(x));
    *content_type = "application/json";
    if (json_write(body, o))
        buf_clear(body);
}
