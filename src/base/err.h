/* err: the one error idiom.
 *
 * A function that can fail returns int: 0, or a negative MUSTER_E….  Where a person needs the reason the last argument is a
 * `struct err *` (NULL is accepted), which then has the code and a sentence with the particulars.  errors.def is the one
 * table of codes; from it come HTTP status, the stable API string, the exit status and the advice.
 *
 * Texts never hold a secret: no key, token, passphrase or body of a request is ever formatted into an error. */
#ifndef MUSTER_BASE_ERR_H
#define MUSTER_BASE_ERR_H

#include <stdarg.h>

enum {
    MUSTER_ERR_LAST__ = -1000,
#define E(name, http, exit, code, what, fix) MUSTER_E##name,
#include "base/errors.def"
#undef E
    MUSTER_ERR_END__
};

#define MUSTER_MUST_CHECK __attribute__((warn_unused_result))

struct err {
    int code;        /* 0 or MUSTER_E… */
    int retry_after; /* seconds; 0: none.  Becomes Retry-After (RFC 9110, 10.2.3) */
    char text[480];  /* what happened, with the particulars; a complete sentence; "" where the table's text says it all */
};

#define ERR_INIT ((struct err){0})

/* Sets *err (where not NULL) and returns code, so that `return err_set(err, MUSTER_EINVALID, "…")` is the whole idiom.
 * fmt NULL or "" keeps the table's own sentence. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int err_vset(struct err *err, int code, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));
/* As err_set, with Retry-After in seconds (at least 1). */
int err_retry(struct err *err, int code, int seconds, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Puts "prefix: " before the text that is there and returns its code. */
int err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* For static analysis alone (tests/static/run), which does not see into err.c: the code that is given is the one that is returned, and never 0. */
#ifdef MUSTER_ANALYZED
static inline int err_given(int rc, int code) {
    if (rc != code || rc >= 0)
        __builtin_unreachable();
    return rc;
}
#define err_set(err, code, ...) err_given(err_set(err, code, __VA_ARGS__), code)
#define err_retry(err, code, ...) err_given(err_retry(err, code, __VA_ARGS__), code)
#endif

/* Facts of a code, never NULL; an unknown code gives those of MUSTER_EINTERNAL. */
const char *err_code(int code); /* "device_revoked" */
const char *err_what(int code);
const char *err_fix(int code);
int err_http(int code);
int err_exit(int code);
/* The sentence to show: err->text, or the table's where that is empty. */
const char *err_text(const struct err *err);
/* The MUSTER_E… of a stable string, or 0. */
int err_from_code(const char *code);
/* Iterates over the table for documentation and tests: codes for i in [0, err_count()). */
int err_count(void);
int err_at(int i);

#endif
