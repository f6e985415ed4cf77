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

/* json_add_text() against what jansson writes: every byte in every place, and texts by chance. */
static void same_text(struct span text) {
    CLEANUP(buf_fini) struct buf a = BUF_INIT(8000), b = BUF_INIT(8000);
    CLEANUP_JSON json_t *array = json_array();
    CLEANUP_JSON json_t *o = json_object();
    json_set_span(o, "x", text);
    json_array_append(array, json_object_get(o, "x"));
    assert_int_equal(json_write(&a, array), 0);
    buf_addc(&b, '[');
    json_add_text(&b, text);
    buf_addc(&b, ']');
    assert_string_equal(buf_str(&a), buf_str(&b));
}

static void texts_are_written_as_in_documents(void **state) {
    static const char *const parts[] = {"a", "\"", "\\", "/", "\n", "\x01", "\x1f", "\x7f", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x9a\x97", "\xff", "\xc3"};
    same_text(SPAN_NONE);
    for (int c = 1; c < 256; c++) {
        uint8_t text[] = {(uint8_t)c, 'x', (uint8_t)c, 'y', (uint8_t)c};
        same_text(span_of(text, sizeof text));
    }
    uint64_t random = 7;
    for (int i = 0; i < 2000; i++) {
        CLEANUP(buf_fini) struct buf text = BUF_INIT(500);
        for (int k = 0; k < i % 17; k++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            buf_adds(&text, parts[(random >> 40) % (sizeof parts / sizeof *parts)]);
        }
        same_text(buf_span(&text));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bad_documents_are_refused), cmocka_unit_test(unknown_members_are_refused), cmocka_unit_test(output_is_in_order),
                                       cmocka_unit_test(texts_are_written_as_in_documents)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
