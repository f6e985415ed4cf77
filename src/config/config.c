/* config: see config.h.  Used by musterd alone. */
#include "config/config.h"

#include <errno.h>
#include <ini.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/man.h"

#define LINE_LIMIT 199 /* inih's buffer holds 200 bytes with NUL */
#define VALUE_MAX 4000
#define KEYS_MAX 128

struct reader {
    const char *path;
    const struct config_key *table; /* of the section under way, or of the file */
    size_t n;
    void *out;
    void *file_out;
    const struct config_section *sections;
    size_t n_sections;
    struct err *err;
    int rc;
    int line[KEYS_MAX]; /* where a key was read, 0: not yet */
    bool numbered[KEYS_MAX];
    struct buf list[KEYS_MAX];
    FILE *file;
    int at;       /* number of the line under way */
    char *raw; /* the line, owned */
    size_t raw_size;
};

static int refuse(const char *where, struct err *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int refuse(const char *where, struct err *err, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    err_vset(err, MUSTER_ECONFIG, fmt, ap);
    va_end(ap);
    err_prefix(err, "%s", where);
    return MUSTER_ECONFIG;
}

static const struct config_key *find(const struct config_key *table, size_t n, struct span name) {
    for (size_t i = 0; i < n; i++)
        if (span_eq_str(name, table[i].name))
            return &table[i];
    return NULL;
}

static int set_text(char **at, const char *value, struct err *err) {
    char *copy = strdup(value);
    if (!copy)
        return err_set(err, MUSTER_ENOMEM, NULL);
    free(*at);
    *at = copy;
    return 0;
}

/* Words with single blanks between. */
static int set_list(char **at, const char *value, struct err *err) {
    CLEANUP(buf_fini) struct buf words = BUF_INIT(VALUE_MAX);
    for (const char *p = value; *p;) {
        size_t blanks = strspn(p, " \t"), n = strcspn(p + blanks, " \t");
        if (n && words.n)
            buf_addc(&words, ' ');
        buf_add(&words, span_of(p + blanks, n));
        p += blanks + n;
    }
    int rc = buf_check(&words, err);
    return rc ? rc : set_text(at, buf_str(&words), err);
}

static int parse_bool(const char *value, bool *out) {
    static const char *const words[][2] = {{"yes", "no"}, {"on", "off"}, {"true", "false"}};
    for (size_t i = 0; i < 3; i++)
        for (int no = 0; no < 2; no++)
            if (!strcmp(value, words[i][no])) {
                *out = !no;
                return 0;
            }
    return MUSTER_EINVALID;
}

static int parse_choice(const char *value, const char *choices) {
    size_t n = strlen(value);
    for (int i = 0; *choices; i++) {
        size_t len = strcspn(choices, "|");
        if (len == n && !strncmp(choices, value, n))
            return i;
        choices += len + (choices[len] == '|');
    }
    return -1;
}

static int set_number(const struct config_key *k, int64_t *at, const char *where, const char *value, struct err *err) {
    int64_t v = 0;
    uint64_t u = 0;
    bool ok = k->type == CONFIG_SPAN ? clock_parse_span(span_str(value), &v) == 0 : span_to_u64(span_str(value), &u) && u <= INT64_MAX;
    if (k->type == CONFIG_INT)
        v = (int64_t)u;
    if (!ok)
        return refuse(where, err, "%s takes %s, not \"%s\".", k->name, k->type == CONFIG_SPAN ? "a length of time such as 30d, 12h or 90s" : "a whole number", value);
    if (v < k->least || v > k->most)
        return refuse(where, err, "%s lies between %lld and %lld, and \"%s\" does not.", k->name, (long long)k->least, (long long)k->most, value);
    *at = v;
    return 0;
}

static int set_key(const struct config_key *k, void *out, const char *where, const char *value, struct err *err) {
    void *at = (char *)out + k->offset;
    switch (k->type) {
    case CONFIG_TEXT:
        return set_text(at, value, err);
    case CONFIG_LIST:
        return set_list(at, value, err);
    case CONFIG_BOOL:
        return parse_bool(value, at) ? refuse(where, err, "%s takes yes or no, not \"%s\".", k->name, value) : 0;
    case CONFIG_INT:
    case CONFIG_SPAN:
        return set_number(k, at, where, value, err);
    case CONFIG_CHOICE: {
        int i = parse_choice(value, k->choices);
        if (i < 0)
            return refuse(where, err, "%s is one of %s, not \"%s\".", k->name, k->choices, value);
        *(int *)at = i;
        return 0;
    }
    }
    return err_set(err, MUSTER_EINTERNAL, NULL);
}

int config_set(const struct config_key *table, size_t n, void *out, const char *where, const char *name, const char *value, struct err *err) {
    const struct config_key *k = find(table, n, span_str(name));
    return k ? set_key(k, out, where, value, err) : refuse(where, err, "%s is not a setting.", name);
}

/* What libinih takes for a comment behind a value: ';' after any white space. */
static bool has_comment(const char *line) {
    if (line[0] == '#' || line[0] == ';')
        return false;
    for (const char *c = line + 1; *line && *c; c++)
        if (*c == ';' && strchr(" \t\v\f", c[-1]))
            return true;
    return false;
}

/* A NUL or CR would hide the rest of its line, a form feed would continue the line before. */
static bool has_control(const char *line, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (((uint8_t)line[i] < 0x20 && line[i] != '\t') || line[i] == 0x7f)
            return true;
    return false;
}

static int set_defaults(const struct config_key *table, size_t n, void *out, struct err *err) {
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++)
        rc = set_key(&table[i], out, "default", table[i].fallback, err);
    return rc;
}

