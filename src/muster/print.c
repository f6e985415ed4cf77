/* print: answers for people and for scripts; see print.h. */
#include "muster/print.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "json/json.h"

#define COLUMNS_MAX 12

int print_json(const json_t *doc, struct err *err) {
    CLEANUP(buf_wipe) struct buf out = BUF_INIT(256u << 20);
    int rc = json_write_pretty(&out, doc);
    if (rc)
        return err_set(err, rc, "The answer cannot be written as JSON.");
    fwrite(out.p, 1, out.n, stdout);
    return 0;
}

/* Control characters and bytes that are not UTF-8 become '?': a device ID must not be able to drive a terminal. */
static void add_safe(struct buf *out, struct span text) {
    bool utf8 = span_is_utf8(text), safe = utf8 && !span_has_control(text);
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        buf_addc(out, safe ? c : c < 0x20 || c >= 0x7f ? '?' : c);
    }
}

static void add_value(struct buf *out, const json_t *v) {
    if (json_is_string(v))
        add_safe(out, span_of(json_string_value(v), json_string_length(v)));
    else if (json_is_integer(v))
        buf_addf(out, "%lld", (long long)json_integer_value(v));
    else if (json_is_boolean(v))
        buf_adds(out, json_is_true(v) ? "yes" : "no");
    else if (!v || json_is_null(v))
        buf_adds(out, "-");
    else if (json_is_array(v) && json_array_size(v) == 0)
        buf_adds(out, "-");
    else if (json_is_array(v)) {
        size_t i;
        json_t *item;
        json_array_foreach(v, i, item) {
            if (i)
                buf_adds(out, ", ");
            add_value(out, item);
        }
    } else if (json_is_object(v)) {
        const char *name;
        json_t *item;
        bool first = true;
        json_object_foreach((json_t *)v, name, item) {
            buf_addf(out, first ? "%s=" : " %s=", name);
            add_value(out, item);
            first = false;
        }
    }
}

static bool is_lines(const json_t *v) { return json_is_array(v) && json_is_object(json_array_get(v, 0)); }

static void print_members(const json_t *object, int indent) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value) {
        if (json_is_object(value)) {
            printf("%*s%s:\n", indent, "", name);
            print_members(value, indent + 2);
            continue;
        }
        if (is_lines(value)) {
            size_t i;
            json_t *item;
            printf("%*s%s:\n", indent, "", name);
            json_array_foreach(value, i, item) {
                CLEANUP(buf_wipe) struct buf line = BUF_INIT(65536);
                add_value(&line, item);
                printf("%*s- %s\n", indent + 2, "", buf_str(&line));
            }
            continue;
        }
        CLEANUP(buf_wipe) struct buf text = BUF_INIT(1u << 20);
        add_value(&text, value);
        printf("%*s%s: %s\n", indent, "", name, buf_str(&text));
    }
}

void print_object(const json_t *object) { print_members(object, 0); }

/* Width in characters, not bytes: continuation bytes of UTF-8 take no place. */
static int width_of(const char *s) {
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void print_cell(const char *text, int width, bool last) {
    printf("%s", text);
    if (last)
        putchar('\n');
    else
        printf("%*s", width - width_of(text) + 2, "");
}

static size_t split_columns(const char *columns, char names[COLUMNS_MAX][40]) {
    size_t n = 0;
    while (*columns && n < COLUMNS_MAX) {
        size_t len = strcspn(columns, " ");
        snprintf(names[n++], 40, "%.*s", (int)len, columns);
        columns += len + strspn(columns + len, " ");
    }
    return n;
}

void print_table(const json_t *items, const char *columns) {
    char names[COLUMNS_MAX][40];
    int widths[COLUMNS_MAX];
    size_t n = split_columns(columns, names), i;
    json_t *item;
    for (size_t c = 0; c < n; c++)
        widths[c] = width_of(names[c]);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t c = 0; pass && c < n; c++)
            print_cell(names[c], widths[c], c + 1 == n);
        json_array_foreach(items, i, item) {
            for (size_t c = 0; c < n; c++) {
                CLEANUP(buf_wipe) struct buf cell = BUF_INIT(65536);
                add_value(&cell, json_object_get(item, names[c]));
                if (pass)
                    print_cell(buf_str(&cell), widths[c], c + 1 == n);
                else if (width_of(buf_str(&cell)) > widths[c])
                    widths[c] = width_of(buf_str(&cell));
            }
        }
    }
}

void print_line(struct span text, int width) {
    CLEANUP(buf_wipe) struct buf safe = BUF_INIT(65536);
    add_safe(&safe, text);
    const char *s = buf_str(&safe);
    size_t n = 0;
    for (int at = 0; s[n]; n++) /* at: characters before this byte */
        if (((unsigned char)s[n] & 0xc0) != 0x80 && at++ == width)
            break;
    while (n && s[n - 1] == ' ')
        n--;
    printf("%.*s\n", (int)n, s);
}

void print_warnings(const json_t *object) {
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(object, "warnings"), i, item)
        fprintf(stderr, "warning: %s\n", json_string_value(item) ? json_string_value(item) : "");
}
