/* cursor: see cursor.h. */
#include "base/cursor.h"

struct span cursor_bytes(struct cursor *c, size_t n) {
    if (c->failed || n > c->rest.n) {
        c->failed = true;
        return SPAN_NONE;
    }
    struct span taken = span_of(c->rest.p, n);
    c->rest = span_sub(c->rest, n, c->rest.n);
    return taken;
}

static uint64_t be(struct cursor *c, size_t n) {
    struct span s = cursor_bytes(c, n);
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++)
        v = v << 8 | s.p[i];
    return v;
}

uint8_t cursor_u8(struct cursor *c) { return (uint8_t)be(c, 1); }
uint16_t cursor_u16(struct cursor *c) { return (uint16_t)be(c, 2); }
uint32_t cursor_u32(struct cursor *c) { return (uint32_t)be(c, 4); }
uint64_t cursor_u64(struct cursor *c) { return be(c, 8); }
