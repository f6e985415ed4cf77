/* The PROXY header: what is accepted, and each way in which it is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "http/proxy_header.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\xc0\x00\x02\x07\x7f\x00\x00\x01\x30\x39\x01\xbb" /* 192.0.2.7:12345 to 127.0.0.1:443 */
#define CRC_OF_V4 "\xad\xa1\x3d\xc9"
#define V6 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x30\x39\x01\xbb"

/* The bytes behind the signature, with the length put in. */
static struct buf header(uint8_t version, uint8_t kind, struct span rest) {
    struct buf b = BUF_INIT(PROXY_HEADER_MAX + 100);
    buf_add(&b, SPAN_LIT(SIGNATURE));
    buf_addc(&b, version);
    buf_addc(&b, kind);
    buf_add_u16(&b, (uint16_t)rest.n);
    buf_add(&b, rest);
    assert_true(buf_ok(&b));
    return b;
}

static int read_it(struct span bytes, struct proxy_header *out, struct err *err) {
    size_t total;
    *err = ERR_INIT;
    int rc = proxy_header_scan(bytes, &total, err);
    if (rc)
        return rc;
    return total == bytes.n ? proxy_header_read(bytes, out, err) : 1; /* 1: more is needed */
}

static void assert_from(struct span rest, uint8_t kind, const char *address, int port) {
    CLEANUP(buf_fini) struct buf b = header(0x21, kind, rest);
    struct proxy_header h;
    struct err err;
    char text[64];
    assert_int_equal(read_it(buf_span(&b), &h, &err), 0);
    assert_false(h.local);
    assert_int_equal(h.source.sa.sa_family, kind == 0x11 ? AF_INET : AF_INET6);
    inet_ntop(h.source.sa.sa_family, kind == 0x11 ? (void *)&h.source.in4.sin_addr : (void *)&h.source.in6.sin6_addr, text, sizeof text);
    assert_string_equal(text, address);
    assert_int_equal(ntohs(kind == 0x11 ? h.source.in4.sin_port : h.source.in6.sin6_port), port);
}

static void assert_refused(uint8_t version, uint8_t kind, struct span rest, const char *why) {
    CLEANUP(buf_fini) struct buf b = header(version, kind, rest);
    struct proxy_header h;
    struct err err;
    assert_int_equal(read_it(buf_span(&b), &h, &err), MUSTER_EINVALID);
    if (!strstr(err_text(&err), why))
        fail_msg("\"%s\" instead of \"%s\"", err_text(&err), why);
}

static void addresses(void **state) {
    assert_from(SPAN_LIT(V4), 0x11, "192.0.2.7", 12345);
    assert_from(SPAN_LIT(V6), 0x21, "2001:db8::9", 12345);
}

static void values_are_passed_over(void **state) {
    assert_from(SPAN_LIT(V4 "\x05\x00\x03xyz\x04\x00\x00"), 0x11, "192.0.2.7", 12345);
    assert_from(SPAN_LIT(V6 "\xee\x00\x01\x00"), 0x21, "2001:db8::9", 12345);
    assert_refused(0x21, 0x11, SPAN_LIT(V4 "\x05\x00\x04xyz"), "type-length-value");
    assert_refused(0x21, 0x11, SPAN_LIT(V4 "\x05\x00"), "type-length-value");
    assert_refused(0x21, 0x11, SPAN_LIT(V4 "\x05"), "type-length-value");
    assert_refused(0x21, 0x11, SPAN_LIT(V4 "\x05\xff\xff"), "type-length-value");
}

/* The sum was made by another implementation (Python, table-driven) over the header with zeros in its place. */
static void checksum(void **state) {
    assert_from(SPAN_LIT(V4 "\x03\x00\x04" CRC_OF_V4), 0x11, "192.0.2.7", 12345);
    assert_refused(0x21, 0x11, SPAN_LIT(V4 "\x03\x00\x04\x00\x00\x00\x00"), "checksum");
    assert_refused(0x21, 0x11, SPAN_LIT("\xc0\x00\x02\x08\x7f\x00\x00\x01\x30\x39\x01\xbb\x03\x00\x04" CRC_OF_V4), "checksum"); /* another address */
    assert_refused(0x21, 0x11, SPAN_LIT(V4 "\x03\x00\x03\x00\x00\x00"), "wrong length, or two");
    assert_refused(0x21, 0x11, SPAN_LIT(V4 "\x03\x00\x04" CRC_OF_V4 "\x03\x00\x04" CRC_OF_V4), "checksum");
}

