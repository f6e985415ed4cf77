/* der: writes DER (X.690, 10) from its end to its beginning, so that every length is known when it is written.
 *
 * Used for what is made often and has one shape (leaf.c, pkcs12.c); everything else is libcrypto's.  Writing past the beginning makes the
 * writer fail for good: ask der_written() once, at the end. */
#ifndef MUSTER_PKI_DER_H
#define MUSTER_PKI_DER_H

#include "base/span.h"

#define DER_BOOLEAN 0x01
#define DER_INTEGER 0x02
#define DER_BIT_STRING 0x03
#define DER_OCTET_STRING 0x04
#define DER_OID 0x06
#define DER_ENUMERATED 0x0a
#define DER_UTF8_STRING 0x0c
#define DER_UTC_TIME 0x17
#define DER_GENERALIZED_TIME 0x18
#define DER_SEQUENCE 0x30
#define DER_SET 0x31
#define DER_CONTEXT(n) (0xa0 | (n)) /* constructed: an explicit tag */
#define DER_IMPLICIT(n) (0x80 | (n))

/* Bytes that are the same each time, as a span. */
#define DER_BYTES(...) span_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

struct der_writer {
    uint8_t *b;  /* the caller's */
    size_t size;
    size_t at;   /* the first byte that was written */
    bool failed;
};

static inline struct der_writer der_writer_of(uint8_t *b, size_t size) { return (struct der_writer){.b = b, .size = size, .at = size}; }
/* Puts s in front of what was written. */
void der_put(struct der_writer *w, struct span s);
/* Where the next element ends; for der_wrap(). */
static inline size_t der_end(const struct der_writer *w) { return w->at; }
/* Makes all that was written since `end` the content of one element. */
void der_wrap(struct der_writer *w, uint8_t tag, size_t end);
/* The tag and length of an element whose content of n bytes stands elsewhere. */
void der_header(struct der_writer *w, uint8_t tag, size_t n);
/* An element with this content. */
void der_element(struct der_writer *w, uint8_t tag, struct span content);
/* A bit string of whole bytes. */
void der_bits(struct der_writer *w, struct span content);
/* All of it; SPAN_NONE where it did not fit. */
static inline struct span der_written(const struct der_writer *w) { return w->failed ? SPAN_NONE : span_of(w->b + w->at, w->size - w->at); }

#endif