static void forget_lines(struct reader *r) {
    for (size_t i = 0; i < r->n; i++)
        buf_fini(&r->list[i]);
    memset(r->line, 0, sizeof r->line);
    memset(r->numbered, 0, sizeof r->numbered);
}

/* [name argument] */
static int begin_section(struct reader *r, const char *where) {
    struct span line = span_trim(span_str(r->raw));
    if (line.n < 3 || line.p[line.n - 1] != ']')
        return refuse(where, r->err, "The section does not end in ].");
    line = span_sub(line, 1, line.n - 2);
    long blank = span_index(line, ' ');
    struct span name = blank < 0 ? line : span_sub(line, 0, (size_t)blank), rest = blank < 0 ? SPAN_NONE : span_trim(span_sub(line, (size_t)blank, line.n));
    char argument[LINE_LIMIT + 1];
    snprintf(argument, sizeof argument, "%.*s", SPAN_FMT(rest));
    for (size_t i = 0; i < r->n_sections; i++) {
        const struct config_section *s = &r->sections[i];
        if (!span_eq_str(name, s->name))
            continue;
        forget_lines(r);
        int rc = s->begin(r->file_out, argument, &r->out, r->err);
        if (rc) {
            err_prefix(r->err, "%s", where);
            return rc;
        }
        r->table = s->table;
        r->n = s->n;
        return set_defaults(s->table, s->n, r->out, r->err);
    }
    return refuse(where, r->err, "There is no kind of section of that name.");
}

#define MARK "\xef\xbb\xbf" /* an editor's, of the byte order: at the beginning of the file it says nothing */
static bool begins_with_mark(const char *line) { return strncmp(line, MARK, strlen(MARK)) == 0; }

