/* chunked: the strict reader of the chunked transfer coding; see chunked.h.  It must never skip a byte that it did not check. */
#include "http/chunked.h"

#include "base/hex.h"

#define SIZE_DIGITS_MAX 8

static int malformed(struct err *err, const char *text) { return err_set(err, MUSTER_EHTTPMALFORMED, "%s", text); }

static int feed_size(struct chunked *c, uint8_t b, const struct buf *out, struct err *err) {
    int v = hex_digit(b);
    if (v >= 0) {
        if (c->digits >= SIZE_DIGITS_MAX)
            return malformed(err, "A chunk's size has too many digits.");
        c->left = c->left * 16 + (uint64_t)v;
        c->digits++;
        return 0;
    }
    if (c->digits == 0)
        return malformed(err, "A chunk does not begin with its size.");
    if (b != '\r')
        return malformed(err, b == ';' ? "Chunk extensions are not accepted." : "A chunk's size is not a hexadecimal number.");
    uint64_t most = c->max ? c->max : out->max, room = c->max ? c->max - c->taken : out->max - out->n;
    if (c->left > room) /* before any of it is taken */
        return err_set(err, MUSTER_EHTTPBODY, "The body is longer than %llu bytes.", (unsigned long long)most);
    c->state = CHUNKED_SIZE_LF;
    return 0;
}

/* A line that nobody wants to know. */
static int feed_trailer(struct chunked *c, uint8_t b, struct err *err) {
    if (!c->skip_trailers)
        return malformed(err, "Trailer fields are not accepted.");
    if (++c->skipped > CHUNKED_TRAILERS_MAX || b == '\n' || b == '\0')
        return malformed(err, "The trailer fields are not well-formed, or too long.");
    c->state = b == '\r' ? CHUNKED_TRAILER_LF : CHUNKED_TRAILER;
    return 0;
}

/* One byte of framing. */
static int feed_byte(struct chunked *c, uint8_t b, const struct buf *out, struct err *err) {
    bool lf = c->state == CHUNKED_SIZE_LF || c->state == CHUNKED_DATA_LF || c->state == CHUNKED_END_LF || c->state == CHUNKED_TRAILER_LF;
    if (c->state == CHUNKED_SIZE)
        return feed_size(c, b, out, err);
    if (c->state == CHUNKED_TRAILER || (c->state == CHUNKED_END_CR && b != '\r'))
        return feed_trailer(c, b, err);
    if (b != (lf ? '\n' : '\r'))
        return malformed(err, "A chunk does not end in CR and LF.");
    switch (c->state) {
    case CHUNKED_SIZE_LF: c->state = c->left ? CHUNKED_DATA : CHUNKED_END_CR; break;
    case CHUNKED_DATA_CR: c->state = CHUNKED_DATA_LF; break;
    case CHUNKED_TRAILER_LF: c->state = CHUNKED_END_CR; break;
    case CHUNKED_END_CR: c->state = CHUNKED_END_LF; break;
    case CHUNKED_END_LF: c->state = CHUNKED_DONE; break;
    default: /* CHUNKED_DATA_LF */
        c->state = CHUNKED_SIZE;
        c->digits = 0;
    }
    return 0;
}

int chunked_feed(struct chunked *c, struct span in, size_t *used, struct buf *out, struct err *err) {
    size_t at = 0;
    *used = 0;
    while (at < in.n && c->state != CHUNKED_DONE) {
        if (c->state == CHUNKED_DATA) {
            struct span part = span_sub(in, at, c->left < in.n - at ? (size_t)c->left : in.n - at);
            buf_add(out, part);
            if (!buf_ok(out)) /* the size was checked: only memory is left */
                return err_set(err, MUSTER_ENOMEM, NULL);
            at += part.n;
            c->left -= part.n;
            c->taken += part.n;
            if (c->left == 0)
                c->state = CHUNKED_DATA_CR;
            continue;
        }
        int rc = feed_byte(c, in.p[at], out, err);
        if (rc)
            return rc;
        at++;
    }
    *used = at;
    return 0;
}
