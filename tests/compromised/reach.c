/* reach: files, processes and sockets that the gateway's process gets at; see attack.h.
 *
 * Says "reach VERB PATH" for each thing that worked, and at its end how many were tried. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "attack.h"

static int tried, worked;

static void count(const char *verb, const char *what, bool ok) {
    tried++;
    worked += ok;
    if (ok)
        say("reach %s %s", verb, what);
}

static void sum(const char *what) {
    say("%s: %d tried, %d worked", what, tried, worked);
    tried = worked = 0;
}

/* --- descriptors ---------------------------------------------------------------------------------------------------------------------------- */

static const char *kind_of(int fd) {
    struct stat st;
    int domain = 0, type = 0, listens = 0;
    socklen_t n = sizeof(int);
    if (fstat(fd, &st))
        return "unknown";
    if (!S_ISSOCK(st.st_mode))
        return S_ISREG(st.st_mode) ? "file" : S_ISDIR(st.st_mode) ? "directory" : S_ISFIFO(st.st_mode) ? "pipe" : S_ISCHR(st.st_mode) ? "device" : "other";
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n);
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n);
    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n);
    if (domain == AF_UNIX)
        return listens ? "unix-listener" : type == SOCK_SEQPACKET ? "channel" : "unix";
    return listens ? "listener" : "connection";
}

void attack_descriptors(struct attack *a) {
    for (int fd = 0; fd < 4096; fd++) {
        struct stat st;
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        (void)!fstat(fd, &st);
        say("descriptor %d %s %lu", fd, kind_of(fd), (unsigned long)st.st_ino);
    }
}

/* --- files ------------------------------------------------------------------------------------------------------------------------------------ */

static bool opens(const char *path, int flags) {
    CLEANUP(fd_close) int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    return fd >= 0;
}

/* Bytes of memory or of a file, not only the leave to ask for them. */
static bool reads(const char *path) {
    char byte;
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    return fd >= 0 && (read(fd, &byte, 1) >= 0 || errno != EACCES);
}

/* Harmless where they work. */
static void look(const char *path) {
    struct stat st;
    char target[64];
    count("read", path, reads(path));
    count("write", path, opens(path, O_WRONLY));
    count("read-write", path, opens(path, O_RDWR));
    count("list", path, opens(path, O_RDONLY | O_DIRECTORY));
    count("path", path, stat(path, &st) == 0 && opens(path, O_PATH | O_NOFOLLOW) && opens(path, O_RDONLY | O_NOFOLLOW));
    count("link-target", path, readlink(path, target, sizeof target) >= 0 && strstr(path, "/proc/"));
}

/* Of things that are the test's own. */
static void spoil(const char *path) {
    char beside[PATH_MAX];
    snprintf(beside, sizeof beside, "%.4000s.new", path);
    count("make", beside, opens(beside, O_WRONLY | O_CREAT | O_EXCL));
    count("make-directory", beside, mkdir(beside, 0700) == 0);
    count("make-link", beside, symlink("/", beside) == 0);
    count("hard-link", path, link(path, beside) == 0);
    count("rename", path, rename(path, beside) == 0);
    count("exchange", path, syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, given("MUSTER_ATTACK_DIR"), 2) == 0);
    count("chmod", path, chmod(path, 0777) == 0);
    count("chown", path, chown(path, 65534, 65534) == 0);
    count("remove", path, unlink(path) == 0 || rmdir(path) == 0);
    count("fifo", beside, mkfifo(beside, 0600) == 0);
}

/* MUSTER_ATTACK_PATHS, a line each; those under MUSTER_ATTACK_DIR may be spoilt. */
void attack_files(struct attack *a) {
    CLEANUP(free) char *paths = strdup(given("MUSTER_ATTACK_PATHS"));
    const char *dir = given("MUSTER_ATTACK_DIR");
    char *rest = NULL;
    for (char *path = strtok_r(paths, "\n", &rest); path; path = strtok_r(NULL, "\n", &rest)) {
        look(path);
        if (*dir && strncmp(path, dir, strlen(dir)) == 0)
            spoil(path);
    }
    sum("files");
}

/* --- processes --------------------------------------------------------------------------------------------------------------------------------- */

