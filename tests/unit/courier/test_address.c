/* Where a webhook's request may go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>

#include "courier/address.h"

#define WIDE "0.0.0.0/0 ::/0"

/* Shut whatever the setting says. */
static void some_places_are_never_reached(void **state) {
    static const char *const never[] = {
        "0.0.0.0", "0.1.2.3", "169.254.0.1", "169.254.169.254", "169.254.170.2", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "100.100.100.200", "168.63.129.16", "192.0.0.192",
        "::", "fe80::1", "febf::1", "fec0::1", "feff::1", "ff02::1", "ff0e::1", "2001::1", "2001:0:1:2:3:4:5:6", "64:ff9b:1::1", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
        /* an IPv4 address inside: mapped, compatible, NAT64, 6to4, translated */
        "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:a9fe:a9fe", "::169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2002:e000:1::",
        "::ffff:0:169.254.169.254", "::ffff:0:10.0.0.1"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (address_allowed(WIDE, never[i]) || address_allowed("", never[i]))
            fail_msg("%s is reached", never[i]);
}

static void loopback_has_to_be_named(void **state) {
    static const char *const loopback[] = {"127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::"};
    for (size_t i = 0; i < sizeof loopback / sizeof *loopback; i++)
        if (address_allowed("", loopback[i]) || address_allowed("10.0.0.0/8 2001:db8::/32", loopback[i]) || !address_allowed(WIDE, loopback[i]))
            fail_msg("%s", loopback[i]);
    assert_true(address_allowed("127.0.0.0/8", "127.0.0.1") && !address_allowed("127.0.0.0/8", "::1") && address_allowed("::1", "::1"));
    assert_true(address_is_loopback("127.0.0.1") && address_is_loopback("::1") && !address_is_loopback("128.0.0.1") && !address_is_loopback("::2"));
}

static void anywhere_else_or_where_the_setting_says(void **state) {
    static const char *const open[] = {"192.0.2.1", "10.1.2.3", "192.168.0.1", "169.253.255.255", "169.255.0.0", "223.255.255.255", "1.0.0.0", "100.100.100.199",
                                       "2001:db8::1", "2001:1::1", "fd00::1", "fe00::1", "::ffff:192.0.2.1", "64:ff9b::192.0.2.1"};
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        if (!address_allowed("", open[i]))
            fail_msg("%s is not reached", open[i]);
    assert_true(address_allowed("10.0.0.0/8 2001:db8::/32", "10.1.2.3") && address_allowed("10.0.0.0/8 2001:db8::/32", "2001:db8::1"));
    assert_true(address_allowed("10.0.0.0/8", "::ffff:10.1.2.3"));
    assert_false(address_allowed("10.0.0.0/8 2001:db8::/32", "11.0.0.1") || address_allowed("10.0.0.0/8", "2001:db8::1"));
}

static void what_is_no_address_is_nowhere(void **state) {
    static const char *const none[] = {"", "?", "localhost", "10.0.0", "010.0.0.1", "0x0a.0.0.1", "167772161", "10.0.0.1 ", "fd00::1%eth0", "[fd00::1]", "10.0.0.1/8", "fd00:::1"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        if (address_allowed("", none[i]) || address_allowed(WIDE, none[i]))
            fail_msg("%s is reached", none[i]);
}

static void text_of(const char *address, const char *expected) {
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_scope_id = 3};
    char out[ADDRESS_TEXT_MAX];
    const void *at = inet_pton(AF_INET, address, &v4.sin_addr) == 1 ? (const void *)&v4 : (const void *)&v6;
    if (at == &v6)
        assert_int_equal(inet_pton(AF_INET6, address, &v6.sin6_addr), 1);
    address_text(at, out);
    assert_string_equal(out, expected);
}

static void an_address_is_written_as_what_it_reaches(void **state) {
    text_of("192.0.2.7", "192.0.2.7");
    text_of("2001:db8:0::7", "2001:db8::7");
    text_of("::ffff:192.0.2.7", "192.0.2.7");
    text_of("64:ff9b::192.0.2.7", "192.0.2.7");
    text_of("2002:c000:207::1", "192.0.2.7");
    text_of("::1", "::1");
    text_of("::", "::");
    const struct sockaddr other = {.sa_family = AF_UNIX};
    char out[ADDRESS_TEXT_MAX] = "x";
    address_text(&other, out);
    assert_string_equal(out, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(some_places_are_never_reached), cmocka_unit_test(loopback_has_to_be_named), cmocka_unit_test(anywhere_else_or_where_the_setting_says),
        cmocka_unit_test(what_is_no_address_is_nowhere), cmocka_unit_test(an_address_is_written_as_what_it_reaches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
