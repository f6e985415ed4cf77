/* confinement_test: see confinement_test.h.
 *
 * An attempt is denied where it fails with EPERM, EACCES or ENOSYS.  Any other failure means that the call was let through, so the
 * attempts are chosen such that, let through, they fail in another way or do no harm. */
#include "musterd/confinement_test.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "musterd/child.h"
#include "musterd/places.h"

#define V (1U << SANDBOX_VAULT)
#define C (1U << SANDBOX_CONTROL)
#define G (1U << SANDBOX_GATEWAY)
#define K (1U << SANDBOX_COURIER)
#define T (1U << SANDBOX_TOKEN)
#define ALL (V | C | G | K | T)
#define OTHERS (V | C | G | T)

struct test {
    struct data data;
    struct settings settings;
    struct users users;
    enum sandbox_kind kind;
    int vault_fd, socket; /* the socket was made before, as one that was inherited by mistake */
    int listening;        /* a Unix socket with a connection that waits, inherited on purpose */
    int waiting;
    int tcp;              /* as a listener that was shut */
    pid_t parent;
    struct reach own;
    struct metrics pages; /* where they were before the process kept its own alone */
    int file;             /* any that can be read */
};

/* Each returns 0 or more where it was let through, or -1 with errno. */
typedef int (*attempt_fn)(struct test *t, const char *path);

/* --- processes --------------------------------------------------------------------------------------------------------------------- */

static int try_execve(struct test *t, const char *path) {
    char *const none[] = {NULL};
    return execve("/nonexistent/program", none, none);
}

