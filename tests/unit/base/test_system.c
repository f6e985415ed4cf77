/* Errors, clock, UUIDs, secrets, log lines and durable files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/uuid.h"

static char dir[] = "/tmp/muster-base-XXXXXX";

static void every_error_is_complete(void **state) {
    for (int i = 0; i < err_count(); i++) {
        int code = err_at(i);
        assert_true(code < 0);
        assert_int_equal(err_from_code(err_code(code)), code); /* unique */
        assert_true(strlen(err_what(code)) > 10 && strlen(err_fix(code)) > 10);
        assert_true(err_http(code) >= 400 && err_http(code) < 600);
        assert_true(err_exit(code) == 1 || err_exit(code) == 2);
    }
    assert_string_equal(err_code(-12345678), "internal_error");
    assert_int_equal(err_exit(0), 0);
}

static void an_error_says_what_happened(void **state) {
    struct err e = ERR_INIT;
    assert_int_equal(err_set(&e, MUSTER_EIO, NULL), MUSTER_EIO);
    assert_string_equal(err_text(&e), err_what(MUSTER_EIO));
    assert_int_equal(err_retry(&e, MUSTER_EKEYRATE, 0, "Slow %s.", "down"), MUSTER_EKEYRATE);
    assert_int_equal(e.retry_after, 1);
    assert_int_equal(err_prefix(&e, "Line %d", 7), MUSTER_EKEYRATE);
    assert_string_equal(err_text(&e), "Line 7: Slow down.");
    assert_int_equal(err_set(NULL, MUSTER_EINVALID, "x"), MUSTER_EINVALID);
}

static void the_calendar_is_right(void **state) {
    static const struct { int64_t t; const char *text; } rows[] = {
        {0, "1970-01-01T00:00:00Z"},
        {-1, "1969-12-31T23:59:59Z"},
        {951782400, "2000-02-29T00:00:00Z"},
        {4107542400, "2100-03-01T00:00:00Z"},
        {-11644473600, "1601-01-01T00:00:00Z"},
        {CLOCK_NO_EXPIRY, "9999-12-31T23:59:59Z"},
        {2147483648, "2038-01-19T03:14:08Z"},
    };
    char text[CLOCK_RFC3339_LEN + 1];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t back;
        clock_rfc3339(rows[i].t, text);
        assert_string_equal(text, rows[i].text);
        assert_int_equal(clock_parse_rfc3339(span_str(text), &back), 0);
        assert_true(back == rows[i].t);
    }
    int64_t t;
    assert_int_equal(clock_parse_rfc3339(SPAN_LIT("2000-02-29T01:30:00.25+01:30"), &t), 0);
    assert_true(t == 951782400);
    static const char *const bad[] = {"2001-02-29T00:00:00Z", "2000-13-01T00:00:00Z", "2000-00-01T00:00:00Z", "2000-01-01T24:00:00Z", "2000-01-01 00:00:00Z",
                                      "2000-01-01T00:00:00", "2000-01-01T00:00:00.Z", "2000-01-01T00:00:00Zx", "2000-01-01T00:00:00+1:00", "", "2000-1-1T0:0:0Z"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(clock_parse_rfc3339(span_str(bad[i]), &t), MUSTER_EINVALID);
}

static void lengths_of_time_have_units(void **state) {
    int64_t s;
    assert_int_equal(clock_parse_span(SPAN_LIT("30d"), &s), 0);
    assert_true(s == 30 * CLOCK_DAY);
    assert_int_equal(clock_parse_span(SPAN_LIT("90"), &s), 0);
    assert_true(s == 90);
    static const char *const bad[] = {"", "d", "-1d", "1.5h", "1w", "99999999999999999y", "1 d"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(clock_parse_span(span_str(bad[i]), &s), MUSTER_EINVALID);
}

/* Nothing of what is random in them is in two processes. */
static void uuids_differ_behind_a_fork(void **state) {
    enum { N = 200 };
    static struct uuid here[N], there[N];
    int fds[2];
    struct uuid before = uuid_new(); /* there is something left in the pool */
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < N; i++)
            there[i] = uuid_new();
        _exit(write(fds[1], there, sizeof there) != sizeof there);
    }
    int status;
    for (int i = 0; i < N; i++)
        here[i] = uuid_new();
    assert_int_equal(read(fds[0], there, sizeof there), sizeof there);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(fds[0]), close(fds[1]);
    for (int i = 0; i < N; i++) {
        assert_memory_not_equal(before.b + 8, here[i].b + 8, 8);
        for (int k = 0; k < N; k++) {
            assert_memory_not_equal(here[i].b + 8, there[k].b + 8, 8);
            assert_true(i == k || memcmp(here[i].b + 8, here[k].b + 8, 8) != 0);
        }
    }
}

