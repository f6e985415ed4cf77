/* hex and base64: see hex.h.  libsodium's coders where they are strict enough. */
#include "base/hex.h"

#include <sodium.h>

#include "base/cleanup.h"

static void write_digits(struct span s, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < s.n; i++) {
        out[2 * i] = digits[s.p[i] >> 4];
        out[2 * i + 1] = digits[s.p[i] & 15];
    }
}

void hex_encode(struct span s, char *out) {
    write_digits(s, out);
    out[2 * s.n] = '\0';
}

void hex_add(struct buf *b, struct span s) {
    char *at = s.n ? (char *)buf_extend(b, 2 * s.n) : NULL;
    if (at)
        write_digits(s, at);
}

int hex_decode(struct span text, uint8_t *out, size_t n) {
    if (text.n != 2 * n)
        return MUSTER_EINVALID;
    for (size_t i = 0; i < n; i++) {
        int high = hex_digit(text.p[2 * i]), low = hex_digit(text.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return MUSTER_EINVALID;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

/* sodium_bin2base64 writes a NUL behind the text; the buffer keeps a byte for it anyway. */
static void add_variant(struct buf *b, struct span s, int variant) {
    size_t len = sodium_base64_encoded_len(s.n, variant) - 1;
    uint8_t *at = buf_extend(b, len);
    if (at)
        sodium_bin2base64((char *)at, len + 1, s.p, s.n, variant);
}

void base64_add(struct buf *b, struct span s) { add_variant(b, s, sodium_base64_VARIANT_ORIGINAL); }
void base64url_add(struct buf *b, struct span s) { add_variant(b, s, sodium_base64_VARIANT_URLSAFE_NO_PADDING); }

#define LINE_BYTES 48 /* of which a line of 64 characters is made */

void base64_add_lines(struct buf *b, struct span s) {
    for (size_t at = 0; at < s.n; at += LINE_BYTES) {
        base64_add(b, span_sub(s, at, LINE_BYTES));
        buf_addc(b, '\n');
    }
}

static bool is_blank(uint8_t c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

int base64_decode_lines(struct span text, struct buf *out) {
    CLEANUP(buf_fini) struct buf dense = BUF_INIT(text.n ? text.n : 1);
    for (size_t at = 0; at < text.n;) {
        size_t n = 0;
        while (at + n < text.n && !is_blank(text.p[at + n]))
            n++;
        buf_add(&dense, span_sub(text, at, n));
        at += n + 1;
    }
    return buf_ok(&dense) ? base64_decode(buf_span(&dense), out) : MUSTER_ENOMEM;
}

int base64_decode(struct span text, struct buf *out) {
    size_t room = text.n / 4 * 3, n = 0, before = out->n;
    const char *end = NULL;
    if (text.n % 4)
        return MUSTER_EINVALID;
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] >= 0x80) /* libsodium 1.0.18 looks at signed characters and takes some of these */
            return MUSTER_EINVALID;
    uint8_t *at = buf_extend(out, room);
    if (!at)
        return MUSTER_ENOMEM;
    bool ok = text.n == 0 || (sodium_base642bin(at, room, (const char *)text.p, text.n, NULL, &n, &end, sodium_base64_VARIANT_ORIGINAL) == 0 &&
                              end == (const char *)text.p + text.n);
    out->n = before + (ok ? n : 0);
    out->p[out->n] = '\0';
    return ok ? 0 : MUSTER_EINVALID;
}
