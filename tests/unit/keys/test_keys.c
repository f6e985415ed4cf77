/* Sealed boxes, master keys of every kind, and the sealed backend of private keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "keys/keys.h"
#include "keys/master.h"
#include "keys/seal.h"

#define BOUND SPAN_LIT("vault 1, record a")

static void a_box_opens_with_its_key_and_its_bounds_only(void **state) {
    const struct span content = SPAN_LIT("content"), empty = SPAN_NONE;
    CLEANUP(secret_fini) struct secret key = SECRET_INIT, other = SECRET_INIT, plain = SECRET_INIT, nothing = SECRET_INIT;
    CLEANUP(buf_fini) struct buf box = BUF_INIT(200), again = BUF_INIT(200);
    assert_int_equal(secret_random(&key, SEAL_KEY_LEN), 0);
    assert_int_equal(secret_random(&other, SEAL_KEY_LEN), 0);
    assert_int_equal(seal_close(secret_span(&key), BOUND, content, &box), 0);
    assert_int_equal(seal_close(secret_span(&key), BOUND, content, &again), 0);
    assert_int_equal(box.n, content.n + SEAL_OVERHEAD);
    assert_false(span_eq(buf_span(&box), buf_span(&again))); /* never the same nonce */
    assert_int_equal(seal_open(secret_span(&key), BOUND, buf_span(&box), &plain), 0);
    assert_true(span_eq(secret_span(&plain), content));
    secret_fini(&plain);
    assert_int_equal(seal_open(secret_span(&other), BOUND, buf_span(&box), &plain), MUSTER_ECORRUPT);
    assert_int_equal(seal_open(secret_span(&key), SPAN_LIT("vault 1, record b"), buf_span(&box), &plain), MUSTER_ECORRUPT);
    assert_int_equal(seal_open(span_sub(secret_span(&key), 0, 31), BOUND, buf_span(&box), &plain), MUSTER_EINTERNAL);
    for (size_t i = 0; i < box.n; i++) {
        assert_int_equal(seal_open(secret_span(&key), BOUND, span_sub(buf_span(&box), 0, i), &plain), MUSTER_ECORRUPT);
        box.p[i] ^= 1;
        assert_int_equal(seal_open(secret_span(&key), BOUND, buf_span(&box), &plain), MUSTER_ECORRUPT);
        box.p[i] ^= 1;
    }
    assert_null(plain.p);
    buf_clear(&box);
    assert_int_equal(seal_close(secret_span(&key), BOUND, empty, &box), 0);
    assert_int_equal(seal_open(secret_span(&key), BOUND, buf_span(&box), &nothing), 0);
    assert_int_equal(nothing.n, 0);
}

/* --- the master key ------------------------------------------------------------------------------------------------------------ */

static char dir[64];
static int dir_fd;

static int make_dir(void **state) {
    snprintf(dir, sizeof dir, "/tmp/test_keys.XXXXXX");
    dir_fd = mkdtemp(dir) ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    return dir_fd < 0;
}

static int remove_dir(void **state) {
    unlinkat(dir_fd, KEY_MASTER_FILE_NAME, 0);
    unlinkat(dir_fd, "credential", 0);
    close(dir_fd);
    return rmdir(dir);
}