static int reaped(pid_t pid) {
    if (pid == 0)
        _exit(0);
    return pid > 0 ? waitpid(pid, NULL, 0) < 0 : -1;
}
static int try_fork(struct test *t, const char *path) { return reaped((pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }
static int try_clone3(struct test *t, const char *path) { return (int)syscall(SYS_clone3, NULL, 0); }
static int try_ptrace(struct test *t, const char *path) { return (int)ptrace(PTRACE_PEEKDATA, t->parent, NULL, NULL); }
static int try_readv(struct test *t, const char *path) { return (int)process_vm_readv(t->parent, NULL, 0, NULL, 0, 0); }
static int try_writev(struct test *t, const char *path) { return (int)process_vm_writev(t->parent, NULL, 0, NULL, 0, 0); }
static int try_kill(struct test *t, const char *path) { return kill(t->parent, 0); }
static int try_tgkill(struct test *t, const char *path) { return (int)syscall(SYS_tgkill, t->parent, t->parent, 0); }
static int try_own(struct test *t, const char *path) { return fcntl(t->socket, F_SETOWN, t->parent); }
static int try_setuid(struct test *t, const char *path) { return setuid(0); }
static int try_dumpable(struct test *t, const char *path) { return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }
static int try_limit(struct test *t, const char *path) {
    struct rlimit limit;
    return prlimit(t->parent, RLIMIT_NOFILE, NULL, &limit);
}

/* --- the kernel ------------------------------------------------------------------------------------------------------------------------ */

static int try_mount(struct test *t, const char *path) { return mount("none", "/nonexistent", "tmpfs", 0, NULL); }
static int try_bpf(struct test *t, const char *path) { return (int)syscall(SYS_bpf, -1, NULL, 0); }
static int try_unshare(struct test *t, const char *path) { return unshare(0); }
static int try_uring(struct test *t, const char *path) { return (int)syscall(SYS_io_uring_setup, 0, NULL); }
static int try_keyctl(struct test *t, const char *path) { return (int)syscall(SYS_keyctl, -1, 0, 0, 0, 0); }
static int try_memfd(struct test *t, const char *path) {
    CLEANUP(fd_close) int fd = memfd_create("test", 0);
    return fd;
}
static int try_executable(struct test *t, const char *path) {
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? -1 : munmap(p, 4096);
}

static int try_statfs(struct test *t, const char *path) {
    struct statfs fs;
    return statfs(t->data.path, &fs);
}

/* Whether the counters of that process can be written: here the kernel writes, and fails with EFAULT where it may not. */
static int write_page(struct test *t, enum metrics_page page) {
    ssize_t n = pread(t->file, t->pages.page[page], 1, 0);
    if (n < 0 && errno == EFAULT)
        errno = EACCES;
    return n < 0 ? -1 : 0;
}
static int try_counters_vault(struct test *t, const char *path) { return write_page(t, METRICS_VAULT); }
static int try_counters_control(struct test *t, const char *path) { return write_page(t, METRICS_CONTROL); }
static int try_counters_gateway(struct test *t, const char *path) { return write_page(t, METRICS_GATEWAY); }

/* --- sockets ----------------------------------------------------------------------------------------------------------------------------- */

static int made(int domain) {
    CLEANUP(fd_close) int fd = socket(domain, SOCK_STREAM, 0);
    return fd;
}
static int try_unix(struct test *t, const char *path) { return made(AF_UNIX); }
static int try_inet(struct test *t, const char *path) { return made(AF_INET); }
static int try_inet6(struct test *t, const char *path) { return made(AF_INET6); }
static int try_netlink(struct test *t, const char *path) {
    CLEANUP(fd_close) int fd = socket(AF_NETLINK, SOCK_RAW, 0);
    return fd;
}
static int try_pair(struct test *t, const char *path) {
    CLEANUP(fd_close) int a = -1;
    CLEANUP(fd_close) int b = -1;
    int fds[2], rc = socketpair(AF_UNIX, SOCK_STREAM, 0, fds);
    if (!rc) {
        a = fds[0];
        b = fds[1];
    }
    return rc;
}
static int try_raw(struct test *t, const char *path) {
    CLEANUP(fd_close) int fd = socket(AF_INET, SOCK_RAW, IPPROTO_TCP);
    return fd;
}
/* Such a pair could be turned to any other socket of the file system. */
static int try_unix_datagram(struct test *t, const char *path) {
    CLEANUP(fd_close) int a = -1;
    CLEANUP(fd_close) int b = -1;
    int fds[2], rc = socketpair(AF_UNIX, SOCK_DGRAM, 0, fds);
    if (!rc) {
        a = fds[0];
        b = fds[1];
    }
    return rc;
}
static int try_listen(struct test *t, const char *path) { return listen(t->socket, 1); }
/* Nobody listens at that port. */
static int try_connect_inet(struct test *t, const char *path) {
    const struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CLEANUP(fd_close) int fd = socket(AF_INET, SOCK_STREAM, 0);
    int rc = connect(fd >= 0 ? fd : t->socket, (const struct sockaddr *)&at, sizeof at);
    return rc && errno == ECONNREFUSED ? 0 : rc;
}
/* TCP's fast open connects by sending. */
static int try_send_inet(struct test *t, const char *path) {
    const struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int rc = (int)sendto(t->tcp, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, (const struct sockaddr *)&at, sizeof at);
    return rc && errno == ECONNREFUSED ? 0 : rc;
}
static int try_send_message(struct test *t, const char *path) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct iovec part = {(char[]){"x"}, 1};
    const struct msghdr m = {.msg_name = &at, .msg_namelen = sizeof at, .msg_iov = &part, .msg_iovlen = 1};
    int rc = (int)sendmsg(t->tcp, &m, MSG_FASTOPEN | MSG_NOSIGNAL);
    return rc && errno == ECONNREFUSED ? 0 : rc;
}
static int try_connect(struct test *t, const char *path) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "/proc/self/fd/%d/vault.sock", t->data.fd);
    return connect(t->socket, (const struct sockaddr *)&at, sizeof at);
}

/* As the gateway accepts proxies on a socket that the supervisor made, and asks who they are. */
static int try_accept(struct test *t, const char *path) {
    struct ucred who;
    socklen_t n = sizeof who;
    CLEANUP(fd_close) int fd = accept4(t->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return fd < 0 ? -1 : getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n);
}