static void uuids_are_in_order(void **state) {
    struct uuid before = uuid_new();
    char text[UUID_TEXT_LEN + 1];
    for (int i = 0; i < 20000; i++) {
        struct uuid u = uuid_new();
        assert_true(memcmp(before.b, u.b, 8) < 0);
        before = u;
    }
    assert_int_equal(before.b[6] >> 4, 7);
    assert_int_equal(before.b[8] >> 6, 2);
    uuid_text(&before, text);
    struct uuid back;
    assert_int_equal(uuid_parse(span_str(text), &back), 0);
    assert_true(uuid_eq(&before, &back));
    assert_int_equal(uuid_parse(SPAN_LIT("0190a0a0a0a0-7000-8000-000000000000-"), &back), MUSTER_EINVALID);
    assert_int_equal(uuid_parse(SPAN_LIT("g190a0a0-a0a0-7000-8000-000000000000"), &back), MUSTER_EINVALID);
}

static void a_secret_file_is_private(void **state) {
    struct err e = ERR_INIT;
    CLEANUP(buf_fini) struct buf path = BUF_INIT(200);
    buf_addf(&path, "%s/secret", dir);
    assert_int_equal(file_replace(AT_FDCWD, buf_str(&path), SPAN_LIT("hidden"), 0644, &e), 0);
    CLEANUP(secret_fini) struct secret s = SECRET_INIT;
    assert_int_equal(secret_read_file(&s, buf_str(&path), 100, &e), MUSTER_EINVALID);
    assert_non_null(strstr(e.text, "0644"));
    assert_null(strstr(e.text, "hidden"));
    assert_int_equal(chmod(buf_str(&path), 0600), 0);
    assert_int_equal(secret_read_file(&s, buf_str(&path), 5, &e), MUSTER_EINVALID);
    assert_int_equal(secret_read_file(&s, buf_str(&path), 100, &e), 0);
    assert_true(secret_eq(secret_span(&s), SPAN_LIT("hidden")));
    assert_false(secret_eq(secret_span(&s), SPAN_LIT("hiddex")));
    CLEANUP(secret_fini) struct secret none = SECRET_INIT;
    assert_int_equal(secret_read_file(&none, dir, 100, &e), MUSTER_EINVALID);
    assert_int_equal(secret_read_file(&none, "/nowhere/at/all", 100, &e), MUSTER_ENOTFOUND);
}

static void a_log_line_cannot_be_forged(void **state) {
    int fds[2];
    char line[512];
    assert_int_equal(pipe(fds), 0);
    log_init("test", LOG_INFO);
    log_set_fd(fds[1]);
    log_event(LOG_DEBUG, "unseen", "a", "b", NULL);
    log_event(LOG_INFO, "refused", "device", "x\n2026 error gateway forged a=\"b\"", "none", NULL, "plain", "abc", NULL);
    log_set_fd(2);
    ssize_t n = read(fds[0], line, sizeof line - 1);
    assert_true(n > 0);
    line[n] = '\0';
    assert_ptr_equal(strchr(line, '\n'), line + n - 1);
    assert_non_null(strstr(line, " info test refused device=\"x\\x0a2026 error gateway forged a=\\\"b\\\"\" plain=abc\n"));
    close(fds[0]);
    close(fds[1]);
}

