/* toml: see toml.h.  Called by config.c on the loop. */
#include "gateway/toml.h"

#define PASS_OVER 1 /* the line is well-formed enough, and nothing that is wanted */

struct line {
    struct span key, value;
    bool text;
};

static bool is_bare(uint8_t c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-'; }

static bool all_bare(struct span s, const char *more) {
    for (size_t i = 0; i < s.n; i++)
        if (!is_bare(s.p[i]) && !(s.p[i] && strchr(more, s.p[i])))
            return false;
    return s.n > 0;
}

/* Nothing but a comment. */
static bool is_rest(struct span s) {
    s = span_trim(s);
    return s.n == 0 || s.p[0] == '#';
}

/* Three quotes, wherever they stand, may begin or end a string of several lines. */
static bool has_triple(struct span s) {
    for (size_t i = 0; i + 2 < s.n; i++)
        if ((s.p[i] == '"' || s.p[i] == '\'') && s.p[i + 1] == s.p[i] && s.p[i + 2] == s.p[i])
            return true;
    return false;
}

/* A value in quotes: 0, PASS_OVER, or an error where it does not end on this line. */
static int read_quoted(struct span s, struct line *out) {
    const uint8_t quote = s.p[0];
    bool escaped = false;
    size_t i = 1;
    for (; i < s.n && s.p[i] != quote; i++) {
        if (quote == '"' && s.p[i] == '\\') {
            escaped = true;
            i++;
        }
    }
    if (i >= s.n)
        return MUSTER_EINVALID;
    out->value = span_sub(s, 1, i - 1);
    out->text = true;
    return escaped || !is_rest(span_sub(s, i + 1, s.n)) ? PASS_OVER : 0;
}

static int read_bare(struct span s, struct line *out) {
    size_t n = 0;
    while (n < s.n && (is_bare(s.p[n]) || s.p[n] == '+' || s.p[n] == '.' || s.p[n] == ':'))
        n++;
    out->value = span_sub(s, 0, n);
    out->text = false;
    return n == 0 || !is_rest(span_sub(s, n, s.n)) ? PASS_OVER : 0;
}

static int read_pair(struct span s, struct line *out) {
    long equals = span_index(s, '=');
    if (equals < 0)
        return MUSTER_EINVALID;
    out->key = span_trim(span_sub(s, 0, (size_t)equals));
    if (!all_bare(out->key, ". \t"))
        return MUSTER_EINVALID;
    struct span v = span_trim(span_sub(s, (size_t)equals + 1, s.n));
    if (v.n && (v.p[0] == '[' || v.p[0] == '{'))
        return MUSTER_EINVALID;
    int rc = v.n == 0 ? PASS_OVER : v.p[0] == '"' || v.p[0] == '\'' ? read_quoted(v, out) : read_bare(v, out);
    return rc ? rc : all_bare(out->key, "") ? 0 : PASS_OVER;
}

/* [section]; any other kind of table has no name, so that nothing in it is wanted. */
static int read_header(struct span s, struct span *section, bool *known) {
    long end = span_index(s, ']');
    if (end < 0)
        return MUSTER_EINVALID;
    struct span name = span_trim(span_sub(s, 1, (size_t)end - 1));
    *known = all_bare(name, "") && is_rest(span_sub(s, (size_t)end + 1, s.n));
    *section = name;
    return 0;
}

static bool is_clean(struct span s) {
    for (size_t i = 0; i < s.n; i++)
        if ((s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] == 0x7f)
            return false;
    return span_is_utf8(s);
}

int toml_read(struct span document, toml_fn each, void *arg, struct err *err) {
    struct span section = SPAN_NONE;
    bool known = true;
    size_t number = 0;
    for (struct span rest = document; rest.n;) {
        long end = span_index(rest, '\n');
        struct span line = span_sub(rest, 0, end < 0 ? rest.n : (size_t)end);
        rest = span_sub(rest, line.n + 1, rest.n);
        number++;
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        struct span s = span_trim(line);
        struct line pair = {0};
        int rc = !is_clean(line) || has_triple(line) ? MUSTER_EINVALID
                 : is_rest(s)                        ? PASS_OVER
                 : s.p[0] == '['                     ? read_header(s, &section, &known)
                                                     : read_pair(s, &pair);
        if (rc < 0)
            return err_set(err, rc, "Line %zu of the configuration is not of the form that is read here.", number);
        if (rc == 0 && pair.key.n && known && (rc = each(arg, section, pair.key, pair.value, pair.text)))
            return rc < 0 ? err_set(err, rc, "Line %zu of the configuration says again what was said before.", number) : rc;
    }
    return 0;
}