/* Streams that were made as a pair are connected for good. */
static int try_turn(struct test *t, const char *path) {
    CLEANUP(fd_close) int a = -1;
    CLEANUP(fd_close) int b = -1;
    struct sockaddr_un at;
    socklen_t n = sizeof at;
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
        return -1;
    a = fds[0];
    b = fds[1];
    if (getsockname(t->listening, (struct sockaddr *)&at, &n))
        return 0;
    int rc = connect(a, (const struct sockaddr *)&at, n);
    if (rc && errno == EISCONN)
        errno = EPERM;
    return rc;
}

/* --- files ---------------------------------------------------------------------------------------------------------------------------------- */

static int opened(struct test *t, const char *path, int flags) {
    char whole[PATH_MAX];
    if (path[0] == '/')
        snprintf(whole, sizeof whole, "%s", path);
    else if (snprintf(whole, sizeof whole, "%s/%s", t->data.path, path) >= (int)sizeof whole)
        return -1;
    CLEANUP(fd_close) int fd = open(whole, flags | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd >= 0 && (flags & O_CREAT))
        unlink(whole);
    return fd;
}
static int try_read(struct test *t, const char *path) { return opened(t, path, O_RDONLY); }
static int try_list(struct test *t, const char *path) { return opened(t, path, O_RDONLY | O_DIRECTORY); }
static int try_resolve(struct test *t, const char *path) {
    struct addrinfo *list = NULL;
    if (getaddrinfo("localhost", "443", NULL, &list) == 0) {
        freeaddrinfo(list);
        return 0;
    }
    if (try_read(t, "/etc/hosts") >= 0) /* without it, on a bare system, nobody may know the name */
        errno = EIO;
    return -1;
}
static int try_write(struct test *t, const char *path) { return opened(t, path, O_RDWR); }
static int try_make(struct test *t, const char *path) { return opened(t, path, O_RDWR | O_CREAT | O_EXCL); }
/* By the descriptor of DIR, as if that had been inherited by mistake. */
static int try_beside(struct test *t, const char *path) {
    CLEANUP(fd_close) int fd = openat(t->data.fd, path, O_RDONLY | O_CLOEXEC);
    return fd;
}

static int try_inside(struct test *t, const char *path) {
    CLEANUP(fd_close) int fd = openat(t->vault_fd, path, O_RDONLY | O_CLOEXEC);
    return fd;
}

/* --- what must work ---------------------------------------------------------------------------------------------------------------------------- */

