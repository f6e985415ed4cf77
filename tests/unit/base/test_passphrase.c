/* Passphrases from files and from a stdin that is no terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/passphrase.h"

#define WHAT "passphrase of a test"
#define MIN 8

static int from_stdin(const char *text, struct secret *out, char *rest, size_t max) {
    struct err err = ERR_INIT;
    int fds[2], kept = dup(STDIN_FILENO);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], text, strlen(text)), (int)strlen(text));
    close(fds[1]);
    dup2(fds[0], STDIN_FILENO);
    close(fds[0]);
    int rc = passphrase_read(WHAT, true, MIN, out, &err);
    ssize_t n = read(STDIN_FILENO, rest, max - 1);
    rest[n > 0 ? n : 0] = '\0';
    dup2(kept, STDIN_FILENO);
    close(kept);
    assert_true(rc == 0 || !strstr(err.text, "short"));
    return rc;
}

static void stdin_gives_its_first_line_and_keeps_the_others(void **state) {
    CLEANUP(secret_fini) struct secret s = SECRET_INIT;
    char rest[64];
    assert_int_equal(from_stdin("eight bytes\nmore\n", &s, rest, sizeof rest), 0);
    assert_true(span_eq_str(secret_span(&s), "eight bytes"));
    assert_string_equal(rest, "more\n");
    secret_fini(&s);
    assert_int_equal(from_stdin("without a newline", &s, rest, sizeof rest), 0);
    assert_true(span_eq_str(secret_span(&s), "without a newline"));
}

static void what_is_too_short_or_long_or_absent_is_refused(void **state) {
    CLEANUP(secret_fini) struct secret s = SECRET_INIT;
    char rest[64], longer[PASSPHRASE_MAX + 3];
    assert_int_equal(from_stdin("short\n", &s, rest, sizeof rest), MUSTER_EINVALID);
    assert_int_equal(from_stdin("\nsecond line\n", &s, rest, sizeof rest), MUSTER_EINVALID);
    assert_int_equal(from_stdin("", &s, rest, sizeof rest), MUSTER_EINVALID);
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(from_stdin(longer, &s, rest, sizeof rest), MUSTER_EINVALID);
    assert_null(s.p);
}

static void a_file_has_to_be_its_owners_alone(void **state) {
    CLEANUP(secret_fini) struct secret s = SECRET_INIT;
    struct err err;
    char path[] = "/tmp/test_passphrase.XXXXXX";
    CLEANUP(fd_close) int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "eight bytes\nmore\n", 17), 17);
    assert_int_equal(passphrase_read_file(path, WHAT, MIN, &s, &err), 0);
    assert_true(span_eq_str(secret_span(&s), "eight bytes"));
    secret_fini(&s);
    fchmod(fd, 0640);
    assert_int_equal(passphrase_read_file(path, WHAT, MIN, &s, &err), MUSTER_EINVALID);
    fchmod(fd, 0600);
    assert_int_equal(ftruncate(fd, 5), 0);
    assert_int_equal(passphrase_read_file(path, WHAT, MIN, &s, &err), MUSTER_EINVALID);
    unlink(path);
    assert_int_equal(passphrase_read_file(path, WHAT, MIN, &s, &err), MUSTER_ENOTFOUND);
}

static int start(void **state) { return secret_init(); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stdin_gives_its_first_line_and_keeps_the_others),
        cmocka_unit_test(what_is_too_short_or_long_or_absent_is_refused),
        cmocka_unit_test(a_file_has_to_be_its_owners_alone),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
