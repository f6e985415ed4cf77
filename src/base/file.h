/* file: what is durable outside the database goes through here, so that one place knows when bytes are safe and a test can
 * record every write and sync (struct file_tap).
 *
 * file_replace is the only way to write a durable file: temporary name in the same directory, write, fsync, rename, fsync of
 * the directory.  When it returns 0 the new content survives a power cut; at any instant a reader finds the old content or
 * the new, whole. */
#ifndef MUSTER_BASE_FILE_H
#define MUSTER_BASE_FILE_H

#include <sys/types.h>

#include "base/buf.h"

/* dirfd AT_FDCWD or an open directory; name without a slash where dirfd is a directory.  mode as for open(2), not masked. */
int file_replace(int dirfd, const char *name, struct span content, mode_t mode, struct err *err) MUSTER_MUST_CHECK;
/* As file_replace, but nothing is synced: a power cut may take it, a kill does not. */
int file_replace_loose(int dirfd, const char *name, struct span content, mode_t mode, struct err *err) MUSTER_MUST_CHECK;
/* As file_replace, but MUSTER_EEXISTS where the name exists (link(2) instead of rename(2)). */
int file_create(int dirfd, const char *name, struct span content, mode_t mode, struct err *err) MUSTER_MUST_CHECK;
/* As file_create, but the name is durable only behind file_sync_dir(): for many files in one directory, whose content is. */
int file_create_loose(int dirfd, const char *name, struct span content, mode_t mode, struct err *err) MUSTER_MUST_CHECK;
/* Makes what was created and removed in an open directory durable. */
int file_sync_dir(int dirfd, const char *name, struct err *err) MUSTER_MUST_CHECK; /* name: for errors */
/* Adds at the end of a file that exists, and syncs it; whoever else writes to it has to be kept out.  Where it fails the file is cut back to
 * what it was.  A power cut or a kill may leave a part of the content behind: the reader has to know a whole line from a torn one. */
int file_append(int dirfd, const char *name, struct span content, struct err *err) MUSTER_MUST_CHECK;
/* Whole content; MUSTER_ENOTFOUND, MUSTER_EIO, or MUSTER_EINVALID where longer than out->max. */
int file_read(int dirfd, const char *name, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
/* Removes and syncs the directory; absent is 0. */
int file_remove(int dirfd, const char *name, struct err *err) MUSTER_MUST_CHECK;
/* mkdir where absent, sync of the parent; sets the mode exactly, but where somebody named a directory (AT_FDCWD) that was there: that one stays as it is. */
int file_make_dir(int dirfd, const char *name, mode_t mode, struct err *err) MUSTER_MUST_CHECK;

/* For tests of durability: sees each step in order, after it succeeded.  NULL switches off.  Not thread-safe to change while used.
 * `skip` lets a test leave a sync out: returning true there makes the step not happen. */
enum file_step { FILE_STEP_WRITE, FILE_STEP_SYNC, FILE_STEP_RENAME, FILE_STEP_SYNC_DIR, FILE_STEP_UNLINK, FILE_STEP_APPEND };
struct file_tap {
    void (*seen)(void *arg, enum file_step step, const char *name, const char *to, struct span content);
    bool (*skip)(void *arg, enum file_step step, const char *name);
    void *arg;
};
void file_set_tap(const struct file_tap *tap);

#endif
