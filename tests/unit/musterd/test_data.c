/* The data directory and the configuration as the command line changes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>

#include "base/file.h"
#include "musterd/data.h"
#include "musterd/places.h"

static char dir[64];

static int setup(void **state) {
    snprintf(dir, sizeof dir, "/tmp/test_data.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}
static int teardown(void **state) {
    static const char *const names[] = {"lock", DATA_CONFIG, DATA_INIT_MARK, "line"};
    CLEANUP(fd_close) int fd = open(dir, O_RDONLY | O_DIRECTORY);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlinkat(fd, names[i], 0);
    return rmdir(dir);
}

static void put(const char *name, const char *text) {
    struct err err;
    CLEANUP(fd_close) int fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(file_replace(fd, name, span_str(text), 0600, &err), 0);
}

static void a_directory_is_ready_once_its_init_is_complete(void **state) {
    CLEANUP(data_close) struct data d = DATA_NONE;
    struct err err;
    assert_int_equal(data_open_ready(&d, "/nonexistent/dir", &err), MUSTER_EDATADIR);
    assert_int_equal(data_open_ready(&d, dir, &err), MUSTER_EDATADIR);
    data_close(&d);
    put(DATA_INIT_MARK, "");
    put(DATA_CONFIG, "");
    assert_int_equal(data_open_ready(&d, dir, &err), MUSTER_ESTATE);
    data_close(&d);
    CLEANUP(fd_close) int fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(file_remove(fd, DATA_INIT_MARK, &err), 0);
    assert_int_equal(data_open_ready(&d, dir, &err), 0);
    assert_string_equal(d.path, dir);
}

static void one_at_a_time(void **state) {
    CLEANUP(data_close) struct data a = DATA_NONE;
    CLEANUP(data_close) struct data b = DATA_NONE;
    struct err err;
    assert_int_equal(data_open(&a, dir, &err), 0);
    assert_int_equal(data_open(&b, dir, &err), 0);
    assert_int_equal(data_lock(&a, &err), 0);
    assert_int_equal(data_lock(&b, &err), MUSTER_ELOCKED);
    data_close(&a);
    assert_int_equal(data_lock(&b, &err), 0);
}

static void a_line_is_written_with_its_newline(void **state) {
    CLEANUP(data_close) struct data d = DATA_NONE;
    CLEANUP(buf_fini) struct buf text = BUF_INIT(100);
    struct err err;
    assert_int_equal(data_open(&d, dir, &err), 0);
    assert_int_equal(data_write_line(&d, "line", "https://a:1", 0644, &err), 0);
    assert_int_equal(file_read(d.fd, "line", &text, &err), 0);
    assert_string_equal(buf_str(&text), "https://a:1\n");
}

static void options_go_before_the_file(void **state) {
    CLEANUP(data_close) struct data d = DATA_NONE;
    struct err err;
    char host[64];
    put(DATA_CONFIG, "host = a.example b.example\nlisten = 127.0.0.1:1\nadmin = 127.0.0.1:2\n");
    assert_int_equal(data_open(&d, dir, &err), 0);
    CLEANUP(settings_fini) struct settings plain = {0};
    assert_int_equal(places_settings(&(struct options){0}, &d, &plain, &err), 0);
    places_first_host(&plain, host, sizeof host);
    assert_string_equal(host, "a.example");
    assert_string_equal(plain.listen, "127.0.0.1:1");
    struct options o = {.hosts = {"c.example", "d.example"}, .n_hosts = 2};
    o.value[OPT_LISTEN] = "127.0.0.1:3";
    CLEANUP(settings_fini) struct settings changed = {0};
    assert_int_equal(places_settings(&o, &d, &changed, &err), 0);
    assert_string_equal(changed.host, "c.example d.example");
    assert_string_equal(changed.listen, "127.0.0.1:3");
    assert_string_equal(changed.admin, "127.0.0.1:2");
}

static void a_host_that_is_none_is_refused(void **state) {
    static const char *const wrong[] = {"", "a b", "a;b", "a/b", "a\nlisten = x", "https://a", "*"};
    struct err err;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct options o = {.hosts = {wrong[i]}, .n_hosts = 1};
        struct settings s = {0};
        assert_int_equal(places_settings(&o, NULL, &s, &err), MUSTER_EUSAGE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_directory_is_ready_once_its_init_is_complete, setup, teardown),
        cmocka_unit_test_setup_teardown(one_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(a_line_is_written_with_its_newline, setup, teardown),
        cmocka_unit_test_setup_teardown(options_go_before_the_file, setup, teardown),
        cmocka_unit_test(a_host_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
