/* err: the table of errors and the functions that fill a struct err; see err.h.  Used by everything. */
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/poison.h"

#ifdef MUSTER_ONLY_AGENT
#define OF_THE_GATEWAY(id, http, exit, name, what, fix) E(id, http, exit, name, "", "")
#else
#define OF_THE_GATEWAY E
#endif

/* All texts in one piece, and rows without pointers into it: each of those would be relocated at every start, and take 24 bytes more of a device's program for that. */
static const struct texts {
#define E(id, http, exit, name, what, fix) char id##_name[sizeof name], id##_what[sizeof what], id##_fix[sizeof fix];
#define G OF_THE_GATEWAY
#include "base/errors.def"
#undef E
} TEXTS = {
#define E(id, http, exit, name, what, fix) name, what, fix,
#define G OF_THE_GATEWAY
#include "base/errors.def"
#undef E
};

struct row {
    int16_t code, http, exit;
    uint16_t name, what, fix; /* where they begin in TEXTS */
};

static const struct row ROWS[] = {
#define E(id, http, exit, name, what, fix)                                                                                                                                     \
    {MUSTER_E##id, http, exit, offsetof(struct texts, id##_name), offsetof(struct texts, id##_what), offsetof(struct texts, id##_fix)},
#define G OF_THE_GATEWAY
#include "base/errors.def"
#undef E
};
_Static_assert(sizeof(struct texts) <= UINT16_MAX, "their places have 16 bits");
#define ROWS_N ((int)(sizeof ROWS / sizeof *ROWS))

/* The codes are consecutive from the first row on, in the order of the table. */
static const struct row *row_of(int code) {
    int i = code - ROWS[0].code;
    return &ROWS[i >= 0 && i < ROWS_N ? i : MUSTER_EINTERNAL - ROWS[0].code];
}

int err_vset(struct err *err, int code, const char *fmt, va_list ap) {
    if (!err)
        return code;
    err->code = code;
    err->retry_after = 0;
    err->text[0] = '\0';
    if (fmt && *fmt)
        vsnprintf(err->text, sizeof err->text, fmt, ap);
    return code;
}

int err_set(struct err *err, int code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    err_vset(err, code, fmt, ap);
    va_end(ap);
    return code;
}

int err_retry(struct err *err, int code, int seconds, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    err_vset(err, code, fmt, ap);
    va_end(ap);
    if (err)
        err->retry_after = seconds < 1 ? 1 : seconds;
    return code;
}

int err_prefix(struct err *err, const char *fmt, ...) {
    if (!err)
        return MUSTER_EINTERNAL;
    char before[sizeof err->text], whole[2 * sizeof err->text + 4];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(before, sizeof before, fmt, ap);
    va_end(ap);
    snprintf(whole, sizeof whole, "%s: %s", before, err_text(err));
    memcpy(err->text, whole, sizeof err->text);
    err->text[sizeof err->text - 1] = '\0';
    return err->code;
}

static const char *text_at(uint16_t at) { return (const char *)&TEXTS + at; }

const char *err_code(int code) { return text_at(row_of(code)->name); }
const char *err_what(int code) { return text_at(row_of(code)->what); }
const char *err_fix(int code) { return text_at(row_of(code)->fix); }
int err_http(int code) { return row_of(code)->http; }
int err_exit(int code) { return code == 0 ? 0 : row_of(code)->exit; }
const char *err_text(const struct err *err) { return err->text[0] ? err->text : err_what(err->code); }

int err_from_code(const char *code) {
    for (int i = 0; i < ROWS_N; i++)
        if (!strcmp(text_at(ROWS[i].name), code))
            return ROWS[i].code;
    return 0;
}

int err_count(void) { return ROWS_N; }
int err_at(int i) { return ROWS[i].code; }
