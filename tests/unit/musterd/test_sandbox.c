/* The confinement of each kind of process, in children that enter it; and that its filter reaches a thread which was there before.
 * The whole list of what is denied is tried by `musterd self-test-confinement`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "musterd/landlock.h"
#include "musterd/sandbox.h"

static char dir[64];

static void make(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
}
static void make_in(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static const char *const FILES[] = {"registry.db", "registry.db-wal", "registry.db-shm", "control.db", "server-ca.pem", "admin.token", "vault/head", "tls/default.key", "own.key"};

static int setup(void **state) {
    snprintf(dir, sizeof dir, "/tmp/test_sandbox.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    make_in("vault");
    make_in("tls");
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++)
        make(FILES[i]);
    return 0;
}
static int teardown(void **state) {
    char path[128];
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, FILES[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/vault", dir);
    rmdir(path);
    snprintf(path, sizeof path, "%s/tls", dir);
    rmdir(path);
    return rmdir(dir);
}

static int may(const char *name, int flags) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CLEANUP(fd_close) int fd = open(path, flags | O_CLOEXEC, 0600);
    return fd >= 0 ? 1 : errno == EACCES || errno == EPERM ? 0 : -1;
}

static atomic_int go;
static void *early(void *arg) {
    int *refused = arg;
    while (!go)
        sched_yield();
    *refused = socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM;
    return NULL;
}

/* Status of the child: the number of the first thing that is not as it must be; 0: none. */
static int gateway_child(void) {
    char own[128];
    static struct reach reach;
    char none[] = "";
    struct err err;
    snprintf(own, sizeof own, "%s/own.key", dir);
    reach_find(&reach, &(struct settings){.server_certificate = own, .server_key = own, .master_key_file = none}, dir);
    const struct sandbox_paths paths = {dir, -1, &reach};
    pthread_t thread;
    int refused = 0;
    if (sandbox_files(SANDBOX_GATEWAY, &paths, &err))
        return 1;
    if (pthread_create(&thread, NULL, early, &refused))
        return 2;
    if (sandbox_calls(SANDBOX_GATEWAY, false, &err))
        return 3;
    go = 1;
    if (pthread_join(thread, NULL) || !refused)
        return 4;
    if (may("registry.db", O_RDWR) != 1 || may("registry.db-wal", O_RDWR | O_CREAT) != 1 || may("tls/default.key", O_RDONLY) != 1 || may("own.key", O_RDONLY) != 1)
        return 5;
    if (may("vault/head", O_RDONLY) || may("control.db", O_RDONLY) || may("admin.token", O_RDONLY) || may("own.key", O_RDWR) || may("tls/default.key", O_RDWR))
        return 6;
    if (may("new", O_RDWR | O_CREAT) || may("tls/new", O_RDWR | O_CREAT) || may(".", O_RDONLY))
        return 7;
    if (fork() >= 0 || errno != EPERM)
        return 8;
    return 0;
}

static int control_child(void) {
    const struct sandbox_paths paths = {dir, -1, NULL};
    struct err err;
    if (sandbox_files(SANDBOX_CONTROL, &paths, &err) || sandbox_calls(SANDBOX_CONTROL, false, &err))
        return 1;
    if (may("registry.db", O_RDWR) != 1 || may("control.db", O_RDWR) != 1 || may("tls/default.key", O_RDWR) != 1 || may("server-ca.pem", O_RDONLY) != 1)
        return 2;
    if (may("vault/head", O_RDONLY) || may("admin.token", O_RDONLY) || may("own.key", O_RDONLY) || may("server-ca.pem", O_RDWR) || may("new", O_RDWR | O_CREAT))
        return 3;
    if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0 || errno != EPERM)
        return 4;
    return 0;
}

static int vault_child(void) {
    char path[128];
    struct err err;
    snprintf(path, sizeof path, "%s/vault", dir);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct sandbox_paths paths = {dir, fd, NULL};
    pthread_t thread;
    if (sandbox_files(SANDBOX_VAULT, &paths, &err) || sandbox_calls(SANDBOX_VAULT, false, &err))
        return 1;
    if (openat(fd, "head", O_RDWR) < 0 || openat(fd, "new", O_RDWR | O_CREAT, 0600) < 0 || renameat(fd, "new", fd, "newer") || unlinkat(fd, "newer", 0))
        return 2;
    if (may("registry.db", O_RDONLY) || may("control.db", O_RDONLY) || may("tls/default.key", O_RDONLY) || may("admin.token", O_RDONLY))
        return 3;
    return pthread_create(&thread, NULL, early, NULL) ? 0 : 4;
}

static void run(int (*child)(void)) {
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(child());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void the_gateway(void **state) { run(gateway_child); }
static void control(void **state) { run(control_child); }
static void the_vault(void **state) { run(vault_child); }

/* Files and directories of the operator's certificate: as many as the gateway gets. */
static size_t reached(const char *cert, const char *master, const char *data) {
    static struct reach r;
    char paths[2][128];
    snprintf(paths[0], sizeof paths[0], "%s/%s", dir, cert);
    snprintf(paths[1], sizeof paths[1], "%s/%s", dir, master);
    const struct settings s = {.server_certificate = paths[0], .server_key = paths[0], .master_key_file = *master ? paths[1] : paths[1] + strlen(paths[1]), .sandbox = true};
    reach_find(&r, &s, data);
    assert_true(reach_covers(&r, &s));
    return r.n;
}

static void directories_where_more_is_are_out_of_reach(void **state) {
    char data[80];
    snprintf(data, sizeof data, "%s/vault", dir);
    assert_int_equal(reached("tls/default.key", "", data), 2);                /* the file and its directory */
    assert_int_equal(reached("tls/default.key", "vault/head", data), 2);
    assert_int_equal(reached("tls/default.key", "tls/default.key", data), 1); /* the master key beside it */
    assert_int_equal(reached("tls/default.key", "tls/absent", data), 1);      /* nobody knows where that is */
    assert_int_equal(reached("tls/default.key", "", dir), 1);                 /* in DIR */
    assert_int_equal(reached("vault/head", "", data), 1);                     /* is DIR */
    assert_int_equal(reached("own.key", "", data), 1);                        /* holds DIR */
    assert_int_equal(reached("own.key", "", "/nonexistent"), 1);              /* holds directories */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_gateway, setup, teardown),
        cmocka_unit_test_setup_teardown(control, setup, teardown),
        cmocka_unit_test_setup_teardown(the_vault, setup, teardown),
        cmocka_unit_test_setup_teardown(directories_where_more_is_are_out_of_reach, setup, teardown),
    };
    struct err err;
    if (sandbox_available(&err)) {
        fprintf(stderr, "%s\n", err_text(&err));
        return 77; /* skipped: this machine cannot confine */
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
