/* json: see json.h.  Used by the gateway, the operators' API and the command line. */
#include "json/json.h"

#include "base/clock.h"
#include "base/hex.h"

#define JSON_MAX_DEPTH 64

/* jansson's own limit is 2,048 levels deep; nothing here is deeper than a few. */
static bool too_deep(struct span text) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"')
            in_string = true;
        else if (c == '{' || c == '[') {
            if (++depth > JSON_MAX_DEPTH)
                return true;
        } else if (c == '}' || c == ']')
            depth--;
    }
    return false;
}

json_t *json_parse(struct span text, struct err *err) {
    json_error_t why;
    if (too_deep(text)) {
        err_set(err, MUSTER_EJSON, "The JSON document is nested more than %d deep.", JSON_MAX_DEPTH);
        return NULL;
    }
    json_t *doc = json_loadb(text.n ? (const char *)text.p : "", text.n, JSON_REJECT_DUPLICATES, &why);
    if (!doc)
        err_set(err, MUSTER_EJSON, "The JSON document is not valid at line %d, column %d.", why.line, why.column);
    return doc;
}

/* jansson cuts its texts at a number of bytes, which may lie inside of a character. */
static int whole_characters(const char *text) {
    struct span s = span_str(text);
    size_t at = 0, n;
    uint32_t code;
    while (at < s.n && (n = span_utf8_next(span_sub(s, at, s.n), &code)) > 0)
        at += n;
    return (int)at;
}

int json_take(json_t *doc, struct err *err, const char *fmt, ...) {
    json_error_t why;
    va_list ap;
    va_start(ap, fmt);
    int rc = json_vunpack_ex(doc, &why, JSON_STRICT, fmt, ap);
    va_end(ap);
    return rc ? err_set(err, MUSTER_EJSON, "The JSON document does not have the expected shape: %.*s.", whole_characters(why.text), why.text) : 0;
}

static int sink(const char *p, size_t n, void *arg) {
    struct buf *out = arg;
    buf_add(out, span_of(p, n));
    return buf_ok(out) ? 0 : -1;
}

static int dump(struct buf *out, const json_t *doc, size_t flags) { return doc && json_dump_callback(doc, sink, out, flags) == 0 ? 0 : MUSTER_ENOMEM; }

int json_write(struct buf *out, const json_t *doc) { return dump(out, doc, JSON_COMPACT); }
int json_write_sorted(struct buf *out, const json_t *doc) { return dump(out, doc, JSON_COMPACT | JSON_SORT_KEYS); }

static void add_escaped(struct buf *out, uint8_t c) {
    static const char short_of[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
    const char *at = c ? strchr(short_of, c) : NULL;
    if (at) {
        buf_addc(out, '\\');
        buf_addc(out, (uint8_t)letters[at - short_of]);
    } else {
        buf_addf(out, "\\u%04X", c);
    }
}

void json_add_text(struct buf *out, struct span text) {
    enum { UNKNOWN, WHOLE, BROKEN } utf8 = UNKNOWN; /* most texts are ASCII and need not be asked */
    size_t from = 0;
    buf_addc(out, '"');
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (c >= 'a' && c <= 'z') /* what most texts are of */
            continue;
        if (c >= 0x80 && utf8 == UNKNOWN)
            utf8 = span_is_utf8(text) ? WHOLE : BROKEN;
        bool plain = c >= 0x20 && c != '"' && c != '\\' && (c < 0x80 || utf8 == WHOLE);
        if (plain)
            continue;
        buf_add(out, span_sub(text, from, i - from));
        from = i + 1;
        if (c >= 0x80)
            buf_adds(out, "\xef\xbf\xbd");
        else
            add_escaped(out, c);
    }
    buf_add(out, span_sub(text, from, text.n - from));
    buf_addc(out, '"');
}

int json_write_pretty(struct buf *out, const json_t *doc) {
    int rc = dump(out, doc, JSON_INDENT(2));
    buf_addc(out, '\n');
    return rc ? rc : buf_check(out, NULL);
}

void json_set(json_t *obj, const char *key, json_t *value) { json_object_set_new(obj, key, value); }
void json_set_str(json_t *obj, const char *key, const char *value) {
    if (value)
        json_set_span(obj, key, span_str(value));
    else
        json_set(obj, key, json_null());
}

void json_set_span(json_t *obj, const char *key, struct span value) {
    if (span_is_utf8(value)) {
        json_set(obj, key, json_stringn(value.n ? (const char *)value.p : "", value.n));
        return;
    }
    CLEANUP(buf_fini) struct buf safe = BUF_INIT(value.n * 3 + 3);
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < 0x80)
            buf_addc(&safe, value.p[i]);
        else
            buf_adds(&safe, "\xef\xbf\xbd");
    }
    json_set(obj, key, json_stringn(buf_str(&safe), safe.n));
}

void json_set_int(json_t *obj, const char *key, int64_t value) { json_set(obj, key, json_integer(value)); }
void json_set_bool(json_t *obj, const char *key, bool value) { json_set(obj, key, json_boolean(value)); }

void json_set_time(json_t *obj, const char *key, int64_t t) {
    char text[CLOCK_RFC3339_LEN + 1];
    if (t)
        clock_rfc3339(t, text);
    json_set_str(obj, key, t ? text : NULL);
}

void json_set_hex(json_t *obj, const char *key, struct span bytes) {
    CLEANUP(buf_fini) struct buf hex = BUF_INIT(bytes.n * 2 + 1);
    hex_add(&hex, bytes);
    json_set_str(obj, key, bytes.n ? buf_str(&hex) : NULL);
}

void json_set_uuid(json_t *obj, const char *key, const struct uuid *u) {
    char text[UUID_TEXT_LEN + 1];
    uuid_text(u, text);
    json_set_str(obj, key, uuid_is_nil(u) ? NULL : text);
}
