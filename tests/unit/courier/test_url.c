/* Which URLs a webhook may have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "base/cleanup.h"
#include "courier/url.h"

#define WIDE "0.0.0.0/0 ::/0"

static bool ok(const char *url, const char *networks) {
    struct err err = ERR_INIT;
    int rc = courier_url_check(span_str(url), networks, &err);
    if (rc)
        assert_true(rc == MUSTER_EINVALID && strstr(err_text(&err), "webhook"));
    return !rc;
}

static void parts(const char *url, bool tls, const char *host, int port, bool literal) {
    struct err err = ERR_INIT;
    struct courier_url u;
    if (courier_url_parse(span_str(url), &u, &err))
        fail_msg("%s: %s", url, err_text(&err));
    assert_true(u.tls == tls && span_eq_str(u.host, host) && u.port == port && u.literal == literal);
}

static void a_url_has_parts(void **state) {
    parts("https://example.com", true, "example.com", 443, false);
    parts("https://example.com/", true, "example.com", 443, false);
    parts("http://Ex-1.example:8080/a?b=c&d=%20", false, "Ex-1.example", 8080, false);
    parts("https://192.0.2.7:1/", true, "192.0.2.7", 1, true);
    parts("https://[2001:db8::7]:65535/x", true, "2001:db8::7", 65535, true);
    parts("https://[2001:db8::7]", true, "2001:db8::7", 443, true);
}

static void refused_everywhere(const char *const *urls, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (ok(urls[i], "") || ok(urls[i], WIDE))
            fail_msg("%s is taken", urls[i]);
}
#define REFUSED(list) refused_everywhere(list, sizeof list / sizeof *list)

static void what_is_no_such_url(void **state) {
    static const char *const urls[] = {
        "", "https", "https:", "https:/", "https://", "https:///", "https:///x", "HTTPS://example.com/", "ftp://example.com/", "file:///etc/passwd", "//example.com/", "https:\\\\example.com",
        "https://?", "https://example.com?x", "https://example.com/#x", "https://example.com#", "https://exa mple.com/", "https://example.com/\n", "https://example.com/\t", "https://example.com/\"",
        "https://example.com/\\", "https://example.com/{}", "https://example.com/<>", "https://example.com/^`|", "https://example.com/\x7f", "https://ex\xc3\xa4mple.com/", "https://example.com/\xc3\xa4",
        /* the host */
        "https://.example.com/", "https://-example.com/", "https://example..com/", "https://exa_mple.com/", "https://exa%6dple.com/", "https://%31%32%37.0.0.1/", "https://example.com%00/",
        "https://exa,mple.com/", "https://./",
        /* ports */
        "https://example.com:/", "https://example.com:0/", "https://example.com:65536/", "https://example.com:99999999999999999999/", "https://example.com:-1/", "https://example.com:+443/",
        "https://example.com:0x50/", "https://example.com:80:80/", "https://example.com: 80/", "https://example.com:4a/", "https://:443/",
        /* credentials */
        "https://user@example.com/", "https://user:pw@example.com/", "https://@example.com/", "https://example.com@169.254.169.254/", "https://user:pw@[2001:db8::1]/", "https://[2001:db8::1]@example.com/",
        /* brackets */
        "https://[", "https://[]/", "https://[2001:db8::1/", "https://[2001:db8::1]x/", "https://[2001:db8::1]:/", "https://2001:db8::1/", "https://[example.com]/", "https://[192.0.2.1]/",
        "https://[2001:db8::1%eth0]/", "https://[2001:db8::1%25eth0]/", "https://[fe80::1%251]/", "https://[v1.x]/", "https://[[2001:db8::1]]/",
        /* other spellings of IPv4 addresses */
        "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0x7f.0x0.0x0.0x1/", "https://0177.0.0.1/", "https://127.1/", "https://127.0.1/", "https://010.0.0.1/",
        "https://192.0.2.1./", "https://192.0.2.256/", "https://1.2.3.4.5/", "https://example.0x1/", "https://example.1/", "https://example.1./", "https://0/",
    };
    REFUSED(urls);
}

