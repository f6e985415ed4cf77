/* basic: which Authorization fields hold a user and a password, and where one ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/hex.h"
#include "gateway/basic.h"

static bool read_it(const char *scheme, struct span text, struct buf *out, struct span *user, struct span *password) {
    CLEANUP(buf_fini) struct buf field = BUF_INIT(2048);
    buf_adds(&field, scheme);
    base64_add(&field, text);
    *out = BUF_INIT(BASIC_TEXT_MAX);
    return basic_read(buf_span(&field), out, user, password);
}

static void what_is_read(void **state) {
    static const struct {
        struct span text;
        const char *user, *password; /* NULL: it is refused */
    } rows[] = {
        {SPAN_LIT("a:b"), "a", "b"},
        {SPAN_LIT("urn:dev:7:code"), "urn:dev:7", "code"},
        {SPAN_LIT("a::b"), "a:", "b"},
        {SPAN_LIT("G\xc3\xa4t 1:b c"), "G\xc3\xa4t 1", "b c"},
        {SPAN_LIT(""), NULL, NULL},
        {SPAN_LIT("a"), NULL, NULL},
        {SPAN_LIT(":"), NULL, NULL},
        {SPAN_LIT(":b"), NULL, NULL},
        {SPAN_LIT("a:"), NULL, NULL},
        {SPAN_LIT("a\0x:b"), NULL, NULL},
        {SPAN_LIT("a:b\n"), NULL, NULL},
        {SPAN_LIT("\xff:b"), NULL, NULL},
        {SPAN_LIT("a:\xff"), NULL, NULL},
    };
    static const char *const schemes[] = {"Basic ", "basic ", "BASIC   "};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t k = 0; k < sizeof schemes / sizeof *schemes; k++) {
            struct buf text;
            struct span user, password;
            bool ok = read_it(schemes[k], rows[i].text, &text, &user, &password);
            assert_int_equal(ok, rows[i].user != NULL);
            assert_true(!ok || (span_eq_str(user, rows[i].user) && span_eq_str(password, rows[i].password)));
            buf_fini(&text);
        }
}

static void what_is_not_that_scheme(void **state) {
    static const char *const others[] = {"", "Bearer YTpi", "Basically YTpi", "YTpi", " Basic YTpi", "Basic\tYTpi"};
    struct buf text = BUF_INIT(BASIC_TEXT_MAX);
    struct span user, password;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_false(basic_is(span_str(others[i])));
        assert_false(basic_read(span_str(others[i]), &text, &user, &password));
    }
    assert_false(basic_is(SPAN_NONE));
    static const char *const broken[] = {"Basic", "Basic ", "Basic !", "Basic YTpi=", "Basic YTp", "Basic YTpi, Basic YTpi", "Basic YTpi YTpi"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        assert_true(basic_is(span_str(broken[i])));
        assert_false(basic_read(span_str(broken[i]), &text, &user, &password));
    }
    buf_fini(&text);
}

static void it_has_a_bound(void **state) {
    char long_text[BASIC_TEXT_MAX + 2] = {0};
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[1] = ':';
    struct buf text;
    struct span user, password;
    assert_true(read_it("Basic ", span_of(long_text, BASIC_TEXT_MAX), &text, &user, &password));
    buf_fini(&text);
    assert_false(read_it("Basic ", span_of(long_text, BASIC_TEXT_MAX + 1), &text, &user, &password));
    buf_fini(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_read), cmocka_unit_test(what_is_not_that_scheme), cmocka_unit_test(it_has_a_bound)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
