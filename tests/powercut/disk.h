/* disk: what programs asked of a disk, in order, and the states in which a power cut may leave it.
 *
 * The log holds every change of files and directories and every sync (vfs.h and files.h write it).  Played up to any operation it gives
 * what is durable for certain, and what is pending: written, but not synced.  A cut keeps, loses or tears each pending operation by
 * itself, in any combination: files and directories owe each other no order, only a sync does.  A torn write has reached the disk in some of
 * the 512-byte sectors that it touches; bytes outside a write are never harmed by it (SQLite counts on that: powersafe overwrite).
 *
 * A file is an inode and its names are entries of a directory, so that a rename can be durable before the content is. */
#ifndef MUSTER_TESTS_POWERCUT_DISK_H
#define MUSTER_TESTS_POWERCUT_DISK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

#define DISK_NAME_MAX 96
#define DISK_SECTOR 512

enum disk_dir { DISK_DATA, DISK_VAULT, DISK_DIRS };
enum disk_kind { DISK_CREATE, DISK_WRITE, DISK_TRUNCATE, DISK_SYNC, DISK_SYNC_DIR, DISK_RENAME, DISK_UNLINK };

struct disk_op {
    enum disk_kind kind;
    enum disk_dir dir;
    int inode;                 /* not for SYNC_DIR */
    char name[DISK_NAME_MAX];  /* CREATE, RENAME, UNLINK; SYNC, SYNC_DIR: what it was about */
    char to[DISK_NAME_MAX];    /* RENAME */
    int64_t offset;            /* WRITE; TRUNCATE: the size */
    uint8_t *bytes;            /* WRITE, owned */
    size_t n;
    int use;                   /* SYNC, SYNC_DIR: what it is for, of those who classify (syncs.h) */
};

struct disk_log {
    pthread_mutex_t lock;
    struct disk_op *ops;
    size_t n, cap;
    int inodes;
    struct disk_name { enum disk_dir dir; char name[DISK_NAME_MAX]; int inode; } *names; /* as the programs see them */
    size_t n_names, cap_names;
};

void disk_log_init(struct disk_log *l);
void disk_log_fini(struct disk_log *l);
/* Recording; from any thread. */
int disk_create(struct disk_log *l, enum disk_dir dir, const char *name); /* the inode; the one that is there, where the name exists */
void disk_write(struct disk_log *l, int inode, int64_t offset, struct span bytes);
void disk_truncate(struct disk_log *l, int inode, int64_t size);
void disk_sync(struct disk_log *l, int inode, const char *name);
void disk_sync_dir(struct disk_log *l, enum disk_dir dir, const char *name);
void disk_rename(struct disk_log *l, enum disk_dir dir, const char *from, const char *to);
void disk_unlink(struct disk_log *l, enum disk_dir dir, const char *name);
int disk_find(struct disk_log *l, enum disk_dir dir, const char *name); /* -1: none */

/* A disk on which the log is played. */
struct disk;
struct disk *disk_new(const struct disk_log *l);
void disk_free(struct disk *d);
/* Plays the next operation.  swallow: a sync that does not happen. */
void disk_step(struct disk *d, bool swallow);
size_t disk_at(const struct disk *d);      /* operations played */
size_t disk_pending(const struct disk *d); /* operations that a cut may lose */

enum cut_kind {
    CUT_LOST,   /* whatever is pending */
    CUT_KEPT,
    CUT_LATE,   /* the first `seed` pending operations lost, the others kept: reordered as badly as can be */
    CUT_FILES,  /* of each file and directory all or nothing, by the seed */
    CUT_MIXED,  /* each by itself, by the seed */
    CUT_TORN,   /* as MIXED, and a kept write may be torn */
};
struct cut {
    enum cut_kind kind;
    uint64_t seed;
};
/* Writes what the cut leaves into `root` and its folder vault/, which it empties first. */
void disk_cut(const struct disk *d, struct cut cut, const char *root);
void disk_empty(const char *root);

#endif
