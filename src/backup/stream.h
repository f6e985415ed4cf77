/* stream: the encrypted body of a backup's file: libsodium's secretstream (XChaCha20-Poly1305) in pieces.
 *
 * Each piece of 65,536 bytes is authenticated together with its place and with the head, and the last one says that it is the last: what was
 * changed, left out, put elsewhere, cut off or added does not open.  Blocks; from one thread. */
#ifndef MUSTER_BACKUP_STREAM_H
#define MUSTER_BACKUP_STREAM_H

#include "backup/head.h"

#define BACKUP_PIECE 65536

struct backup_writer;
/* Writes the head to fd, which stays the caller's. */
int backup_writer_new(int fd, const struct backup_key *to, struct backup_writer **out, struct err *err) MUSTER_MUST_CHECK;
int backup_write(struct backup_writer *w, struct span s, struct err *err) MUSTER_MUST_CHECK;
/* The last piece.  Making it durable is the caller's. */
int backup_writer_end(struct backup_writer *w, struct err *err) MUSTER_MUST_CHECK;
uint64_t backup_written(const struct backup_writer *w); /* bytes of the file so far */
void backup_writer_free(struct backup_writer *w);       /* NULL accepted; wipes */

struct backup_reader;
/* Reads the head from where fd stands; fd stays the caller's.  MUSTER_EINVALID as backup_head_read() and backup_head_open() say. */
int backup_reader_new(int fd, const struct backup_key *by, struct backup_reader **out, struct err *err) MUSTER_MUST_CHECK;
/* 1: *piece, good until the next call; 0: the end, and there was nothing behind it.  MUSTER_ECORRUPT. */
int backup_read(struct backup_reader *r, struct span *piece, struct err *err) MUSTER_MUST_CHECK;
void backup_reader_free(struct backup_reader *r); /* likewise */

DEFINE_CLEANUP(backup_writer_free, struct backup_writer *)
DEFINE_CLEANUP(backup_reader_free, struct backup_reader *)

#endif
