/* log: see log.h.  One line, one write(). */
#include "base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"

#define LINE_MAX_BYTES 8192

static const char *process_name = "muster";
static enum log_level least_level = LOG_INFO;
static atomic_int log_fd = 2;

void log_init(const char *process, enum log_level least) {
    process_name = process;
    least_level = least;
}

void log_set_fd(int fd) { log_fd = fd; }

static bool is_plain(struct span s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] == '"' || s.p[i] == '=' || s.p[i] == '\\' || s.p[i] == 0x7f)
            return false;
    return s.n > 0 && span_is_utf8(s) && !span_has_control(s);
}

static void add_value(struct buf *line, const char *value) {
    struct span s = span_str(value);
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

static void add_pairs(struct buf *line, va_list ap) {
    const char *key;
    while ((key = va_arg(ap, const char *))) {
        const char *value = va_arg(ap, const char *);
        if (!value)
            continue;
        buf_addf(line, " %s=", key);
        add_value(line, value);
    }
}

static void begin(struct buf *line, enum log_level level, const char *event) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    char at[CLOCK_RFC3339_LEN + 1];
    clock_rfc3339(clock_now(), at);
    buf_addf(line, "%s %s %s %s", at, names[level], process_name, event);
}

/* A line that is too long is cut and still ends in a newline. */
static void emit(struct buf *line) {
    line->failed = false;
    line->max = LINE_MAX_BYTES + 8;
    buf_addc(line, '\n');
    if (line->p && write(log_fd, line->p, line->n) < 0) {
        /* There is nowhere left to complain. */
    }
}

void log_event(enum log_level level, const char *event, ...) {
    if (level < least_level)
        return;
    CLEANUP(buf_fini) struct buf line = BUF_INIT(LINE_MAX_BYTES);
    va_list ap;
    begin(&line, level, event);
    va_start(ap, event);
    add_pairs(&line, ap);
    va_end(ap);
    emit(&line);
}

void log_err(enum log_level level, const char *event, const struct err *err, ...) {
    if (level < least_level)
        return;
    CLEANUP(buf_fini) struct buf line = BUF_INIT(LINE_MAX_BYTES);
    va_list ap;
    begin(&line, level, event);
    va_start(ap, err);
    add_pairs(&line, ap);
    va_end(ap);
    buf_addf(&line, " code=%s text=", err_code(err->code));
    add_value(&line, err_text(err));
    emit(&line);
}

const char *log_num(long long v) {
    static _Thread_local char texts[4][24];
    static _Thread_local unsigned turn;
    char *out = texts[turn++ % 4];
    snprintf(out, sizeof texts[0], "%lld", v);
    return out;
}
