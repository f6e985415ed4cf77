/* Spans, buffers, cursors, arenas, hex and base64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/cursor.h"
#include "base/hex.h"
#include "base/man.h"
#include "base/unseen.h"

static void utf8_is_strict(void **state) {
    static const struct { const char *text; size_t n; bool ok; } rows[] = {
        {"", 0, true},
        {"abc", 3, true},
        {"\xc3\xa4", 2, true},
        {"\xf0\x9f\x9a\x97", 4, true},
        {"\xf4\x8f\xbf\xbf", 4, true},      /* U+10FFFF */
        {"\xf4\x90\x80\x80", 4, false},     /* above */
        {"\xc0\xaf", 2, false},             /* overlong / */
        {"\xe0\x80\xaf", 3, false},         /* overlong */
        {"\xed\xa0\x80", 3, false},         /* surrogate */
        {"\xc3", 1, false},                 /* cut */
        {"\x80", 1, false},                 /* continuation alone */
        {"\xff", 1, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(span_is_utf8(span_of(rows[i].text, rows[i].n)), rows[i].ok);
        for (size_t before = 0; before <= 17; before++) /* whatever stands around it */
            for (size_t behind = 0; behind <= 9; behind++) {
                char text[32];
                memset(text, 'x', sizeof text);
                memcpy(text + before, rows[i].text, rows[i].n);
                assert_int_equal(span_is_utf8(span_of(text, before + rows[i].n + behind)), rows[i].ok);
            }
    }
}

