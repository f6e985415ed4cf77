/* uri: checks and decoding of request targets; see uri.h.  It must never decode twice. */
#include "http/uri.h"

#include "base/hex.h"
#include "http/head.h"

/* The value of the percent-encoding at s.p[i], or -1. */
static int encoded(struct span s, size_t i) {
    if (i + 2 >= s.n)
        return -1;
    int high = hex_digit(s.p[i + 1]), low = hex_digit(s.p[i + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* RFC 3986: pchar without pct-encoded, and '/'. */
static bool is_path_char(uint8_t c) {
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
        return true;
    return c != 0 && strchr("-._~!$&'()*+,;=:@/", c) != NULL;
}

static size_t decode_into(struct span raw, bool plus, uint8_t *out) {
    size_t n = 0;
    for (size_t i = 0; i < raw.n; i++) {
        int v = raw.p[i] == '%' ? encoded(raw, i) : -1;
        if (v >= 0)
            i += 2;
        else
            v = plus && raw.p[i] == '+' ? ' ' : raw.p[i];
        out[n++] = (uint8_t)v;
    }
    return n;
}

/* Characters and encodings of one component. */
enum part { PATH, PATH_OF_NAMES, QUERY };

static int check_chars(struct span s, enum part part, struct err *err) {
    bool query = part == QUERY;
    const char *what = query ? "query" : "path";
    bool any = false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '%') {
            if (!is_path_char(s.p[i]) && !(query && s.p[i] == '?'))
                return err_set(err, MUSTER_EHTTPMALFORMED, "The %s has a character that has to be percent-encoded.", what);
            continue;
        }
        int v = encoded(s, i);
        if (v < 0)
            return err_set(err, MUSTER_EHTTPMALFORMED, "The %s has an incomplete percent-encoding.", what);
        if (v == 0 || (part == PATH && (v == '/' || v == '\\')))
            return err_set(err, MUSTER_EHTTPMALFORMED, "The %s has an encoded NUL, slash or backslash.", what);
        any = true;
        i += 2;
    }
    if (!any)
        return 0;
    uint8_t plain[HEAD_TARGET_MAX];
    if (s.n > sizeof plain)
        return err_set(err, MUSTER_EHTTPURI, NULL);
    if (!span_is_utf8(span_of(plain, decode_into(s, false, plain))))
        return err_set(err, MUSTER_EHTTPMALFORMED, "The %s is not UTF-8 once it is decoded.", what);
    return 0;
}

/* "." or "..", also where dots are encoded, and with parameters (RFC 3986, 3.3), which servlet containers take off before they resolve dots. */
static bool is_dots(struct span segment) {
    long parameters = span_index(segment, ';');
    if (parameters >= 0)
        segment = span_sub(segment, 0, (size_t)parameters);
    if (segment.n == 0 || segment.n > 6)
        return false;
    uint8_t plain[6];
    size_t n = decode_into(segment, false, plain);
    return (n == 1 && plain[0] == '.') || (n == 2 && plain[0] == '.' && plain[1] == '.');
}

static int check_path(struct span path, enum part part, struct err *err) {
    int rc = check_chars(path, part, err);
    if (rc)
        return rc;
    if (path.n == 0 || path.p[0] != '/')
        return err_set(err, MUSTER_EHTTPMALFORMED, "The path does not begin with '/'.");
    struct span rest = span_sub(path, 1, path.n);
    for (;;) {
        long slash = span_index(rest, '/');
        struct span segment = slash < 0 ? rest : span_sub(rest, 0, (size_t)slash);
        if (segment.n == 0 && slash >= 0)
            return err_set(err, MUSTER_EHTTPMALFORMED, "The path has an empty segment.");
        if (part == PATH ? is_dots(segment) : span_eq_str(segment, ".") || span_eq_str(segment, ".."))
            return err_set(err, MUSTER_EHTTPMALFORMED, "The path has a \".\" or \"..\" segment.");
        if (slash < 0)
            return 0;
        rest = span_sub(rest, (size_t)slash + 1, rest.n);
    }
}

int uri_check_path(struct span path, struct err *err) { return check_path(path, PATH, err); }
int uri_check_path_of_names(struct span path, struct err *err) { return check_path(path, PATH_OF_NAMES, err); }
int uri_check_query(struct span query, struct err *err) { return check_chars(query, QUERY, err); }

static bool is_unreserved(int c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c && strchr("-._~", c) != NULL);
}

bool uri_normalise(struct arena *a, struct span *path) {
    if (span_index(*path, '%') < 0)
        return true;
    uint8_t *out = arena_alloc(a, path->n);
    size_t n = 0;
    for (size_t i = 0; out && i < path->n; i++) {
        int v = path->p[i] == '%' ? encoded(*path, i) : -1;
        if (v >= 0 && !is_unreserved(v)) {
            out[n++] = '%';
            out[n++] = (uint8_t)"0123456789ABCDEF"[v >> 4];
            out[n++] = (uint8_t)"0123456789ABCDEF"[v & 15];
        } else {
            out[n++] = v >= 0 ? (uint8_t)v : path->p[i];
        }
        i += v >= 0 ? 2 : 0;
    }
    *path = span_of(out, n);
    return out != NULL;
}

struct span uri_decode(struct arena *a, struct span raw, bool plus) {
    uint8_t *out = arena_alloc(a, raw.n + 1); /* zeroed: also a C string */
    return out ? span_of(out, decode_into(raw, plus, out)) : SPAN_NONE;
}

static bool name_is(struct span raw, const char *name) {
    for (size_t i = 0; i < raw.n; i++, name++) {
        int v = raw.p[i] == '%' ? encoded(raw, i) : -1;
        if (v >= 0)
            i += 2;
        else
            v = raw.p[i] == '+' ? ' ' : raw.p[i];
        if (*name == '\0' || v != (uint8_t)*name)
            return false;
    }
    return *name == '\0';
}

bool uri_query_find(struct span query, const char *name, struct span *raw) {
    while (query.n) {
        long amp = span_index(query, '&');
        struct span pair = amp < 0 ? query : span_sub(query, 0, (size_t)amp);
        query = amp < 0 ? SPAN_NONE : span_sub(query, (size_t)amp + 1, query.n);
        long eq = span_index(pair, '=');
        if (pair.n == 0 || !name_is(eq < 0 ? pair : span_sub(pair, 0, (size_t)eq), name))
            continue;
        *raw = eq < 0 ? SPAN_NONE : span_sub(pair, (size_t)eq + 1, pair.n);
        return true;
    }
    return false;
}
