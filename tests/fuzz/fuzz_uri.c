/* Request targets: what passes the checks has one meaning, before and after decoding. */
#include "fuzz.h"
#include "http/head.h"
#include "http/uri.h"

/* A path that was let through leads, decoded, nowhere but down. */
static void check_path(struct span plain, struct span raw) {
    MUST(plain.n >= 1 && plain.n <= raw.n && plain.p[0] == '/' && span_is_utf8(plain) && span_index(plain, 0) < 0 && span_index(plain, '\\') < 0);
    size_t slashes = 0, as_sent = 0;
    for (size_t i = 0; i < plain.n; i++)
        slashes += plain.p[i] == '/';
    for (size_t i = 0; i < raw.n; i++) {
        MUST(raw.p[i] > 0x20 && raw.p[i] < 0x7f && raw.p[i] != '?' && raw.p[i] != '#');
        as_sent += raw.p[i] == '/';
    }
    MUST(slashes == as_sent);
    for (struct span rest = span_sub(plain, 1, plain.n); rest.n;) {
        long slash = span_index(rest, '/');
        struct span segment = slash < 0 ? rest : span_sub(rest, 0, (size_t)slash);
        MUST((segment.n || slash < 0) && !span_eq_str(segment, ".") && !span_eq_str(segment, ".."));
        rest = slash < 0 ? SPAN_NONE : span_sub(rest, (size_t)slash + 1, rest.n);
    }
}

/* Where names may hold anything once they are decoded, each segment is one name, and as it was sent none that leads elsewhere. */
static void check_path_of_names(struct arena *a, struct span path) {
    MUST(path.n >= 1 && path.p[0] == '/');
    for (struct span rest = span_sub(path, 1, path.n); rest.n;) {
        long slash = span_index(rest, '/');
        struct span segment = slash < 0 ? rest : span_sub(rest, 0, (size_t)slash), plain = uri_decode(a, segment, false);
        MUST(plain.p && span_is_utf8(plain) && span_index(plain, 0) < 0);
        MUST((plain.n || slash < 0) && !span_eq_str(segment, ".") && !span_eq_str(segment, ".."));
        rest = slash < 0 ? SPAN_NONE : span_sub(rest, (size_t)slash + 1, rest.n);
    }
}

/* One spelling: what it says is the same, it is a path as good as before, and there is nothing more to do about it. */
static void check_spelling(struct arena *a, struct span path) {
    struct span one = path, again, plain = uri_decode(a, path, false);
    MUST(uri_normalise(a, &one));
    again = one;
    MUST(uri_normalise(a, &again) && span_eq(one, again) && one.n <= path.n);
    MUST(uri_check_path(one, NULL) == 0 && span_eq(uri_decode(a, one, false), plain));
    for (size_t i = 0; i < one.n; i++) {
        if (one.p[i] != '%')
            continue;
        MUST(i + 2 < one.n && !(one.p[i + 1] >= 'a' && one.p[i + 1] <= 'f') && !(one.p[i + 2] >= 'a' && one.p[i + 2] <= 'f'));
        uint8_t c = uri_decode(a, span_sub(one, i, 3), false).p[0];
        MUST(!(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') && c != '-' && c != '.' && c != '_' && c != '~');
    }
}

static void check_query(struct arena *a, struct span query) {
    static const char *const names[] = {"a", "limit", "cursor", "", "\xc3\xa4"};
    struct span plain = uri_decode(a, query, true);
    MUST(plain.p && plain.n <= query.n && span_is_utf8(plain) && span_index(plain, 0) < 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct span raw = SPAN_NONE;
        if (!uri_query_find(query, names[i], &raw))
            continue;
        MUST(span_inside(raw, query) && span_index(raw, '&') < 0);
        struct span value = uri_decode(a, raw, true);
        MUST(value.p && span_is_utf8(value));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n);
    long mark = span_index(in, '?');
    struct span path = mark < 0 ? in : span_sub(in, 0, (size_t)mark);
    struct span query = mark < 0 ? SPAN_NONE : span_sub(in, (size_t)mark + 1, n);
    CLEANUP(arena_free) struct arena *a = arena_new(1u << 20);
    struct err err = ERR_INIT;
    MUST(a);
    if (n > HEAD_TARGET_MAX * 2)
        return 0;
    if (uri_check_path(path, &err) == 0) {
        struct span plain = uri_decode(a, path, false);
        MUST(plain.p);
        check_path(plain, path);
        check_spelling(a, path);
        MUST(uri_check_path_of_names(path, NULL) == 0);
    } else {
        MUST(err.code && err_text(&err)[0]);
    }
    if (uri_check_path_of_names(path, NULL) == 0)
        check_path_of_names(a, path);
    if (uri_check_query(query, NULL) == 0)
        check_query(a, query);
    return 0;
}
