/* proxy_header: see proxy_header.h. */
#include "http/proxy_header.h"

#include "base/cursor.h"

#define SIGNATURE_N 12
#define VERSION 0x20
#define COMMAND_LOCAL 0x0
#define COMMAND_PROXY 0x1
#define TCP_OVER_IPV4 0x11
#define TCP_OVER_IPV6 0x21
#define TLV_CRC32C 0x03

static const uint8_t SIGNATURE[SIGNATURE_N] = "\r\n\r\n\0\r\nQUIT\n";

static int refused(struct err *err, const char *why) { return err_set(err, MUSTER_EINVALID, "The PROXY header %s.", why); }

int proxy_header_scan(struct span bytes, size_t *total, struct err *err) {
    size_t n = bytes.n < SIGNATURE_N ? bytes.n : SIGNATURE_N;
    *total = PROXY_HEADER_LEAST;
    if (n && memcmp(bytes.p, SIGNATURE, n) != 0)
        return refused(err, "does not begin with the signature of version 2");
    if (bytes.n > SIGNATURE_N && (bytes.p[SIGNATURE_N] & 0xf0) != VERSION)
        return refused(err, "is of another version than 2");
    if (bytes.n < PROXY_HEADER_LEAST)
        return 0;
    *total += (size_t)bytes.p[14] << 8 | bytes.p[15];
    return *total > PROXY_HEADER_MAX ? err_set(err, MUSTER_EINVALID, "The PROXY header has %zu bytes; at most %d are accepted.", *total, PROXY_HEADER_MAX) : 0;
}

/* RFC 3720, appendix B.4 (Castagnoli); the four bytes at `at` count as zeros. */
static uint32_t crc32c(struct span s, size_t at) {
    uint32_t crc = ~0U;
    for (size_t i = 0; i < s.n; i++) {
        crc ^= i >= at && i < at + 4 ? 0 : s.p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0);
    }
    return ~crc;
}

static int read_values(struct span whole, struct cursor *c, struct err *err) {
    bool summed = false;
    while (c->rest.n) {
        uint8_t type = cursor_u8(c);
        struct span value = cursor_bytes(c, cursor_u16(c));
        if (c->failed)
            return refused(err, "ends within a type-length-value");
        if (type != TLV_CRC32C)
            continue;
        if (value.n != 4 || summed)
            return refused(err, "has a checksum of the wrong length, or two");
        summed = true;
        struct cursor v = cursor_of(value);
        if (cursor_u32(&v) != crc32c(whole, (size_t)(value.p - whole.p)))
            return refused(err, "does not have the checksum that it names");
    }
    return 0;
}

int proxy_header_read(struct span bytes, struct proxy_header *out, struct err *err) {
    size_t total;
    int rc = proxy_header_scan(bytes, &total, err);
    if (rc)
        return rc;
    if (bytes.n != total)
        return refused(err, "is not whole");
    uint8_t command = bytes.p[12] & 0x0f, kind = bytes.p[13];
    struct cursor c = cursor_of(span_sub(bytes, PROXY_HEADER_LEAST, total));
    *out = (struct proxy_header){.local = command == COMMAND_LOCAL};
    if (out->local) /* whatever else it says is to be passed over */
        return 0;
    if (command != COMMAND_PROXY)
        return refused(err, "has an unknown command");
    if (kind != TCP_OVER_IPV4 && kind != TCP_OVER_IPV6)
        return refused(err, "is for neither TCP over IPv4 nor TCP over IPv6");
    size_t n = kind == TCP_OVER_IPV4 ? 4 : 16;
    struct span source = cursor_bytes(&c, n);
    cursor_bytes(&c, n); /* where the client meant to go */
    uint16_t port = cursor_u16(&c);
    cursor_u16(&c);
    if (c.failed)
        return refused(err, "is too short for its addresses");
    if (kind == TCP_OVER_IPV4) {
        out->source.in4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&out->source.in4.sin_addr, source.p, n);
    } else {
        out->source.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
        memcpy(&out->source.in6.sin6_addr, source.p, n);
    }
    return read_values(bytes, &c, err);
}
