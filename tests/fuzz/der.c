/* der: see der.h. */
#include "der.h"

#define DEPTH_MAX 24

bool der_element(struct span s, struct span *whole, struct span *content) {
    if (s.n < 2 || (s.p[0] & 0x1f) == 0x1f)
        return false;
    size_t n = s.p[1], head = 2;
    if (n & 0x80) {
        size_t digits = n & 0x7f;
        if (digits < 1 || digits > 3 || s.n < 2 + digits)
            return false;
        n = 0;
        for (size_t i = 0; i < digits; i++)
            n = n << 8 | s.p[2 + i];
        head += digits;
    }
    if (n > s.n - head)
        return false;
    *whole = span_sub(s, 0, head + n);
    *content = span_sub(s, head, n);
    return true;
}

void der_add(struct buf *out, uint8_t tag, struct span content) {
    buf_addc(out, tag);
    if (content.n >= 0x100) {
        buf_addc(out, 0x82);
        buf_add_u16(out, (uint16_t)content.n);
    } else if (content.n >= 0x80) {
        buf_addc(out, 0x81);
        buf_addc(out, (uint8_t)content.n);
    } else {
        buf_addc(out, (uint8_t)content.n);
    }
    buf_add(out, content);
}

/* Whether all of s is elements. */
static bool is_sequence(struct span s) {
    struct span whole, content;
    if (s.n == 0)
        return false;
    for (; s.n; s = span_sub(s, whole.n, s.n))
        if (!der_element(s, &whole, &content))
            return false;
    return true;
}

/* Constructed, or an OCTET STRING that wraps DER, as extensions have it. */
static bool goes_down(uint8_t tag, struct span content, int depth) {
    return depth < DEPTH_MAX && ((tag & 0x20) || tag == 0x04) && is_sequence(content);
}

static unsigned count(struct span s, int depth) {
    struct span whole, content;
    unsigned n = 0;
    for (; s.n && der_element(s, &whole, &content); s = span_sub(s, whole.n, s.n))
        n += 1 + (goes_down(s.p[0], content, depth) ? count(content, depth + 1) : 0);
    return n;
}

static void change(struct span whole, uint8_t tag, struct span content, unsigned *random, struct buf *out) {
    static const uint8_t tags[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0c, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1c, 0x1e, 0x30, 0x31, 0x80, 0x82, 0x86, 0xa0, 0xa3};
    uint8_t bytes[2048];
    switch (der_random(random, 8)) {
    case 0: /* gone */
        return;
    case 1: /* twice */
        buf_add(out, whole);
        buf_add(out, whole);
        return;
    case 2:
        der_add(out, tags[der_random(random, sizeof tags)], content);
        return;
    }
    if (content.n >= sizeof bytes) {
        buf_add(out, whole);
        return;
    }
    if (content.n)
        memcpy(bytes, content.p, content.n);
    size_t n = LLVMFuzzerMutate(bytes, content.n, content.n + 64 < sizeof bytes ? content.n + 64 : sizeof bytes);
    der_add(out, tag, span_of(bytes, n));
}

static void rebuild(struct span s, unsigned *target, unsigned *random, int depth, struct buf *out) {
    struct span whole, content;
    for (; s.n; s = span_sub(s, whole.n, s.n)) {
        if (!der_element(s, &whole, &content)) {
            buf_add(out, s);
            return;
        }
        if ((*target)-- == 0) {
            change(whole, s.p[0], content, random, out);
        } else if (goes_down(s.p[0], content, depth)) {
            CLEANUP(buf_fini) struct buf inner = BUF_INIT(out->max);
            rebuild(content, target, random, depth + 1, &inner);
            der_add(out, s.p[0], buf_span(&inner));
        } else {
            buf_add(out, whole);
        }
    }
}

void der_mutate(struct span in, unsigned *random, struct buf *out) {
    unsigned n = count(in, 0), target = n ? der_random(random, n) : 0;
    rebuild(in, &target, random, 0, out);
}
