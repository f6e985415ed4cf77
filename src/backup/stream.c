/* stream: see stream.h. */
#include "backup/stream.h"

#include <errno.h>
#include <sodium.h>

#define OVERHEAD crypto_secretstream_xchacha20poly1305_ABYTES
#define TAG_LAST crypto_secretstream_xchacha20poly1305_TAG_FINAL

struct backup_writer {
    int fd;
    crypto_secretstream_xchacha20poly1305_state state;
    struct buf head; /* the first piece is bound to it; empty afterwards */
    uint64_t written;
    size_t n;
    uint8_t plain[BACKUP_PIECE], sealed[BACKUP_PIECE + OVERHEAD];
};

struct backup_reader {
    int fd;
    crypto_secretstream_xchacha20poly1305_state state;
    struct buf head;
    uint64_t at; /* in the file, of the piece that comes next */
    bool last;
    uint8_t plain[BACKUP_PIECE], sealed[BACKUP_PIECE + OVERHEAD + 1];
    size_t kept; /* bytes of `sealed` that were read with the head */
};

/* --- writing ------------------------------------------------------------------------------------------------------------------ */

static int write_all(struct backup_writer *w, struct span s, struct err *err) {
    while (s.n) {
        ssize_t n = write(w->fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, MUSTER_EIO, "The backup cannot be written: %s.", strerror(errno));
        w->written += (uint64_t)n;
        s = span_sub(s, (size_t)n, s.n);
    }
    return 0;
}

void backup_writer_free(struct backup_writer *w) {
    if (!w)
        return;
    buf_fini(&w->head);
    secret_wipe(w, sizeof *w);
    free(w);
}

int backup_writer_new(int fd, const struct backup_key *to, struct backup_writer **out, struct err *err) {
    CLEANUP(backup_writer_free) struct backup_writer *w = calloc(1, sizeof *w);
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    struct backup_head head;
    if (!w)
        return err_set(err, MUSTER_ENOMEM, NULL);
    w->fd = fd;
    w->head = BUF_INIT(BACKUP_HEAD_MAX);
    int rc = backup_head_new(to, &head, &key, err);
    if (rc)
        return rc;
    crypto_secretstream_xchacha20poly1305_init_push(&w->state, head.stream, key.p);
    if ((rc = backup_head_write(&head, secret_span(&key), &w->head, err)) || (rc = write_all(w, buf_span(&w->head), err)))
        return rc;
    *out = TAKE(w);
    return 0;
}

static int flush(struct backup_writer *w, unsigned char tag, struct err *err) {
    crypto_secretstream_xchacha20poly1305_push(&w->state, w->sealed, NULL, w->plain, w->n, w->head.p, w->head.n, tag);
    int rc = write_all(w, span_of(w->sealed, w->n + OVERHEAD), err);
    buf_clear(&w->head);
    w->n = 0;
    return rc;
}

/* A full piece waits for what comes behind it: it may be the last. */
int backup_write(struct backup_writer *w, struct span s, struct err *err) {
    while (s.n) {
        int rc = w->n == BACKUP_PIECE ? flush(w, 0, err) : 0;
        if (rc)
            return rc;
        struct span fits = span_sub(s, 0, BACKUP_PIECE - w->n);
        memcpy(w->plain + w->n, fits.p, fits.n);
        w->n += fits.n;
        s = span_sub(s, fits.n, s.n);
    }
    return 0;
}

int backup_writer_end(struct backup_writer *w, struct err *err) { return flush(w, TAG_LAST, err); }
uint64_t backup_written(const struct backup_writer *w) { return w->written; }

/* --- reading ------------------------------------------------------------------------------------------------------------------ */

/* As many as there are, up to n. */
static int read_up_to(int fd, uint8_t *p, size_t n, size_t *got, struct err *err) {
    while (*got < n) {
        ssize_t more = read(fd, p + *got, n - *got);
        if (more < 0 && errno == EINTR)
            continue;
        if (more < 0)
            return err_set(err, MUSTER_EIO, "The backup cannot be read: %s.", strerror(errno));
        if (more == 0)
            return 0;
        *got += (size_t)more;
    }
    return 0;
}

void backup_reader_free(struct backup_reader *r) {
    if (!r)
        return;
    buf_fini(&r->head);
    secret_wipe(r, sizeof *r);
    free(r);
}

int backup_reader_new(int fd, const struct backup_key *by, struct backup_reader **out, struct err *err) {
    CLEANUP(backup_reader_free) struct backup_reader *r = calloc(1, sizeof *r);
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    struct backup_head head;
    size_t got = 0, n;
    if (!r)
        return err_set(err, MUSTER_ENOMEM, NULL);
    r->fd = fd;
    r->head = BUF_INIT(BACKUP_HEAD_MAX);
    int rc = read_up_to(fd, r->sealed, BACKUP_HEAD_MAX, &got, err);
    if (rc || (rc = backup_head_read(span_of(r->sealed, got), &head, &n, err)) || (rc = backup_head_open(&head, by, &key, err)))
        return rc;
    buf_add(&r->head, span_of(r->sealed, n));
    if ((rc = buf_check(&r->head, err)))
        return rc;
    if (crypto_secretstream_xchacha20poly1305_init_pull(&r->state, head.stream, key.p))
        return err_set(err, MUSTER_ECORRUPT, "The backup's head was changed.");
    r->kept = got - n;
    memmove(r->sealed, r->sealed + n, r->kept);
    r->at = n;
    *out = TAKE(r);
    return 0;
}

int backup_read(struct backup_reader *r, struct span *piece, struct err *err) {
    size_t got = r->kept;
    unsigned long long n;
    unsigned char tag;
    if (r->last)
        return 0;
    /* One byte more than a piece: it begins the next one, or stands behind the end. */
    int rc = read_up_to(r->fd, r->sealed, sizeof r->sealed, &got, err);
    if (rc)
        return rc;
    size_t whole = got < sizeof r->sealed ? got : sizeof r->sealed - 1;
    if (whole < OVERHEAD)
        return err_set(err, MUSTER_ECORRUPT, "The backup is cut off behind %llu bytes.", (unsigned long long)(r->at + got));
    if (crypto_secretstream_xchacha20poly1305_pull(&r->state, r->plain, &n, &tag, r->sealed, whole, r->head.p, r->head.n))
        return err_set(err, MUSTER_ECORRUPT, "The backup was changed%s, at byte %llu or behind it.", got == whole ? ", or is cut off" : "", (unsigned long long)r->at);
    buf_clear(&r->head);
    r->last = tag == TAG_LAST;
    if (r->last && got > whole)
        return err_set(err, MUSTER_ECORRUPT, "The backup goes on behind its end.");
    if (!r->last && got == whole)
        return err_set(err, MUSTER_ECORRUPT, "The backup is cut off behind %llu bytes.", (unsigned long long)(r->at + got));
    r->kept = got - whole;
    if (r->kept)
        r->sealed[0] = r->sealed[whole];
    r->at += whole;
    *piece = span_of(r->plain, (size_t)n);
    return 1;
}
