/* basic: see basic.h. */
#include "gateway/basic.h"

#include "base/hex.h"

/* The scheme's name, and where what follows its blanks begins. */
static struct span scheme_of(struct span field, struct span *rest) {
    long blank = span_index(field, ' ');
    struct span scheme = blank < 0 ? field : span_sub(field, 0, (size_t)blank);
    *rest = span_trim(span_sub(field, scheme.n, field.n));
    return scheme;
}

bool basic_is(struct span field) {
    struct span rest;
    return span_eq_nocase(scheme_of(field, &rest), SPAN_LIT("Basic"));
}

static bool is_clean(struct span s) { return s.n && span_is_utf8(s) && !span_has_control(s); }

bool basic_read(struct span field, struct buf *text, struct span *user, struct span *password) {
    struct span rest;
    if (!basic_is(field))
        return false;
    scheme_of(field, &rest);
    buf_clear(text);
    if (base64_decode(rest, text))
        return false;
    struct span whole = buf_span(text);
    size_t colon = whole.n;
    while (colon && whole.p[colon - 1] != ':')
        colon--;
    if (!colon)
        return false;
    *user = span_sub(whole, 0, colon - 1);
    *password = span_sub(whole, colon, whole.n);
    return is_clean(*user) && is_clean(*password);
}
