/* The fleet CA's journal: what it writes it reads, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "ca/journal.h"
#include "ca/name.h"
#include "json/json.h"

#define SERIAL "01a2195b2457b25c28c9f3a1d90b2769"
#define OTHER "01a2195b2457b25c28c9f3a1d90b276a"
#define HASH "a66ea6973883ea1b348cbb8aa7d34d16aca8ffa7c2ace372e7f082904b457bd0"
#define AT "\"at\":\"2026-11-26T19:35:34Z\""
#define RESERVE(serial, id) "{" AT ",\"event\":\"reserve\",\"serial\":\"" serial "\",\"kind\":\"device\",\"device_id\":\"" id "\",\"key\":\"" HASH "\"}\n"
#define ISSUE(serial) "{" AT ",\"event\":\"issue\",\"serial\":\"" serial "\",\"fingerprint\":\"" HASH "\",\"not_after\":\"2066-11-16T19:35:33Z\"}\n"
#define ABANDON(serial) "{" AT ",\"event\":\"abandon\",\"serial\":\"" serial "\"}\n"

static int read_text(struct journal *j, const char *text) {
    assert_int_equal(journal_init(j), 0);
    return journal_read(j, span_str(text), NULL);
}

static void what_is_written_is_read(void **state) {
    struct journal_reserve r = {.kind = "device", .device_id = SPAN_LIT("Gerät/7\""), .serial = SERIAL};
    CLEANUP(buf_fini) struct buf text = BUF_INIT(3 * JOURNAL_LINE_MAX);
    CLEANUP(journal_fini) struct journal j;
    hash_of(SPAN_LIT("key"), &r.key);
    assert_int_equal(journal_line_reserve(&r, 1000, &text), 0);
    memcpy(r.serial, OTHER, sizeof OTHER);
    assert_int_equal(journal_line_reserve(&r, 1000, &text), 0);
    assert_int_equal(journal_line_issue(SERIAL, &r.key, 2000, 1001, &text), 0);
    assert_int_equal(read_text(&j, buf_str(&text)), 0);
    assert_int_equal(j.lines, 3);
    assert_int_equal(j.bytes, text.n);
    assert_int_equal(json_object_size(j.open), 1);
    const json_t *record = journal_issued(&j, "Gerät/7\"");
    assert_string_equal(json_string_value(json_object_get(record, "serial")), SERIAL);
    assert_string_equal(json_string_value(json_object_get(record, "not_after")), "1970-01-01T00:33:20Z");
    buf_clear(&text);
    assert_int_equal(journal_line_abandon(OTHER, 1002, &text), 0);
    assert_int_equal(journal_read(&j, buf_span(&text), NULL), 0);
    assert_int_equal(json_object_size(j.open), 0);
    assert_ptr_equal(journal_issued(&j, "Gerät/7\""), record);
    assert_null(journal_issued(&j, "gerät/7\""));
}

static void a_torn_line_is_left_alone(void **state) {
    CLEANUP(journal_fini) struct journal j;
    assert_int_equal(read_text(&j, RESERVE(SERIAL, "a") "{\"at\":\"2026"), 0);
    assert_int_equal(j.lines, 1);
    assert_int_equal(j.bytes, strlen(RESERVE(SERIAL, "a")));
}

static void what_it_would_not_write_is_refused(void **state) {
    static const char *const texts[] = {
        "\n",
        "{}\n",
        "[]\n",
        "{" AT ",\"event\":\"reserve\"}\n",
        "{" AT ",\"event\":\"forget\",\"serial\":\"" SERIAL "\"}\n",
        "{\"at\":\"yesterday\",\"event\":\"abandon\",\"serial\":\"" SERIAL "\"}\n",
        ISSUE(SERIAL),
        ABANDON(SERIAL),
        RESERVE(SERIAL, "a") RESERVE(SERIAL, "b"), /* a serial twice */
        RESERVE(SERIAL, "a") ISSUE(SERIAL) ISSUE(SERIAL),
        RESERVE(SERIAL, "a") ISSUE(SERIAL) ABANDON(SERIAL),
        RESERVE(SERIAL, "a") ABANDON(SERIAL) ISSUE(SERIAL),
        RESERVE(SERIAL, "a") ABANDON(SERIAL) RESERVE(SERIAL, "a"), /* not even after it was given up */
        RESERVE("01", "a"),
        RESERVE("01A2195B2457B25C28C9F3A1D90B2769", "a"),
        RESERVE(SERIAL, ""),
        RESERVE(SERIAL, "a\\u0007"),
        "{" AT ",\"event\":\"reserve\",\"serial\":\"" SERIAL "\",\"kind\":\"device\",\"key\":\"" HASH "\"}\n",
        "{" AT ",\"event\":\"reserve\",\"serial\":\"" SERIAL "\",\"kind\":\"root\",\"device_id\":\"a\",\"key\":\"" HASH "\"}\n",
        "{" AT ",\"event\":\"reserve\",\"serial\":\"" SERIAL "\",\"kind\":\"server\",\"key\":\"" HASH "\"}\n",
        "{" AT ",\"event\":\"reserve\",\"serial\":\"" SERIAL "\",\"kind\":\"root\",\"key\":\"" HASH "\",\"more\":1}\n",
        "{" AT ",\"event\":\"abandon\",\"serial\":\"" SERIAL "\",\"serial\":\"" SERIAL "\"}\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        CLEANUP(journal_fini) struct journal j;
        if (read_text(&j, texts[i]) != MUSTER_ECORRUPT)
            fail_msg("accepted: %s", texts[i]);
    }
}

