/* Names of keys: what they are taken for, and what they are refused for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "keyring/uri.h"

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static void a_name_is_written_as_it_was_read(void **state) {
    static const struct {
        const char *text, *written; /* NULL: the same */
    } rows[] = {
        {"pkcs11:token=fleet%20keys;serial=0a1b;object=muster-agent;id=%01%AB?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/pin", NULL},
        {"pkcs11:id=a%2fb;token=x;type=private", "pkcs11:token=x;id=%61%2F%62"},
        {"pkcs11:slot-id=3?pin-source=env:PIN_1", NULL},
        {"pkcs11:manufacturer=A;model=B?pin-source=/etc/pin", "pkcs11:manufacturer=A;model=B?pin-source=file:/etc/pin"},
        {"pkcs11:token=a%3Bb%26c%3Dd?pin-source=file:///etc/a%20pin", "pkcs11:token=a%3Bb%26c%3Dd?pin-source=file:/etc/a%20pin"},
        {"PKCS11:token=a", "pkcs11:token=a"},
        {"TPM2:0x81000001", "tpm2:0x81000001"},
        {"File:/a", "file:/a"},
        {"pkcs11:token=a;library-manufacturer=SoftHSM;library-description=b;library-version=2.6;slot-description=c;slot-manufacturer=d?module-name=opensc-pkcs11", NULL},
        {"pkcs11:token=a?x-maker=b&later=c&pin-source=/p", "pkcs11:token=a?pin-source=file:/p"},
        {"tpm2", "tpm2:"},
        {"tpm2:0x8101000A", "tpm2:0x8101000a"},
        {"tpm2:0x81400000;spki=" HASH "?device=/dev/tpm0&pin-source=env:A&owner-pin-source=file:/b", NULL},
        {"file:/a%20b?pin-source=env:P", NULL},
        {"/a b;c?d=%", "file:/a%20b%3Bc%3Fd%3D%25"},
        {"key.pem", "file:key.pem"},
        {"a?pin-source=//b", "file:a%3Fpin-source%3D//b"},
        {"file:a?pin-source=////b", "file:a?pin-source=file:/b"},
        {"file:%FFa", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct keyring_uri u, again;
        char out[KEYRING_URI_MAX], twice[KEYRING_URI_MAX];
        struct err err = ERR_INIT;
        if (uri_parse(rows[i].text, &u, &err) || uri_write(&u, out, &err))
            fail_msg("%s: %s", rows[i].text, err_text(&err));
        assert_string_equal(out, rows[i].written ? rows[i].written : rows[i].text);
        assert_int_equal(uri_parse(out, &again, NULL), 0);
        assert_int_equal(uri_write(&again, twice, NULL), 0);
        assert_string_equal(out, twice);
    }
}

static void what_is_in_it(void **state) {
    struct keyring_uri u;
    assert_int_equal(uri_parse("pkcs11:token=a%C3%A4;id=%00%FF?pin-source=env:_X9", &u, NULL), 0);
    assert_int_equal(u.place, KEYRING_PKCS11);
    assert_string_equal(u.token, "a\xc3\xa4");
    assert_int_equal(u.id_n, 2);
    assert_memory_equal(u.id, "\x00\xff", 2);
    assert_string_equal(u.pin.env, "_X9");
    assert_int_equal(uri_parse("tpm2:0x81000005;spki=" HASH, &u, NULL), 0);
    assert_int_equal(u.handle, 0x81000005);
    assert_true(u.has_spki && u.spki.b[1] == 0x11);
    assert_int_equal(uri_parse("tpm2", &u, NULL), 0);
    assert_int_equal(u.place, KEYRING_TPM2);
    assert_int_equal(u.handle, 0);
}

