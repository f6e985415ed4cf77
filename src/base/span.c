/* span: see span.h. */
#include "base/span.h"

static uint8_t lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c; }

bool span_eq_nocase(struct span a, struct span b) {
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

bool span_starts(struct span s, struct span prefix) { return s.n >= prefix.n && span_eq(span_of(s.p, prefix.n), prefix); }

bool span_ends(struct span s, struct span suffix) {
    return s.n >= suffix.n && (suffix.n == 0 || memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) == 0);
}

struct span span_sub(struct span s, size_t at, size_t n) {
    if (at >= s.n)
        return span_of(s.p ? s.p + s.n : NULL, 0);
    return span_of(s.p + at, n < s.n - at ? n : s.n - at);
}

long span_index(struct span s, uint8_t c) {
    const uint8_t *at = s.n ? memchr(s.p, c, s.n) : NULL;
    return at ? (long)(at - s.p) : -1;
}

long span_find(struct span s, struct span bytes) {
    const uint8_t *at = s.n && bytes.n ? memmem(s.p, s.n, bytes.p, bytes.n) : NULL; /* which takes no NULL, also where n is 0 */
    return at ? (long)(at - s.p) : -1;
}

struct span span_trim(struct span s) {
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = span_of(s.p + 1, s.n - 1);
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* Length of the UTF-8 sequence at p and its code point; 0 where it is not well-formed (RFC 3629, 4). */
static size_t utf8_next(const uint8_t *p, size_t n, uint32_t *code) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = p[0] < 0x80 ? 1 : (p[0] & 0xe0) == 0xc0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : (p[0] & 0xf8) == 0xf0 ? 4 : 0;
    if (len == 0 || len > n)
        return 0;
    uint32_t c = len == 1 ? p[0] : p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *code = c;
    return len;
}

/* How many bytes in front are ASCII, as nearly all are: in steps of eight, the rest is left to utf8_next(). */
static size_t ascii_run(struct span s) {
    uint64_t eight;
    size_t n = 0;
    for (; s.n - n >= sizeof eight; n += sizeof eight) {
        memcpy(&eight, s.p + n, sizeof eight);
        if (eight & UINT64_C(0x8080808080808080))
            break;
    }
    return n;
}

bool span_is_utf8(struct span s) {
    uint32_t c;
    for (size_t i = ascii_run(s), len; i < s.n; i += len)
        if (!(len = utf8_next(s.p + i, s.n - i, &c)))
            return false;
    return true;
}

static bool is_control(uint32_t c) {
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x61c || (c >= 0x200e && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

bool span_has_control(struct span s) {
    uint32_t c = 0;
    for (size_t i = 0, len; i < s.n; i += len) {
        if (!(len = utf8_next(s.p + i, s.n - i, &c)))
            return true;
        if (is_control(c))
            return true;
    }
    return false;
}

size_t span_utf8_next(struct span s, uint32_t *code) { return s.n ? utf8_next(s.p, s.n, code) : 0; }
bool span_code_is_control(uint32_t code) { return is_control(code); }

bool span_to_u64(struct span s, uint64_t *out) {
    uint64_t v = 0;
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9' || __builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}
