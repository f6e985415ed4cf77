/* Authorization fields as strangers bring them to EST's simpleenroll.  What is read is one user and one password of clean, bounded UTF-8; written
 * again, in whatever case, it is read as the same; what is read is of the scheme Basic, and nothing else is. */
#include "base/hex.h"
#include "fuzz.h"
#include "gateway/basic.c"

static bool read_it(struct span field, struct buf *text, struct span *user, struct span *password) {
    *text = BUF_INIT(BASIC_TEXT_MAX);
    return basic_read(field, text, user, password);
}

static bool clean(struct span s) { return s.n && span_is_utf8(s) && !span_has_control(s); }

static void again(const char *scheme, struct span user, struct span password) {
    CLEANUP(buf_fini) struct buf both = BUF_INIT(BASIC_TEXT_MAX);
    CLEANUP(buf_fini) struct buf field = BUF_INIT(2 * BASIC_TEXT_MAX);
    CLEANUP(buf_fini) struct buf text = BUF_INIT(0);
    struct span user_again, password_again;
    buf_add(&both, user);
    buf_addc(&both, ':');
    buf_add(&both, password);
    buf_adds(&field, scheme);
    base64_add(&field, buf_span(&both));
    MUST(read_it(buf_span(&field), &text, &user_again, &password_again));
    MUST(span_eq(user, user_again) && span_eq(password, password_again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(0);
    struct span user, password, field = span_of(data, n);
    if (!read_it(field, &text, &user, &password))
        return 0;
    MUST(basic_is(field) && clean(user) && clean(password) && span_index(password, ':') < 0 && user.n + 1 + password.n <= BASIC_TEXT_MAX);
    MUST(span_inside(user, buf_span(&text)) && span_inside(password, buf_span(&text)));
    again("Basic ", user, password);
    again("bASIC  ", user, password);
    return 0;
}
