/* Listening sockets: addresses, URLs, ports that are picked, and a port that somebody else has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "musterd/listen.h"

static void addresses_are_numbers(void **state) {
    static const char *const wrong[] = {"", ":", "8443", "127.0.0.1", "127.0.0.1:", ":8443", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:1x",
                                        "localhost:8443", "::1:8443", "[::1]", "[]:1", "[127.0.0.1:1", "1.2.3.4.5:6", "127.0.0.1: 1"};
    struct listen_address a;
    struct err err;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(listen_parse(wrong[i], "listen", &a, &err), MUSTER_ECONFIG);
    assert_int_equal(listen_parse("127.0.0.1:8443", "listen", &a, &err), 0);
    assert_int_equal(listen_port(&a), 8443);
    assert_int_equal(listen_parse("[::1]:0", "listen", &a, &err), 0);
    assert_int_equal(a.at.ss_family, AF_INET6);
    assert_int_equal(listen_port(&a), 0);
}

static void urls_name_what_certificates_hold(void **state) {
    struct listen_address a;
    struct err err;
    char url[320], small[16];
    assert_int_equal(listen_parse("127.0.0.1:9443", "admin", &a, &err), 0);
    assert_int_equal(listen_url(&a, "gw.example.org", url, sizeof url, &err), 0);
    assert_string_equal(url, "https://gw.example.org:9443");
    assert_int_equal(listen_url(&a, "2001:db8::1", url, sizeof url, &err), 0);
    assert_string_equal(url, "https://[2001:db8::1]:9443");
    assert_int_equal(listen_url_local(&a, "gw.example.org", url, sizeof url, &err), 0);
    assert_string_equal(url, "https://127.0.0.1:9443");
    assert_int_equal(listen_parse("[::1]:9443", "admin", &a, &err), 0);
    assert_int_equal(listen_url_local(&a, "gw.example.org", url, sizeof url, &err), 0);
    assert_string_equal(url, "https://[::1]:9443");
    assert_int_equal(listen_parse("0.0.0.0:9443", "admin", &a, &err), 0);
    assert_int_equal(listen_url_local(&a, "gw.example.org", url, sizeof url, &err), 0);
    assert_string_equal(url, "https://gw.example.org:9443");
    assert_int_equal(listen_url(&a, "gw.example.org", small, sizeof small, &err), MUSTER_ECONFIG);
}

static void close_all(int *fds, size_t n) {
    for (size_t i = 0; i < n; i++)
        fd_close(fds[i]);
}

static void a_picked_port_is_the_same_for_all_and_nobody_joins(void **state) {
    struct listen_address a, again;
    struct err err;
    int fds[4], more[2];
    assert_int_equal(listen_parse("127.0.0.1:0", "listen", &a, &err), 0);
    assert_int_equal(listen_open(&a, "listen", fds, 4, &err), 0);
    assert_int_not_equal(listen_port(&a), 0);
    for (size_t i = 0; i < 4; i++) {
        struct listen_address at = {.n = sizeof at.at};
        assert_int_equal(getsockname(fds[i], (struct sockaddr *)&at.at, &at.n), 0);
        assert_int_equal(listen_port(&at), listen_port(&a));
        assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        assert_true(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
    }
    again = a;
    assert_int_equal(listen_open(&again, "listen", more, 2, &err), MUSTER_ELISTEN); /* although both would share */
    assert_int_equal(more[0], -1);
    close_all(fds, 4);
    assert_int_equal(listen_open(&again, "listen", more, 2, &err), 0);
    close_all(more, 2);
}

static void a_local_socket_is_its_owners_alone(void **state) {
    char dir[] = "/tmp/test_listen.XXXXXX";
    struct err err;
    struct stat st;
    int fd;
    assert_non_null(mkdtemp(dir));
    CLEANUP(fd_close) int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 2; i++) { /* the second finds a stale one */
        assert_int_equal(listen_local(dirfd, "vault.sock", &fd, &err), 0);
        close(fd);
    }
    assert_int_equal(fstatat(dirfd, "vault.sock", &st, 0), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0600);
    unlinkat(dirfd, "vault.sock", 0);
    rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_numbers),
        cmocka_unit_test(urls_name_what_certificates_hold),
        cmocka_unit_test(a_picked_port_is_the_same_for_all_and_nobody_joins),
        cmocka_unit_test(a_local_socket_is_its_owners_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