/* What log_event() wrote, as one line. */
static void logged(char *line, size_t n, enum log_format format, const char *value, const char *more) {
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    log_init("test", LOG_INFO);
    log_set_format(format);
    log_set_fd(fds[1]);
    log_event(LOG_INFO, "refused", "device", value, "none", NULL, "more", more, NULL);
    log_set_fd(2);
    log_set_format(LOG_TEXT);
    ssize_t got = read(fds[0], line, n - 1);
    assert_true(got > 0);
    line[got] = '\0';
    assert_ptr_equal(strchr(line, '\n'), line + got - 1);
    close(fds[0]);
    close(fds[1]);
}

static void a_json_line_cannot_be_broken(void **state) {
    static char line[16384], huge[9000];
    logged(line, sizeof line, LOG_JSON, "x\n{\"a\":\\\t\x7f\xff\xc3\xa9\xe2\x80\xae\xc2\x85\xed\xa0\x80", "abc");
    assert_non_null(strstr(line, "\"level\":\"info\",\"process\":\"test\",\"event\":\"refused\",\"device\":\"x\\u000a{\\\"a\\\":\\\\\\u0009\\u007f\\ufffd\xc3\xa9\\u202e"
                                 "\\u0085\\ufffd\\ufffd\\ufffd\",\"more\":\"abc\"}\n"));
    assert_int_equal(line[0], '{');
    /* "time":"2026-01-02T03:04:05.678Z" */
    assert_int_equal(line[9], '2');
    assert_memory_equal(line + 28, ".", 1);
    assert_memory_equal(line + 32, "Z\",", 3);
    /* A value that is too long is cut in itself. */
    memset(huge, 1, sizeof huge - 1);
    logged(line, sizeof line, LOG_JSON, huge, "abc");
    assert_non_null(strstr(line, "\\u0001…\",\"more\":\"abc\"}\n"));
    /* A pair that does not fit is left out whole, and so is what follows. */
    logged(line, sizeof line, LOG_JSON, huge, huge);
    assert_non_null(strstr(line, "\\u0001…\",\"cut\":\"yes\"}\n"));
    assert_null(strstr(line, "more"));
    assert_true(strlen(line) <= 8200);
}

static void lines_of_strangers_are_bounded(void **state) {
    int fds[2];
    char line[512];
    struct log_budget b = {0};
    assert_int_equal(pipe(fds), 0);
    log_set_fd(fds[1]);
    int let = 0;
    for (int i = 0; i < 100; i++)
        let += log_within(&b, 20, "left_out");
    assert_true(let >= 20 && let <= 40); /* a second may have ended meanwhile */
    b = (struct log_budget){.second = 1, .count = 25};
    assert_true(log_within(&b, 20, "left_out"));
    log_set_fd(2);
    close(fds[1]);
    ssize_t n, all = 0;
    while (all < (ssize_t)sizeof line - 1 && (n = read(fds[0], line + all, sizeof line - 1 - (size_t)all)) > 0)
        all += n;
    line[all] = '\0';
    assert_non_null(strstr(line, " warn test left_out count=5\n"));
    close(fds[0]);
}

struct steps {
    enum file_step seen[16];
    size_t n;
    int leave_out;
};
static void saw(void *arg, enum file_step step, const char *name, const char *to, struct span content) {
    struct steps *s = arg;
    s->seen[s->n++] = step;
}
static bool leave_out(void *arg, enum file_step step, const char *name) { return (int)step == ((struct steps *)arg)->leave_out; }