static void *nothing(void *arg) { return arg; }
static int try_thread(struct test *t, const char *path) {
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, nothing, NULL);
    if (!rc)
        rc = pthread_join(thread, NULL);
    errno = rc;
    return rc ? -1 : 0;
}
static int try_random(struct test *t, const char *path) {
    uint8_t bytes[16];
    return getrandom(bytes, sizeof bytes, 0) == sizeof bytes ? 0 : -1;
}
static int try_clock(struct test *t, const char *path) { return clock_now() > 0 && clock_mono_ms() > 0 ? 0 : -1; }
static int try_memory(struct test *t, const char *path) {
    size_t n = 8 << 20;
    uint8_t *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -1;
    p[n - 1] = 1;
    return munmap(p, n);
}
/* A lock on the first byte and none of the content is changed: a server may be running. */
static int try_database(struct test *t, const char *path) {
    char whole[PATH_MAX];
    uint8_t byte;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    if (snprintf(whole, sizeof whole, "%s/%s", t->data.path, path) >= (int)sizeof whole)
        return -1;
    CLEANUP(fd_close) int fd = open(whole, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pread(fd, &byte, 1, 0) < 0 || fcntl(fd, F_GETLK, &lock))
        return -1;
    return fdatasync(fd);
}
/* As file_replace does it. */
static int replaced(int dirfd) {
    CLEANUP(fd_close) int fd = openat(dirfd, "self-test.tmp-1", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || fchmod(fd, 0600) || write(fd, "x", 1) != 1 || fsync(fd) || renameat(dirfd, "self-test.tmp-1", dirfd, "self-test.tmp-2"))
        return -1;
    return unlinkat(dirfd, "self-test.tmp-2", 0);
}
static int try_vault_files(struct test *t, const char *path) { return replaced(t->vault_fd); }
static int try_tls_files(struct test *t, const char *path) {
    char whole[PATH_MAX];
    if (snprintf(whole, sizeof whole, "%s/tls", t->data.path) >= (int)sizeof whole)
        return -1;
    CLEANUP(fd_close) int fd = open(whole, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -1 : replaced(fd);
}
static int try_undumpable(struct test *t, const char *path) {
    errno = EINVAL;
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : -1;
}

/* --- the table --------------------------------------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *what;
    attempt_fn attempt;
    const char *path;
    unsigned denied, works; /* for which kinds; a kind in neither is not asked */
    bool may_be_absent;     /* ENOENT is nobody's fault */
    enum { AS_EVER, MUST_WORK, NOT_ASKED } routed; /* in a gateway that has routes; connect() cannot tell what it is called for */
} TABLE[] = {
    {"execve", try_execve, NULL, ALL, 0},
    {"fork", try_fork, NULL, ALL, 0},
    {"clone3", try_clone3, NULL, ALL, 0},
    {"ptrace", try_ptrace, NULL, ALL, 0},
    {"process_vm_readv", try_readv, NULL, ALL, 0},
    {"process_vm_writev", try_writev, NULL, ALL, 0},
    {"kill parent", try_kill, NULL, ALL, 0},
    {"tgkill parent", try_tgkill, NULL, ALL, 0},
    {"fcntl F_SETOWN", try_own, NULL, ALL, 0},
    {"prlimit parent", try_limit, NULL, ALL, 0},
    {"setuid 0", try_setuid, NULL, ALL, 0},
    {"prctl PR_SET_DUMPABLE", try_dumpable, NULL, ALL, 0},
    {"mount", try_mount, NULL, ALL, 0},
    {"bpf", try_bpf, NULL, ALL, 0},
    {"unshare", try_unshare, NULL, ALL, 0},
    {"io_uring_setup", try_uring, NULL, ALL, 0},
    {"keyctl", try_keyctl, NULL, ALL, 0},
    {"memfd_create", try_memfd, NULL, ALL, 0},
    {"executable memory", try_executable, NULL, ALL, 0},
    {"socket AF_UNIX", try_unix, NULL, ALL, 0},
    {"socket AF_INET", try_inet, NULL, OTHERS, K, .routed = MUST_WORK},
    {"socket AF_INET6", try_inet6, NULL, OTHERS, K, .routed = MUST_WORK},
    {"raw socket", try_raw, NULL, ALL, 0},
    {"datagrams to a Unix socket", try_unix_datagram, NULL, ALL, 0},
    {"listening", try_listen, NULL, V | K | T, 0},
    {"connect to an address", try_connect_inet, NULL, OTHERS, K, .routed = MUST_WORK},
    {"connect by sending", try_send_inet, NULL, ALL, 0},
    {"connect by sending a message", try_send_message, NULL, ALL, 0},
    {"socket AF_NETLINK", try_netlink, NULL, ALL, 0},
    {"socketpair", try_pair, NULL, OTHERS, K},
    {"connect DIR/vault.sock", try_connect, NULL, OTHERS, 0, .routed = NOT_ASKED}, /* the courier has no socket for it */
    {"connect a pair to a Unix socket", try_turn, NULL, ALL, 0},
    {"statfs DIR", try_statfs, NULL, V | G | K | T, C},
    {"write the vault's counters", try_counters_vault, NULL, C | G | K | T, V},
    {"write control's counters", try_counters_control, NULL, V | G | K | T, C},
    {"write the gateway's counters", try_counters_gateway, NULL, V | C | K | T, G},
    {"list DIR", try_list, ".", ALL, 0},
    {"list DIR/vault", try_list, "vault", C | G | K | T, 0},
    {"read DIR/vault/head", try_read, "vault/head", C | G | K | T, 0},
    {"read DIR/vault/index", try_read, "vault/index", C | G | K | T, 0},
    {"read DIR/vault/master.key", try_read, "vault/master.key", C | G | K | T, 0, true},
    {"read DIR/vault/head by descriptor", try_beside, "vault/head", C | G | K | T, 0},
    {"read head by the vault's descriptor", try_inside, "head", C | G | K | T, V},
    {"make a file in DIR/vault", try_make, "vault/self-test.tmp-0", C | G | K | T, 0},
    {"read DIR/admin.token", try_read, "admin.token", ALL, 0},
    {"read DIR/admin.token by descriptor", try_beside, "admin.token", ALL, 0},
    {"read DIR/musterd.conf", try_read, "musterd.conf", ALL, 0},
    {"read DIR/control.db", try_read, "control.db", V | G | K | T, C},
    {"read DIR/control.db-wal", try_read, "control.db-wal", V | G | K | T, C},
    {"read DIR/registry.db", try_read, "registry.db", V | K | T, C | G},
    {"read DIR/registry.db-wal", try_read, "registry.db-wal", V | K | T, C | G},
    {"read DIR/server-ca.pem", try_read, "server-ca.pem", V | K | T, C | G},
    {"write DIR/server-ca.pem", try_write, "server-ca.pem", ALL, 0},
    {"list DIR/tls", try_list, "tls", V | K | T, C | G},
    {"make a file in DIR/tls", try_make, "tls/self-test.tmp-0", V | G | K | T, C},
    {"make a file in DIR", try_make, "self-test.tmp-0", ALL, 0},
    {"make a file in /tmp", try_make, "/tmp/musterd-self-test", ALL, 0},
    {"read /etc/passwd", try_read, "/etc/passwd", ALL, 0},
    {"read /etc/shadow", try_read, "/etc/shadow", ALL, 0},
    {"read /proc/1/environ", try_read, "/proc/1/environ", ALL, 0},
    {"read /proc/self/mem", try_read, "/proc/self/mem", ALL, 0},
    {"list /", try_list, "/", ALL, 0},
    {"write DIR/registry.db", try_database, "registry.db", V | K | T, C | G},
    {"write DIR/registry.db-wal", try_database, "registry.db-wal", V | K | T, C | G},
    {"write DIR/registry.db-shm", try_database, "registry.db-shm", V | K | T, C | G},
    {"write DIR/control.db", try_database, "control.db", V | G | K | T, C},
    {"replace a file in DIR/vault", try_vault_files, NULL, C | G | K | T, V},
    {"replace a file in DIR/tls", try_tls_files, NULL, V | G | K | T, C},
    {"threads", try_thread, NULL, V, C | G | K | T},
    {"read /etc/ssl/certs", try_list, "/etc/ssl/certs", V | C | G, K | T, true},
    {"read /etc/hosts", try_read, "/etc/hosts", V | C | G, K | T, true, .routed = NOT_ASKED},
    {"resolve a name", try_resolve, NULL, 0, K, true},
    {"accept on a Unix socket", try_accept, NULL, 0, G},
    {"random bytes", try_random, NULL, 0, ALL},
    {"clock", try_clock, NULL, 0, ALL},
    {"memory", try_memory, NULL, 0, ALL},
    {"being undumpable", try_undumpable, NULL, 0, ALL},
};

