/* refusal: see internal.h. */
#include "gateway/internal.h"

#define BODY_USUAL 500 /* bytes */

/* Also where the path is refused for being spelled so: a client whose URL ends in '/' asks for "//repo/targets/…", and writes as well. */
static bool is_under_targets(struct span path) {
    static const char *const wanted[] = {"repo", "targets"};
    size_t found = 0;
    while (found < 2 && path.n && path.p[0] == '/') {
        path = span_sub(path, 1, path.n);
        long slash = span_index(path, '/');
        struct span segment = slash < 0 ? path : span_sub(path, 0, (size_t)slash);
        path = span_sub(path, segment.n, path.n);
        if (!segment.n || span_eq_str(segment, "."))
            continue;
        if (!span_eq_str(segment, wanted[found++]))
            return false;
    }
    return found == 2;
}

bool refusal_is_empty(const struct http_exchange *x) {
    struct span path = auth_is_asked(x) ? auth_asked_path(x) : http_claimed_path(x);
    return is_under_targets(path);
}

void refusal_body(struct http_exchange *x, const struct err *err, struct buf *body, const char **content_type) {
    refusal_keep_request(x, err);
    if (refusal_is_empty(x))
        return;
    const struct {
        const char *name, *value;
    } parts[] = {{"{\"code\":", err_code(err->code)}, {",\"description\":", err_text(err)}, {",\"cause\":null,\"fix\":", err_fix(err->code)}, {",\"errorId\":", http_exchange_id(x)}};
    buf_reserve(body, BODY_USUAL);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) { /* OTA Connect's shape has a cause */
        buf_adds(body, parts[i].name);
        json_add_text(body, span_str(parts[i].value));
    }
    buf_addc(body, '}');
    *content_type = "application/json";
    if (!buf_ok(body))
        buf_clear(body);
}