static void a_file_is_replaced_durably(void **state) {
    struct err e = ERR_INIT;
    struct steps s = {.leave_out = -1};
    CLEANUP(fd_close) int fd = open(dir, O_RDONLY | O_DIRECTORY);
    file_set_tap(&(struct file_tap){saw, leave_out, &s});
    assert_int_equal(file_replace(fd, "f", SPAN_LIT("one"), 0640, &e), 0);
    static const enum file_step order[] = {FILE_STEP_WRITE, FILE_STEP_SYNC, FILE_STEP_RENAME, FILE_STEP_SYNC_DIR};
    assert_int_equal(s.n, 4);
    assert_memory_equal(s.seen, order, sizeof order);
    s = (struct steps){.leave_out = FILE_STEP_SYNC};
    assert_int_equal(file_replace(fd, "f", SPAN_LIT("two"), 0640, &e), 0);
    assert_int_equal(s.n, 3);
    file_set_tap(NULL);
    struct stat st;
    assert_int_equal(fstatat(fd, "f", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    CLEANUP(buf_fini) struct buf b = BUF_INIT(100);
    assert_int_equal(file_read(fd, "f", &b, &e), 0);
    assert_string_equal(buf_str(&b), "two");
    assert_int_equal(file_create(fd, "f", SPAN_LIT("three"), 0600, &e), MUSTER_EEXISTS);
    assert_int_equal(file_create(fd, "g", SPAN_LIT("three"), 0600, &e), 0);
    CLEANUP(buf_fini) struct buf small = BUF_INIT(4);
    assert_int_equal(file_read(fd, "g", &small, &e), MUSTER_EINVALID);
    assert_int_equal(file_remove(fd, "g", &e), 0);
    assert_int_equal(file_remove(fd, "g", &e), 0);
    assert_int_equal(file_read(fd, "g", &b, &e), MUSTER_ENOTFOUND);
    assert_int_equal(file_make_dir(fd, "d", 0750, &e), 0);
    assert_int_equal(file_make_dir(fd, "d", 0700, &e), 0);
    assert_int_equal(fstatat(fd, "d", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    char path[256]; /* what somebody else has made, and names, keeps its mode */
    snprintf(path, sizeof path, "%s/theirs", dir);
    assert_int_equal(mkdir(path, 0700) | chmod(path, 01777), 0);
    assert_int_equal(file_make_dir(AT_FDCWD, path, 0700, &e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 01777);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(file_replace_loose(fd, "loose", SPAN_LIT("one"), 0600, &e), 0);
    assert_int_equal(file_replace_loose(fd, "loose", SPAN_LIT("three"), 0640, &e), 0);
    buf_clear(&b);
    assert_int_equal(file_read(fd, "loose", &b, &e), 0);
    assert_string_equal(buf_str(&b), "three");
    assert_int_equal(fstatat(fd, "loose", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(file_remove(fd, "loose", &e), 0);
}

static int set_up(void **state) { return secret_init() || !mkdtemp(dir); }
static int tear_down(void **state) {
    char name[200];
    static const char *const files[] = {"secret", "f", "d"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s/%s", dir, files[i]);
        if (remove(name))
            return 1;
    }
    return rmdir(dir); /* fails where a temporary file was left behind */
}

/* What is taken out of a row is one place of it, whatever else the expression does. */
static void what_is_taken_is_looked_at_once(void **state) {
    int fds[] = {7, 8};
    const char *row[] = {"a", "b", "c"};
    size_t n = 3, m = 2;
    assert_string_equal(TAKE(row[--n]), "c");
    assert_int_equal(n, 2);
    assert_true(row[0] && row[1] && !row[2]);
    assert_int_equal(TAKE_FD(fds[--m]), 8);
    assert_int_equal(m, 1);
    assert_true(fds[0] == 7 && fds[1] == -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_taken_is_looked_at_once), cmocka_unit_test(every_error_is_complete),     cmocka_unit_test(an_error_says_what_happened), cmocka_unit_test(the_calendar_is_right),
        cmocka_unit_test(lengths_of_time_have_units),  cmocka_unit_test(uuids_are_in_order), cmocka_unit_test(uuids_differ_behind_a_fork),          cmocka_unit_test(a_secret_file_is_private),
        cmocka_unit_test(a_log_line_cannot_be_forged), cmocka_unit_test(a_json_line_cannot_be_broken), cmocka_unit_test(lines_of_strangers_are_bounded), cmocka_unit_test(a_file_is_replaced_durably),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
