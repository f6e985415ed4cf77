/* The encrypted stream of a backup: only what was written comes out, and only to whom it was written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backup/stream.h"
#include "pki/key.h"

static uint8_t public[RECIPIENT_KEY_LEN];
static struct secret private, other;

static void a_key(struct secret *private_half, uint8_t public_half[RECIPIENT_KEY_LEN]) {
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    BIO *pem = BIO_new(BIO_s_mem()), *pub = BIO_new(BIO_s_mem());
    char *p;
    assert_int_equal(PEM_write_bio_PrivateKey(pem, key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(PEM_write_bio_PUBKEY(pub, key), 1);
    long n = BIO_get_mem_data(pem, &p);
    assert_int_equal(recipient_read_private(span_of(p, (size_t)n), private_half, NULL), 0);
    assert_int_equal(recipient_read_public(span_of(p, (size_t)n), public_half, NULL), MUSTER_EINVALID); /* it is the private half */
    n = BIO_get_mem_data(pub, &p);
    assert_int_equal(recipient_read_public(span_of(p, (size_t)n), public_half, NULL), 0);
    EVP_PKEY_free(key);
    BIO_free(pem);
    BIO_free(pub);
}

static int make_keys(void **state) {
    uint8_t ignored[RECIPIENT_KEY_LEN];
    if (secret_init())
        return 1;
    a_key(&private, public);
    a_key(&other, ignored);
    return 0;
}

static int drop_keys(void **state) {
    secret_fini(&private);
    secret_fini(&other);
    return 0;
}

static struct backup_key to_recipient(void) {
    struct backup_key k = {.to = BACKUP_TO_RECIPIENT, .private = secret_span(&private)};
    memcpy(k.public, public, sizeof public);
    return k;
}