static void local(void **state) {
    static const struct span rest[] = {SPAN_LIT(""), SPAN_LIT(V4), SPAN_LIT("whatever")};
    for (size_t i = 0; i < 3; i++)
        for (int kind = 0; kind <= 0x21; kind += 0x21) {
            CLEANUP(buf_fini) struct buf b = header(0x20, (uint8_t)kind, rest[i]);
            struct proxy_header h;
            struct err err;
            assert_int_equal(read_it(buf_span(&b), &h, &err), 0);
            assert_true(h.local);
        }
}

static void refusals(void **state) {
    assert_refused(0x11, 0x11, SPAN_LIT(V4), "version");
    assert_refused(0x31, 0x11, SPAN_LIT(V4), "version");
    assert_refused(0x22, 0x11, SPAN_LIT(V4), "command");
    assert_refused(0x2f, 0x11, SPAN_LIT(V4), "command");
    assert_refused(0x21, 0x00, SPAN_LIT(""), "neither"); /* no family: the address would have to be guessed */
    assert_refused(0x21, 0x12, SPAN_LIT(V4), "neither"); /* UDP */
    assert_refused(0x21, 0x10, SPAN_LIT(V4), "neither");
    assert_refused(0x21, 0x31, SPAN_LIT(V4), "neither"); /* Unix */
    assert_refused(0x21, 0x11, SPAN_LIT("\xc0\x00\x02\x07"), "too short");
    assert_refused(0x21, 0x21, SPAN_LIT(V4), "too short");
    assert_refused(0x21, 0x11, SPAN_LIT(""), "too short");
}

/* Text, TLS and noise are known for what they are at the first byte that differs. */
static void not_a_header(void **state) {
    static const struct span others[] = {SPAN_LIT("PROXY TCP4 192.0.2.7 127.0.0.1 12345 443\r\n"), SPAN_LIT("\x16\x03\x01"), SPAN_LIT("G"), SPAN_LIT("\r\n\r\n\n"),
                                         SPAN_LIT("\r\n\r\n\0\r\nQUIT\r")};
    size_t total;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(proxy_header_scan(others[i], &total, NULL), MUSTER_EINVALID);
}

static void in_pieces(void **state) {
    CLEANUP(buf_fini) struct buf b = header(0x21, 0x11, SPAN_LIT(V4 "\x05\x00\x03xyz"));
    struct proxy_header h;
    struct err err = ERR_INIT;
    for (size_t n = 0; n < b.n; n++) {
        size_t total = 0;
        assert_int_equal(proxy_header_scan(span_of(b.p, n), &total, &err), 0);
        assert_true(total > n);
        assert_int_equal(total, n < 16 ? 16 : b.n);
        assert_int_equal(proxy_header_read(span_of(b.p, n), &h, &err), MUSTER_EINVALID);
    }
}

static void long_ones(void **state) {
    static uint8_t rest[PROXY_HEADER_MAX - 16] = V4 "\x04";
    size_t n = sizeof rest - 12 - 3, total;
    rest[13] = (uint8_t)(n >> 8);
    rest[14] = (uint8_t)n;
    CLEANUP(buf_fini) struct buf b = header(0x21, 0x11, span_of(rest, sizeof rest));
    struct proxy_header h;
    struct err err = ERR_INIT;
    assert_int_equal(read_it(buf_span(&b), &h, &err), 0);
    b.p[15]++; /* one more, to come */
    assert_int_equal(proxy_header_scan(buf_span(&b), &total, &err), MUSTER_EINVALID);
    assert_int_equal(proxy_header_scan(SPAN_LIT(SIGNATURE "\x21\x11\xff\xff"), &total, &err), MUSTER_EINVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses), cmocka_unit_test(values_are_passed_over), cmocka_unit_test(checksum), cmocka_unit_test(local),
        cmocka_unit_test(refusals), cmocka_unit_test(not_a_header), cmocka_unit_test(in_pieces), cmocka_unit_test(long_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