static void what_is_refused_and_why(void **state) {
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"pkcs11:token=a?pin-value=1234", "A PIN does not belong into a URI"},
        {"pkcs11:token=a;pin-value=1234", "A PIN does not belong into a URI"},
        {"pkcs11:token=a?pin-source=pin", "neither file:/PATH nor env:NAME"},
        {"pkcs11:token=a?pin-source=|/bin/pin", "neither"},
        {"pkcs11:token=a?pin-source=file://host/pin", "neither"},
        {"pkcs11:token=a?pin-source=env:", "neither"},
        {"pkcs11:token=a?pin-source=env:9A", "neither"},
        {"pkcs11:token=a?pin-source=env:A=B", "neither"},
        {"pkcs11:token=a;token=b", "is there twice"},
        {"pkcs11:token=", "is empty"},
        {"pkcs11:token=%00", "is empty, too long, or not well-formed"},
        {"pkcs11:token=%0A", "not well-formed"},
        {"pkcs11:token=%4", "not well-formed"},
        {"pkcs11:token=%", "not well-formed"},
        {"pkcs11:token=%zz", "not well-formed"},
        {"pkcs11:token=123456789012345678901234567890123", "too long"},
        {"pkcs11:id=", "is empty"},
        {"pkcs11:slot-id=x", "is no number"},
        {"pkcs11:type=public", "is not `private`"},
        {"pkcs11:library-version=x", "is no version"},
        {"pkcs11:token=a;x-maker=b", "no attribute `x-maker`"},
        {"pkcs11:token=a?module-name=../a", "is no name of a module"},
        {"pkcs11:token=a?module-path=softhsm.so", "is no absolute path"},
        {"pkcs11:module-path=/a", "no attribute `module-path` in that place"},
        {"pkcs11:token=a?token=b", "no attribute `token` in that place"},
        {"tpm2:0x80000001", "0x81000000 to 0x81ffffff"},
        {"tpm2:0x81", "0x81000000"},
        {"tpm2:0x8100000g", "0x81000000"},
        {"tpm2:0x810000000000000000000000", "0x81000000"},
        {"tpm2:81000001", "no attribute `81000001`"},
        {"tpm2:0x81000001;spki=00", "64 digits"},
        {"tpm2:token=a", "no attribute `token`"},
        {"file:", "empty name"},
        {"", "empty name"},
        {"file:a?device=/b", "no attribute `device`"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct keyring_uri u;
        struct err err = ERR_INIT;
        assert_int_equal(uri_parse(rows[i].text, &u, &err), MUSTER_EINVALID);
        if (!strstr(err_text(&err), rows[i].why))
            fail_msg("%s: %s", rows[i].text, err_text(&err));
        assert_null(strstr(err_text(&err), "1234"));
    }
    CLEANUP(free) char *longer = malloc(KEYRING_URI_MAX + 1);
    memset(longer, 'a', KEYRING_URI_MAX);
    longer[KEYRING_URI_MAX] = '\0';
    assert_int_equal(uri_parse(longer, &(struct keyring_uri){.place = KEYRING_FILE}, NULL), MUSTER_EINVALID);
}

