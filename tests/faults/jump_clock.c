/* jump_clock: a library for LD_PRELOAD that moves the clocks of a running musterd, for tests/integration: what happens once in an hour, and
 * what is due in months, without waiting and without a restart.
 *
 * MUSTER_TEST_CLOCK names a file of three numbers of 64 bits, which the test writes: seconds that the calendar is ahead, in all processes;
 * seconds that the monotonic clock is ahead in one process, so that its timers are due while no deadline of another one is; and that
 * process.  The file is mapped before the sandbox is there.  It is a part of no program that is installed. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct jump {
    int64_t calendar, monotonic, process;
};

static const volatile struct jump *jump;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("MUSTER_TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *jump, PROT_READ, MAP_SHARED, fd, 0);
    if (path && p == MAP_FAILED)
        abort();
    if (path)
        jump = p;
    if (fd >= 0)
        close(fd);
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *ts) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, ts);
    if (rc || !jump)
        return rc;
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
        ts->tv_sec += jump->calendar;
    else if ((id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE || id == CLOCK_BOOTTIME) && getpid() == jump->process)
        ts->tv_sec += jump->monotonic;
    return 0;
}

/* Whoever sets the clock sets this one, and the machine's own never. */
__attribute__((visibility("default"))) int clock_settime(clockid_t id, const struct timespec *ts) {
    const char *path = getenv("MUSTER_TEST_CLOCK");
    struct timespec now;
    int fd = jump && path && id == CLOCK_REALTIME && clock_gettime(id, &now) == 0 ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    const int64_t calendar = fd < 0 ? 0 : jump->calendar + ts->tv_sec - now.tv_sec;
    bool set = fd >= 0 && pwrite(fd, &calendar, sizeof calendar, 0) == (ssize_t)sizeof calendar;
    if (fd >= 0)
        close(fd);
    if (!set)
        errno = EPERM;
    return set ? 0 : -1;
}

/* The kernel waits by its own clock: a time that was reckoned from the one that is ahead is taken back to it. */
__attribute__((visibility("default"))) int pthread_cond_clockwait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t id, const struct timespec *until) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    struct timespec t = *until;
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    if (jump && id == CLOCK_MONOTONIC && getpid() == jump->process)
        t.tv_sec -= jump->monotonic;
    return real(c, m, id, &t);
}

__attribute__((visibility("default"))) time_t time(time_t *out) {
    struct timespec ts = {0};
    clock_gettime(CLOCK_REALTIME, &ts);
    if (out)
        *out = ts.tv_sec;
    return ts.tv_sec;
}

__attribute__((visibility("default"))) int gettimeofday(struct timeval *tv, void *zone) {
    struct timespec ts = {0};
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &ts);
    *tv = (struct timeval){ts.tv_sec, ts.tv_nsec / 1000};
    return 0;
}
