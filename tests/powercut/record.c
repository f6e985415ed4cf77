/* record: see record.h.
 *
 * The syncs of directories are not guessed: SQLite's own VFS opens a directory in order to sync it and for nothing else, through its
 * replaceable system call "openDirectory". */
#include "record.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define PAGE 4096 /* bytes */

struct shim_file {
    sqlite3_file base;
    int inode; /* -1: not recorded (temporary files) */
    char name[DISK_NAME_MAX];
    sqlite3_file *real;
};

static struct disk_log *log_to;
static char root[256];
static enum disk_dir files_dir;
static int (*real_open_directory)(const char *, int *);

static sqlite3_vfs *unix_vfs(void) {
    static sqlite3_vfs *found;
    if (!found)
        found = sqlite3_vfs_find("unix");
    return found;
}

static sqlite3_file *real(sqlite3_file *f) { return ((struct shim_file *)f)->real; }
static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
static bool is_ours(const char *path) { return log_to && path && strncmp(path, root, strlen(root)) == 0; }

/* --- a file ------------------------------------------------------------------------------------------------------------------------ */

static int shim_close(sqlite3_file *f) {
    int rc = real(f)->pMethods ? real(f)->pMethods->xClose(real(f)) : SQLITE_OK;
    return rc;
}
static int shim_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at) { return real(f)->pMethods->xRead(real(f), p, n, at); }

/* A long write is as many as it has pages: the kernel brings each to the disk when it likes. */
static int shim_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) {
    struct shim_file *s = (struct shim_file *)f;
    int rc = real(f)->pMethods->xWrite(real(f), p, n, at);
    for (int done = 0, part; rc == SQLITE_OK && s->inode >= 0 && log_to && done < n; done += part) {
        part = (int)(PAGE - (at + done) % PAGE);
        part = part < n - done ? part : n - done;
        disk_write(log_to, s->inode, at + done, span_of((const char *)p + done, (size_t)part));
    }
    return rc;
}

static int shim_truncate(sqlite3_file *f, sqlite3_int64 size) {
    struct shim_file *s = (struct shim_file *)f;
    int rc = real(f)->pMethods->xTruncate(real(f), size);
    if (rc == SQLITE_OK && s->inode >= 0 && log_to)
        disk_truncate(log_to, s->inode, size);
    return rc;
}

/* Written down before: the directory's sync, where there is one, comes inside and after the file's. */
static int shim_sync(sqlite3_file *f, int flags) {
    struct shim_file *s = (struct shim_file *)f;
    if (s->inode >= 0 && log_to)
        disk_sync(log_to, s->inode, s->name);
    int rc = real(f)->pMethods->xSync(real(f), flags);
    if (rc != SQLITE_OK)
        abort();
    return rc;
}

static int shim_size(sqlite3_file *f, sqlite3_int64 *n) { return real(f)->pMethods->xFileSize(real(f), n); }
static int shim_lock(sqlite3_file *f, int l) { return real(f)->pMethods->xLock(real(f), l); }
static int shim_unlock(sqlite3_file *f, int l) { return real(f)->pMethods->xUnlock(real(f), l); }
static int shim_reserved(sqlite3_file *f, int *out) { return real(f)->pMethods->xCheckReservedLock(real(f), out); }
static int shim_control(sqlite3_file *f, int op, void *arg) { return real(f)->pMethods->xFileControl(real(f), op, arg); }
static int shim_sector(sqlite3_file *f) { return real(f)->pMethods->xSectorSize(real(f)); }
static int shim_device(sqlite3_file *f) { return real(f)->pMethods->xDeviceCharacteristics(real(f)); }
static int shim_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **p) { return real(f)->pMethods->xShmMap(real(f), page, size, extend, p); }
static int shim_shm_lock(sqlite3_file *f, int at, int n, int flags) { return real(f)->pMethods->xShmLock(real(f), at, n, flags); }
static void shim_shm_barrier(sqlite3_file *f) { real(f)->pMethods->xShmBarrier(real(f)); }
static int shim_shm_unmap(sqlite3_file *f, int drop) { return real(f)->pMethods->xShmUnmap(real(f), drop); }