static void addresses_that_are_never_reached(void **state) {
    static const char *const urls[] = {
        "https://169.254.169.254/latest", "https://0.0.0.0/", "https://224.0.0.1/", "https://255.255.255.255/", "https://100.100.100.200/", "https://168.63.129.16/", "https://[::]/",
        "https://[fe80::1]/", "https://[ff02::1]/", "https://[fd00:ec2::254]/", "https://[::ffff:169.254.169.254]/", "https://[::ffff:a9fe:a9fe]/", "https://[0:0:0:0:0:FFFF:A9FE:A9FE]/",
        "https://[::169.254.169.254]/", "https://[64:ff9b::169.254.169.254]/", "https://[2002:a9fe:a9fe::]/", "https://[::ffff:0.0.0.0]/", "https://[2001::1]/",
        "http://169.254.169.254/", "http://[::ffff:169.254.169.254]/", "http://example.com/", "http://192.0.2.1/", "http://[2001:db8::1]/"};
    REFUSED(urls);
}

static void this_machine_has_to_be_named(void **state) {
    static const char *const urls[] = {"https://127.0.0.1/", "https://127.9.9.9/", "https://localhost/", "https://LOCALHOST:8443/", "https://localhost./", "https://a.localhost/", "https://a.LocalHost./",
                                       "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[::127.0.0.1]/", "https://[2002:7f00:1::]/"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++)
        if (ok(urls[i], "") || ok(urls[i], "10.0.0.0/8") || !ok(urls[i], "127.0.0.0/8 ::1"))
            fail_msg("%s", urls[i]);
    /* Plain http to it alone, and to names that mean it everywhere. */
    assert_true(ok("http://127.0.0.1:8080/", "127.0.0.0/8") && ok("http://[::1]/", "::1") && ok("http://localhost/", "127.0.0.0/8"));
    assert_false(ok("http://127.0.0.1/", "") || ok("http://localhost/", "") || ok("http://[::1]/", "127.0.0.0/8") || ok("http://notlocalhost/", WIDE) || ok("http://localhost.example/", WIDE));
}

static void anywhere_else_or_where_the_setting_says(void **state) {
    assert_true(ok("https://example.com/x", "") && ok("https://10.1.2.3:8443/", "") && ok("https://[2001:db8::1]/a?b=c", "") && ok("https://a.b-c.example./x", ""));
    assert_true(ok("https://10.1.2.3/", "10.0.0.0/8") && ok("https://example.com/", "10.0.0.0/8")); /* a name is judged when it is resolved */
    assert_false(ok("https://192.0.2.1/", "10.0.0.0/8") || ok("https://[2001:db8::1]/", "10.0.0.0/8"));
}

static void a_url_has_a_length(void **state) {
    char url[COURIER_URL_MAX + 2];
    memset(url, 'a', sizeof url);
    memcpy(url, "https://example.com/", 20);
    url[COURIER_URL_MAX + 1] = '\0';
    assert_false(ok(url, ""));
    url[COURIER_URL_MAX] = '\0';
    assert_true(ok(url, ""));
    char host[300];
    memset(host, 0, sizeof host);
    memcpy(host, "https://", 8);
    for (int i = 8; i < 8 + 254; i++)
        host[i] = i % 2 ? '.' : 'a';
    host[8 + 253] = 'a';
    assert_false(ok(host, ""));
    host[8 + 253] = '\0';
    assert_true(ok(host, ""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_url_has_parts), cmocka_unit_test(what_is_no_such_url), cmocka_unit_test(addresses_that_are_never_reached), cmocka_unit_test(this_machine_has_to_be_named),
        cmocka_unit_test(anywhere_else_or_where_the_setting_says), cmocka_unit_test(a_url_has_a_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