static void a_key_is_more_than_a_place(void **state) {
    static const struct {
        const char *text;
        bool key, place;
    } rows[] = {
        {"pkcs11:token=a", false, true},          {"pkcs11:token=a;object=b", true, true}, {"pkcs11:token=a;id=%01", true, false}, {"pkcs11:id=%01", true, false},
        {"pkcs11:object=b", true, false},         {"pkcs11:serial=1", false, true},        {"pkcs11:slot-id=0", false, true},      {"pkcs11:model=a", false, false},
        {"tpm2", false, true},                    {"tpm2:0x81000001", true, true},         {"tpm2:0x81000001;spki=" HASH, true, false},
        {"tpm2:?device=/dev/tpm0", false, true},  {"/a", true, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(keyring_check(rows[i].text, KEYRING_A_KEY, NULL) == 0, rows[i].key);
        assert_int_equal(keyring_check(rows[i].text, KEYRING_A_PLACE, NULL) == 0, rows[i].place);
    }
}

static void names_for_others(void **state) {
    char out[KEYRING_URI_MAX], names[2][64];
    keyring_others_name("tpm2:0x81400001;spki=" HASH, out);
    assert_string_equal(out, "handle:0x81400001");
    keyring_others_name("pkcs11:token=a;id=%01", out);
    assert_string_equal(out, "pkcs11:token=a;id=%01");
    keyring_others_name("file:/a%20b", out);
    assert_string_equal(out, "/a b");
    keyring_pin_variables("pkcs11:token=a?pin-source=/a", names);
    assert_true(!names[0][0] && !names[1][0]);
    keyring_pin_variables("", names);
    assert_true(!names[0][0] && !names[1][0]);
    keyring_pin_variables("tpm2:?pin-source=env:CAR_PIN&owner-pin-source=env:OWNER", names);
    assert_string_equal(names[0], "CAR_PIN");
    assert_string_equal(names[1], "OWNER");
    assert_true(keyring_has_pin("pkcs11:token=a?pin-source=env:PIN") && keyring_has_pin("tpm2:0x81400001?pin-source=/a"));
    assert_true(!keyring_has_pin("tpm2:0x81400001?owner-pin-source=/a") && !keyring_has_pin(""));
}

static void a_key_that_moves(void **state) {
    static const struct {
        const char *uri, *place, *moved; /* NULL: it does not */
    } rows[] = {
        {"pkcs11:token=a;id=%01?module-path=/m&pin-source=/old", "pkcs11:token=a?pin-source=/new", "pkcs11:token=a;id=%01?module-path=/m&pin-source=file:/new"},
        {"pkcs11:token=a;id=%01?module-path=/m&pin-source=/old", "pkcs11:token=a?module-path=/n", "pkcs11:token=a;id=%01?module-path=/n&pin-source=file:/old"},
        {"pkcs11:token=a;id=%01?pin-source=/old", "pkcs11:token=a?pin-source=file:/old", NULL},
        {"pkcs11:token=a;id=%01?pin-source=/old", "pkcs11:token=b?pin-source=/new", NULL},
        {"pkcs11:token=a;serial=1;id=%01?pin-source=/old", "pkcs11:token=a;serial=2?pin-source=/new", NULL},
        {"pkcs11:token=a;id=%01?pin-source=/old", "tpm2:", NULL},
        {"pkcs11:token=a;id=%01?pin-source=/old", "file", NULL},
        {"pkcs11:token=a;id=%01?pin-source=/old", "", NULL},
        {"tpm2:0x81400001?pin-source=/old", "tpm2:?pin-source=/new", NULL},
        {"tpm2:0x81400001?pin-source=/old", "tpm2:?owner-pin-source=/new", "tpm2:0x81400001?pin-source=file:/old&owner-pin-source=file:/new"},
        {"tpm2:0x81400001", "tpm2:?device=/other&owner-pin-source=/new", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[KEYRING_URI_MAX] = "";
        assert_int_equal(keyring_moved(rows[i].uri, rows[i].place, out), rows[i].moved != NULL);
        if (rows[i].moved)
            assert_string_equal(out, rows[i].moved);
    }
    assert_true(keyring_exact("pkcs11:token=a;id=%01") && keyring_exact("tpm2:0x81400001") && keyring_exact("/a"));
    assert_true(!keyring_exact("pkcs11:token=a;object=b") && !keyring_exact("pkcs11:%"));
}

static void the_same_key_by_another_name(void **state) {
    static const struct {
        const char *one, *other;
        bool same;
    } rows[] = {
        {"pkcs11:token=a;id=%01?pin-source=/a", "pkcs11:serial=b;id=%01?pin-source=env:B", true},
        {"pkcs11:token=a;id=%01", "pkcs11:token=a;id=%02", false},
        {"pkcs11:token=a;id=%01", "pkcs11:token=a;object=b", true}, /* it may be */
        {"pkcs11:token=a;id=%01", "pkcs11:broken=", true},
        {"pkcs11:token=a;id=%01", "tpm2:0x81000001", false},
        {"tpm2:0x81000001;spki=" HASH, "tpm2:0x81000001?device=/dev/tpm0", true},
        {"tpm2:0x81000001;spki=" HASH, "tpm2:0x81000002;spki=" HASH, false},
        {"tpm2:0x81000001;spki=" HASH, "tpm2:0x81000001;spki=ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", false},
        {"file:/a%20b", "/a b", true},
        {"/a", "/b", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(keyring_same(rows[i].one, rows[i].other), rows[i].same);
        assert_int_equal(keyring_same(rows[i].other, rows[i].one), rows[i].same);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_written_as_it_was_read), cmocka_unit_test(what_is_in_it), cmocka_unit_test(what_is_refused_and_why),
        cmocka_unit_test(a_key_is_more_than_a_place),       cmocka_unit_test(names_for_others),
        cmocka_unit_test(a_key_that_moves), cmocka_unit_test(the_same_key_by_another_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