/* Version 2: shared memory for the WAL, no memory-mapped reading and writing past the shim. */
static const sqlite3_io_methods methods = {2, shim_close, shim_read, shim_write, shim_truncate, shim_sync, shim_size, shim_lock, shim_unlock, shim_reserved,
                                           shim_control, shim_sector, shim_device, shim_shm_map, shim_shm_lock, shim_shm_barrier, shim_shm_unmap, NULL, NULL};

/* --- the VFS ----------------------------------------------------------------------------------------------------------------------- */

static int shim_open(sqlite3_vfs *v, const char *path, sqlite3_file *f, int flags, int *out) {
    struct shim_file *s = (struct shim_file *)f;
    *s = (struct shim_file){.inode = -1, .real = (sqlite3_file *)(s + 1)};
    int rc = unix_vfs()->xOpen(unix_vfs(), path, s->real, flags, out);
    if (s->real->pMethods)
        s->base.pMethods = &methods;
    if (rc == SQLITE_OK && is_ours(path) && (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL))) {
        snprintf(s->name, sizeof s->name, "%s", base_name(path));
        s->inode = disk_create(log_to, DISK_DATA, s->name);
    }
    return rc;
}

static int shim_delete(sqlite3_vfs *v, const char *path, int sync_dir) {
    if (is_ours(path))
        disk_unlink(log_to, DISK_DATA, base_name(path));
    return unix_vfs()->xDelete(unix_vfs(), path, sync_dir);
}

static int open_directory(const char *path, int *fd) {
    if (is_ours(path))
        disk_sync_dir(log_to, DISK_DATA, base_name(path));
    return real_open_directory(path, fd);
}

/* --- the file layer ---------------------------------------------------------------------------------------------------------------- */

static void seen(void *arg, enum file_step step, const char *name, const char *to, struct span content) {
    switch (step) {
    case FILE_STEP_WRITE:
        disk_write(log_to, disk_create(log_to, files_dir, name), 0, content);
        break;
    case FILE_STEP_SYNC:
        disk_sync(log_to, disk_find(log_to, files_dir, name), name);
        break;
    case FILE_STEP_RENAME:
        disk_rename(log_to, files_dir, name, to);
        break;
    case FILE_STEP_SYNC_DIR:
        disk_sync_dir(log_to, files_dir, name);
        break;
    case FILE_STEP_UNLINK:
        disk_unlink(log_to, files_dir, name);
        break;
    case FILE_STEP_APPEND: /* nothing of the server's grows a file in place */
        abort();
    }
}

static const char *killed_before;
static bool skip(void *arg, enum file_step step, const char *name) { return step == FILE_STEP_SYNC_DIR && killed_before && strcmp(name, killed_before) == 0; }
void record_killed_before_sync(const char *name) { killed_before = name; }

void record_files_in(enum disk_dir dir) { files_dir = dir; }

void record_begin(struct disk_log *l, const char *directory) {
    static const struct file_tap tap = {.seen = seen, .skip = skip};
    static sqlite3_vfs shim;
    snprintf(root, sizeof root, "%s", directory);
    log_to = l;
    if (!shim.zName) {
        sqlite3_vfs *v = unix_vfs();
        shim = *v;
        shim.szOsFile = (int)sizeof(struct shim_file) + v->szOsFile;
        shim.zName = RECORD_VFS;
        shim.pNext = NULL;
        shim.xOpen = shim_open;
        shim.xDelete = shim_delete;
        real_open_directory = (int (*)(const char *, int *))v->xGetSystemCall(v, "openDirectory");
        if (!real_open_directory || v->xSetSystemCall(v, "openDirectory", (sqlite3_syscall_ptr)open_directory) || sqlite3_vfs_register(&shim, 0))
            abort();
    }
    files_dir = DISK_DATA;
    file_set_tap(&tap);
}

void record_end(void) {
    file_set_tap(NULL);
    log_to = NULL;
}
