/* Keys in files, keys whose private half is elsewhere, and what is said where there is no token and no TPM.  Tokens and TPMs themselves: test_agent_hardware. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/stat.h>

#include "keyring/keyring.h"
#include "keyring/pins.h"

static char top[] = "/tmp/muster-keyring-XXXXXX", path[64], pin[64];

static int named(void *arg, const char *uri, struct err *err) {
    snprintf(arg, KEYRING_URI_MAX, "%s", uri);
    return access(path, F_OK) == 0 ? err_set(err, MUSTER_EINTERNAL, "It is there already.") : 0;
}

static int refuses(void *arg, const char *uri, struct err *err) { return err_set(err, MUSTER_EIO, "The disk is full."); }

static void write_pin(const char *text) {
    FILE *f = fopen(pin, "w");
    assert_non_null(f);
    assert_int_equal(fchmod(fileno(f), 0600), 0);
    fputs(text, f);
    fclose(f);
}

static void a_file_is_made_opened_and_removed(void **state) {
    static const struct {
        const char *before, *behind;
    } FORMS[] = {{"", ""}, {"file:", ""}, {"file:", "?pin-source=env:MUSTER_TEST_PIN"}};
    setenv("MUSTER_TEST_PIN", "another one", 1);
    for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS; i++) {
        CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL, *again = NULL, *known = NULL, *other = NULL, *none = NULL;
        char place[KEYRING_URI_MAX], name[KEYRING_URI_MAX] = "";
        struct err err = ERR_INIT;
        struct stat st;
        bool has;
        snprintf(place, sizeof place, "%s%s%s", FORMS[i].before, path, FORMS[i].behind);
        assert_int_equal(keyring_make(place, "x", refuses, NULL, &none, &err), MUSTER_EIO);
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(keyring_make(place, "x", named, name, &key, &err), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(keyring_open(name, &again, &err), 0);
        assert_int_equal(EVP_PKEY_eq(key, again), 1);
        assert_int_equal(key_generate(KEY_P256, 0, &other, &err), 0);
        if (!FORMS[i].behind[0]) { /* opening an encrypted one takes a while, on purpose */
            assert_int_equal(keyring_open_known(name, again, &known, &err), 0);
            assert_int_equal(keyring_open_known(name, other, &none, &err), MUSTER_EINVALID);
        }
        assert_int_equal(keyring_has(name, &has, &err), 0);
        assert_true(has);
        assert_int_equal(chmod(path, 0640), 0);
        assert_int_equal(keyring_open(name, &none, &err), MUSTER_EINVALID);
        assert_non_null(strstr(err_text(&err), "can be read by others"));
        assert_int_equal(keyring_remove(name, &err), 0);
        assert_int_equal(keyring_remove(name, &err), 0);
        assert_int_equal(keyring_has(name, &has, &err), 0);
        assert_false(has);
        assert_int_equal(keyring_open(name, &none, &err), MUSTER_EKEYGONE);
        assert_int_equal(keyring_fault(again, &err), 0);
    }
}

static void a_wrong_pin_opens_no_file(void **state) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL, *none = NULL;
    char place[KEYRING_URI_MAX], name[KEYRING_URI_MAX] = "";
    struct err err = ERR_INIT;
    snprintf(place, sizeof place, "file:%s?pin-source=%s", path, pin);
    write_pin("right\n");
    assert_int_equal(keyring_make(place, "x", named, name, &key, &err), 0);
    write_pin("wrong");
    assert_int_equal(keyring_open(name, &none, &err), MUSTER_EINVALID);
    write_pin("");
    assert_int_equal(keyring_open(name, &none, &err), MUSTER_EKEYPIN);
    write_pin("right");
    assert_int_equal(chmod(pin, 0644), 0);
    assert_int_equal(keyring_open(name, &none, &err), MUSTER_EKEYPIN);
    assert_int_equal(unlink(pin), 0);
    assert_int_equal(keyring_open(name, &none, &err), MUSTER_EKEYPIN);
    unsetenv("MUSTER_TEST_PIN");
    snprintf(place, sizeof place, "file:%s?pin-source=env:MUSTER_TEST_PIN", path);
    assert_int_equal(keyring_open(place, &none, &err), MUSTER_EKEYPIN);
    assert_non_null(strstr(err_text(&err), "MUSTER_TEST_PIN"));
    assert_int_equal(keyring_remove(name, &err), 0);
}