static void attack_process(pid_t pid) {
    static const char *const files[] = {"mem", "maps", "environ", "fd", "root", "cwd", "exe", "cmdline", "auxv", "stack", "task"};
    char name[64], byte[8];
    struct iovec here = {byte, sizeof byte}, there = {(void *)0x1000, sizeof byte};
    snprintf(name, sizeof name, "%d", (int)pid);
    count("signal", name, kill(pid, 0) == 0);
    count("trace", name, ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0);
    count("attach", name, ptrace(PTRACE_ATTACH, pid, NULL, NULL) == 0);
    count("peek", name, process_vm_readv(pid, &here, 1, &there, 1, 0) >= 0);
    count("poke", name, process_vm_writev(pid, &here, 1, &there, 1, 0) >= 0);
    count("pidfd", name, syscall(SYS_pidfd_open, pid, 0) >= 0);
    count("tgkill", name, syscall(SYS_tgkill, pid, pid, 0) == 0);
    count("limit", name, syscall(SYS_prlimit64, pid, 7, NULL, byte) == 0);
    count("kcmp", name, syscall(SYS_kcmp, pid, getpid(), 0, 0, 0) >= 0);
    count("queue", name, syscall(SYS_rt_sigqueueinfo, pid, 0, byte) == 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(name, sizeof name, "/proc/%d/%s", (int)pid, files[i]);
        look(name);
    }
}

void attack_processes(struct attack *a) {
    pid_t parent = getppid(), own = getpid();
    for (pid_t pid = parent; pid < own + 8; pid++) /* the supervisor and all that it forked */
        if (pid != own)
            attack_process(pid);
    sum("processes");
}

/* --- sockets ------------------------------------------------------------------------------------------------------------------------------------ */

/* A listener that is shut is a fresh socket again, and TCP's fast open connects it by sending.  MUSTER_ATTACK_PORT: control's. */
static void connect_by_sending(int fd, const struct sockaddr_in *to, const char *verb, bool by_message) {
    struct iovec part = {(char *)(uintptr_t) "GET / HTTP/1.0\r\n\r\n", 18};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_name = (void *)(uintptr_t)to, .msg_namelen = sizeof *to};
    (void)!shutdown(fd, SHUT_RDWR);
    errno = 0;
    ssize_t n = by_message ? sendmsg(fd, &m, MSG_FASTOPEN | MSG_NOSIGNAL) : sendto(fd, part.iov_base, part.iov_len, MSG_FASTOPEN | MSG_NOSIGNAL, (const struct sockaddr *)to, sizeof *to);
    int why = errno;
    poll(NULL, 0, 100);
    struct sockaddr_in peer;
    socklen_t len = sizeof peer;
    bool connected = getpeername(fd, (struct sockaddr *)&peer, &len) == 0;
    count(verb, "control", n >= 0 || connected);
    say("sockets %s: %s", verb, n >= 0 || connected ? "connected" : strerror(why));
}

void attack_sockets(struct attack *a) {
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_RDM, SOCK_PACKET};
    const struct sockaddr_in control = {.sin_family = AF_INET, .sin_port = htons((uint16_t)strtol(given("MUSTER_ATTACK_PORT"), NULL, 10)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un vault = {.sun_family = AF_UNIX};
    char what[64];
    int fds[2];
    snprintf(vault.sun_path, sizeof vault.sun_path, "%.90s/vault.sock", given("MUSTER_ATTACK_DIR"));
    for (int domain = 0; domain < 46; domain++)
        for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
            snprintf(what, sizeof what, "%d/%d", domain, types[t]);
            CLEANUP(fd_close) int fd = socket(domain, types[t], 0);
            count("socket", what, fd >= 0);
            count("pair", what, domain == AF_UNIX && socketpair(domain, types[t], 0, fds) == 0);
        }
    const int inherited[] = {a->o->listen_fds[0], a->o->parent_fd, a->vault[0], a->o->auth_fd};
    for (size_t i = 0; i < sizeof inherited / sizeof *inherited; i++) {
        snprintf(what, sizeof what, "inherited/%zu", i);
        count("connect", what, connect(inherited[i], (const struct sockaddr *)&control, sizeof control) == 0);
        count("connect", what, connect(inherited[i], (const struct sockaddr *)&vault, sizeof vault) == 0);
        count("bind", what, bind(inherited[i], (const struct sockaddr *)&control, sizeof control) == 0);
        if (i == 1 || i == 2)
            continue; /* that would be a message */
        count("send-to", what, sendto(inherited[i], "x", 0, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&vault, sizeof vault) >= 0);
    }
    connect_by_sending(a->o->listen_fds[a->o->loops - 1], &control, "sendto-connects", false);
    connect_by_sending(a->o->listen_fds[a->o->loops - 1], &control, "sendmsg-connects", true);
    sum("sockets");
}
