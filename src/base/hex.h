/* hex and base64: text forms of bytes. */
#ifndef MUSTER_BASE_HEX_H
#define MUSTER_BASE_HEX_H

#include "base/buf.h"

/* The value of one digit of either case, or -1. */
static inline int hex_digit(uint8_t c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}
/* Lower-case; out has 2n + 1 bytes. */
void hex_encode(struct span s, char *out);
void hex_add(struct buf *b, struct span s);
/* Exactly n bytes from 2n digits of either case; MUSTER_EINVALID else. */
int hex_decode(struct span text, uint8_t *out, size_t n) MUSTER_MUST_CHECK;
/* RFC 4648, section 4, with padding, one line. */
void base64_add(struct buf *b, struct span s);
/* The same in lines of 64 characters, each with a line feed behind it. */
void base64_add_lines(struct buf *b, struct span s);
/* RFC 4648, section 5, without padding. */
void base64url_add(struct buf *b, struct span s);
/* Strict: no blanks, padding required; MUSTER_EINVALID else. */
int base64_decode(struct span text, struct buf *out) MUSTER_MUST_CHECK;
/* As strict, but blanks, tabs and line ends are passed over wherever they stand (RFC 8951, 3.1). */
int base64_decode_lines(struct span text, struct buf *out) MUSTER_MUST_CHECK;

#endif
