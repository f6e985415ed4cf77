/* Heads that are accepted and refused: whole, byte by byte, and at the limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "http/head.h"

static const struct head_limits LIMITS = {.bytes = 512, .target = 64, .fields = 8};
static struct http_field fields[HEAD_FIELDS_MAX];

/* Scans in steps of `step` bytes, then reads. */
static int read_in_steps(struct span text, size_t step, struct http_head *h, struct err *err) {
    struct head_scan st = {0};
    for (size_t n = step < text.n ? step : text.n;; n = n + step < text.n ? n + step : text.n) {
        int rc = head_scan(&st, span_sub(text, 0, n), &LIMITS, err);
        if (rc)
            return rc;
        if (st.end || n == text.n)
            break;
    }
    if (!st.end)
        return 1; /* not complete */
    *h = (struct http_head){.fields = fields};
    return head_read(span_sub(text, 0, st.end), &LIMITS, h, err);
}

struct refused {
    const char *what;
    struct span text;
    int code;
};
#define R(what, text, code) {what, SPAN_LIT(text), MUSTER_E##code}
#define GET "GET / HTTP/1.1\r\n"
#define HOST "Host: a\r\n"
#define FILL64 "0123456789012345678901234567890123456789012345678901234567890123"

static const struct refused REFUSED[] = {
    /* request line */
    R("empty line first", "\r\n" GET HOST "\r\n", HTTPMALFORMED),
    R("bare LF", "GET / HTTP/1.1\nHost: a\n\n", HTTPMALFORMED),
    R("LF in a field", GET "Host: a\nX: b\r\n\r\n", HTTPMALFORMED),
    R("CR alone", GET "Host: a\rX: b\r\n\r\n", HTTPMALFORMED),
    R("CR CR LF", GET HOST "\r\r\n", HTTPMALFORMED),
    R("NUL in a value", GET "Host: a\r\nX: b\0c\r\n\r\n", HTTPMALFORMED),
    R("NUL in a name", GET HOST "X\0: b\r\n\r\n", HTTPMALFORMED),
    R("NUL in the target", "GET /\0 HTTP/1.1\r\n" HOST "\r\n", HTTPMALFORMED),
    R("DEL", GET HOST "X: \x7f\r\n\r\n", HTTPMALFORMED),
    R("tab in the request line", "GET\t/ HTTP/1.1\r\n" HOST "\r\n", HTTPMALFORMED),
    R("two parts", "GET /\r\n" HOST "\r\n", HTTPMALFORMED),
    R("one part", "GET\r\n" HOST "\r\n", HTTPMALFORMED),
    R("four parts", "GET / x HTTP/1.1\r\n" HOST "\r\n", HTTPMALFORMED),
    R("two blanks", "GET  / HTTP/1.1\r\n" HOST "\r\n", HTTPMALFORMED),
    R("blank behind", "GET / HTTP/1.1 \r\n" HOST "\r\n", HTTPMALFORMED),
    R("no method", " / HTTP/1.1\r\n" HOST "\r\n", HTTPMALFORMED),
    R("method no token", "G@T / HTTP/1.1\r\n" HOST "\r\n", HTTPMALFORMED),
    R("method of 33", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n" HOST "\r\n", HTTPMALFORMED),
    R("1.0", "GET / HTTP/1.0\r\n" HOST "\r\n", HTTPVERSION),
    R("2.0", "GET / HTTP/2.0\r\n" HOST "\r\n", HTTPVERSION),
    R("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTPVERSION),
    R("lower case version", "GET / http/1.1\r\n" HOST "\r\n", HTTPMALFORMED),
    R("1.10", "GET / HTTP/1.10\r\n" HOST "\r\n", HTTPMALFORMED),
    R("absolute form", "GET http://a/ HTTP/1.1\r\n" HOST "\r\n", HTTPMALFORMED),
    R("authority form", "CONNECT a:1 HTTP/1.1\r\n" HOST "\r\n", HTTPMALFORMED),
    R("asterisk form", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", HTTPMALFORMED),
    R("fragment", "GET /#a HTTP/1.1\r\n" HOST "\r\n", HTTPMALFORMED),
    R("dots", "GET /a/../b HTTP/1.1\r\n" HOST "\r\n", HTTPMALFORMED),
    R("target of 65", "GET /" FILL64 " HTTP/1.1\r\n" HOST "\r\n", HTTPURI),
    /* fields */
    R("folded", GET HOST "X: a\r\n b\r\n\r\n", HTTPMALFORMED),
    R("folded with a tab", GET HOST "X: a\r\n\tb\r\n\r\n", HTTPMALFORMED),
    R("folded first", GET " Host: a\r\n\r\n", HTTPMALFORMED),
    R("no colon", GET HOST "X\r\n\r\n", HTTPMALFORMED),
    R("no name", GET HOST ": a\r\n\r\n", HTTPMALFORMED),
    R("blank before the colon", GET HOST "Content-Length : 5\r\n\r\n", HTTPMALFORMED),
    R("tab before the colon", GET HOST "X\t: 5\r\n\r\n", HTTPMALFORMED),
    R("name no token", GET HOST "X(y): 5\r\n\r\n", HTTPMALFORMED),
    R("name with a high byte", GET HOST "X\xe4: 5\r\n\r\n", HTTPMALFORMED),
    R("nine fields", GET HOST "A:1\r\nA:2\r\nA:3\r\nA:4\r\nA:5\r\nA:6\r\nA:7\r\nA:8\r\n\r\n", HTTPHEAD),
    R("long head", GET HOST "A:" FILL64 FILL64 FILL64 FILL64 FILL64 FILL64 FILL64 FILL64 "\r\n\r\n", HTTPHEAD),
    R("long line", "GET /" FILL64 FILL64 FILL64 FILL64 FILL64 FILL64 FILL64 FILL64 " HTTP/1.1\r\n", HTTPURI),
    R("twice Authorization", GET HOST "Authorization: a\r\nauthorization: b\r\n\r\n", HTTPMALFORMED),
    R("twice Content-Type", GET HOST "Content-Type: a/b\r\nContent-Type: a/b\r\n\r\n", HTTPMALFORMED),
    R("twice Cookie", GET HOST "Cookie: a\r\nCookie: b\r\n\r\n", HTTPMALFORMED),
    /* Host */
    R("no Host", GET "X: a\r\n\r\n", HTTPMALFORMED),
    R("no fields", GET "\r\n", HTTPMALFORMED),
    R("empty Host", GET "Host:\r\n\r\n", HTTPMALFORMED),
    R("two Hosts", GET HOST "Host: b\r\n\r\n", HTTPMALFORMED),
    R("two like Hosts", GET HOST "hOST: a\r\n\r\n", HTTPMALFORMED),
    R("blank in Host", GET "Host: a b\r\n\r\n", HTTPMALFORMED),
    R("list in Host", GET "Host: a, b\r\n\r\n", HTTPMALFORMED),
    R("path in Host", GET "Host: a/b\r\n\r\n", HTTPMALFORMED),
    R("user in Host", GET "Host: u@a\r\n\r\n", HTTPMALFORMED),
    R("only a port", GET "Host: :80\r\n\r\n", HTTPMALFORMED),
    R("empty port", GET "Host: a:\r\n\r\n", HTTPMALFORMED),
    R("port no number", GET "Host: a:8o\r\n\r\n", HTTPMALFORMED),
    R("long port", GET "Host: a:800000\r\n\r\n", HTTPMALFORMED),
    R("two ports", GET "Host: a:80:80\r\n\r\n", HTTPMALFORMED),
    R("open bracket", GET "Host: [::1\r\n\r\n", HTTPMALFORMED),
    R("bytes behind the bracket", GET "Host: [::1]a\r\n\r\n", HTTPMALFORMED),
    R("high byte in Host", GET "Host: \xe4\r\n\r\n", HTTPMALFORMED),
    /* Content-Length */
    R("twice the same length", GET HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", HTTPMALFORMED),
    R("two lengths", GET HOST "Content-Length: 5\r\ncontent-length: 6\r\n\r\n", HTTPMALFORMED),
    R("list of lengths", GET HOST "Content-Length: 5, 5\r\n\r\n", HTTPMALFORMED),
    R("+5", GET HOST "Content-Length: +5\r\n\r\n", HTTPMALFORMED),
    R("-5", GET HOST "Content-Length: -5\r\n\r\n", HTTPMALFORMED),
    R("0x5", GET HOST "Content-Length: 0x5\r\n\r\n", HTTPMALFORMED),
    R("5.0", GET HOST "Content-Length: 5.0\r\n\r\n", HTTPMALFORMED),
    R("5 5", GET HOST "Content-Length: 5 5\r\n\r\n", HTTPMALFORMED),
    R("empty length", GET HOST "Content-Length:\r\n\r\n", HTTPMALFORMED),
    R("length of 64 bits and more", GET HOST "Content-Length: 18446744073709551621\r\n\r\n", HTTPMALFORMED),
    R("19 digits", GET HOST "Content-Length: 0000000000000000005\r\n\r\n", HTTPMALFORMED),
    /* Transfer-Encoding */
    R("length and chunked", GET HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", HTTPMALFORMED),
    R("chunked and length", GET HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", HTTPMALFORMED),
    R("xchunked", GET HOST "Transfer-Encoding: xchunked\r\n\r\n", HTTPNOTIMPL),
    R("identity", GET HOST "Transfer-Encoding: identity\r\n\r\n", HTTPNOTIMPL),
    R("gzip, chunked", GET HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", HTTPNOTIMPL),
    R("chunked, chunked", GET HOST "Transfer-Encoding: chunked, chunked\r\n\r\n", HTTPNOTIMPL),
    R("chunked, identity", GET HOST "Transfer-Encoding: chunked, identity\r\n\r\n", HTTPNOTIMPL),
    R("chunked;q", GET HOST "Transfer-Encoding: chunked;q=1\r\n\r\n", HTTPNOTIMPL),
    R("quoted", GET HOST "Transfer-Encoding: \"chunked\"\r\n\r\n", HTTPNOTIMPL),
    R("vertical tab", GET HOST "Transfer-Encoding: \vchunked\r\n\r\n", HTTPMALFORMED),
    R("empty coding", GET HOST "Transfer-Encoding:\r\n\r\n", HTTPMALFORMED),
    R("twice", GET HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", HTTPMALFORMED),
    /* others */
    R("other expectation", GET HOST "Expect: 200-ok\r\n\r\n", HTTPEXPECT),
    R("Connection no list", GET HOST "Connection: a b\r\n\r\n", HTTPMALFORMED),
};

static void refused(void **state) {
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++)
        for (size_t step = 1; step <= REFUSED[i].text.n; step += step < 3 ? 1 : REFUSED[i].text.n) {
            struct err err = ERR_INIT;
            struct http_head h;
            int rc = read_in_steps(REFUSED[i].text, step, &h, &err);
            if (rc != REFUSED[i].code || err.code != rc)
                fail_msg("%s, in steps of %zu: %s", REFUSED[i].what, step, rc < 0 ? err_code(rc) : rc ? "incomplete" : "accepted");
        }
}

struct accepted {
    struct span text;
    const char *method, *path, *query, *host;
    bool has_length, chunked, expect, close;
    uint64_t length;
    size_t n;
};
static const struct accepted ACCEPTED[] = {
    {SPAN_LIT(GET HOST "\r\n"), "GET", "/", "", "a", .n = 1},
    {SPAN_LIT("GET /a%20b?c=d&e?/ HTTP/1.1\r\nhost:a.b-c_d:8443\r\n\r\n"), "GET", "/a%20b", "c=d&e?/", "a.b-c_d", .n = 1},
    {SPAN_LIT("GET /? HTTP/1.1\r\nHost: \t [::1]:1 \t\r\n\r\n"), "GET", "/", "", "[::1]", .n = 1},
    {SPAN_LIT("GET / HTTP/1.1\r\nHost: [2001:db8::192.0.2.1]\r\n\r\n"), "GET", "/", "", "[2001:db8::192.0.2.1]", .n = 1},
    {SPAN_LIT("PO-ST! / HTTP/1.1\r\n" HOST "Content-Length: 005\r\n\r\n"), "PO-ST!", "/", "", "a", .has_length = true, .length = 5, .n = 2},
    {SPAN_LIT("PUT / HTTP/1.1\r\n" HOST "Content-Length: 999999999999999999\r\n\r\n"), "PUT", "/", "", "a", .has_length = true, .length = 999999999999999999, .n = 2},
    {SPAN_LIT("PUT / HTTP/1.1\r\n" HOST "TRANSFER-ENCODING: Chunked\r\nExpect: 100-Continue\r\n\r\n"), "PUT", "/", "", "a", .chunked = true, .expect = true, .n = 3},
    {SPAN_LIT(GET HOST "Connection: keep-alive\r\nConnection: x ,CLOSE,\r\n\r\n"), "GET", "/", "", "a", .close = true, .n = 3},
    {SPAN_LIT(GET HOST "Connection: closed\r\nX:\r\nX: \xe4\t;\r\n\r\n"), "GET", "/", "", "a", .n = 4},
};

static void accepted(void **state) {
    for (size_t i = 0; i < sizeof ACCEPTED / sizeof *ACCEPTED; i++) {
        const struct accepted *a = &ACCEPTED[i];
        for (size_t step = 1; step <= a->text.n; step += step < 3 ? 1 : a->text.n) {
            struct err err = ERR_INIT;
            struct http_head h;
            int rc = read_in_steps(a->text, step, &h, &err);
            if (rc)
                fail_msg("%zu: %s", i, rc < 0 ? err_text(&err) : "incomplete");
            assert_true(span_eq_str(h.method, a->method));
            assert_true(span_eq_str(h.path, a->path));
            assert_true(span_eq_str(h.query, a->query));
            assert_true(span_eq_str(h.host, a->host));
            assert_int_equal(h.has_length, a->has_length);
            assert_int_equal(h.chunked, a->chunked);
            assert_int_equal(h.expect_continue, a->expect);
            assert_int_equal(h.close, a->close);
            assert_int_equal(h.length, a->length);
            assert_int_equal(h.n_fields, a->n);
        }
    }
}

/* What is missing at the end is missing, not refused; and every beginning of a good head is one. */
static void beginnings_are_incomplete(void **state) {
    static const char text[] = "POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    for (size_t n = 0; n < sizeof text - 1; n++) {
        struct head_scan st = {0};
        assert_int_equal(head_scan(&st, span_of(text, n), &LIMITS, NULL), 0);
        assert_int_equal(st.end, 0);
        struct http_head h = {.fields = fields};
        assert_int_equal(head_read(span_of(text, n), &LIMITS, &h, NULL), MUSTER_EHTTPMALFORMED);
    }
}

/* The next request, or a body, is not looked at; head_read wants the head alone. */
static void the_end_is_found(void **state) {
    static const char text[] = GET HOST "\r\n\0\n\r rest";
    struct head_scan st = {0};
    struct http_head h = {.fields = fields};
    assert_int_equal(head_scan(&st, span_of(text, sizeof text - 1), &LIMITS, NULL), 0);
    assert_int_equal(st.end, strlen(GET HOST "\r\n"));
    assert_int_equal(head_read(span_of(text, st.end), &LIMITS, &h, NULL), 0);
    assert_int_equal(head_read(span_of(text, st.end + 1), &LIMITS, &h, NULL), MUSTER_EHTTPMALFORMED);
}

static void limits_are_exact(void **state) {
    static const char text[] = "GET /2345 HTTP/1.1\r\n" HOST "\r\n";
    struct head_limits exact = {.bytes = sizeof text - 1, .target = 4, .fields = 1};
    struct http_head h = {.fields = fields};
    struct head_scan st = {0};
    assert_int_equal(head_scan(&st, span_of(text, sizeof text - 1), &exact, NULL), 0);
    assert_int_equal(st.end, sizeof text - 1);
    assert_int_equal(head_read(span_of(text, st.end), &exact, &h, NULL), MUSTER_EHTTPURI); /* one more */
    exact.target = 5;
    h = (struct http_head){.fields = fields};
    assert_int_equal(head_read(span_of(text, st.end), &exact, &h, NULL), 0);
    exact.fields = 0;
    h = (struct http_head){.fields = fields};
    assert_int_equal(head_read(span_of(text, st.end), &exact, &h, NULL), MUSTER_EHTTPHEAD);
    exact.bytes--;
    st = (struct head_scan){0};
    assert_int_equal(head_scan(&st, span_of(text, sizeof text - 1), &exact, NULL), MUSTER_EHTTPHEAD);
}

/* Of the plain listener: one request a connection, and nothing that HTTP/1.0 does not have. */
static void an_older_version_where_it_is_taken(void **state) {
    static const struct head_limits plain = {.bytes = 512, .target = 64, .fields = 8, .old_version = true};
    static const struct {
        struct span text;
        int code;
        bool old, close, expect;
    } rows[] = {
        {SPAN_LIT("GET / HTTP/1.0\r\n\r\n"), 0, .old = true, .close = true},
        {SPAN_LIT("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"), 0, .old = true, .close = true},
        {SPAN_LIT("POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"), 0, .old = true, .close = true},
        {SPAN_LIT("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), MUSTER_EHTTPMALFORMED}, /* RFC 9112, 6.1 */
        {SPAN_LIT("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), MUSTER_EHTTPMALFORMED},
        {SPAN_LIT("GET / HTTP/0.9\r\n\r\n"), MUSTER_EHTTPVERSION},
        {SPAN_LIT("GET / HTTP/1.1\r\n\r\n"), MUSTER_EHTTPMALFORMED},
        {SPAN_LIT("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"), 0, .expect = true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_head h = {.fields = fields};
        struct err err = ERR_INIT;
        assert_int_equal(head_read(rows[i].text, &plain, &h, &err), rows[i].code);
        if (!rows[i].code)
            assert_true(h.old == rows[i].old && h.close == rows[i].close && h.expect_continue == rows[i].expect);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused), cmocka_unit_test(accepted), cmocka_unit_test(beginnings_are_incomplete),
        cmocka_unit_test(the_end_is_found), cmocka_unit_test(limits_are_exact), cmocka_unit_test(an_older_version_where_it_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