static bool is_routed(const struct test *t) { return t->kind == SANDBOX_GATEWAY && t->settings.n_routes > 0; }

static bool is_asked(const struct test *t, size_t row) {
    return ((TABLE[row].denied | TABLE[row].works) >> t->kind & 1) && !(is_routed(t) && TABLE[row].routed == NOT_ASKED);
}

/* The line of one row; whether it is as it must be. */
static bool judge(struct test *t, size_t row) {
    errno = 0;
    int rc = TABLE[row].attempt(t, TABLE[row].path), why = errno;
    bool denied = rc < 0 && (why == EPERM || why == EACCES || why == ENOSYS);
    bool must_work = ((TABLE[row].works >> t->kind) & 1) || (is_routed(t) && TABLE[row].routed == MUST_WORK);
    const char *what = TABLE[row].what;
    if (rc < 0 && why == ENOENT && TABLE[row].may_be_absent)
        return printf("absent %s\n", what) > 0;
    if (must_work && rc >= 0)
        return printf("works %s\n", what) > 0;
    if (must_work)
        return printf("FAILS %s: %s\n", what, strerror(why)) < 0;
    return denied ? printf("denied %s\n", what) > 0 : printf("ALLOWED %s%s%s\n", what, rc < 0 ? ": " : "", rc < 0 ? strerror(why) : "") < 0;
}

