/* cursor: checked reading from a span.  A read past the end makes the cursor fail for good and yields zeros, so a parser
 * reads all fields and asks cursor_done() once. */
#ifndef MUSTER_BASE_CURSOR_H
#define MUSTER_BASE_CURSOR_H

#include "base/span.h"

struct cursor {
    struct span rest;
    bool failed;
};

static inline struct cursor cursor_of(struct span s) { return (struct cursor){s, false}; }
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c); /* big endian */
uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);
struct span cursor_bytes(struct cursor *c, size_t n);
/* No failure and nothing left over. */
static inline bool cursor_done(const struct cursor *c) { return !c->failed && c->rest.n == 0; }

#endif
