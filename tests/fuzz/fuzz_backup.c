/* A backup's file: its head is read and written back byte for byte; its content comes out the same however it is cut into pieces, under names
 * that a data directory has, each once; and a recipient's key is read or refused, and the halves of one that was written are read as they were. */
#include <openssl/pem.h>

#include "backup/content.h"
#include "backup/head.h"
#include "fuzz.h"
#include "pki/key.h"

static void check_head(struct span in) {
    struct backup_head h;
    size_t n = 0;
    if (backup_head_read(in, &h, &n, NULL))
        return;
    CLEANUP(buf_fini) struct buf out = BUF_INIT(BACKUP_HEAD_MAX);
    MUST(n <= in.n && n <= BACKUP_HEAD_MAX);
    backup_head_put(&h, &out);
    buf_add(&out, span_of(h.box, sizeof h.box));
    MUST(buf_ok(&out) && span_eq(buf_span(&out), span_sub(in, 0, n)));
    static const uint8_t key[SEAL_KEY_LEN];
    struct backup_head again;
    size_t same = 0;
    buf_clear(&out);
    MUST(backup_head_write(&h, span_of(key, sizeof key), &out, NULL) == 0);
    MUST(backup_head_read(buf_span(&out), &again, &same, NULL) == 0 && same == n && memcmp(again.box, h.box, sizeof h.box) == 0);
}

DEFINE_CLEANUP(BIO_free, BIO *)

/* What came out: names, sizes and bytes, one behind the other. */
struct seen {
    struct buf text;
    uint64_t left;
    bool inside;
};

static int begin(void *arg, const struct content_file *f, struct err *err) {
    struct seen *s = arg;
    uint64_t max = 0;
    MUST(!s->inside && content_may_hold(f->name, &max) && f->size <= max && !strstr(f->name, ".."));
    buf_addf(&s->text, "%s %llu ", f->name, (unsigned long long)f->size);
    s->left = f->size;
    s->inside = true;
    return 0;
}

static int bytes(void *arg, struct span more, struct err *err) {
    struct seen *s = arg;
    MUST(s->inside && more.n && more.n <= s->left);
    s->left -= more.n;
    buf_add(&s->text, more);
    return 0;
}

static int end(void *arg, struct err *err) {
    struct seen *s = arg;
    MUST(s->inside && s->left == 0);
    s->inside = false;
    return 0;
}

static int feed(struct span in, size_t piece, struct seen *s) {
    const struct content_sink sink = {begin, bytes, end, s};
    struct content_reader r;
    int rc = 0;
    s->text = BUF_INIT(4 * in.n + 256);
    content_reader_init(&r, &sink);
    for (size_t at = 0; !rc && at < in.n; at += piece)
        rc = content_feed(&r, span_sub(in, at, piece), NULL);
    return rc ? rc : content_done(&r, NULL);
}

static void check_content(struct span in, size_t piece) {
    struct seen whole = {0}, pieces = {0};
    int a = feed(in, in.n + 1, &whole), b = feed(in, piece, &pieces);
    MUST(a == b && span_eq(buf_span(&whole.text), buf_span(&pieces.text)));
    buf_fini(&whole.text);
    buf_fini(&pieces.text);
}

/* Both halves of a key, as files: the first bytes are its private half. */
static void check_key(struct span in) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = in.n < RECIPIENT_KEY_LEN ? NULL : EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, in.p, RECIPIENT_KEY_LEN);
    CLEANUP(secret_fini) struct secret private = SECRET_INIT;
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(4096);
    CLEANUP(BIO_free) BIO *out = BIO_new(BIO_s_mem());
    uint8_t public[RECIPIENT_KEY_LEN], read[RECIPIENT_KEY_LEN];
    size_t n = sizeof public;
    char *text;
    if (!key)
        return;
    MUST(EVP_PKEY_get_raw_public_key(key, public, &n) == 1 && out && PEM_write_bio_PUBKEY(out, key) == 1);
    long written = BIO_get_mem_data(out, &text);
    MUST(recipient_read_public(span_of(text, (size_t)written), read, NULL) == 0 && memcmp(read, public, n) == 0);
    MUST(key_private_pem(key, &pem, NULL) == 0 && recipient_read_private(buf_span(&pem), &private, NULL) == 0 && span_eq(span_of(private.p, private.n), span_sub(in, 0, RECIPIENT_KEY_LEN)));
}

static void check_recipient(struct span in) {
    CLEANUP(secret_fini) struct secret private = SECRET_INIT;
    uint8_t public[RECIPIENT_KEY_LEN];
    MUST(recipient_read_public(in, public, NULL) <= 0);
    int rc = recipient_read_private(in, &private, NULL);
    MUST(rc < 0 ? !private.p : private.n == RECIPIENT_KEY_LEN);
    check_key(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    MUST(secret_init() == 0);
    if (n < 1)
        return 0;
    struct span in = span_of(data + 1, n - 1);
    if (data[0] == 'H')
        check_head(in);
    else if (data[0] == 'R')
        check_recipient(in);
    else
        check_content(in, 1 + data[0] % 64u);
    return 0;
}