static void the_line_at_fault_is_named(void **state) {
    CLEANUP(journal_fini) struct journal j;
    struct err err = ERR_INIT;
    assert_int_equal(journal_init(&j), 0);
    assert_int_equal(journal_read(&j, SPAN_LIT(RESERVE(SERIAL, "a") ISSUE(OTHER)), &err), MUSTER_ECORRUPT);
    assert_non_null(strstr(err.text, "Line 2 of journal.jsonl"));
}

static void serials_are_new(void **state) {
    CLEANUP(journal_fini) struct journal j;
    uint8_t serial[MAKE_SERIAL_LEN];
    char text[JOURNAL_SERIAL_LEN + 1];
    assert_int_equal(read_text(&j, ""), 0);
    for (int i = 0; i < 1000; i++) {
        journal_new_serial(&j, serial, text);
        assert_null(json_object_get(j.serials, text));
        json_object_set_new(j.serials, text, json_true());
    }
}

static void names_of_files(void **state) {
    static const char *const pairs[][2] = {{"car-1", "car-1"}, {"..", "%2E."}, {".", "%2E"}, {"a.b", "a.b"}, {"a/b", "a%2Fb"}, {"ä", "%C3%A4"}, {"%41", "%2541"}, {"a b", "a%20b"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        CLEANUP(buf_fini) struct buf name = BUF_INIT(512);
        ca_file_name(&name, span_str(pairs[i][0]));
        assert_string_equal(buf_str(&name), pairs[i][1]);
    }
    char longest[129] = "";
    for (int i = 0; i < 128; i += 2)
        memcpy(longest + i, "ß", 2);
    CLEANUP(buf_fini) struct buf name = BUF_INIT(512);
    assert_int_equal(ca_check_device_id(span_str(longest), NULL), 0);
    ca_file_name(&name, span_str(longest));
    assert_int_equal(name.n, 7 + 64);
    assert_int_equal(ca_check_device_id(SPAN_LIT("0123456789012345678901234567890123456789012345678901234567890123"), NULL), 0);
    assert_int_equal(ca_check_device_id(SPAN_LIT("0123456789012345678901234567890123456789012345678901234567890123x"), NULL), MUSTER_EDEVICEID);
    assert_int_equal(ca_check_device_id(SPAN_NONE, NULL), MUSTER_EDEVICEID);
    assert_int_equal(ca_check_device_id(SPAN_LIT("a\nb"), NULL), MUSTER_EDEVICEID);
    assert_int_equal(ca_check_device_id(SPAN_LIT("a\xff"), NULL), MUSTER_EDEVICEID);
}

static void a_batch_is_one_line(void **state) {
    struct journal_reserve r[2] = {{.kind = "device", .device_id = SPAN_LIT("a"), .serial = SERIAL}, {.kind = "device", .device_id = SPAN_LIT("b"), .serial = OTHER}};
    struct journal_issue i[2] = {{.serial = SERIAL, .not_after = 2000}, {.serial = OTHER, .not_after = 3000}};
    CLEANUP(buf_fini) struct buf text = BUF_INIT(JOURNAL_BATCH_LINE_MAX);
    CLEANUP(journal_fini) struct journal j;
    hash_of(SPAN_LIT("a"), &r[0].key);
    hash_of(SPAN_LIT("b"), &r[1].key);
    assert_int_equal(journal_line_reserve_batch(r, 2, 1000, &text), 0);
    assert_int_equal(journal_line_issue_batch(i, 1, 1001, &text), 0);
    assert_int_equal(read_text(&j, buf_str(&text)), 0);
    assert_int_equal(j.lines, 2);
    assert_int_equal(json_object_size(j.open), 1);
    assert_non_null(journal_issued_key(&j, "a", &r[0].key));
    assert_null(journal_issued_key(&j, "a", &r[1].key));
    assert_null(journal_issued(&j, "b"));
    buf_clear(&text);
    assert_int_equal(journal_line_issue_batch(i, 2, 1001, &text), 0); /* the first was issued already */
    assert_int_equal(journal_read(&j, buf_span(&text), NULL), MUSTER_ECORRUPT);
}

static void what_is_revoked_is_not_in_force(void **state) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(3 * JOURNAL_LINE_MAX);
    CLEANUP(journal_fini) struct journal j;
    assert_int_equal(read_text(&j, RESERVE(SERIAL, "a") ISSUE(SERIAL)), 0);
    assert_non_null(journal_issued(&j, "a"));
    assert_int_equal(journal_line_revoke(SERIAL, "key-compromise", 1002, &text), 0);
    assert_int_equal(journal_line_crl(true, 7, 1, 1003, &text), 0);
    assert_int_equal(journal_read(&j, buf_span(&text), NULL), 0);
    assert_null(journal_issued(&j, "a"));
    assert_true(journal_is(json_object_get(j.serials, SERIAL), "revoked"));
    assert_int_equal(j.crl[0], 7);
    assert_int_equal(j.crl[1], 0);
    buf_clear(&text);
    assert_int_equal(journal_line_crl(true, 7, 1, 1003, &text), 0); /* a number twice */
    assert_int_equal(journal_read(&j, buf_span(&text), NULL), MUSTER_ECORRUPT);
    assert_int_equal(journal_reason("key-compromise"), 1);
    assert_string_equal(journal_reason_name(9), "privilege-withdrawn");
    assert_null(journal_reason_name(2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),    cmocka_unit_test(a_torn_line_is_left_alone), cmocka_unit_test(what_it_would_not_write_is_refused),
        cmocka_unit_test(the_line_at_fault_is_named), cmocka_unit_test(serials_are_new),           cmocka_unit_test(names_of_files),
        cmocka_unit_test(a_batch_is_one_line),        cmocka_unit_test(what_is_revoked_is_not_in_force),
    };
    return secret_init() || cmocka_run_group_tests(tests, NULL, NULL);
}
