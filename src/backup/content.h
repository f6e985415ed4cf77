/* content: what is inside a backup: files, one behind the other, in one order.
 *
 *   file   1 (u8), name (u16 length and bytes), size (u64), its bytes
 *   end    0 (u8)
 *
 * The names are those of a table (content.c) and of the vault's directory; each stands there once, in the table's order and then by name, and
 * those that a server cannot do without are there.  So nothing in a backup can name another place of the disk, and nothing is taken twice.
 * The reader is fed pieces of any length and holds no file in memory.  Fuzzed. */
#ifndef MUSTER_BACKUP_CONTENT_H
#define MUSTER_BACKUP_CONTENT_H

#include "base/buf.h"

#define CONTENT_NAME_MAX 80
#define CONTENT_VAULT "vault/"

struct content_file {
    char name[CONTENT_NAME_MAX + 1]; /* below the data directory, or "facts" */
    uint64_t size;                   /* bytes */
};

/* Whether a file of that name may stand in a backup, and how long it may be. */
bool content_may_hold(const char *name, uint64_t *max);
/* The bytes in front of a file, and those behind the last one. */
void content_put_file(struct buf *out, const char *name, uint64_t size);
void content_put_end(struct buf *out);

/* Where the files go, each begun, then its bytes, then ended.  A failure ends the reading. */
struct content_sink {
    int (*begin)(void *arg, const struct content_file *f, struct err *err);
    int (*bytes)(void *arg, struct span s, struct err *err);
    int (*end)(void *arg, struct err *err);
    void *arg;
};

struct content_reader {
    const struct content_sink *sink;
    struct content_file file;
    uint64_t left;     /* bytes of the file that are to come */
    uint8_t front[3 + CONTENT_NAME_MAX + 8];
    size_t got;        /* of front */
    size_t place;      /* of the file before, in the table */
    unsigned seen;     /* bits of the table */
    bool inside, over; /* within a file; the end was there */
};
void content_reader_init(struct content_reader *r, const struct content_sink *sink);
/* MUSTER_ECORRUPT, or what the sink says. */
int content_feed(struct content_reader *r, struct span piece, struct err *err) MUSTER_MUST_CHECK;
/* After the last piece: whether all was there that has to be. */
int content_done(const struct content_reader *r, struct err *err) MUSTER_MUST_CHECK;

#endif
