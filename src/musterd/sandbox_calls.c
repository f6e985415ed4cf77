/* sandbox_calls: the system calls of each kind of process; see sandbox.h.
 *
 * Allow-lists.  What is not named fails with EPERM, so nobody executes, forks, traces, signals, mounts, and nobody but the courier
 * makes a socket or connects one; clone3 fails with ENOSYS, on which the C library falls back to clone, whose flags a filter can see.  Memory never becomes executable. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "musterd/landlock.h"
#include "musterd/sandbox.h"

DEFINE_CLEANUP(seccomp_release, scmp_filter_ctx)

enum {
    V = 1U << SANDBOX_VAULT,
    C = 1U << SANDBOX_CONTROL,
    G = 1U << SANDBOX_GATEWAY,
    K = 1U << SANDBOX_COURIER,
    T = 1U << SANDBOX_TOKEN,
    SERVERS = C | G,
    LOOPS = C | G | K,
    THREADS = LOOPS | T,
    ALL = V | C | G | K | T,
    CONNECTS = 1U << SANDBOX_KINDS, /* besides its kind */
    TOKEN_CONNECTS = 2U << SANDBOX_KINDS, /* the token with that: to a daemon of this machine as well */
};

static const struct {
    const char *names; /* separated by blanks */
    unsigned kinds;
} CALLS[] = {
    /* memory, time, ends */
    {"brk munmap mremap madvise mlock mlock2 munlock getrandom clock_gettime clock_getres gettimeofday time", ALL},
    {"exit exit_group restart_syscall rt_sigreturn rt_sigaction rt_sigprocmask sigaltstack futex sched_yield", ALL},
    {"getpid gettid getppid getuid geteuid getgid getegid", ALL},
    /* what is open */
    {"read readv write writev close lseek fstat newfstatat fstatat64 statx poll ppoll recvmsg accept4 getsockopt", ALL},
    {"pread64 pwrite64 fsync fdatasync", ALL},
    /* files, within what Landlock leaves */
    {"open openat stat lstat access faccessat faccessat2 readlink readlinkat getcwd getdents64", ALL},
    {"rename renameat renameat2 unlink unlinkat link linkat fchmod", V | C | T},
    {"ftruncate fallocate umask", SERVERS | T},
    /* threads */
    {"set_robust_list get_robust_list rseq set_tid_address sched_getaffinity membarrier clock_nanosleep nanosleep", THREADS},
    /* event loops and connections that are accepted */
    {"epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2 timerfd_create timerfd_settime pipe2", LOOPS},
    {"accept listen", SERVERS},
    {"recvfrom shutdown getsockname getpeername setsockopt", LOOPS},
    {"getrusage sysinfo uname", THREADS},
    /* a PKCS#11 module's: its files and devices within what Landlock leaves; and, where pkcs11_network says so, connections to where its token is */
    {"alarm mkdir mkdirat rmdir getdents flock dup fadvise64 select pselect6 setitimer eventfd2 pipe2", T},
    {"recvfrom shutdown getsockname getpeername setsockopt sendmmsg recvmmsg", TOKEN_CONNECTS},
    /* to servers behind the gateway, to receivers of webhooks, and to the name server; sockets that can reach a Unix one are not made (below) */
    {"connect", CONNECTS | K},
    {"sendmmsg recvmmsg", K},
    {"statfs statfs64", C}, /* what is free on the disk */
};

/* Calls that are allowed with certain arguments only: `arg` & mask == value. */
#define ANY_NEW_NAMESPACE                                                                                                      \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)
#define THREAD (CLONE_THREAD | CLONE_VM | CLONE_SIGHAND)
#define EXACT 0xffffffffU
static const struct {
    const char *name;
    unsigned arg;
    uint64_t mask, value;
    unsigned kinds;
} PARTLY[] = {
    {"mmap", 2, PROT_EXEC, 0, ALL},
    {"mprotect", 2, PROT_EXEC, 0, ALL},
    {"clone", 0, THREAD | ANY_NEW_NAMESPACE | CLONE_VFORK | CLONE_PTRACE, THREAD, THREADS},
    /* without MSG_FASTOPEN, which connects: a listener that is shut is a socket like any other */
    {"sendmsg", 2, MSG_FASTOPEN, 0, ALL},
    {"sendto", 3, MSG_FASTOPEN, 0, THREADS},
    /* without F_SETOWN, F_SETSIG and the like, which send signals */
    {"fcntl", 1, EXACT, F_GETFD, ALL},
    {"fcntl", 1, EXACT, F_SETFD, ALL},
    {"fcntl", 1, EXACT, F_GETFL, ALL},
    {"fcntl", 1, EXACT, F_SETFL, ALL},
    {"fcntl", 1, EXACT, F_GETLK, SERVERS | T},
    {"fcntl", 1, EXACT, F_SETLK, SERVERS | T},
    {"fcntl", 1, EXACT, F_SETLKW, SERVERS | T},
    {"fcntl", 1, EXACT, F_DUPFD_CLOEXEC, THREADS},
    {"socket", 0, EXACT, AF_UNIX, TOKEN_CONNECTS},
    {"ioctl", 1, EXACT, FIONREAD, LOOPS},
    {"ioctl", 1, EXACT, FIONBIO, LOOPS},
    {"socket", 0, EXACT, AF_INET, CONNECTS},
    {"socket", 0, EXACT, AF_INET6, CONNECTS},
    {"prctl", 0, EXACT, PR_SET_NAME, THREADS},
    {"prctl", 0, EXACT, PR_GET_DUMPABLE, ALL},
};

