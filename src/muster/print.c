/* print: answers for people and for scripts; see print.h. */
#include "muster/print.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "json/json.h"

#define ITEM_MAX (4u << 20) /* bytes of one item of a list */

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

/* A length of time as whoever sets it says it: in the largest unit that it is whole of. */
static bool add_span(struct buf *out, const char *name, const json_t *v) {
    static const char *const spans[] = {"device_life", "life", "longest_life", "est_life", "lost_answer_window", "renewal_window", "late_renewal", "superseded_renewal"};
    static const struct {
        int64_t seconds;
        char unit;
    } units[] = {{CLOCK_YEAR, 'y'}, {CLOCK_DAY, 'd'}, {CLOCK_HOUR, 'h'}, {CLOCK_MINUTE, 'm'}};
    const int64_t seconds = json_is_integer(v) ? json_integer_value(v) : 0;
    for (size_t i = 0; seconds > 0 && i < sizeof spans / sizeof *spans; i++)
        for (size_t k = 0; !strcmp(name, spans[i]) && k < sizeof units / sizeof *units; k++)
            if (seconds % units[k].seconds == 0) {
                buf_addf(out, "%lld%c", (long long)(seconds / units[k].seconds), units[k].unit);
                return true;
            }
    return false;
}

static bool is_lines(const json_t *v) { return json_is_array(v) && json_is_object(json_array_get(v, 0)); }

/* Certificates in PEM: line by line from the left, as whoever reads them from this output wants them. */
static bool print_pem(const char *name, const json_t *v, int indent) {
    struct span rest = json_is_string(v) ? span_of(json_string_value(v), json_string_length(v)) : SPAN_NONE;
    if (!span_starts(rest, SPAN_LIT("-----BEGIN ")))
        return false;
    printf("%*s%s:\n", indent, "", name);
    while (rest.n) {
        CLEANUP(buf_fini) struct buf line = BUF_INIT(65536);
        long end = span_index(rest, '\n');
        size_t n = end < 0 ? rest.n : (size_t)end;
        add_safe(&line, span_sub(rest, 0, n));
        puts(buf_str(&line));
        rest = span_sub(rest, n + 1, rest.n);
    }
    return true;
}

static void print_members(const json_t *object, int indent) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value) {
        if (json_is_object(value)) {
            printf("%*s%s:\n", indent, "", name);
            print_members(value, indent + 2);
            continue;
        }
        if (print_pem(name, value, indent))
            continue;
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
        if (!add_span(&text, name, value))
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

static void table_rows(struct print_list *l, const json_t *items, bool print) {
    size_t i;
    json_t *item;
    json_array_foreach(items, i, item) {
        for (size_t c = 0; c < l->columns; c++) {
            CLEANUP(buf_wipe) struct buf cell = BUF_INIT(65536);
            add_value(&cell, json_object_get(item, l->names[c]));
            if (print)
                print_cell(buf_str(&cell), l->widths[c], c + 1 == l->columns);
            else if (width_of(buf_str(&cell)) > l->widths[c])
                l->widths[c] = width_of(buf_str(&cell));
        }
    }
}

static void table_header(const struct print_list *l) {
    for (size_t c = 0; c < l->columns; c++)
        print_cell(l->names[c], l->widths[c], c + 1 == l->columns);
}

/* As an element of an array that is indented. */
static int print_item(const json_t *item, bool first, struct err *err) {
    CLEANUP(buf_wipe) struct buf text = BUF_INIT(ITEM_MAX);
    int rc = json_write_pretty(&text, item);
    if (rc)
        return err_set(err, rc, "The answer cannot be written as JSON.");
    fputs(first ? "[\n" : ",\n", stdout);
    for (const char *line = buf_str(&text), *end; *line; line = end + strspn(end, "\n")) {
        end = line + strcspn(line, "\n");
        printf("%s  %.*s", line == buf_str(&text) ? "" : "\n", (int)(end - line), line);
    }
    return 0;
}

void print_list_begin(struct print_list *l, const char *columns) {
    *l = (struct print_list){0};
    while (columns && *columns && l->columns < PRINT_COLUMNS) {
        size_t len = strcspn(columns, " ");
        snprintf(l->names[l->columns], sizeof l->names[0], "%.*s", (int)len, columns);
        l->widths[l->columns] = width_of(l->names[l->columns]);
        l->columns++;
        columns += len + strspn(columns + len, " ");
    }
}

int print_list_items(struct print_list *l, const json_t *items, struct err *err) {
    size_t i;
    json_t *item;
    int rc;
    if (l->columns) {
        table_rows(l, items, false);
        if (!l->done && json_array_size(items))
            table_header(l);
        table_rows(l, items, true);
    } else {
        json_array_foreach(items, i, item)
            if ((rc = print_item(item, l->done + i == 0, err)))
                return rc;
    }
    l->done += json_array_size(items);
    return 0;
}

void print_list_end(struct print_list *l) {
    if (l->columns && !l->done)
        table_header(l);
    else if (!l->columns)
        puts(l->done ? "\n]" : "[]");
}

void print_table(const json_t *items, const char *columns) {
    struct print_list l;
    print_list_begin(&l, columns);
    table_rows(&l, items, false);
    table_header(&l);
    table_rows(&l, items, true);
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
        print_message("warning: ", json_string_value(item) ? json_string_value(item) : "");
}

void print_message(const char *before, const char *text) {
    CLEANUP(buf_wipe) struct buf safe = BUF_INIT(65536);
    add_safe(&safe, span_str(text));
    fprintf(stderr, "%s%s\n", before, buf_str(&safe));
}
