/* file: see file.h.  The only place that makes a plain file durable. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/secret.h"

static _Atomic(const struct file_tap *) tap;

void file_set_tap(const struct file_tap *t) { tap = t; }

static void seen(enum file_step step, const char *name, const char *to, struct span content) {
    const struct file_tap *t = tap;
    if (t && t->seen)
        t->seen(t->arg, step, name, to, content);
}

static bool skipped(enum file_step step, const char *name) {
    const struct file_tap *t = tap;
    return t && t->skip && t->skip(t->arg, step, name);
}

static int io_error(struct err *err, const char *doing, const char *name) {
    return err_set(err, errno == ENOENT ? MUSTER_ENOTFOUND : MUSTER_EIO, "%s cannot be %s: %s.", name, doing, strerror(errno));
}

static int sync_dir(int dirfd, const char *name, struct err *err) {
    char parent[4096] = ".";
    const char *slash = strrchr(name, '/');
    if (slash)
        snprintf(parent, sizeof parent, "%.*s", slash == name ? 1 : (int)(slash - name), name);
    if (skipped(FILE_STEP_SYNC_DIR, name))
        return 0;
    CLEANUP(fd_close) int fd = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd))
        return io_error(err, "made durable", name);
    seen(FILE_STEP_SYNC_DIR, name, NULL, SPAN_NONE);
    return 0;
}

static int write_all(int fd, struct span s) {
    while (s.n) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        s = span_sub(s, (size_t)n, s.n);
    }
    return 0;
}

static int write_temporary(int dirfd, const char *temporary, const char *name, struct span content, mode_t mode, struct err *err) {
    CLEANUP(fd_close) int fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode & 0600);
    if (fd < 0 || fchmod(fd, mode) || write_all(fd, content))
        return io_error(err, "written", name);
    seen(FILE_STEP_WRITE, temporary, NULL, content);
    if (skipped(FILE_STEP_SYNC, temporary))
        return 0;
    if (fsync(fd))
        return io_error(err, "made durable", name);
    seen(FILE_STEP_SYNC, temporary, NULL, SPAN_NONE);
    return 0;
}

static int put(int dirfd, const char *name, struct span content, mode_t mode, bool replace, bool loose, struct err *err) {
    char temporary[4096];
    uint32_t unique;
    secret_random_bytes(&unique, sizeof unique);
    if (snprintf(temporary, sizeof temporary, "%s.tmp-%08x", name, unique) >= (int)sizeof temporary)
        return err_set(err, MUSTER_EINVALID, "The file name is too long.");
    int rc = write_temporary(dirfd, temporary, name, content, mode, err);
    if (rc) {
        unlinkat(dirfd, temporary, 0);
        return rc;
    }
    int done = replace ? renameat(dirfd, temporary, dirfd, name) : linkat(dirfd, temporary, dirfd, name, 0);
    if (done) {
        rc = errno == EEXIST ? err_set(err, MUSTER_EEXISTS, "%s exists already.", name) : io_error(err, "put in place", name);
        unlinkat(dirfd, temporary, 0);
        return rc;
    }
    seen(FILE_STEP_RENAME, temporary, name, SPAN_NONE);
    if (!replace)
        unlinkat(dirfd, temporary, 0);
    return loose ? 0 : sync_dir(dirfd, name, err);
}

int file_replace(int dirfd, const char *name, struct span content, mode_t mode, struct err *err) { return put(dirfd, name, content, mode, true, false, err); }
int file_replace_loose(int dirfd, const char *name, struct span content, mode_t mode, struct err *err) {
    char temporary[4096];
    if (snprintf(temporary, sizeof temporary, "%s.tmp-loose", name) >= (int)sizeof temporary)
        return err_set(err, MUSTER_EINVALID, "The file name is too long.");
    unlinkat(dirfd, temporary, 0); /* of one that was killed */
    CLEANUP(fd_close) int fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode & 0600);
    if (fd >= 0 && fchmod(fd, mode) == 0 && write_all(fd, content) == 0 && renameat(dirfd, temporary, dirfd, name) == 0)
        return 0;
    int rc = io_error(err, "written", name);
    unlinkat(dirfd, temporary, 0);
    return rc;
}

int file_create(int dirfd, const char *name, struct span content, mode_t mode, struct err *err) { return put(dirfd, name, content, mode, false, false, err); }
int file_create_loose(int dirfd, const char *name, struct span content, mode_t mode, struct err *err) { return put(dirfd, name, content, mode, false, true, err); }

int file_sync_dir(int dirfd, const char *name, struct err *err) {
    if (skipped(FILE_STEP_SYNC_DIR, name))
        return 0;
    if (fsync(dirfd))
        return io_error(err, "made durable", name);
    seen(FILE_STEP_SYNC_DIR, name, NULL, SPAN_NONE);
    return 0;
}

int file_append(int dirfd, const char *name, struct span content, struct err *err) {
    struct stat before;
    CLEANUP(fd_close) int fd = openat(dirfd, name, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
    if (fd < 0 || fstat(fd, &before))
        return io_error(err, "opened", name);
    if (write_all(fd, content)) {
        int rc = io_error(err, "written", name);
        return ftruncate(fd, before.st_size) ? io_error(err, "cut back", name) : rc;
    }
    seen(FILE_STEP_APPEND, name, NULL, content);
    if (skipped(FILE_STEP_SYNC, name))
        return 0;
    if (fsync(fd)) {
        int rc = io_error(err, "made durable", name);
        return ftruncate(fd, before.st_size) ? io_error(err, "cut back", name) : rc;
    }
    seen(FILE_STEP_SYNC, name, NULL, SPAN_NONE);
    return 0;
}

int file_read(int dirfd, const char *name, struct buf *out, struct err *err) {
    CLEANUP(fd_close) int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return io_error(err, "opened", name);
    for (;;) {
        uint8_t piece[16384];
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR)
            continue;
        if (n > 0)
            buf_add(out, span_of(piece, (size_t)n));
        secret_wipe(piece, sizeof piece);
        if (n < 0)
            return io_error(err, "read", name);
        if (n == 0)
            return 0;
        if (!buf_ok(out))
            return err_set(err, MUSTER_EINVALID, "%s is longer than %zu bytes.", name, out->max);
    }
}

int file_remove(int dirfd, const char *name, struct err *err) {
    if (unlinkat(dirfd, name, 0))
        return errno == ENOENT ? 0 : io_error(err, "removed", name);
    seen(FILE_STEP_UNLINK, name, NULL, SPAN_NONE);
    return sync_dir(dirfd, name, err);
}

int file_make_dir(int dirfd, const char *name, mode_t mode, struct err *err) {
    bool made = mkdirat(dirfd, name, mode & 0700) == 0;
    if (!made && errno != EEXIST)
        return io_error(err, "made", name);
    CLEANUP(fd_close) int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || ((made || dirfd != AT_FDCWD) && fchmod(fd, mode)))
        return io_error(err, "opened", name);
    return made ? sync_dir(dirfd, name, err) : 0;
}
