/* der_read: see der_read.h. */
#include "pki/der_read.h"

#include "pki/der.h"

#define LENGTH_BYTES_MAX 3

bool der_take(struct span *rest, uint8_t tag, struct span *content) {
    size_t head = 2, n;
    if (rest->n < 2 || rest->p[0] != tag)
        return false;
    n = rest->p[1];
    if (n > 0x7f) {
        const size_t bytes = n & 0x7f;
        if (bytes < 1 || bytes > LENGTH_BYTES_MAX || rest->n < 2 + bytes)
            return false;
        n = 0;
        for (size_t i = 0; i < bytes; i++)
            n = n << 8 | rest->p[2 + i];
        if (n < 128 || n >> (8 * (bytes - 1)) == 0)
            return false;
        head += bytes;
    }
    if (rest->n - head < n)
        return false;
    *content = span_of(rest->p + head, n);
    *rest = span_of(rest->p + head + n, rest->n - head - n);
    return true;
}

bool der_take_whole(struct span *rest, uint8_t tag, struct span *whole) {
    const struct span before = *rest;
    struct span content;
    if (!der_take(rest, tag, &content))
        return false;
    *whole = span_of(before.p, before.n - rest->n);
    return true;
}

bool der_take_integer(struct span *rest, struct span *content) {
    const struct span before = *rest;
    if (!der_take(rest, DER_INTEGER, content))
        return false;
    const bool padded = content->n > 1 && ((content->p[0] == 0 && content->p[1] < 0x80) || (content->p[0] == 0xff && content->p[1] >= 0x80));
    if (content->n && !padded)
        return true;
    *rest = before;
    return false;
}

/* RFC 5280, 4.1: what stands between is passed over, whatever is in it. */
bool der_certificate_read(struct span der, struct der_certificate *out) {
    struct span whole, tbs, key, field;
    *out = (struct der_certificate){.extensions = SPAN_NONE};
    if (!der_take(&der, DER_SEQUENCE, &whole) || der.n || !der_take(&whole, DER_SEQUENCE, &tbs) || !der_take(&tbs, DER_CONTEXT(0), &field) || !der_take_integer(&tbs, &out->serial) ||
        !der_take(&tbs, DER_SEQUENCE, &field) || !der_take(&tbs, DER_SEQUENCE, &field) || !der_take(&tbs, DER_SEQUENCE, &field) || !der_take_whole(&tbs, DER_SEQUENCE, &out->subject) ||
        !der_take(&tbs, DER_SEQUENCE, &key) || !der_take(&key, DER_SEQUENCE, &field) || !der_take(&key, DER_BIT_STRING, &out->key_bits) || out->key_bits.n < 1 || out->key_bits.p[0] != 0)
        return false;
    out->key_bits = span_sub(out->key_bits, 1, out->key_bits.n);
    return tbs.n == 0 || !der_take(&tbs, DER_CONTEXT(3), &field) || der_take(&field, DER_SEQUENCE, &out->extensions);
}