static int file_with(struct span content) {
    int fd = memfd_create("backup", MFD_CLOEXEC);
    assert_true(fd >= 0 && write(fd, content.p, content.n) == (ssize_t)content.n && lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

/* A backup of n bytes, byte i being i % 251. */
static void write_one(const struct backup_key *to, size_t n, size_t piece, struct buf *out) {
    struct backup_writer *w = NULL;
    int fd = memfd_create("backup", MFD_CLOEXEC);
    uint8_t *plain = malloc(n + 1);
    assert_non_null(plain);
    for (size_t i = 0; i < n; i++)
        plain[i] = (uint8_t)(i % 251);
    assert_int_equal(backup_writer_new(fd, to, &w, NULL), 0);
    for (size_t at = 0; at < n; at += piece)
        assert_int_equal(backup_write(w, span_sub(span_of(plain, n), at, piece), NULL), 0);
    assert_int_equal(backup_writer_end(w, NULL), 0);
    uint64_t all = backup_written(w);
    backup_writer_free(w);
    free(plain);
    *out = BUF_INIT(all);
    uint8_t *p = buf_extend(out, all);
    assert_non_null(p);
    assert_int_equal(pread(fd, p, all, 0), (ssize_t)all);
    assert_int_equal(pread(fd, &(uint8_t){0}, 1, (off_t)all), 0);
    close(fd);
}

/* What comes out, and how it ends. */
static int read_one(struct span file, const struct backup_key *by, size_t *n, struct err *err) {
    struct backup_reader *r = NULL;
    struct span piece;
    int fd = file_with(file), rc = backup_reader_new(fd, by, &r, err);
    *n = 0;
    while (!rc && (rc = backup_read(r, &piece, err)) > 0) {
        for (size_t i = 0; i < piece.n; i++)
            assert_int_equal(piece.p[i], (*n + i) % 251); /* nothing that was not written ever comes out */
        *n += piece.n;
        rc = 0;
    }
    if (!rc)
        assert_int_equal(backup_read(r, &piece, err), 0);
    backup_reader_free(r);
    close(fd);
    return rc;
}

static void what_was_written_comes_out(void **state) {
    static const size_t lengths[] = {0, 1, BACKUP_PIECE - 1, BACKUP_PIECE, BACKUP_PIECE + 1, 3 * BACKUP_PIECE, 3 * BACKUP_PIECE + 77};
    const struct backup_key k = to_recipient();
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (size_t piece = 1000; piece < 200000; piece *= 190) {
            struct buf file;
            size_t n;
            write_one(&k, lengths[i], piece, &file);
            assert_int_equal(read_one(buf_span(&file), &k, &n, NULL), 0);
            assert_int_equal(n, lengths[i]);
            buf_fini(&file);
        }
}

static void nobody_else_reads_it(void **state) {
    static const struct span right = {(const uint8_t *)"correct horse battery", 21}, wrong = {(const uint8_t *)"correct horse batterz", 21};
    struct backup_key k = to_recipient(), p = {.to = BACKUP_TO_PASSPHRASE, .passphrase = right};
    struct err err = ERR_INIT;
    struct buf to_key, to_pass;
    size_t n;
    write_one(&k, 100, 100, &to_key);
    write_one(&p, 100, 100, &to_pass);
    assert_int_equal(read_one(buf_span(&to_pass), &p, &n, NULL), 0);
    assert_int_equal(n, 100);
    assert_int_equal(read_one(buf_span(&to_pass), &k, &n, NULL), MUSTER_EINVALID);
    assert_int_equal(read_one(buf_span(&to_key), &p, &n, NULL), MUSTER_EINVALID);
    p.passphrase = wrong;
    assert_int_equal(read_one(buf_span(&to_pass), &p, &n, &err), MUSTER_EINVALID);
    assert_non_null(strstr(err.text, "passphrase"));
    p.passphrase = span_sub(right, 0, BACKUP_PASSPHRASE_MIN - 1);
    assert_int_equal(read_one(buf_span(&to_pass), &p, &n, NULL), MUSTER_EINVALID);
    k.private = secret_span(&other);
    assert_int_equal(read_one(buf_span(&to_key), &k, &n, NULL), MUSTER_EINVALID);
    /* Costs that would take the machine's memory are not tried: they stand in front of anything that is authenticated. */
    memset(to_pass.p + 16 + 1 + 16 + 4, 0xff, 8);
    p.passphrase = right;
    assert_int_equal(read_one(buf_span(&to_pass), &p, &n, NULL), MUSTER_ECORRUPT);
    buf_fini(&to_key);
    buf_fini(&to_pass);
}

static void a_byte_that_was_changed_anywhere_is_found(void **state) {
    const struct backup_key k = to_recipient();
    struct buf file;
    size_t n;
    write_one(&k, BACKUP_PIECE + 300, 5000, &file);
    for (size_t i = 0; i < file.n; i += i < 400 || i + 400 > file.n || (i > BACKUP_PIECE && i < BACKUP_PIECE + 600) ? 1 : 997) {
        file.p[i] ^= 0x40;
        assert_true(read_one(buf_span(&file), &k, &n, NULL) < 0);
        file.p[i] ^= 0x40;
    }
    assert_int_equal(read_one(buf_span(&file), &k, &n, NULL), 0);
    buf_fini(&file);
}

static void a_file_that_was_cut_or_goes_on_is_found(void **state) {
    const struct backup_key k = to_recipient();
    struct buf file;
    size_t n;
    write_one(&k, 2 * BACKUP_PIECE, BACKUP_PIECE, &file);
    for (size_t cut = 0; cut < file.n; cut += cut < 400 || cut + 400 > file.n ? 1 : 997)
        assert_true(read_one(span_sub(buf_span(&file), 0, cut), &k, &n, NULL) < 0);
    /* Cut exactly between two pieces. */
    size_t piece = BACKUP_PIECE + 17, head = file.n - 2 * piece;
    assert_int_equal(read_one(span_sub(buf_span(&file), 0, head + piece), &k, &n, NULL), MUSTER_ECORRUPT);
    assert_int_equal(read_one(span_sub(buf_span(&file), 0, head), &k, &n, NULL), MUSTER_ECORRUPT);
    struct buf longer = BUF_INIT(file.n + piece);
    buf_add(&longer, buf_span(&file));
    buf_addc(&longer, 0);
    assert_int_equal(read_one(buf_span(&longer), &k, &n, NULL), MUSTER_ECORRUPT);
    /* The last piece twice, and the two in the other order. */
    buf_clear(&longer);
    buf_add(&longer, buf_span(&file));
    buf_add(&longer, span_sub(buf_span(&file), head + piece, piece));
    assert_int_equal(read_one(buf_span(&longer), &k, &n, NULL), MUSTER_ECORRUPT);
    buf_clear(&longer);
    buf_add(&longer, span_sub(buf_span(&file), 0, head));
    buf_add(&longer, span_sub(buf_span(&file), head + piece, piece));
    buf_add(&longer, span_sub(buf_span(&file), head, piece));
    assert_int_equal(read_one(buf_span(&longer), &k, &n, NULL), MUSTER_ECORRUPT);
    buf_fini(&longer);
    buf_fini(&file);
}

static void a_recipient_is_one_kind_of_key(void **state) {
    static const char *const kinds[] = {"ED25519", "X448"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, kinds[i]);
        BIO *pem = BIO_new(BIO_s_mem()), *pub = BIO_new(BIO_s_mem());
        struct secret s = SECRET_INIT;
        uint8_t out[RECIPIENT_KEY_LEN];
        char *p;
        PEM_write_bio_PrivateKey(pem, key, NULL, NULL, 0, NULL, NULL);
        PEM_write_bio_PUBKEY(pub, key);
        long n = BIO_get_mem_data(pem, &p);
        assert_int_equal(recipient_read_private(span_of(p, (size_t)n), &s, NULL), MUSTER_EINVALID);
        n = BIO_get_mem_data(pub, &p);
        assert_int_equal(recipient_read_public(span_of(p, (size_t)n), out, NULL), MUSTER_EINVALID);
        EVP_PKEY_free(key);
        BIO_free(pem);
        BIO_free(pub);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_comes_out),
        cmocka_unit_test(nobody_else_reads_it),
        cmocka_unit_test(a_byte_that_was_changed_anywhere_is_found),
        cmocka_unit_test(a_file_that_was_cut_or_goes_on_is_found),
        cmocka_unit_test(a_recipient_is_one_kind_of_key),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
