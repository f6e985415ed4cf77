/* log: see log.h.  One line, one write(). */
#include "base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"

#define LINE_MAX_BYTES 8192
#define JSON_VALUE_MAX 1024 /* bytes of a value: six times that, escaped, still fits into a line */
#define JSON_CUT ",\"cut\":\"yes\"" /* behind the last pair that fitted */

static const char *process_name = "muster";
static enum log_level least_level = LOG_INFO;
static enum log_format line_format = LOG_TEXT;
static atomic_int log_fd = 2;

void log_init(const char *process, enum log_level least) {
    process_name = process;
    least_level = least;
}

void log_set_format(enum log_format format) { line_format = format; }
void log_set_fd(int fd) { log_fd = fd; }

/* --- text ---------------------------------------------------------------------------------------------------------------------------- */

static bool is_plain(struct span s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] == '"' || s.p[i] == '=' || s.p[i] == '\\' || s.p[i] == 0x7f)
            return false;
    return s.n > 0 && span_is_utf8(s) && !span_has_control(s);
}

static void text_value(struct buf *line, struct span s) {
    if (is_plain(s)) {
        buf_add(line, s);
        return;
    }
    bool text = span_is_utf8(s) && !span_has_control(s);
    buf_addc(line, '"');
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (c == '"' || c == '\\')
            buf_addf(line, "\\%c", c);
        else if (c < 0x20 || c == 0x7f || (!text && c >= 0x80))
            buf_addf(line, "\\x%02x", c);
        else
            buf_addc(line, c);
    }
    buf_addc(line, '"');
}

/* --- JSON (RFC 8259) ------------------------------------------------------------------------------------------------------------------- */

static void json_code(struct buf *line, struct span bytes, uint32_t code) {
    if (code == '"' || code == '\\')
        buf_addf(line, "\\%c", (int)code);
    else if (span_code_is_control(code)) /* all of them are in the basic plane */
        buf_addf(line, "\\u%04x", (unsigned)code);
    else
        buf_add(line, bytes);
}

static void json_value(struct buf *line, struct span s) {
    buf_addc(line, '"');
    for (size_t i = 0; i < s.n;) {
        uint32_t code;
        size_t n = span_utf8_next(span_sub(s, i, s.n), &code);
        if (i + (n ? n : 1) > JSON_VALUE_MAX) {
            buf_adds(line, "…");
            break;
        }
        if (n)
            json_code(line, span_sub(s, i, n), code);
        else
            buf_adds(line, "\\ufffd");
        i += n ? n : 1;
    }
    buf_addc(line, '"');
}

/* --- a line ---------------------------------------------------------------------------------------------------------------------------- */

struct line {
    struct buf text;
    bool cut; /* JSON: a pair did not fit, and none is added any more */
};

static void add_pair(struct line *l, const char *key, struct span value) {
    if (line_format == LOG_TEXT) {
        buf_addf(&l->text, " %s=", key);
        text_value(&l->text, value);
        return;
    }
    size_t before = l->text.n;
    if (l->cut)
        return;
    buf_addf(&l->text, ",\"%s\":", key);
    json_value(&l->text, value);
    if (!l->text.failed && l->text.n <= LINE_MAX_BYTES - sizeof JSON_CUT)
        return;
    l->cut = true;
    l->text.failed = false;
    l->text.n = before;
    buf_adds(&l->text, JSON_CUT);
}

static void add_pairs(struct line *l, va_list ap) {
    const char *key;
    while ((key = va_arg(ap, const char *))) {
        const char *value = va_arg(ap, const char *);
        if (value)
            add_pair(l, key, span_str(value));
    }
}

static void begin(struct line *l, enum log_level level, const char *event) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    char at[CLOCK_RFC3339_LEN + 1];
    int64_t ms = clock_now_ms();
    *l = (struct line){.text = BUF_INIT(LINE_MAX_BYTES)};
    clock_rfc3339(ms / 1000, at);
    at[CLOCK_RFC3339_LEN - 1] = '\0'; /* the Z follows the fraction */
    buf_addf(&l->text, line_format == LOG_JSON ? "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"process\":\"%s\",\"event\":\"%s\"" : "%s.%03dZ %s %s %s", at,
             (int)(ms % 1000), names[level], process_name, event);
}

/* A line that is too long is cut and still ends in a newline. */
static void end(struct line *l) {
    struct buf *b = &l->text;
    b->failed = false;
    b->max = LINE_MAX_BYTES + 8;
    buf_adds(b, line_format == LOG_JSON ? "}\n" : "\n");
    if (b->p && write(log_fd, b->p, b->n) < 0) {
        /* There is nowhere left to complain. */
    }
    buf_fini(b);
}

void log_event(enum log_level level, const char *event, ...) {
    if (level < least_level)
        return;
    struct line line;
    va_list ap;
    begin(&line, level, event);
    va_start(ap, event);
    add_pairs(&line, ap);
    va_end(ap);
    end(&line);
}

void log_err(enum log_level level, const char *event, const struct err *err, ...) {
    if (level < least_level)
        return;
    struct line line;
    va_list ap;
    begin(&line, level, event);
    va_start(ap, err);
    add_pairs(&line, ap);
    va_end(ap);
    add_pair(&line, "code", span_str(err_code(err->code)));
    add_pair(&line, "text", span_str(err_text(err)));
    end(&line);
}

bool log_within(struct log_budget *b, int64_t a_second, const char *left_out) {
    int64_t now = clock_mono_ms() / 1000;
    if (b->second != now) {
        if (b->count > a_second)
            log_event(LOG_WARN, left_out, "count", log_num(b->count - a_second), NULL);
        *b = (struct log_budget){.second = now};
    }
    return ++b->count <= a_second;
}

const char *log_num(long long v) {
    static _Thread_local char texts[4][24];
    static _Thread_local unsigned turn;
    char *out = texts[turn++ % 4];
    snprintf(out, sizeof texts[0], "%lld", v);
    return out;
}
