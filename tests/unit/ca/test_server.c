/* The gateway's URL and root as a device gets them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "ca/server.h"
#include "../pki_fixture.h"

static void urls(void **state) {
    static const char *const good[] = {"https://gw.example.com", "https://gw.example.com:8443\n", "  https://127.0.0.1:1\r\n", "https://[::1]:8443"};
    static const char *const bad[] = {"", "https://", "http://gw.example.com", "gw.example.com", "https://gw.example.com/", "https://gw.example.com/devices", "https://a b",
                                      "https://a\nhttps://b", "https://user@a", "https://a?x", "https://a#x", "HTTPS://a"};
    CLEANUP(buf_fini) struct buf expected = BUF_INIT(512);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct ca_server s = CA_SERVER_INIT;
        assert_int_equal(ca_server_set_url(&s, span_str(good[i]), NULL), 0);
        assert_true(s.url.n > 9 && s.url.p[s.url.n - 1] == '\n' && !strpbrk(buf_str(&s.url), " \r"));
        ca_server_fini(&s);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ca_server s = CA_SERVER_INIT;
        if (ca_server_set_url(&s, span_str(bad[i]), NULL) != MUSTER_EINVALID)
            fail_msg("accepted %s", bad[i]);
        ca_server_fini(&s);
    }
}

static void roots(void **state) {
    struct made root = make_it((struct recipe){.cn = "server ca", .ext = CA_EXT}), leaf = make_it((struct recipe){.cn = "gw", .ext = EXT("basicConstraints", "CA:FALSE")});
    struct made old = make_it((struct recipe){.cn = "old", .ext = CA_EXT, .from = -2 * CLOCK_DAY, .to = -CLOCK_DAY});
    struct ca_server s = CA_SERVER_INIT;
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    assert_int_equal(cert_pem(root.cert, &pem) || cert_pem(root.cert, &pem), 0);
    struct err err = ERR_INIT;
    if (ca_server_set_root(&s, buf_span(&pem), clock_now(), &err))
        fail_msg("%s", err_text(&err));
    assert_true(span_eq(buf_span(&s.root), buf_span(&pem)));
    const struct made *bad[] = {&leaf, &old};
    for (int i = 0; i < 2; i++) {
        buf_clear(&pem);
        assert_int_equal(cert_pem(root.cert, &pem) || cert_pem(bad[i]->cert, &pem), 0);
        assert_int_equal(ca_server_set_root(&s, buf_span(&pem), clock_now(), NULL), MUSTER_EINVALID);
        assert_int_equal(s.root.n, 0);
    }
    /* Not even beside a certificate does a private key go into an image as an anchor. */
    buf_clear(&pem);
    assert_int_equal(cert_pem(root.cert, &pem) || key_private_pem(root.key, &pem, NULL), 0);
    assert_int_equal(ca_server_set_root(&s, buf_span(&pem), clock_now(), NULL), MUSTER_EINVALID);
    assert_int_equal(ca_server_set_root(&s, SPAN_LIT("nothing"), clock_now(), NULL), MUSTER_EINVALID);
    ca_server_fini(&s);
    made_free(&root), made_free(&leaf), made_free(&old);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(urls), cmocka_unit_test(roots)};
    return secret_init() || cmocka_run_group_tests(tests, NULL, NULL);
}
