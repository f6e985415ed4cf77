/* Strict input, ordered output. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "json/json.h"

static void bad_documents_are_refused(void **state) {
    static const char *const bad[] = {"", "{", "1", "\"a\"", "{\"a\":1,\"a\":2}", "{} x", "{\"a\":\"\\u0000\"}", "{'a':1}", "{\"a\":NaN}", "[1,]", "{\"\xff\":1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = ERR_INIT;
        assert_null(json_parse(span_str(bad[i]), &e));
        assert_int_equal(e.code, MUSTER_EJSON);
    }
    char deep[200];
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    assert_null(json_parse(span_of(deep, 200), NULL));
    CLEANUP_JSON json_t *strings = json_parse(SPAN_LIT("[\"[[[[\\\"[[[[\"]"), NULL);
    assert_non_null(strings);
}

static void unknown_members_are_refused(void **state) {
    struct err e = ERR_INIT;
    const char *id, *more = NULL;
    CLEANUP_JSON json_t *doc = json_parse(SPAN_LIT("{\"id\":\"x\"}"), &e);
    assert_int_equal(json_take(doc, &e, "{s:s, s?s}", "id", &id, "more", &more), 0);
    assert_string_equal(id, "x");
    CLEANUP_JSON json_t *extra = json_parse(SPAN_LIT("{\"id\":\"x\",\"other\":1}"), &e);
    assert_int_equal(json_take(extra, &e, "{s:s}", "id", &id), MUSTER_EJSON);
    assert_int_equal(json_take(doc, &e, "{s:i}", "id", (int[1]){0}), MUSTER_EJSON);
}

static void output_is_in_order(void **state) {
    CLEANUP_JSON json_t *doc = json_object();
    struct uuid nil = {{0}};
    json_set_str(doc, "z", "q\"");
    json_set_span(doc, "bytes", SPAN_LIT("a\xff"));
    json_set_time(doc, "t", 1);
    json_set_time(doc, "none", 0);
    json_set_uuid(doc, "u", &nil);
    json_set_hex(doc, "h", SPAN_LIT("\x01\xab"));
    CLEANUP(buf_fini) struct buf b = BUF_INIT(1000);
    assert_int_equal(json_write(&b, doc), 0);
    assert_string_equal(buf_str(&b), "{\"z\":\"q\\\"\",\"bytes\":\"a\xef\xbf\xbd\",\"t\":\"1970-01-01T00:00:01Z\",\"none\":null,\"u\":null,\"h\":\"01ab\"}");
    buf_clear(&b);
    assert_int_equal(json_write_sorted(&b, doc), 0);
    assert_true(span_starts(buf_span(&b), SPAN_LIT("{\"bytes\"")));
    CLEANUP(buf_fini) struct buf small = BUF_INIT(10);
    assert_int_not_equal(json_write(&small, doc), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bad_documents_are_refused), cmocka_unit_test(unknown_members_are_refused), cmocka_unit_test(output_is_in_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