static bool is_refused(const char *who, const char *word) {
    struct pin_asked asked = {.pin = "The PIN"};
    struct err err = ERR_INIT;
    snprintf(asked.who, sizeof asked.who, "%s", who);
    int rc = pin_check(&asked, span_str(word), &err);
    assert_true(rc == 0 || (rc == MUSTER_EKEYPIN && strstr(err_text(&err), "refused before")));
    return rc != 0;
}

static void refuse(const char *who, const char *word) {
    struct pin_asked asked = {.pin = "The PIN"};
    snprintf(asked.who, sizeof asked.who, "%s", who);
    pin_refused(&asked, span_str(word));
}

static void a_refused_pin_is_not_tried_again(void **state) {
    const struct pin_asked car = {.pin = "The PIN", .who = "car"};
    char file[64];
    struct stat st;
    snprintf(file, sizeof file, "%s/pins-refused", top);
    keyring_refusals(top, false);
    assert_false(is_refused("car", "1234"));
    refuse("car", "1234");
    assert_true(is_refused("car", "1234"));
    assert_false(is_refused("car", "12345") || is_refused("truck", "1234") || is_refused("car", ""));
    assert_true(stat(file, &st) == 0 && (st.st_mode & 0777) == 0600);
    keyring_refusals(top, false); /* another process */
    refuse("truck", "4321");
    assert_true(is_refused("car", "1234") && is_refused("truck", "4321"));

    keyring_refusals(top, true); /* once more, and no more than that */
    assert_false(is_refused("car", "1234") || is_refused("truck", "4321"));
    refuse("car", "1234");
    assert_true(is_refused("car", "1234"));
    keyring_refusals(top, true);
    assert_false(is_refused("car", "1234"));
    pin_taken(&car, span_str("1234"));
    keyring_refusals(top, false);
    assert_false(is_refused("car", "1234"));
    assert_true(is_refused("truck", "4321"));

    for (int i = 0; i < 100; i++) { /* bounded, and the newest are known */
        char word[16];
        snprintf(word, sizeof word, "%d", i);
        refuse("car", word);
    }
    assert_true(stat(file, &st) == 0 && st.st_size < 2048);
    assert_true(is_refused("car", "99") && is_refused("car", "70") && !is_refused("car", "3"));
    FILE *f = fopen(file, "w"); /* damaged: as if it never was */
    fputs("nonsense\n", f);
    fclose(f);
    assert_false(is_refused("car", "99"));
    refuse("car", "99");
    assert_true(is_refused("car", "99"));
    assert_int_equal(unlink(file), 0);

    keyring_refusals("/nowhere/at/all", false); /* where nothing can be kept this process knows it */
    refuse("car", "1234");
    keyring_refusals("/nowhere/at/all", false);
    assert_true(is_refused("car", "1234"));
    keyring_refusals(NULL, false);
    assert_true(is_refused("car", "1234"));
}

static void what_is_not_there_is_said(void **state) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *none = NULL;
    struct err err = ERR_INIT;
    bool has;
    assert_int_equal(keyring_open("pkcs11:token=a;id=%01?module-path=/nowhere/module.so", &none, &err), MUSTER_EKEYAWAY);
    assert_non_null(strstr(err_text(&err), "/nowhere/module.so"));
    assert_int_equal(keyring_make("tpm2:?device=/nowhere/tpm", "x", NULL, NULL, &none, &err), MUSTER_EKEYAWAY);
    assert_non_null(strstr(err_text(&err), "/nowhere/tpm"));
    assert_int_equal(keyring_has("tpm2:0x81000001?device=/nowhere/tpm", &has, &err), MUSTER_EKEYAWAY);
    assert_int_equal(keyring_remove("pkcs11:token=a", &err), MUSTER_EINVALID);
}

/* --- elsewhere -------------------------------------------------------------------------------------------------------------------------------- */

struct far {
    EVP_PKEY *key;
    int fault;
    unsigned asked, bad, freed;
};

