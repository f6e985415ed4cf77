/* span: bytes that somebody else owns.  Input is passed as a span; it is never assumed to end in NUL. */
#ifndef MUSTER_BASE_SPAN_H
#define MUSTER_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *p; /* may be NULL where n is 0 */
    size_t n;         /* bytes */
};

#define SPAN_NONE ((struct span){NULL, 0})
#define SPAN_LIT(s) ((struct span){(const uint8_t *)(s), sizeof(s) - 1})
/* printf("%.*s", SPAN_FMT(x)) */
#define SPAN_FMT(s) (int)(s).n, (const char *)(s).p

static inline struct span span_of(const void *p, size_t n) { return (struct span){p, n}; }
static inline struct span span_str(const char *s) { return (struct span){(const uint8_t *)s, s ? strlen(s) : 0}; }
static inline bool span_empty(struct span s) { return s.n == 0; }
static inline bool span_eq(struct span a, struct span b) { return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0); }
static inline bool span_eq_str(struct span a, const char *s) { return span_eq(a, span_str(s)); }
/* ASCII letters compared without case (header names, host names). */
bool span_eq_nocase(struct span a, struct span b);
bool span_starts(struct span s, struct span prefix);
bool span_ends(struct span s, struct span suffix);
/* Bytes from `at` for at most `n`; clipped to what is there. */
struct span span_sub(struct span s, size_t at, size_t n);
/* Index of byte c, or -1. */
long span_index(struct span s, uint8_t c);
/* Index of where these bytes first stand in s, or -1; no bytes stand nowhere. */
long span_find(struct span s, struct span bytes);
/* Without spaces and tabs at both ends. */
struct span span_trim(struct span s);
/* Well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). */
bool span_is_utf8(struct span s);
/* Whether valid UTF-8 holds a control character: C0, DEL, C1, U+2028/2029, or U+FEFF and the bidi controls that disguise text. */
bool span_has_control(struct span s);
/* The first code point of s and its length in bytes; 0 where s does not begin with well-formed UTF-8. */
size_t span_utf8_next(struct span s, uint32_t *code);
bool span_code_is_control(uint32_t code); /* one of those of span_has_control */
/* A decimal number of digits only, without sign or blanks; false on overflow or anything else. */
bool span_to_u64(struct span s, uint64_t *out);

#endif