static char *next_line(char *str, int num, void *stream) {
    struct reader *r = stream;
    char where[4200];
    /* getline, because its length tells what stands behind a NUL. */
    ssize_t n = r->rc ? -1 : getline(&r->raw, &r->raw_size, r->file);
    if (n < 0)
        return NULL;
    r->at++;
    snprintf(where, sizeof where, "%s:%d", r->path, r->at);
    if (n && r->raw[n - 1] == '\n')
        r->raw[--n] = '\0';
    if (n && r->raw[n - 1] == '\r')
        r->raw[--n] = '\0';
    if (r->at == 1 && begins_with_mark(r->raw))
        memmove(r->raw, r->raw + strlen(MARK), (size_t)(n -= (ssize_t)strlen(MARK)) + 1);
    if (r->raw[strspn(r->raw, " \t")] == '\0' && strlen(r->raw) == (size_t)n)
        r->raw[n = 0] = '\0'; /* blanks alone are an empty line */
    if (has_control(r->raw, (size_t)n))
        r->rc = refuse(where, r->err, "The line holds a control character.");
    else if (strlen(r->raw) > LINE_LIMIT)
        r->rc = refuse(where, r->err, "The line is longer than %d bytes; a list may be split over key.1, key.2 and so on.", LINE_LIMIT);
    else if (has_comment(r->raw))
        r->rc = refuse(where, r->err, "A value cannot hold \" ;\": write a comment on a line of its own, with #.");
    else if (r->raw[0] == ' ' || r->raw[0] == '\t')
        r->rc = refuse(where, r->err, "The line begins with a blank.");
    else if (begins_with_mark(r->raw)) /* inih would pass it over in the first line, once more */
        r->rc = refuse(where, r->err, "The line begins with a byte order mark.");
    else if (r->raw[0] == '[')
        r->rc = begin_section(r, where);
    if (r->rc)
        return NULL;
    snprintf(str, (size_t)num, "%s\n", r->raw[0] == '[' ? "" : r->raw); /* inih would cut a long name */
    return str;
}

/* "host.2" is a part of the list "host". */
static struct span base_name(struct span name, bool *numbered) {
    uint64_t v;
    for (size_t i = name.n; i-- > 1;)
        if (name.p[i] == '.') {
            *numbered = span_to_u64(span_sub(name, i + 1, name.n), &v);
            return *numbered ? span_sub(name, 0, i) : name;
        }
    *numbered = false;
    return name;
}

static int take(void *arg, const char *section, const char *name, const char *value) {
    struct reader *r = arg;
    char where[4200];
    bool numbered;
    snprintf(where, sizeof where, "%s:%d", r->path, r->at);
    if (r->rc)
        return 0;
    if (value[0] == ';') { /* written by init it would read as a comment */
        r->rc = refuse(where, r->err, "A value cannot begin with \";\".");
        return 0;
    }
    const struct config_key *k = find(r->table, r->n, span_str(name));
    numbered = false;
    if (!k) {
        k = find(r->table, r->n, base_name(span_str(name), &numbered));
        if (k && k->type != CONFIG_LIST)
            k = NULL;
    }
    if (!k) {
        r->rc = refuse(where, r->err, "%s is not a setting.", name);
        return 0;
    }
    size_t i = (size_t)(k - r->table);
    if (r->line[i] && !(numbered && r->numbered[i])) {
        r->rc = refuse(where, r->err, "%s stands in line %d already.", k->name, r->line[i]);
        return 0;
    }
    r->line[i] = r->at;
    r->numbered[i] = numbered;
    if (numbered) {
        r->list[i].max = VALUE_MAX;
        buf_addf(&r->list[i], "%s ", value);
        value = buf_str(&r->list[i]);
    }
    r->rc = set_key(k, r->out, where, value, r->err);
    return r->rc == 0;
}

int config_load(const char *path, const struct config_key *table, size_t n, void *out, struct err *err) {
    return config_load_sections(path, table, n, NULL, 0, out, err);
}

/* Of the stream; it has been opened, or errno says why not. */
static int load_stream(FILE *file, const char *path, const struct config_key *table, size_t n, const struct config_section *sections, size_t n_sections, void *out,
                       struct err *err) {
    if (!file)
        return err_set(err, MUSTER_ECONFIG, "%s cannot be opened: %s.", path, strerror(errno));
    if (n > KEYS_MAX)
        return err_set(err, MUSTER_EINTERNAL, "The table of settings is too long.");
    int rc = set_defaults(table, n, out, err);
    if (rc)
        return rc;
    static struct reader r; /* large; settings are read by one thread */
    memset(&r, 0, sizeof r);
    r.path = path;
    r.table = table;
    r.n = n;
    r.out = r.file_out = out;
    r.sections = sections;
    r.n_sections = n_sections;
    r.err = err;
    r.file = file;
    int bad = ini_parse_stream(next_line, &r, take, &r);
    free(r.raw);
    forget_lines(&r);
    if (r.rc)
        return r.rc;
    return bad ? err_set(err, MUSTER_ECONFIG, "%s:%d: The line is not `key = value`.", path, bad) : 0;
}

