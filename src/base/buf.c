/* buf: see buf.h.  Used by everything that builds output. */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/secret.h"

void buf_init(struct buf *b, size_t max) { *b = BUF_INIT(max); }

void buf_fini(struct buf *b) {
    free(b->p);
    *b = BUF_INIT(b->max);
}

void buf_wipe(struct buf *b) {
    if (b->p)
        secret_wipe(b->p, b->cap);
    buf_fini(b);
}

void buf_clear(struct buf *b) {
    b->n = 0;
    b->failed = false;
    if (b->p)
        b->p[0] = '\0';
}

int buf_check(const struct buf *b, struct err *err) {
    return b->failed ? err_set(err, MUSTER_ENOMEM, "The text would be longer than %zu bytes.", b->max) : 0;
}

const char *buf_str(const struct buf *b) { return b->p ? (const char *)b->p : ""; }

/* Grown memory is copied by hand and the old is wiped: a buffer may hold a key on its way to a file. */
static bool grow(struct buf *b, size_t more) {
    if (b->failed || more > b->max || b->n > b->max - more) {
        b->failed = true;
        return false;
    }
    size_t need = b->n + more + 1;
    if (need <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap *= 2;
    uint8_t *p = malloc(cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    if (b->p) {
        memcpy(p, b->p, b->n);
        secret_wipe(b->p, b->cap);
        free(b->p);
    }
    b->p = p;
    b->cap = cap;
    return true;
}

uint8_t *buf_extend(struct buf *b, size_t n) {
    if (!grow(b, n))
        return NULL;
    uint8_t *at = b->p + b->n;
    b->n += n;
    b->p[b->n] = '\0';
    return at;
}

void buf_reserve(struct buf *b, size_t more) {
    if (more <= b->max - b->n)
        (void)grow(b, more);
}

void buf_add(struct buf *b, struct span s) {
    uint8_t *at = buf_extend(b, s.n);
    if (at && s.n)
        memcpy(at, s.p, s.n);
}

void buf_adds(struct buf *b, const char *s) { buf_add(b, span_str(s)); }
void buf_addc(struct buf *b, uint8_t c) { buf_add(b, span_of(&c, 1)); }

void buf_vaddf(struct buf *b, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0 || !grow(b, (size_t)n)) {
        b->failed = true;
        return;
    }
    vsnprintf((char *)b->p + b->n, (size_t)n + 1, fmt, ap);
    b->n += (size_t)n;
}

void buf_addf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    buf_vaddf(b, fmt, ap);
    va_end(ap);
}

static void add_be(struct buf *b, uint64_t v, size_t n) {
    uint8_t *at = buf_extend(b, n);
    for (size_t i = 0; at && i < n; i++)
        at[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
}

void buf_add_u16(struct buf *b, uint16_t v) { add_be(b, v, 2); }
void buf_add_u32(struct buf *b, uint32_t v) { add_be(b, v, 4); }
void buf_add_u64(struct buf *b, uint64_t v) { add_be(b, v, 8); }

void buf_consume(struct buf *b, size_t n) {
    if (n == 0)
        return;
    b->n -= n;
    memmove(b->p, b->p + n, b->n);
    b->p[b->n] = '\0';
}
