/* der: see der.h. */
#include "pki/der.h"

#include <string.h>

void der_put(struct der_writer *w, struct span s) {
    if (w->failed || s.n > w->at) {
        w->failed = true;
        return;
    }
    w->at -= s.n;
    if (s.n)
        memcpy(w->b + w->at, s.p, s.n);
}

/* Short form below 128, else the length in as few bytes as it takes (X.690, 10.1). */
void der_header(struct der_writer *w, uint8_t tag, size_t n) {
    size_t bytes = 0;
    uint8_t head[2 + sizeof n];
    uint8_t *at = head + sizeof head;
    if (n < 128) {
        *--at = (uint8_t)n;
    } else {
        for (; n; n >>= 8, bytes++)
            *--at = (uint8_t)n;
        *--at = (uint8_t)(0x80 | bytes);
    }
    *--at = tag;
    der_put(w, span_of(at, (size_t)(head + sizeof head - at)));
}

void der_wrap(struct der_writer *w, uint8_t tag, size_t end) { der_header(w, tag, end - w->at); }

void der_element(struct der_writer *w, uint8_t tag, struct span content) {
    size_t end = der_end(w);
    der_put(w, content);
    der_wrap(w, tag, end);
}

void der_bits(struct der_writer *w, struct span content) {
    size_t end = der_end(w);
    der_put(w, content);
    der_put(w, DER_BYTES(0)); /* no unused bits */
    der_wrap(w, DER_BIT_STRING, end);
}
