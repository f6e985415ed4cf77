/* device_uri: see device_uri.h. */
#include "pki/device_uri.h"

#include "base/hex.h"

#define URN "urn:muster:device:"
#define ID_MAX 128 /* bytes */

static bool is_plain(uint8_t c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-._~", c)); }

void device_uri_add(struct buf *uri, struct span device_id) {
    buf_adds(uri, URN);
    for (size_t i = 0; i < device_id.n; i++) {
        if (is_plain(device_id.p[i]))
            buf_addc(uri, device_id.p[i]);
        else
            buf_addf(uri, "%%%02X", device_id.p[i]);
    }
}

bool device_uri_is(struct span uri) { return span_starts(uri, SPAN_LIT(URN)); }

int device_uri_read(struct span uri, struct buf *id) {
    struct span text = span_sub(uri, sizeof URN - 1, uri.n);
    buf_clear(id);
    for (size_t i = 0; i < text.n; i++) {
        bool encoded = text.p[i] == '%';
        int high = encoded && i + 2 < text.n ? hex_digit(text.p[i + 1]) : -1, low = high < 0 ? -1 : hex_digit(text.p[i + 2]);
        if (encoded && low < 0)
            return MUSTER_EINVALID;
        buf_addc(id, encoded ? (uint8_t)(high << 4 | low) : text.p[i]);
        i += encoded ? 2 : 0;
    }
    bool good = device_uri_is(uri) && id->n > 0 && id->n <= ID_MAX && buf_ok(id) && span_is_utf8(buf_span(id)) && !span_has_control(buf_span(id));
    return good ? 0 : MUSTER_EINVALID;
}