static int add_names(scmp_filter_ctx filter, const char *names) {
    char name[64];
    for (const char *p = names; *p; p += *p == ' ') {
        size_t n = strcspn(p, " ");
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        int number = seccomp_syscall_resolve_name(name); /* some are not there on each architecture */
        int rc = number == __NR_SCMP_ERROR ? 0 : seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
        if (rc)
            return rc;
        p += n;
    }
    return 0;
}

static int add_partly(scmp_filter_ctx filter, unsigned kinds) {
    for (size_t i = 0; i < sizeof PARTLY / sizeof *PARTLY; i++) {
        if (!(PARTLY[i].kinds & kinds))
            continue;
        struct scmp_arg_cmp when = {PARTLY[i].arg, SCMP_CMP_MASKED_EQ, PARTLY[i].mask, PARTLY[i].value};
        int rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, seccomp_syscall_resolve_name(PARTLY[i].name), 1, &when);
        if (rc)
            return rc;
    }
    return 0;
}

/* A limit can be read, and abort() signals its own process. */
static int add_own(scmp_filter_ctx filter) {
    struct scmp_arg_cmp limit[] = {{0, SCMP_CMP_EQ, 0, 0}, {2, SCMP_CMP_EQ, 0, 0}};
    struct scmp_arg_cmp self = {0, SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0};
    int rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2, limit);
    if (!rc)
        rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &self);
    return rc ? rc : seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

/* The courier's: TCP and, for the resolver, UDP.  No Unix socket to anywhere: the one kind that libcurl needs, to wake itself up, is a pair of
 * streams, which cannot be connected to anything else. */
static int add_sockets(scmp_filter_ctx filter) {
    static const int domains[] = {AF_INET, AF_INET6}, types[] = {SOCK_STREAM, SOCK_DGRAM};
    struct scmp_arg_cmp pair[] = {{0, SCMP_CMP_EQ, AF_UNIX, 0}, {1, SCMP_CMP_MASKED_EQ, 0xf, SOCK_STREAM}};
    int rc = 0;
    for (int i = 0; !rc && i < 4; i++) {
        struct scmp_arg_cmp of[] = {{0, SCMP_CMP_EQ, (scmp_datum_t)domains[i / 2], 0}, {1, SCMP_CMP_MASKED_EQ, 0xf, (scmp_datum_t)types[i % 2]}};
        rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, of);
    }
    return rc ? rc : seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 2, pair);
}

/* The token's: its module loads parts when it needs them, out of files; what was written is never executable all the same. */
static int add_parts(scmp_filter_ctx filter) {
    struct scmp_arg_cmp part[] = {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE, PROT_EXEC}, {3, SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, 0}};
    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, part);
}

static int build(scmp_filter_ctx filter, unsigned kinds) {
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    for (size_t i = 0; !rc && i < sizeof CALLS / sizeof *CALLS; i++)
        if (CALLS[i].kinds & kinds)
            rc = add_names(filter, CALLS[i].names);
    if (!rc)
        rc = add_partly(filter, kinds);
    if (!rc && (kinds & K))
        rc = add_sockets(filter);
    if (!rc && (kinds & T))
        rc = add_parts(filter);
    return rc ? rc : add_own(filter);
}

int sandbox_calls(enum sandbox_kind kind, bool connects, struct err *err) {
    CLEANUP(seccomp_release) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int rc = filter ? build(filter, 1U << kind | (connects ? CONNECTS | (kind == SANDBOX_TOKEN ? TOKEN_CONNECTS : 0U) : 0)) : -ENOMEM;
    if (!rc)
        rc = seccomp_load(filter);
    return rc ? err_set(err, MUSTER_ESANDBOX, "The system calls cannot be confined: %s.", strerror(-rc)) : 0;
}

int sandbox_available(struct err *err) {
    CLEANUP(fd_close) int ruleset = -1;
    int rc = landlock_new(&ruleset, err);
    if (rc)
        return rc;
    /* Whether the kernel knows filters at all: a NULL one is EFAULT then. */
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0 || seccomp_api_get() < 1)
        return err_set(err, MUSTER_ESANDBOX, "This kernel offers no seccomp.");
    return 0;
}
