/* buf: growing output with a hard maximum, always NUL-terminated behind its last byte.
 *
 * Appending past the maximum or out of memory makes the buffer fail for good (buf_ok() false) and leaves what was there: a
 * builder appends without checking each call and asks once at the end.  Not for secrets; those live in secret.h. */
#ifndef MUSTER_BASE_BUF_H
#define MUSTER_BASE_BUF_H

#include <stdarg.h>

#include "base/err.h"
#include "base/span.h"

struct buf {
    uint8_t *p;   /* owned; NUL behind p[n-1]; NULL while nothing was appended */
    size_t n;     /* bytes used */
    size_t cap;   /* bytes allocated */
    size_t max;   /* bytes that n may reach */
    bool failed;
};

#define BUF_INIT(maximum) ((struct buf){.max = (maximum)})
void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b); /* frees, may be used again with the same maximum */
void buf_wipe(struct buf *b); /* overwrites, then buf_fini */
void buf_clear(struct buf *b); /* n = 0 and not failed; keeps the memory */
static inline bool buf_ok(const struct buf *b) { return !b->failed; }
/* 0, or MUSTER_ENOMEM with text "… longer than N bytes". */
int buf_check(const struct buf *b, struct err *err) MUSTER_MUST_CHECK;
static inline struct span buf_span(const struct buf *b) { return span_of(b->p, b->n); }
/* The content as a C string; "" while empty.  Valid until the next change. */
const char *buf_str(const struct buf *b);

void buf_add(struct buf *b, struct span s);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, uint8_t c);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vaddf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
void buf_add_u16(struct buf *b, uint16_t v); /* big endian, as all integers here */
void buf_add_u32(struct buf *b, uint32_t v);
void buf_add_u64(struct buf *b, uint64_t v);
/* n more bytes to be written by the caller through the pointer (then counted as used), or NULL. */
uint8_t *buf_extend(struct buf *b, size_t n);
/* Room for `more` bytes at once, where it is known that about so many follow. */
void buf_reserve(struct buf *b, size_t more);
/* Drops the first n bytes (n <= b->n). */
void buf_consume(struct buf *b, size_t n);

#endif
