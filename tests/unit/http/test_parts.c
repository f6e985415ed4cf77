/* The pure parts below the connection: chunked coding, URIs, the router. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "http/chunked.h"
#include "http/route.h"
#include "http/uri.h"

/* --- chunked ------------------------------------------------------------------------------------------------------ */

/* 1: not complete. */
static int feed_in_steps(struct span text, size_t step, struct buf *out, size_t *taken) {
    struct chunked c = {0};
    *taken = 0;
    while (*taken < text.n && c.state != CHUNKED_DONE) {
        size_t used;
        struct span part = span_sub(text, *taken, step);
        int rc = chunked_feed(&c, part, &used, out, NULL);
        if (rc)
            return rc;
        assert_true(used == part.n || c.state == CHUNKED_DONE);
        *taken += used;
    }
    return c.state == CHUNKED_DONE ? 0 : 1;
}

struct chunk_case {
    struct span text;
    int rc;
    const char *body;
    size_t behind; /* bytes that are not of the body any more */
};
static const struct chunk_case CHUNKS[] = {
    {SPAN_LIT("0\r\n\r\n"), 0, "", 0},
    {SPAN_LIT("00000000\r\n\r\nGET /"), 0, "", 5},
    {SPAN_LIT("5\r\nhello\r\n0\r\n\r\n"), 0, "hello", 0},
    {SPAN_LIT("1\r\na\r\n00002\r\nbc\r\nA\r\n0123456789\r\n0\r\n\r\n\r\n"), 0, "abc0123456789", 2},
    {SPAN_LIT("10\r\n0123456789abcdef\r\n0\r\n\r\n"), 0, "0123456789abcdef", 0},
    {SPAN_LIT("4\r\n\r\n\r\n\r\n0\r\n\r\n"), 0, "\r\n\r\n", 0},
    {SPAN_LIT("5\r\nhello"), 1, NULL, 0},
    {SPAN_LIT("5\r\nhello\r\n0\r\n\r"), 1, NULL, 0},
    {SPAN_LIT(""), 1, NULL, 0},
    {SPAN_LIT("11\r\n"), MUSTER_EHTTPBODY, NULL, 0},                         /* 17 of 16 */
    {SPAN_LIT("f\r\n0123456789abcde\r\n2\r\n"), MUSTER_EHTTPBODY, NULL, 0},  /* together */
    {SPAN_LIT("ffffffff\r\n"), MUSTER_EHTTPBODY, NULL, 0},
    {SPAN_LIT("100000000\r\n"), MUSTER_EHTTPMALFORMED, NULL, 0}, /* nine digits */
    {SPAN_LIT("000000000\r\n"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("\r\n"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("0x5\r\nhello\r\n"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("+5\r\nhello\r\n"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("-1\r\n"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT(" 5\r\nhello\r\n"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("5 \r\nhello\r\n"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("5\nhello\n0\n\n"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("5\rhello"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("5;a=b\r\nhello\r\n0\r\n\r\n"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("5\r\nhello0\r\n\r\n"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("5\r\nhello!\r\n0\r\n\r\n"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("5\r\nhello\n0\r\n\r\n"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("5\r\nhello\r\n0\r\nX: y\r\n\r\n"), MUSTER_EHTTPMALFORMED, NULL, 0}, /* trailer */
    {SPAN_LIT("5\r\nhello\r\n0\r\n\n"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("0\r\n\rX"), MUSTER_EHTTPMALFORMED, NULL, 0},
    {SPAN_LIT("\0"), MUSTER_EHTTPMALFORMED, NULL, 0},
};

static void chunks(void **state) {
    for (size_t i = 0; i < sizeof CHUNKS / sizeof *CHUNKS; i++)
        for (size_t step = 1; step < 40; step += step < 4 ? 1 : 30) {
            CLEANUP(buf_fini) struct buf out = BUF_INIT(16);
            size_t taken;
            int rc = feed_in_steps(CHUNKS[i].text, step, &out, &taken);
            if (rc != CHUNKS[i].rc)
                fail_msg("case %zu in steps of %zu: %d", i, step, rc);
            if (rc)
                continue;
            assert_true(span_eq_str(buf_span(&out), CHUNKS[i].body));
            assert_int_equal(CHUNKS[i].text.n - taken, CHUNKS[i].behind);
        }
}

/* --- uri ------------------------------------------------------------------------------------------------------------- */

static void paths(void **state) {
    static const struct span good[] = {
        SPAN_LIT("/"), SPAN_LIT("/a"), SPAN_LIT("/a/"), SPAN_LIT("/a/b.c/..d/e../.../-._~!$&'()*+,;=:@"), SPAN_LIT("/%20%C3%A4%e2%82%ac"),
        SPAN_LIT("/.a"), SPAN_LIT("/%25%32%66"), /* decodes to "%2f", and is not decoded again */
    };
    static const struct span bad[] = {
        SPAN_LIT(""), SPAN_LIT("a"), SPAN_LIT("//"), SPAN_LIT("/a//b"), SPAN_LIT("/."), SPAN_LIT("/.."), SPAN_LIT("/a/./b"), SPAN_LIT("/a/../b"),
        SPAN_LIT("/a/.."), SPAN_LIT("/%2e"), SPAN_LIT("/%2E%2e/a"), SPAN_LIT("/.%2e"), SPAN_LIT("/a%2fb"), SPAN_LIT("/a%2Fb"), SPAN_LIT("/a%5cb"),
        SPAN_LIT("/a\\b"), SPAN_LIT("/a%00"), SPAN_LIT("/a\0"), SPAN_LIT("/%"), SPAN_LIT("/%2"), SPAN_LIT("/%g0"), SPAN_LIT("/%0g"), SPAN_LIT("/a b"),
        SPAN_LIT("/a?b"), SPAN_LIT("/a#b"), SPAN_LIT("/\xc3\xa4"), SPAN_LIT("/%ff"), SPAN_LIT("/%C3"), SPAN_LIT("/%C0%AF"), SPAN_LIT("/%ED%A0%80"),
        SPAN_LIT("/{a}"), SPAN_LIT("/a\"b"), SPAN_LIT("/a\x7f"),
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (uri_check_path(good[i], NULL))
            fail_msg("refused: %.*s", SPAN_FMT(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (uri_check_path(bad[i], NULL) != MUSTER_EHTTPMALFORMED)
            fail_msg("not refused: %.*s", SPAN_FMT(bad[i]));
    /* Names that are decoded by themselves may hold a slash, and nothing else more. */
    assert_int_equal(uri_check_path_of_names(SPAN_LIT("/a%2fb/%5C"), NULL), 0);
    assert_int_equal(uri_check_path_of_names(SPAN_LIT("/a%2f%00"), NULL), MUSTER_EHTTPMALFORMED);
    assert_int_equal(uri_check_path_of_names(SPAN_LIT("/%2e%2E/b"), NULL), 0);
    assert_int_equal(uri_check_path_of_names(SPAN_LIT("/../b"), NULL), MUSTER_EHTTPMALFORMED);
}

static void queries(void **state) {
    assert_int_equal(uri_check_query(SPAN_NONE, NULL), 0);
    assert_int_equal(uri_check_query(SPAN_LIT("a=b&c=%2f%5C../?//"), NULL), 0);
    assert_int_equal(uri_check_query(SPAN_LIT("a=%00"), NULL), MUSTER_EHTTPMALFORMED);
    assert_int_equal(uri_check_query(SPAN_LIT("a=%"), NULL), MUSTER_EHTTPMALFORMED);
    assert_int_equal(uri_check_query(SPAN_LIT("a=%80"), NULL), MUSTER_EHTTPMALFORMED);
    assert_int_equal(uri_check_query(SPAN_LIT("a=#"), NULL), MUSTER_EHTTPMALFORMED);

    struct span query = SPAN_LIT("&a&b=&%63=1+2%2B&c=3&dd=4&d=%3d=&"), raw;
    CLEANUP(arena_free) struct arena *a = arena_new(4096);
    assert_true(uri_query_find(query, "a", &raw) && raw.n == 0);
    assert_true(uri_query_find(query, "b", &raw) && raw.n == 0);
    assert_true(uri_query_find(query, "c", &raw) && span_eq_str(raw, "1+2%2B"));
    assert_true(span_eq_str(uri_decode(a, raw, true), "1 2+"));
    assert_true(span_eq_str(uri_decode(a, raw, false), "1+2+"));
    assert_true(uri_query_find(query, "d", &raw) && span_eq_str(raw, "%3d="));
    assert_false(uri_query_find(query, "e", &raw));
    assert_false(uri_query_find(query, "", &raw));
    assert_false(uri_query_find(SPAN_NONE, "a", &raw));
    struct span empty = uri_decode(a, SPAN_NONE, true);
    assert_true(empty.n == 0 && empty.p); /* absent is something else */
    assert_true(span_eq_str(uri_decode(a, SPAN_LIT("%252f"), false), "%2f")); /* once */
}

/* --- router ------------------------------------------------------------------------------------------------------------ */

static void handler(struct http_exchange *x, void *arg) {}

static const struct http_route ROUTES[] = {
    {"GET", "/", 0, NULL, handler, NULL},
    {"GET", "/devices", 0, NULL, handler, NULL},
    {"POST", "/devices", 10, NULL, handler, NULL},
    {"GET", "/accounts/{account}/keys/{key}", 0, NULL, handler, NULL},
    {"DELETE", "/accounts/{account}/keys/{key}", 0, NULL, handler, NULL},
    {"GET", "/accounts/{account}/keys", 0, NULL, handler, NULL},
    {"PUT", "/files/{*rest}", 10, NULL, handler, NULL},
    {"GET", "/dir/", 0, NULL, handler, NULL},
};

static int find(const struct http_router *r, const char *method, const char *path, struct route_match *m, struct buf *allow) {
    buf_clear(allow);
    return route_find(r, span_str(method), span_str(path), m, allow);
}

static void routes(void **state) {
    struct err err = ERR_INIT;
    CLEANUP(http_router_free) struct http_router *r = http_router_new(ROUTES, sizeof ROUTES / sizeof *ROUTES, &err);
    CLEANUP(buf_fini) struct buf allow = BUF_INIT(256);
    struct route_match m;
    assert_non_null(r);
    assert_int_equal(find(r, "GET", "/", &m, &allow), 0);
    assert_ptr_equal(m.row, &ROUTES[0]);
    assert_int_equal(find(r, "HEAD", "/devices", &m, &allow), 0);
    assert_ptr_equal(m.row, &ROUTES[1]);
    assert_int_equal(find(r, "POST", "/devices", &m, &allow), 0);
    assert_ptr_equal(m.row, &ROUTES[2]);
    assert_int_equal(find(r, "GET", "/accounts/a%20b/keys/k", &m, &allow), 0);
    assert_ptr_equal(m.row, &ROUTES[3]);
    assert_int_equal(m.n, 2);
    assert_true(span_eq_str(m.params[0].name, "account") && span_eq_str(m.params[0].raw, "a%20b"));
    assert_true(span_eq_str(m.params[1].name, "key") && span_eq_str(m.params[1].raw, "k"));
    assert_int_equal(find(r, "PUT", "/files/a/b/", &m, &allow), 0);
    assert_true(span_eq_str(m.params[0].name, "rest") && span_eq_str(m.params[0].raw, "a/b/"));
    assert_int_equal(find(r, "GET", "/dir/", &m, &allow), 0);

    assert_int_equal(find(r, "PUT", "/devices", &m, &allow), MUSTER_EHTTPMETHOD);
    assert_string_equal(buf_str(&allow), "GET, HEAD, POST");
    assert_null(m.row);
    assert_int_equal(m.n, 0);
    assert_int_equal(find(r, "HEAD", "/files/a", &m, &allow), MUSTER_EHTTPMETHOD);
    assert_string_equal(buf_str(&allow), "PUT");
    assert_int_equal(find(r, "get", "/", &m, &allow), MUSTER_EHTTPMETHOD);

    static const char *const absent[] = {"/device", "/devices/", "/Devices", "/%64evices", "/accounts//keys", "/accounts/a/keys/",
                                         "/accounts/a", "/files", "/files/", "/dir", "/dir/a", "/accounts/a/keys/k/x"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        if (find(r, "GET", absent[i], &m, &allow) != MUSTER_ENOTFOUND || m.row)
            fail_msg("%s", absent[i]);
}

static void bad_tables(void **state) {
#define ROW(m, p) {m, p, 0, NULL, handler, NULL}
    static const struct http_route alone[] = {
        ROW("HEAD", "/"), ROW("", "/"), ROW("G T", "/"), ROW("GET", ""), ROW("GET", "a"), ROW("GET", "//"), ROW("GET", "/a//b"), ROW("GET", "/a{b}"),
        ROW("GET", "/{}"), ROW("GET", "/{*a}/b"), ROW("GET", "/{a}/{a}"), {"GET", "/", 0, NULL, NULL, NULL},
        ROW("GET", "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}"),
    };
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) {
        struct err err = ERR_INIT;
        CLEANUP(http_router_free) struct http_router *r = http_router_new(&alone[i], 1, &err);
        if (r || err.code != MUSTER_EINVALID)
            fail_msg("%s %s", alone[i].method, alone[i].path);
    }
    static const struct http_route clash[][2] = {
        {ROW("GET", "/a"), ROW("GET", "/a")}, {ROW("GET", "/a"), ROW("GET", "/{b}")}, {ROW("GET", "/{a}/b"), ROW("GET", "/a/{b}")},
        {ROW("GET", "/{*a}"), ROW("GET", "/a/b/c")}, {ROW("GET", "/a/{*b}"), ROW("GET", "/{a}/b")},
    };
    static const struct http_route peace[][2] = {
        {ROW("GET", "/a"), ROW("PUT", "/a")}, {ROW("GET", "/a"), ROW("GET", "/a/")}, {ROW("GET", "/{a}/b"), ROW("GET", "/{a}/c")},
        {ROW("GET", "/{*a}"), ROW("GET", "/")}, {ROW("GET", "/a/{*b}"), ROW("GET", "/a")}, {ROW("GET", "/{a}"), ROW("GET", "/")},
    };
    for (size_t i = 0; i < sizeof clash / sizeof *clash; i++)
        assert_null(http_router_new(clash[i], 2, NULL));
    for (size_t i = 0; i < sizeof peace / sizeof *peace; i++) {
        CLEANUP(http_router_free) struct http_router *r = http_router_new(peace[i], 2, NULL);
        if (!r)
            fail_msg("%s %s", peace[i][0].path, peace[i][1].path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks), cmocka_unit_test(paths), cmocka_unit_test(queries), cmocka_unit_test(routes), cmocka_unit_test(bad_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
