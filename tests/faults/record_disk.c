/* record_disk: a library for LD_PRELOAD that writes down what musterd asks of its disk, in order over all of its processes, for
 * tests/integration/disk_play.py, which plays the log to any instant and leaves what a power cut would.
 *
 * The log (MUSTER_TEST_RECORD names it) is memory that all processes share, so that neither sandbox nor user keeps one from it; it goes
 * on over several programs.  Files are known by their inode, directories too.  Step and entry stand under one lock: the order in the
 * log is the order in which things happened.  It is a part of no program that is installed. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_SIZE ((size_t)256 << 20) /* sparse */
#define HEAD_SIZE 4096

/* As disk_play.py reads them. */
enum kind { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, MODE, LINK, SYMLINK };
struct entry {
    uint32_t kind, mode;
    uint64_t inode, dir;
    int64_t offset;
    uint32_t n_name, n_bytes; /* RENAME: the bytes are the new name; SYMLINK: where it leads */
};
struct log {
    uint64_t begun, n; /* bytes behind the head */
    pthread_mutex_t lock;
};

static struct log *log_;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }
#define REAL(type, name, ...)                                                                                                               \
    static type (*real_##name)(__VA_ARGS__);                                                                                               \
    if (!real_##name)                                                                                                                      \
        *(void **)&real_##name = real(#name)

static void lock(void) {
    if (log_ && pthread_mutex_lock(&log_->lock) == EOWNERDEAD)
        pthread_mutex_consistent(&log_->lock);
}

static void unlock(void) {
    if (log_)
        pthread_mutex_unlock(&log_->lock);
}

static void add(struct entry e, const char *name, const void *bytes) {
    int before = errno;
    uint8_t *at = (uint8_t *)log_ + HEAD_SIZE + log_->n;
    e.n_name = (uint32_t)strlen(name);
    if (HEAD_SIZE + log_->n + sizeof e + e.n_name + e.n_bytes > LOG_SIZE)
        abort();
    memcpy(at, &e, sizeof e);
    memcpy(at + sizeof e, name, e.n_name);
    if (e.n_bytes)
        memcpy(at + sizeof e + e.n_name, bytes, e.n_bytes);
    __atomic_store_n(&log_->n, log_->n + sizeof e + e.n_name + e.n_bytes, __ATOMIC_RELEASE);
    errno = before;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("MUSTER_TEST_RECORD");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    struct log *l = ftruncate(fd, LOG_SIZE) ? MAP_FAILED : mmap(NULL, LOG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (l == MAP_FAILED)
        abort();
    close(fd);
    if (!l->begun) {
        pthread_mutexattr_t a;
        pthread_mutexattr_init(&a);
        pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&l->lock, &a);
        l->begun = 1;
    }
    log_ = l;
}

/* --- names ------------------------------------------------------------------------------------------------------------------------------ */

/* The inode of the directory that `path` is in, and its last part. */
static uint64_t parent(int dirfd, const char *path, const char **name) {
    char dir[4096] = ".";
    struct stat st;
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (slash && (size_t)(slash - path) < sizeof dir) {
        size_t n = slash == path ? 1 : (size_t)(slash - path);
        memcpy(dir, path, n);
        dir[n] = 0;
    }
    return fstatat(dirfd, dir, &st, 0) ? 0 : st.st_ino;
}

static int opened(int (*open_real)(int, const char *, int, mode_t), int dirfd, const char *path, int flags, mode_t mode) {
    struct stat st;
    if (!log_ || !(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE)
        return open_real(dirfd, path, flags, mode);
    lock();
    int was = fstatat(dirfd, path, &st, 0) == 0, before = errno, fd = open_real(dirfd, path, flags, mode);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        const char *name;
        uint64_t dir = parent(dirfd, path, &name);
        if (!was)
            add((struct entry){.kind = CREATE, .inode = st.st_ino, .dir = dir, .mode = st.st_mode & 07777}, name, NULL);
        else if (flags & O_TRUNC)
            add((struct entry){.kind = TRUNCATE, .inode = st.st_ino}, "", NULL);
        errno = before;
    }
    unlock();
    return fd;
}

static int openat_plain(int dirfd, const char *path, int flags, mode_t mode) {
    REAL(int, openat64, int, const char *, int, ...);
    return real_openat64(dirfd, path, flags, mode);
}

static mode_t mode_of(int flags, va_list ap) { return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0; }

#define OPEN(decl, dirfd)                                                                                                                   \
    __attribute__((visibility("default"))) int decl {                                                                                      \
        va_list ap;                                                                                                                        \
        va_start(ap, flags);                                                                                                               \
        mode_t mode = mode_of(flags, ap);                                                                                                  \
        va_end(ap);                                                                                                                        \
        return opened(openat_plain, dirfd, path, flags, mode);                                                                             \
    }
OPEN(open64(const char *path, int flags, ...), AT_FDCWD)
OPEN(openat64(int at, const char *path, int flags, ...), at)

__attribute__((visibility("default"))) int mkdirat(int at, const char *path, mode_t mode) {
    REAL(int, mkdirat, int, const char *, mode_t);
    struct stat st;
    lock();
    int rc = real_mkdirat(at, path, mode);
    if (log_ && rc == 0 && fstatat(at, path, &st, 0) == 0) {
        const char *name;
        uint64_t dir = parent(at, path, &name);
        add((struct entry){.kind = MKDIR, .inode = st.st_ino, .dir = dir, .mode = st.st_mode & 07777}, name, NULL);
    }
    unlock();
    return rc;
}

static int unlinked(int (*call)(int, const char *, int), int at, const char *path, int flags) {
    const char *name;
    lock();
    uint64_t dir = log_ ? parent(at, path, &name) : 0;
    int rc = call(at, path, flags);
    if (log_ && rc == 0)
        add((struct entry){.kind = UNLINK, .dir = dir}, name, NULL);
    unlock();
    return rc;
}

static int unlinkat_plain(int at, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    return real_unlinkat(at, path, flags);
}

static int unlink_plain(int at, const char *path, int flags) {
    (void)at;
    (void)flags;
    REAL(int, unlink, const char *);
    return real_unlink(path);
}

__attribute__((visibility("default"))) int unlinkat(int at, const char *path, int flags) { return unlinked(unlinkat_plain, at, path, flags); }
__attribute__((visibility("default"))) int unlink(const char *path) { return unlinked(unlink_plain, AT_FDCWD, path, 0); }

__attribute__((visibility("default"))) int renameat(int from_at, const char *from, int to_at, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    const char *old, *new;
    lock();
    uint64_t dir = log_ ? parent(from_at, from, &old) : 0, to_dir = log_ ? parent(to_at, to, &new) : 0;
    int rc = real_renameat(from_at, from, to_at, to);
    if (log_ && rc == 0 && dir == to_dir)
        add((struct entry){.kind = RENAME, .dir = dir, .n_bytes = (uint32_t)strlen(new)}, old, new);
    else if (log_ && rc == 0)
        abort(); /* none does, and disk_play.py knows none */
    unlock();
    return rc;
}

__attribute__((visibility("default"))) int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

__attribute__((visibility("default"))) int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    struct stat st;
    lock();
    int rc = real_linkat(from_at, from, to_at, to, flags);
    if (log_ && rc == 0 && fstatat(to_at, to, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        const char *name;
        uint64_t dir = parent(to_at, to, &name);
        add((struct entry){.kind = LINK, .inode = st.st_ino, .dir = dir}, name, NULL);
    }
    unlock();
    return rc;
}

/* The bytes are where it leads: they stand in the directory's entry, or in an inode that is written with it. */
__attribute__((visibility("default"))) int symlinkat(const char *to, int at, const char *path) {
    REAL(int, symlinkat, const char *, int, const char *);
    struct stat st;
    lock();
    int rc = real_symlinkat(to, at, path);
    if (log_ && rc == 0 && fstatat(at, path, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        const char *name;
        uint64_t dir = parent(at, path, &name);
        add((struct entry){.kind = SYMLINK, .inode = st.st_ino, .dir = dir, .n_bytes = (uint32_t)strlen(to)}, name, to);
    }
    unlock();
    return rc;
}

/* --- content ---------------------------------------------------------------------------------------------------------------------------- */

static uint64_t plain_file(int fd, struct stat *st) { return log_ && fd > 2 && fstat(fd, st) == 0 && S_ISREG(st->st_mode) ? st->st_ino : 0; }

__attribute__((visibility("default"))) ssize_t write(int fd, const void *bytes, size_t n) {
    REAL(ssize_t, write, int, const void *, size_t);
    struct stat st;
    if (!plain_file(fd, &st))
        return real_write(fd, bytes, n);
    lock();
    ssize_t done = real_write(fd, bytes, n);
    int before = errno;
    if (done > 0 && plain_file(fd, &st)) /* whoever does not say where writes on at the end */
        add((struct entry){.kind = WRITE, .inode = st.st_ino, .offset = st.st_size - done, .n_bytes = (uint32_t)done}, "", bytes);
    errno = before;
    unlock();
    return done;
}

__attribute__((visibility("default"))) ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    struct stat st;
    if (!plain_file(fd, &st))
        return real_pwrite64(fd, bytes, n, at);
    lock();
    ssize_t done = real_pwrite64(fd, bytes, n, at);
    if (done > 0)
        add((struct entry){.kind = WRITE, .inode = st.st_ino, .offset = at, .n_bytes = (uint32_t)done}, "", bytes);
    unlock();
    return done;
}

__attribute__((visibility("default"))) int ftruncate64(int fd, off64_t size) {
    REAL(int, ftruncate64, int, off64_t);
    struct stat st;
    uint64_t inode = plain_file(fd, &st);
    lock();
    int rc = real_ftruncate64(fd, size);
    if (inode && rc == 0)
        add((struct entry){.kind = TRUNCATE, .inode = inode, .offset = size}, "", NULL);
    unlock();
    return rc;
}

static int synced(int (*call)(int), int fd) {
    struct stat st;
    lock();
    int rc = call(fd);
    if (log_ && rc == 0 && fstat(fd, &st) == 0)
        add((struct entry){.kind = SYNC, .inode = st.st_ino}, "", NULL);
    unlock();
    return rc;
}

static int fsync_plain(int fd) {
    REAL(int, fsync, int);
    return real_fsync(fd);
}

static int fdatasync_plain(int fd) {
    REAL(int, fdatasync, int);
    return real_fdatasync(fd);
}

__attribute__((visibility("default"))) int fsync(int fd) { return synced(fsync_plain, fd); }
__attribute__((visibility("default"))) int fdatasync(int fd) { return synced(fdatasync_plain, fd); }

__attribute__((visibility("default"))) int fchmod(int fd, mode_t mode) {
    REAL(int, fchmod, int, mode_t);
    struct stat st;
    lock();
    int rc = real_fchmod(fd, mode);
    if (log_ && rc == 0 && fstat(fd, &st) == 0)
        add((struct entry){.kind = MODE, .inode = st.st_ino, .mode = mode}, "", NULL);
    unlock();
    return rc;
}
