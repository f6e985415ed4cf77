/* certificate_name_parse: serial numbers and fingerprints as people and other tools write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/hex.h"
#include "registry/certificate.h"

#define SERIAL "0123456789abcdef0123456789abcdef01234567"
#define PRINT SERIAL "89abcdef0123456789abcdef"

static void names(void **state) {
    static const struct {
        const char *text, *hex; /* NULL: it is none */
    } rows[] = {
        {"1", "01"},
        {"01", "01"},
        {"00", "00"},
        {"123", "0123"},
        {"ABCDEF", "abcdef"},
        {"0a:1B:2c", "0a1b2c"},
        {"a:1", "a1"},
        {SERIAL, SERIAL},
        {"123456789abcdef0123456789abcdef01234567", SERIAL},
        {PRINT, PRINT},
        {"01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF", PRINT},
        {"", NULL},
        {":", NULL},
        {"::::", NULL},
        {"g", NULL},
        {"0x12", NULL},
        {"-12", NULL},
        {"12 34", NULL},
        {SERIAL "0", NULL},
        {SERIAL "00", NULL},
        {"0" PRINT, NULL},
        {PRINT "00", NULL},
        {PRINT PRINT PRINT, NULL},
        {"123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", NULL}, /* 63 digits */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct certificate_name n;
        char hex[2 * PKI_HASH_LEN + 1] = "";
        int rc = certificate_name_parse(span_str(rows[i].text), &n, NULL);
        if (!rc)
            hex_encode(certificate_name_span(&n), hex);
        if (rc ? rows[i].hex || rc != MUSTER_EINVALID : !rows[i].hex || strcmp(hex, rows[i].hex))
            fail_msg("\"%s\": %d, %s", rows[i].text, rc, hex);
    }
    /* Bytes that are no text, and not ended. */
    struct certificate_name n;
    static const uint8_t odd[] = {'1', 0, '2'};
    assert_int_equal(certificate_name_parse(span_of(odd, sizeof odd), &n, NULL), MUSTER_EINVALID);
    assert_int_equal(certificate_name_parse(span_of("12345", 2), &n, NULL), 0);
    assert_int_equal(n.n, 1);
    assert_int_equal(certificate_name_parse(SPAN_NONE, &n, NULL), MUSTER_EINVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
