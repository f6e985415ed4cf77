/* JSON: a document that is read, written and read again is the same; the sorted form has one spelling. */
#include "fuzz.h"
#include "json/json.h"

/* Whatever bytes are put into a document, it is valid and says what was put in; what is no UTF-8 is replaced. */
static void check_setters(struct span in) {
    CLEANUP_JSON json_t *o = json_object();
    CLEANUP(buf_fini) struct buf text = BUF_INIT(16 * in.n + 512);
    struct uuid id = {{0}};
    memcpy(id.b, in.p, in.n < 16 ? in.n : 16);
    json_set_span(o, "span", in);
    json_set_str(o, "null", NULL);
    json_set_hex(o, "hex", in);
    json_set_uuid(o, "uuid", &id);
    json_set_time(o, "time", (int64_t)in.n);
    json_set_int(o, "int", (int64_t)in.n);
    json_set_bool(o, "bool", in.n % 2);
    json_t *span = json_object_get(o, "span");
    if (span_index(in, 0) >= 0)
        return; /* a NUL is written as an escape, which json_parse refuses */
    MUST(json_object_size(o) == 7 && json_write(&text, o) == 0);
    CLEANUP_JSON json_t *same = json_parse(buf_span(&text), NULL);
    MUST(same && json_equal(o, same));
    if (span_is_utf8(in))
        MUST(span_eq(span_of(json_string_value(span), json_string_length(span)), in));
}

/* A text alone is written as in a document, and whatever bytes it has, what was written can be read. */
static void check_text(struct span in) {
    CLEANUP(buf_fini) struct buf alone = BUF_INIT(8 * in.n + 64);
    CLEANUP(buf_fini) struct buf inside = BUF_INIT(8 * in.n + 64);
    buf_addc(&alone, '[');
    json_add_text(&alone, in);
    buf_addc(&alone, ']');
    MUST(buf_ok(&alone));
    if (span_index(in, 0) < 0) {
        CLEANUP_JSON json_t *read = json_parse(buf_span(&alone), NULL);
        MUST(read && json_array_size(read) == 1);
    }
    if (!span_is_utf8(in))
        return;
    CLEANUP_JSON json_t *list = json_array();
    MUST(json_array_append_new(list, json_stringn((const char *)in.p, in.n)) == 0 && json_write(&inside, list) == 0);
    MUST(span_eq(buf_span(&alone), buf_span(&inside)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct err err = ERR_INIT;
    if (n)
        check_setters(span_of(data, n));
    if (n)
        check_text(span_of(data, n));
    CLEANUP_JSON json_t *doc = json_parse(span_of(data, n), &err);
    MUST(doc || (err.code == MUSTER_EJSON && err.text[0]));
    if (!doc)
        return 0;
    MUST(json_is_object(doc) || json_is_array(doc));
    CLEANUP(buf_fini) struct buf text = BUF_INIT(8 * n + 64);
    CLEANUP(buf_fini) struct buf sorted = BUF_INIT(8 * n + 64);
    CLEANUP(buf_fini) struct buf pretty = BUF_INIT((64 + n) * (64 + n));
    CLEANUP(buf_fini) struct buf again = BUF_INIT(8 * n + 64);
    MUST(json_write(&text, doc) == 0 && json_write_sorted(&sorted, doc) == 0 && json_write_pretty(&pretty, doc) == 0);
    const struct buf *forms[] = {&text, &sorted, &pretty};
    for (size_t i = 0; i < 3; i++) {
        CLEANUP_JSON json_t *same = json_parse(buf_span(forms[i]), NULL);
        MUST(same && json_equal(doc, same));
        buf_clear(&again);
        MUST(json_write_sorted(&again, same) == 0 && span_eq(buf_span(&again), buf_span(&sorted)));
    }
    const char *name = NULL;
    json_int_t number = 0;
    int rc = json_take(doc, &err, "{s:s, s?I}", "name", &name, "number", &number);
    MUST(rc == 0 ? name != NULL : err.code == MUSTER_EJSON && err.text[0]);
    return 0;
}