static void put_file(const char *name, const char *content, mode_t mode) {
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

/* Cheap, for tests. */
static const struct key_master_costs cheap = {.salt = {1, 2, 3}, .operations = 1, .memory = 64 << 10};

static void a_key_file_is_made_once(void **state) {
    const struct key_master_options o = {.kind = KEY_MASTER_FILE};
    CLEANUP(secret_fini) struct secret first = SECRET_INIT, second = SECRET_INIT;
    struct stat st;
    assert_int_equal(key_master_load(dir_fd, &o, &cheap, false, &first, NULL), MUSTER_ENOTFOUND);
    assert_int_equal(key_master_load(dir_fd, &o, &cheap, true, &first, NULL), 0);
    assert_int_equal(fstatat(dir_fd, KEY_MASTER_FILE_NAME, &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(key_master_load(dir_fd, &o, &cheap, true, &second, NULL), 0);
    assert_int_equal(first.n, SEAL_KEY_LEN);
    assert_true(secret_eq(secret_span(&first), secret_span(&second)));
}

static void a_key_file_of_the_wrong_shape_or_mode_is_refused(void **state) {
    static const char good[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";
    static const struct {
        const char *content;
        mode_t mode;
        int rc;
    } cases[] = {
        {good, 0600, 0},
        {good, 0400, 0},
        {good, 0640, MUSTER_EINVALID},
        {good, 0604, MUSTER_EINVALID},
        {"", 0600, MUSTER_EINVALID},
        {"00112233\n", 0600, MUSTER_EINVALID},
        {"x0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n", 0600, MUSTER_EINVALID},
        {"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff0", 0600, MUSTER_EINVALID},
        {"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n\n", 0600, MUSTER_EINVALID},
    };
    const struct key_master_options o = {.kind = KEY_MASTER_FILE};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP(secret_fini) struct secret key = SECRET_INIT;
        struct err err = ERR_INIT;
        unlinkat(dir_fd, KEY_MASTER_FILE_NAME, 0);
        put_file(KEY_MASTER_FILE_NAME, cases[i].content, cases[i].mode);
        assert_int_equal(key_master_load(dir_fd, &o, &cheap, true, &key, &err), cases[i].rc);
        assert_null(strstr(err.text, "0112233445566")); /* no secret in an error */
        if (cases[i].rc == 0)
            assert_memory_equal(key.p, "\x00\x11\x22\x33", 4);
    }
}

static void a_passphrase_and_a_credential_derive_the_same(void **state) {
    char path[128];
    snprintf(path, sizeof path, "%s/credential", dir);
    put_file("credential", "correct horse\n", 0640); /* as systemd's ACL shows it */
    const struct key_master_options passphrase = {.kind = KEY_MASTER_PASSPHRASE, .passphrase = SPAN_LIT("correct horse")};
    const struct key_master_options other = {.kind = KEY_MASTER_PASSPHRASE, .passphrase = SPAN_LIT("correct horsf")};
    const struct key_master_options credential = {.kind = KEY_MASTER_CREDENTIAL, .path = path};
    struct key_master_costs salted = cheap;
    salted.salt[0] ^= 1;
    CLEANUP(secret_fini) struct secret a = SECRET_INIT, b = SECRET_INIT, c = SECRET_INIT, d = SECRET_INIT;
    assert_int_equal(key_master_load(dir_fd, &passphrase, &cheap, true, &a, NULL), 0);
    assert_int_equal(key_master_load(dir_fd, &credential, &cheap, false, &b, NULL), 0);
    assert_int_equal(key_master_load(dir_fd, &passphrase, &salted, false, &c, NULL), 0);
    assert_int_equal(key_master_load(dir_fd, &other, &cheap, false, &d, NULL), 0);
    assert_int_equal(a.n, SEAL_KEY_LEN);
    assert_true(secret_eq(secret_span(&a), secret_span(&b)));
    assert_false(secret_eq(secret_span(&a), secret_span(&c)));
    assert_false(secret_eq(secret_span(&a), secret_span(&d)));
    assert_int_equal(faccessat(dir_fd, KEY_MASTER_FILE_NAME, F_OK, 0), -1);
}

static void what_derives_nothing_is_refused(void **state) {
    char path[128];
    snprintf(path, sizeof path, "%s/credential", dir);
    put_file("credential", "correct horse\n", 0604);
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    const struct key_master_options shorter = {.kind = KEY_MASTER_PASSPHRASE, .passphrase = SPAN_LIT("1234567")};
    const struct key_master_options good = {.kind = KEY_MASTER_PASSPHRASE, .passphrase = SPAN_LIT("12345678")};
    const struct key_master_options open_file = {.kind = KEY_MASTER_CREDENTIAL, .path = path}, nameless = {.kind = KEY_MASTER_CREDENTIAL};
    const struct key_master_options unknown = {.kind = 9};
    struct key_master_costs huge = cheap, endless = cheap, none = cheap;
    huge.memory = 1ULL << 40;
    endless.operations = 1000;
    none.operations = 0;
    assert_int_equal(key_master_load(dir_fd, &shorter, &cheap, true, &key, NULL), MUSTER_EINVALID);
    assert_int_equal(key_master_load(dir_fd, &open_file, &cheap, true, &key, NULL), MUSTER_EINVALID);
    assert_int_equal(key_master_load(dir_fd, &nameless, &cheap, true, &key, NULL), MUSTER_EINVALID);
    assert_int_equal(key_master_load(dir_fd, &unknown, &cheap, true, &key, NULL), MUSTER_EINVALID);
    assert_int_equal(key_master_load(dir_fd, &good, &huge, true, &key, NULL), MUSTER_ECORRUPT);
    assert_int_equal(key_master_load(dir_fd, &good, &endless, true, &key, NULL), MUSTER_ECORRUPT);
    assert_int_equal(key_master_load(dir_fd, &good, &none, true, &key, NULL), MUSTER_ECORRUPT);
    assert_null(key.p);
    struct key_master_costs one, two;
    key_master_costs_new(&one);
    key_master_costs_new(&two);
    assert_memory_not_equal(one.salt, two.salt, sizeof one.salt);
    assert_true(one.memory >= 64ULL << 20 && one.operations >= 3);
}

/* --- the sealed backend --------------------------------------------------------------------------------------------------------- */

static void a_sealed_key_signs_after_reopening(void **state) {
    static const enum key_kind kinds[] = {KEY_P256, KEY_ED25519, KEY_RSA};
    CLEANUP(secret_fini) struct secret data_key = SECRET_INIT;
    assert_int_equal(secret_random(&data_key, SEAL_KEY_LEN), 0);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        CLEANUP(key_store_free) struct key_store *first = NULL;
        CLEANUP(key_store_free) struct key_store *second = NULL;
        CLEANUP(EVP_PKEY_free) EVP_PKEY *made = NULL;
        CLEANUP(EVP_PKEY_free) EVP_PKEY *opened = NULL;
        CLEANUP(buf_fini) struct buf ref = BUF_INIT(KEY_REF_MAX), signature = BUF_INIT(1024);
        assert_int_equal(key_store_sealed_new(secret_span(&data_key), &first, NULL), 0);
        assert_int_equal(key_store_sealed_new(secret_span(&data_key), &second, NULL), 0);
        assert_int_equal(key_store_make(first, kinds[i], kinds[i] == KEY_RSA ? 2048 : 0, SPAN_LIT("issuing-ca"), &ref, &made, NULL), 0);
        assert_int_equal(key_store_open(second, SPAN_LIT("issuing-ca"), buf_span(&ref), &opened, NULL), 0);
        assert_int_equal(key_sign(opened, SPAN_LIT("message"), &signature, NULL), 0);
        assert_int_equal(key_verify(made, SPAN_LIT("message"), buf_span(&signature), NULL), 0);
        assert_false(key_ref_in_token(buf_span(&ref)));
    }
}

static void a_sealed_key_does_not_open_elsewhere(void **state) {
    CLEANUP(secret_fini) struct secret data_key = SECRET_INIT, other_key = SECRET_INIT;
    CLEANUP(key_store_free) struct key_store *s = NULL;
    CLEANUP(key_store_free) struct key_store *other = NULL;
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(buf_fini) struct buf ref = BUF_INIT(KEY_REF_MAX);
    uint8_t long_ref[KEY_REF_MAX + 1] = {0};
    assert_int_equal(secret_random(&data_key, SEAL_KEY_LEN), 0);
    assert_int_equal(secret_random(&other_key, SEAL_KEY_LEN), 0);
    assert_int_equal(key_store_sealed_new(SPAN_LIT("short"), &s, NULL), MUSTER_EINTERNAL);
    assert_int_equal(key_store_sealed_new(secret_span(&data_key), &s, NULL), 0);
    assert_int_equal(key_store_sealed_new(secret_span(&other_key), &other, NULL), 0);
    assert_int_equal(key_store_make(s, KEY_P256, 0, SPAN_LIT("fleet-root"), &ref, NULL, NULL), 0);
    assert_int_equal(key_store_open(s, SPAN_LIT("issuing-ca"), buf_span(&ref), &key, NULL), MUSTER_ECORRUPT);
    assert_int_equal(key_store_open(other, SPAN_LIT("fleet-root"), buf_span(&ref), &key, NULL), MUSTER_ECORRUPT);
    assert_int_equal(key_store_open(s, SPAN_LIT("fleet-root"), SPAN_NONE, &key, NULL), MUSTER_ECORRUPT);
    assert_int_equal(key_store_open(s, SPAN_LIT("fleet-root"), span_of(long_ref, sizeof long_ref), &key, NULL), MUSTER_ECORRUPT);
    ref.p[ref.n / 2] ^= 0x10;
    assert_int_equal(key_store_open(s, SPAN_LIT("fleet-root"), buf_span(&ref), &key, NULL), MUSTER_ECORRUPT);
    assert_null(key);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_box_opens_with_its_key_and_its_bounds_only),
        cmocka_unit_test_setup_teardown(a_key_file_is_made_once, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_key_file_of_the_wrong_shape_or_mode_is_refused, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_passphrase_and_a_credential_derive_the_same, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(what_derives_nothing_is_refused, make_dir, remove_dir),
        cmocka_unit_test(a_sealed_key_signs_after_reopening),
        cmocka_unit_test(a_sealed_key_does_not_open_elsewhere),
    };
    return secret_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