int config_load_sections(const char *path, const struct config_key *table, size_t n, const struct config_section *sections, size_t n_sections, void *out,
                         struct err *err) {
    if (!path)
        return set_defaults(table, n, out, err);
    CLEANUP(fclose) FILE *file = fopen(path, "re");
    return load_stream(file, path, table, n, sections, n_sections, out, err);
}

int config_load_text(const struct buf *text, const char *name, const struct config_key *table, size_t n, const struct config_section *sections, size_t n_sections, void *out,
                     struct err *err) {
    CLEANUP(fclose) FILE *file = fmemopen(text->p, text->n, "r");
    return load_stream(file, name, table, n, sections, n_sections, out, err);
}

/* Bytes of a value in its struct. */
static size_t size_of(enum config_type type) {
    switch (type) {
    case CONFIG_TEXT:
    case CONFIG_LIST:
        return sizeof(char *);
    case CONFIG_BOOL:
        return sizeof(bool);
    case CONFIG_INT:
    case CONFIG_SPAN:
        return sizeof(int64_t);
    case CONFIG_CHOICE:
        return sizeof(int);
    }
    return 0;
}

bool config_same_key(const struct config_key *k, const void *a, const void *b) {
    const char *left = (const char *)a + k->offset, *right = (const char *)b + k->offset;
    if (k->type == CONFIG_TEXT || k->type == CONFIG_LIST)
        return strcmp(*(char *const *)left, *(char *const *)right) == 0;
    return memcmp(left, right, size_of(k->type)) == 0;
}

bool config_same(const struct config_key *table, size_t n, const void *a, const void *b) {
    for (size_t i = 0; i < n; i++)
        if (!config_same_key(&table[i], a, b))
            return false;
    return true;
}

int config_copy_key(const struct config_key *k, void *to, const void *from, struct err *err) {
    if (k->type == CONFIG_TEXT || k->type == CONFIG_LIST)
        return set_text((char **)((char *)to + k->offset), *(char *const *)((const char *)from + k->offset), err);
    memcpy((char *)to + k->offset, (const char *)from + k->offset, size_of(k->type));
    return 0;
}

void config_fini(const struct config_key *table, size_t n, void *out) {
    for (size_t i = 0; i < n; i++)
        if (table[i].type == CONFIG_TEXT || table[i].type == CONFIG_LIST) {
            char **at = (char **)((char *)out + table[i].offset);
            free(*at);
            *at = NULL;
        }
}

/* Comments wrapped at 100 columns. */
static void comment(struct buf *out, const char *text) {
    while (*text) {
        size_t n = strlen(text);
        if (n > 100)
            for (n = 100; n && text[n] != ' '; n--)
                continue;
        buf_addf(out, "# %.*s\n", (int)n, text);
        text += n + (text[n] == ' ');
    }
}

void config_write(struct buf *out, const struct config_key *table, size_t n, const char *const *set) {
    for (size_t i = 0; i < n; i++) {
        const char *value = NULL;
        for (size_t s = 0; set && set[s]; s += 2)
            if (!strcmp(set[s], table[i].name))
                value = set[s + 1];
        comment(out, table[i].help);
        buf_addf(out, "%s%s = %s\n\n", value ? "" : "#", table[i].name, value ? value : table[i].fallback);
    }
}

