/* fail_disk: a library for LD_PRELOAD that lets musterd's writes and syncs of regular files fail, for tests/integration: a disk that is full,
 * that breaks, that becomes read-only, from any one write on; or that is the last thing a process does.
 *
 * MUSTER_TEST_DISK names a file of four numbers of 64 bits, mapped before the sandbox is there, which the test writes: the error (errno;
 * 0: none; -1: the process ends there), how many writes and syncs go well before it, whether syncs alone fail; and the library writes how many there were.  It is a
 * part of no program that is installed. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct disk {
    _Atomic int64_t error, good, syncs_alone, seen;
};

static struct disk *disk;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("MUSTER_TEST_DISK");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *disk, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (path && p == MAP_FAILED)
        abort();
    if (path)
        disk = p;
    if (fd >= 0)
        close(fd);
}

static int fails(int fd, int is_sync) {
    struct stat st;
    if (!disk || fd <= 2 || fstat(fd, &st) || !S_ISREG(st.st_mode) || (disk->syncs_alone && !is_sync))
        return 0;
    atomic_fetch_add(&disk->seen, 1);
    int error = (int)disk->error;
    if (!error || atomic_fetch_sub(&disk->good, 1) > 0)
        return 0;
    if (error < 0)
        _exit(137); /* as SIGKILL would have it: nothing is flushed, nothing is tidied up */
    errno = error;
    return 1;
}

#define REAL(type, name, ...)                                                                                                               \
    static type (*real_##name)(__VA_ARGS__);                                                                                               \
    if (!real_##name)                                                                                                                       \
    *(void **)&real_##name = dlsym(RTLD_NEXT, #name)

__attribute__((visibility("default"))) ssize_t write(int fd, const void *bytes, size_t n) {
    REAL(ssize_t, write, int, const void *, size_t);
    return fails(fd, 0) ? -1 : real_write(fd, bytes, n);
}

__attribute__((visibility("default"))) ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return fails(fd, 0) ? -1 : real_pwrite64(fd, bytes, n, at);
}

__attribute__((visibility("default"))) int ftruncate64(int fd, off64_t size) {
    REAL(int, ftruncate64, int, off64_t);
    return fails(fd, 0) ? -1 : real_ftruncate64(fd, size);
}

__attribute__((visibility("default"))) int fsync(int fd) {
    REAL(int, fsync, int);
    return fails(fd, 1) ? -1 : real_fsync(fd);
}

__attribute__((visibility("default"))) int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return fails(fd, 1) ? -1 : real_fdatasync(fd);
}