static void control_characters_are_found(void **state) {
    static const char *const bad[] = {"a\nb", "\x7f", "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xae", "\xef\xbb\xbf", "\xe2\x81\xa6", "\xff"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_true(span_has_control(span_str(bad[i])));
    assert_true(span_has_control(span_of("a\0b", 3)));
    assert_false(span_has_control(span_str("gr\xc3\xbc\xc3\x9f / : 7")));
}

static void characters_that_nobody_sees_are_found(void **state) {
    static const struct { const char *text; uint32_t code; } rows[] = {
        {"a\xe2\x80\x8b", 0x200b}, {"\xc2\xad", 0xad}, {"\xe2\x81\xa0x", 0x2060}, {"x\xef\xb8\x8f\xe2\x80\x8b", 0xfe0f}, {"\xe3\x85\xa4", 0x3164}, {"\xf3\xa0\x81\xbf", 0xe007f}, {"\xe2\x80\xae", 0x202e},
        {"", 0}, {"gr\xc3\xbc\xc3\x9f \xc2\xae \xe2\x80\x93 \xe7\x8e\x8b \xf0\x9f\x9a\x97", 0}, {"\xe2\x80\x8a\xe2\x80\x90", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t code = 0;
        struct err err = ERR_INIT;
        assert_int_equal(unseen_find(span_str(rows[i].text), &code), rows[i].code != 0);
        assert_int_equal(unseen_refuse(span_str(rows[i].text), "It", MUSTER_EDEVICEID, &err), rows[i].code ? MUSTER_EDEVICEID : 0);
        assert_true(!rows[i].code || code == rows[i].code);
    }
}

static void manual_pages_show_text_as_it_is(void **state) {
    static const struct { const char *text, *written; } rows[] = {
        {"", ""}, {"plain: text, 100 %", "plain: text, 100 %"}, {"a_b *c* [d] <e> `f` \\", "a\\_b \\*c\\* \\[d\\] \\<e\\> \\`f\\` \\\\"}, {"gr\xc3\xbc\xc3\x9f…", "gr\xc3\xbc\xc3\x9f…"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CLEANUP(free) char *written = NULL;
        size_t n;
        FILE *out = open_memstream(&written, &n);
        assert_non_null(out);
        man_text(out, rows[i].text);
        assert_int_equal(fclose(out), 0);
        assert_string_equal(written, rows[i].written);
    }
}

static void numbers_are_digits_only(void **state) {
    uint64_t v;
    assert_true(span_to_u64(SPAN_LIT("18446744073709551615"), &v));
    assert_true(v == UINT64_MAX);
    static const char *const bad[] = {"", "18446744073709551616", "+5", "-1", " 1", "1 ", "0x1", "1e3", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(span_to_u64(span_str(bad[i]), &v));
}

static void spans_are_clipped(void **state) {
    struct span s = SPAN_LIT("hello");
    assert_true(span_eq_str(span_sub(s, 1, 3), "ell"));
    assert_true(span_eq_str(span_sub(s, 3, 99), "lo"));
    assert_int_equal(span_sub(s, 9, 1).n, 0);
    assert_true(span_starts(s, SPAN_LIT("he")) && !span_starts(s, SPAN_LIT("hello!")));
    assert_true(span_ends(s, SPAN_LIT("lo")) && !span_ends(s, SPAN_LIT("xhello")));
    assert_true(span_eq_nocase(SPAN_LIT("HoSt"), SPAN_LIT("hOsT")) && !span_eq_nocase(SPAN_LIT("[ost"), SPAN_LIT("{ost")));
    assert_true(span_eq_str(span_trim(SPAN_LIT(" \t a b \t")), "a b"));
    assert_int_equal(span_find(s, SPAN_LIT("l")), 2);
    assert_int_equal(span_find(s, SPAN_LIT("lo")), 3);
    assert_int_equal(span_find(s, s), 0);
    assert_int_equal(span_find(s, SPAN_LIT("los")), -1);
    assert_int_equal(span_find(s, SPAN_NONE), -1);
    assert_int_equal(span_find(SPAN_NONE, s), -1); /* UBSan looks on: what has no bytes may have no address */
    assert_int_equal(span_find(SPAN_NONE, SPAN_NONE), -1);
}

static void a_buffer_keeps_its_maximum(void **state) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(8);
    assert_string_equal(buf_str(&b), "");
    buf_adds(&b, "12345678");
    assert_true(buf_ok(&b));
    buf_addc(&b, '9');
    assert_false(buf_ok(&b));
    assert_int_equal(buf_check(&b, NULL), MUSTER_ENOMEM);
    assert_string_equal(buf_str(&b), "12345678");
    buf_adds(&b, "");
    assert_false(buf_ok(&b)); /* failed for good */
    buf_clear(&b);
    buf_addf(&b, "%d-%s", 12, "ab");
    assert_true(buf_ok(&b));
    assert_string_equal(buf_str(&b), "12-ab");
    buf_consume(&b, 3);
    assert_string_equal(buf_str(&b), "ab");
    buf_addf(&b, "%s", "1234567");
    assert_false(buf_ok(&b));
}

static void a_cursor_fails_for_good(void **state) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(64);
    buf_add_u16(&b, 0x1234);
    buf_add_u32(&b, 0x56789abc);
    buf_add_u64(&b, 0x0102030405060708);
    buf_addc(&b, 9);
    struct cursor c = cursor_of(buf_span(&b));
    assert_int_equal(cursor_u16(&c), 0x1234);
    assert_int_equal(cursor_u32(&c), 0x56789abc);
    assert_true(cursor_u64(&c) == 0x0102030405060708);
    assert_false(cursor_done(&c)); /* something is left */
    assert_int_equal(cursor_u8(&c), 9);
    assert_true(cursor_done(&c));
    assert_int_equal(cursor_u8(&c), 0);
    assert_false(cursor_done(&c));
    struct cursor d = cursor_of(buf_span(&b));
    assert_null(cursor_bytes(&d, 99).p);
    assert_int_equal(cursor_u8(&d), 0); /* though bytes are there */
}

static void an_arena_has_a_maximum(void **state) {
    CLEANUP(arena_free) struct arena *a = arena_new(10000);
    assert_non_null(a);
    assert_null(arena_alloc(a, 10001));
    assert_null(arena_alloc(a, SIZE_MAX));
    assert_string_equal(arena_strdup(a, SPAN_LIT("abc")), "abc");
    assert_string_equal(arena_printf(a, "%d%s", 7, "x"), "7x");
    assert_non_null(arena_alloc(a, 9000));
    assert_null(arena_alloc(a, 2000));
}

static void hex_and_base64_are_strict(void **state) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(100);
    uint8_t raw[3];
    char text[7];
    assert_int_equal(hex_decode(SPAN_LIT("00aBff"), raw, 3), 0);
    hex_encode(span_of(raw, 3), text);
    assert_string_equal(text, "00abff");
    assert_int_equal(hex_decode(SPAN_LIT("00abf"), raw, 3), MUSTER_EINVALID);
    assert_int_equal(hex_decode(SPAN_LIT("00abfg"), raw, 3), MUSTER_EINVALID);
    base64_add(&b, SPAN_LIT("ab\xff"));
    assert_string_equal(buf_str(&b), "YWL/");
    buf_clear(&b);
    base64url_add(&b, SPAN_LIT("ab\xff\xfe"));
    assert_string_equal(buf_str(&b), "YWL__g");
    buf_clear(&b);
    assert_int_equal(base64_decode(SPAN_LIT("YWL/"), &b), 0);
    assert_true(span_eq(buf_span(&b), SPAN_LIT("ab\xff")));
    static const char *const bad[] = {"YWL", "YW=L", "YWL=YWL=", "YW L", "YWL_", "Y===", "YWL/\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf_clear(&b);
        assert_int_equal(base64_decode(span_str(bad[i]), &b), MUSTER_EINVALID);
        assert_int_equal(b.n, 0);
    }
}

static void base64_in_lines(void **state) {
    CLEANUP(buf_fini) struct buf lines = BUF_INIT(1000);
    CLEANUP(buf_fini) struct buf back = BUF_INIT(1000);
    uint8_t raw[100];
    for (size_t i = 0; i < sizeof raw; i++)
        raw[i] = (uint8_t)(7 * i);
    for (size_t n = 0; n <= sizeof raw; n++) {
        buf_clear(&lines);
        buf_clear(&back);
        base64_add_lines(&lines, span_of(raw, n));
        for (size_t at = 0; at < lines.n; at += 65)
            assert_int_equal(lines.p[at + 65 < lines.n ? at + 64 : lines.n - 1], '\n');
        assert_int_equal(lines.n, (n + 2) / 3 * 4 + (n + 47) / 48);
        assert_int_equal(base64_decode_lines(buf_span(&lines), &back), 0);
        assert_true(span_eq(buf_span(&back), span_of(raw, n)));
    }
    static const char *const good[] = {"YWL/", "YWL/\n", "\r\nYWL/\r\n", " Y\tW L / ", "YW\nL/"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        buf_clear(&back);
        assert_int_equal(base64_decode_lines(span_str(good[i]), &back), 0);
        assert_true(span_eq(buf_span(&back), SPAN_LIT("ab\xff")));
    }
    static const char *const bad[] = {"YWL", "YW=L", "YWL=\nYWL=", "YWL_", "Y===", "YWL/\v", "YWL/.", "-YWL/"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(base64_decode_lines(span_str(bad[i]), &back), MUSTER_EINVALID);
    assert_int_equal(base64_decode_lines(SPAN_LIT("YWL/\0"), &back), MUSTER_EINVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_is_strict),         cmocka_unit_test(control_characters_are_found), cmocka_unit_test(characters_that_nobody_sees_are_found), cmocka_unit_test(manual_pages_show_text_as_it_is), cmocka_unit_test(numbers_are_digits_only),
        cmocka_unit_test(spans_are_clipped),      cmocka_unit_test(a_buffer_keeps_its_maximum),   cmocka_unit_test(a_cursor_fails_for_good),
        cmocka_unit_test(an_arena_has_a_maximum), cmocka_unit_test(hex_and_base64_are_strict), cmocka_unit_test(base64_in_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