static int prepare(struct test *t, const struct options *o, struct err *err) {
    int kind = 0, rc = data_open_ready(&t->data, o->value[OPT_DATA], err);
    if (rc || (rc = places_settings(o, &t->data, &t->settings, err)) || (rc = users_find(&t->settings, &t->users, err)) ||
        (rc = users_own_files(&t->users, &t->data, err)))
        return rc;
    while (kind < SANDBOX_KINDS && strcmp(o->word, sandbox_name(kind)))
        kind++;
    if (kind == SANDBOX_KINDS)
        return err_set(err, MUSTER_EUSAGE, "`%s` is none of vault, control, gateway, courier and token.", o->word);
    t->kind = kind;
    reach_find(&t->own, &t->settings, t->data.path);
    t->vault_fd = openat(t->data.fd, "vault", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    t->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX}; /* no name of its own: the kernel picks an abstract one */
    socklen_t n = sizeof at;
    t->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    t->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    t->waiting = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(t->listening, (const struct sockaddr *)&at, sizeof at.sun_family) || listen(t->listening, 1) ||
        getsockname(t->listening, (struct sockaddr *)&at, &n) || connect(t->waiting, (const struct sockaddr *)&at, n))
        return err_set(err, MUSTER_EIO, "A Unix socket cannot be made: %s.", strerror(errno));
    t->parent = getppid();
    t->file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if ((rc = metrics_open(&t->pages, err)))
        return rc;
    if (t->vault_fd < 0 || t->socket < 0 || t->tcp < 0 || t->file < 0)
        return err_set(err, MUSTER_EIO, "%s/vault cannot be opened: %s.", t->data.path, strerror(errno));
    return 0;
}

/* In the order of a process's start. */
static int enter(const struct test *t, struct err *err) {
    static const enum metrics_page pages[SANDBOX_KINDS] = {[SANDBOX_VAULT] = METRICS_VAULT, [SANDBOX_CONTROL] = METRICS_CONTROL, [SANDBOX_GATEWAY] = METRICS_GATEWAY,
                                                            [SANDBOX_COURIER] = METRICS_COURIER, [SANDBOX_TOKEN] = METRICS_TOKEN};
    struct metrics kept = t->pages;
    int rc = metrics_keep(&kept, pages[t->kind], t->kind == SANDBOX_CONTROL, err);
    if (!rc)
        rc = child_become(&t->settings, &t->data, &t->users, t->kind, t->vault_fd, &t->own, true, err);
    return rc || !t->settings.sandbox ? rc : sandbox_calls(t->kind, is_routed(t), err);
}

static void test_fini(struct test *t) {
    fd_close(t->socket);
    fd_close(t->listening);
    fd_close(t->waiting);
    fd_close(t->tcp);
    fd_close(t->vault_fd);
    fd_close(t->file);
    settings_fini(&t->settings);
    data_close(&t->data);
}
DEFINE_CLEANUP_FINI(test_fini, struct test)

int confinement_test_run(const struct options *o, struct err *err) {
    CLEANUP(test_fini) struct test t = {.data = DATA_NONE, .vault_fd = -1, .socket = -1, .listening = -1, .waiting = -1, .tcp = -1, .file = -1};
    int wrong = 0, rc = prepare(&t, o, err);
    if (rc)
        return rc;
    setvbuf(stdout, NULL, _IOLBF, 4096); /* made now: later it would ask what stdout is */
    if ((rc = enter(&t, err)))
        return rc;
    for (size_t row = 0; row < sizeof TABLE / sizeof *TABLE; row++)
        if (is_asked(&t, row) && !judge(&t, row))
            wrong++;
    return wrong ? err_set(err, MUSTER_ESANDBOX, "%d of the attempts did not end as they must.", wrong) : 0;
}
