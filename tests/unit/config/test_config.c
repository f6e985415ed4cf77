/* What libinih would bend is refused, with file and line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "config/settings.h"

struct sample {
    char *name, *hosts;
    bool on;
    int64_t count, life;
    int colour;
};
static const struct config_key KEYS[] = {
    {"name", CONFIG_TEXT, offsetof(struct sample, name), "", 0, 0, NULL, "A name."},
    {"hosts", CONFIG_LIST, offsetof(struct sample, hosts), "localhost", 0, 0, NULL, "Hosts."},
    {"on", CONFIG_BOOL, offsetof(struct sample, on), "yes", 0, 0, NULL, "On."},
    {"count", CONFIG_INT, offsetof(struct sample, count), "3", 1, 10, NULL, "Count."},
    {"life", CONFIG_SPAN, offsetof(struct sample, life), "1d", 1, 1000000, NULL, "Life."},
    {"colour", CONFIG_CHOICE, offsetof(struct sample, colour), "red", 0, 0, "red|green", "Colour."},
};
#define N (sizeof KEYS / sizeof *KEYS)

static int load(const char *text, struct sample *out, struct err *err) {
    char path[] = "/tmp/muster-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    *out = (struct sample){0};
    int rc = config_load(path, KEYS, N, out, err);
    unlink(path);
    return rc;
}

static void defaults_and_values(void **state) {
    struct sample s;
    struct err e = ERR_INIT;
    assert_int_equal(load("# comment ; with a semicolon\nname = a b;c\nhosts.1 = a  b\nhosts.2 = c\ncount = 10\ncolour = green\nlife = 2h\n", &s, &e), 0);
    assert_string_equal(s.name, "a b;c");
    assert_string_equal(s.hosts, "a b c");
    assert_true(s.on && s.count == 10 && s.life == 7200 && s.colour == 1);
    assert_int_equal(config_set(KEYS, N, &s, "--on", "on", "off", &e), 0);
    assert_false(s.on);
    assert_int_equal(config_set(KEYS, N, &s, "--nix", "nix", "off", &e), MUSTER_ECONFIG);
    config_fini(KEYS, N, &s);
}

static void bent_lines_are_refused(void **state) {
    char line[400] = "name = ";
    memset(line + 7, 'x', 230);
    static const struct { const char *text, *says; } rows[] = {
        {"nix = 1\n", ":1: nix is not a setting"},
        {"count = 1\ncount = 2\n", ":2: count stands in line 1"},
        {"\nname = a ; b\n", ":2: A value cannot hold"},
        {"[section]\n", ":1: There is no kind of section of that name."},
        {"count = 11\n", ":1: count lies between 1 and 10"},
        {"count = 1x\n", "whole number"},
        {"on = maybe\n", "yes or no"},
        {"life = soon\n", "length of time"},
        {"colour = blue\n", "red|green"},
        {"name.1 = a\n", "not a setting"},
        {"name\n", ":1:"},
        {" name = a\n", "begins with a blank"},
        {"\xef\xbb\xbf name = a\n", "begins with a blank"},
        {"\xef\xbb\xbf[section]\n", ":1: There is no kind of section of that name."},
        {"\xef\xbb\xbf\xef\xbb\xbf" "count = 1\n", "begins with a byte order mark"},
        {"hosts = a\nhosts.1 = b\n", ":2: hosts stands"},
    };
    struct sample s;
    struct err e = ERR_INIT;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(load(rows[i].text, &s, &e), MUSTER_ECONFIG);
        if (!strstr(e.text, rows[i].says))
            fail_msg("%s: %s", rows[i].text, e.text);
        config_fini(KEYS, N, &s);
    }
    assert_int_equal(load(line, &s, &e), MUSTER_ECONFIG);
    assert_non_null(strstr(e.text, "longer than"));
    config_fini(KEYS, N, &s);
    assert_int_equal(config_load("/nowhere/x", KEYS, N, &s, &e), MUSTER_ECONFIG);
    config_fini(KEYS, N, &s);
}

static void editors_leave_marks_and_blanks(void **state) {
    struct sample s;
    struct err e = ERR_INIT;
    assert_int_equal(load("\xef\xbb\xbf" "count = 7\n \t\nname = a\n  ", &s, &e), 0);
    assert_true(s.count == 7 && !strcmp(s.name, "a"));
    config_fini(KEYS, N, &s);
}

static void what_is_written_can_be_read(void **state) {
    struct sample s;
    struct err e = ERR_INIT;
    CLEANUP(buf_fini) struct buf b = BUF_INIT(10000);
    config_write(&b, KEYS, N, (const char *[]){"count", "7", NULL});
    assert_non_null(strstr(buf_str(&b), "#colour = red\n"));
    assert_int_equal(load(buf_str(&b), &s, &e), 0);
    assert_true(s.count == 7);
    config_fini(KEYS, N, &s);
}

static void routes_are_sections(void **state) {
    char path[] = "/tmp/muster-config-XXXXXX";
    struct settings s = {0};
    struct err e = ERR_INIT;
    static const char text[] = "host = gw.example.com\n\n[route /director]\nupstream = http://a:1\npath = /api/{uuid}{rest}\nresponse_timeout = 2m\n"
                               "[route /]\n# all else\nupstream = https://b\naccounts = one two\n";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    assert_int_equal(settings_load(path, &s, &e), 0);
    assert_int_equal(s.n_routes, 2);
    assert_string_equal(s.host, "gw.example.com");
    assert_string_equal(s.routes[0].prefix, "/director");
    assert_string_equal(s.routes[0].upstream, "http://a:1");
    assert_string_equal(s.routes[0].path, "/api/{uuid}{rest}");
    assert_int_equal(s.routes[0].response_timeout, 120);
    assert_int_equal(s.routes[0].connect_timeout, 5);
    assert_string_equal(s.routes[1].prefix, "/");
    assert_string_equal(s.routes[1].accounts, "one two");
    settings_fini(&s);
    unlink(path);
}

static void faults_in_sections(void **state) {
    static const struct { const char *text, *says; } rows[] = {
        {"[route]\n", ":1: The prefix"},
        {"[route director]\n", ":1: The prefix"},
        {"[route /a/]\n", ":1: The prefix"},
        {"[route /a%20b]\n", ":1: The prefix"},
        {"[route /a\n", ":1: The section does not end"},
        {"[routes /a]\n", ":1: There is no kind"},
        {"[route /a]\nhost = x\n", ":2: host is not a setting"},
        {"[route /a]\nupstream = http://x\nupstream = http://y\n", ":3: upstream stands in line 2"},
        {"[route /a]\nconnections = 0\n", ":2: connections lies between"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[] = "/tmp/muster-config-XXXXXX";
        struct settings s = {0};
        struct err e = ERR_INIT;
        int fd = mkstemp(path);
        assert_int_equal(write(fd, rows[i].text, strlen(rows[i].text)), strlen(rows[i].text));
        close(fd);
        assert_int_equal(settings_load(path, &s, &e), MUSTER_ECONFIG);
        if (!strstr(e.text, rows[i].says))
            fail_msg("%s: %s", rows[i].text, e.text);
        settings_fini(&s);
        unlink(path);
    }
}

static void rewriting_changes_those_lines_alone(void **state) {
    static const struct { const char *before, *after; } rows[] = {
        {"", "name = n\n"},
        {"a = 1\nname = old\nb = 2", "a = 1\nname = n\nb = 2\n"},
        {"# name = x\n#name = \nb = 2\n", "# name = x\n#name = \nname = n\nb = 2\n"},
        {"namely = 1\n[route /a]\nname = theirs\n", "namely = 1\nname = n\n[route /a]\nname = theirs\n"},
        {" name=a\nname : b\n", "name = n\n"},
        {"hosts = a\n#hosts = b\n", "hosts = a\n#hosts = b\nname = n\n"},
        {"hosts = a\ncount = 3\n\n", "hosts = a\n\nname = n\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT(4096);
        const char *const set[] = {"name", "n", "count", "", NULL};
        config_rewrite(span_str(rows[i].before), set, &out);
        assert_true(buf_ok(&out));
        assert_string_equal(buf_str(&out), rows[i].after);
    }
    CLEANUP(buf_fini) struct buf small = BUF_INIT(10);
    const char *const set[] = {"name", "a value that is too long", NULL};
    config_rewrite(SPAN_NONE, set, &small);
    assert_false(buf_ok(&small));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(defaults_and_values), cmocka_unit_test(bent_lines_are_refused), cmocka_unit_test(editors_leave_marks_and_blanks), cmocka_unit_test(what_is_written_can_be_read), cmocka_unit_test(rewriting_changes_those_lines_alone),
                                       cmocka_unit_test(routes_are_sections), cmocka_unit_test(faults_in_sections)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