static bool is_blank(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Whether a line sets the key; `commented`: as config_write() writes it with a '#' in front. */
static bool line_sets(struct span line, const char *key, bool commented) {
    size_t at = 0, n = strlen(key);
    while (at < line.n && is_blank(line.p[at]))
        at++;
    if (commented && (at >= line.n || line.p[at++] != '#'))
        return false;
    if (line.n - at <= n || memcmp(line.p + at, key, n) != 0)
        return false;
    for (at += n; at < line.n && is_blank(line.p[at]); at++)
        continue;
    return at < line.n && (line.p[at] == '=' || line.p[at] == ':');
}

static bool begins_section(struct span line) {
    size_t at = 0;
    while (at < line.n && is_blank(line.p[at]))
        at++;
    return at < line.n && line.p[at] == '[';
}

/* Lines of the text without their newline. */
static bool text_line(struct span *rest, struct span *line) {
    if (!rest->n)
        return false;
    long end = span_index(*rest, '\n');
    *line = span_sub(*rest, 0, end < 0 ? rest->n : (size_t)end);
    *rest = span_sub(*rest, end < 0 ? rest->n : (size_t)end + 1, rest->n);
    return true;
}

/* Where the key's line is to stand: the number of the line, and whether it takes that one's place.  Behind all lines: there is no place for it yet. */
static size_t place_for(struct span text, const char *key, bool *instead) {
    struct span rest = text, line;
    size_t i = 0, commented = SIZE_MAX, section = SIZE_MAX;
    *instead = false;
    for (; text_line(&rest, &line); i++) {
        if (section == SIZE_MAX && begins_section(line))
            section = i;
        if (section == SIZE_MAX && line_sets(line, key, false)) {
            *instead = true;
            return i;
        }
        if (section == SIZE_MAX && commented == SIZE_MAX && line_sets(line, key, true))
            commented = i;
    }
    return commented != SIZE_MAX ? commented + 1 : section != SIZE_MAX ? section : i;
}

static void rewrite_one(struct span text, const char *key, const char *value, struct buf *out) {
    struct span rest = text, line;
    bool instead, in_section = false;
    size_t place = place_for(text, key, &instead), i = 0;
    for (; text_line(&rest, &line); i++) {
        in_section = in_section || begins_section(line);
        if (i == place && *value)
            buf_addf(out, "%s = %s\n", key, value);
        if (!in_section && line_sets(line, key, false))
            continue;
        buf_add(out, line);
        buf_addc(out, '\n');
    }
    if (i <= place && *value)
        buf_addf(out, "%s = %s\n", key, value);
}

void config_rewrite(struct span text, const char *const *set, struct buf *out) {
    CLEANUP(buf_fini) struct buf now = BUF_INIT(out->max);
    if (span_starts(text, SPAN_LIT(MARK))) /* no line may stand behind it twice */
        text = span_sub(text, strlen(MARK), text.n);
    buf_add(&now, text);
    for (size_t i = 0; set[i]; i += 2) {
        CLEANUP(buf_fini) struct buf before = now;
        now = BUF_INIT(out->max);
        rewrite_one(buf_span(&before), set[i], set[i + 1], &now);
        if (!buf_ok(&before))
            now.failed = true;
    }
    buf_add(out, buf_span(&now));
    if (!buf_ok(&now))
        out->failed = true;
}

void config_write_section(struct buf *out, const struct config_section *section) {
    comment(out, section->help);
    buf_addf(out, "#[%s %s]\n", section->name, section->argument);
    for (size_t i = 0; i < section->n; i++) {
        comment(out, section->table[i].help);
        buf_addf(out, "#%s = %s\n", section->table[i].name, section->table[i].fallback);
    }
    buf_adds(out, "\n");
}

void config_man(FILE *out, const struct config_key *table, size_t n) {
    for (size_t i = 0; i < n; i++) {
        fputs("*", out);
        man_text(out, table[i].name);
        fputs("*\n\t", out);
        man_text(out, table[i].help);
        fputs(table[i].fallback[0] ? " Default: " : " Default: empty", out);
        man_text(out, table[i].fallback);
        fputs(".\n\n", out);
    }
}