/* r and s of a real signature of that digest. */
static int far_sign(void *arg, struct span digest, uint8_t *rs, size_t width, struct err *err) {
    struct far *f = arg;
    uint8_t der[160];
    size_t n = sizeof der;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(f->key, NULL);
    f->asked++;
    if (f->fault) {
        EVP_PKEY_CTX_free(ctx);
        return err_set(err, f->fault, "The token is gone.");
    }
    assert_true(EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_sign(ctx, der, &n, digest.p, digest.n) == 1);
    EVP_PKEY_CTX_free(ctx);
    const uint8_t *p = der + (der[1] & 0x80 ? 3 : 2);
    for (int i = 0; i < 2; i++, p += 2 + p[1]) {
        size_t skip = p[1] > width ? p[1] - width : 0, length = p[1] - skip;
        memset(rs + (size_t)i * width, 0, width);
        memcpy(rs + (size_t)i * width + width - length, p + 2 + skip, length);
    }
    return 0;
}
static void far_bad(void *arg) { ((struct far *)arg)->bad++; }
static void far_free(void *arg) { ((struct far *)arg)->freed++; }
static const struct key_elsewhere_ops FAR = {far_sign, far_bad, far_free};

static void a_key_elsewhere_signs(void **state) {
    static const enum key_kind KINDS[] = {KEY_P256, KEY_P384};
    for (size_t i = 0; i < 2; i++) {
        CLEANUP(EVP_PKEY_free) EVP_PKEY *real = NULL, *other = NULL;
        EVP_PKEY *key = NULL;
        CLEANUP(buf_fini) struct buf signature = BUF_INIT(1024);
        struct err err = ERR_INIT;
        assert_int_equal(key_generate(KINDS[i], 0, &real, &err), 0);
        assert_int_equal(key_generate(KINDS[i], 0, &other, &err), 0);
        struct far far = {.key = real};
        assert_int_equal(key_elsewhere_new(real, &FAR, &far, &key, &err), 0);
        assert_true(key_is_elsewhere(key) && !key_is_elsewhere(real));
        assert_int_equal(EVP_PKEY_eq(key, real), 1);
        if (key_sign(key, SPAN_LIT("message"), &signature, &err) || keyring_fault(key, &err))
            fail_msg("%s", err_text(&err));
        assert_int_equal(key_verify(real, SPAN_LIT("message"), buf_span(&signature), &err), 0);
        assert_int_equal(keyring_fault(key, &err), 0);
        far.fault = MUSTER_EKEYAWAY;
        assert_int_not_equal(key_sign(key, SPAN_LIT("message"), &signature, &err), 0);
        assert_int_equal(keyring_fault(key, &err), MUSTER_EKEYAWAY);
        assert_string_equal(err_text(&err), "The token is gone.");
        assert_int_equal(keyring_fault(key, &err), 0);
        far.fault = 0;
        far.key = other; /* a token that signs with another key */
        assert_int_not_equal(key_sign(key, SPAN_LIT("message"), &signature, &err), 0);
        assert_int_equal(keyring_fault(key, &err), MUSTER_EKEYGONE);
        assert_true(far.asked == 3 && far.bad == 1);
        EVP_PKEY_free(key);
        assert_int_equal(far.freed, 1);
    }
    CLEANUP(EVP_PKEY_free) EVP_PKEY *edwards = NULL, *none = NULL;
    struct far far = {.freed = 0};
    assert_int_equal(key_generate(KEY_ED25519, 0, &edwards, NULL), 0);
    struct err err = ERR_INIT;
    assert_int_equal(key_elsewhere_new(edwards, &FAR, &far, &none, &err), MUSTER_EINVALID);
    assert_non_null(strstr(err_text(&err), "has to be on P-256 or P-384"));
    assert_int_equal(far.freed, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_file_is_made_opened_and_removed), cmocka_unit_test(a_wrong_pin_opens_no_file), cmocka_unit_test(a_refused_pin_is_not_tried_again),
                                       cmocka_unit_test(what_is_not_there_is_said), cmocka_unit_test(a_key_elsewhere_signs)};
    if (secret_init() || !mkdtemp(top))
        return 1;
    snprintf(path, sizeof path, "%s/key.pem", top);
    snprintf(pin, sizeof pin, "%s/pin", top);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    unlink(pin);
    rmdir(top);
    return failed;
}
