/* rig: a vault in a directory of its own, its process forked as vault_process_run, and a client for each kind of channel.  Included by one
 * test file a program. */
#ifndef MUSTER_TESTS_VAULT_RIG_H
#define MUSTER_TESTS_VAULT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "pki/cert.h"
#include "vault/process.h"
#include "vault/wire.h"

#define MAX_OUTSTANDING 600

/* --- the rig ---------------------------------------------------------------------------------------------------------------------- */

static struct {
    char dir[64], socket[96];
    int dir_fd;
    pid_t pid;
    int supervisor; /* the test's end */
    int raw;        /* a further gateway channel without a client, or -1 */
    int64_t offset; /* of the vault's clock */
    bool (*rekey)(int supervisor_fd, struct span key);
    bool (*server_cas)(int supervisor_fd, struct span pem);
    int token;      /* the vault's end of a channel to a token's process, or 0: there is none */
    struct loop *loop;
    struct vault_client *control, *gateway;
} rig;

static const struct key_master_options master = {.kind = KEY_MASTER_FILE};

static inline int listen_at(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(listen(fd, 8), 0);
    return fd;
}

static inline int confined(void *arg, struct err *err) { return *(int *)arg ? err_set(err, MUSTER_ESANDBOX, NULL) : 0; }

static inline _Noreturn void be_the_vault(const struct vault_channel_fd *channels, size_t n, int supervisor_fd, int export_fd, int *confine_rc) {
    int log_fd = openat(rig.dir_fd, "../log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    log_init("vault", LOG_INFO);
    log_set_fd(log_fd);
    clock_set_offset(rig.offset);
    const struct vault_process_options o = {
        .dir_fd = rig.dir_fd, .master = master, .channels = channels, .n_channels = n, .supervisor_fd = supervisor_fd, .rekey = rig.rekey, .server_cas = rig.server_cas, .token = rig.token > 0,
        .export_fd = export_fd, .export_uid = (uid_t)-1, .confine = confined, .confine_arg = confine_rc};
    int rc = vault_process_run(&o, NULL);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* for the leak checker */
    exit(rc ? 3 : 0);
}

static inline void start_with(int confine_rc) {
    int control[2], gateway[2], raw[2], supervisor[2];
    assert_int_equal(vault_channel_pair(control, NULL), 0);
    assert_int_equal(vault_channel_pair(gateway, NULL), 0);
    assert_int_equal(vault_channel_pair(raw, NULL), 0);
    assert_int_equal(vault_channel_pair(supervisor, NULL), 0);
    int export_fd = listen_at(rig.socket);
    const struct vault_channel_fd channels[] = {{VAULT_CHANNEL_CONTROL, control[1]}, {VAULT_CHANNEL_GATEWAY, gateway[1]}, {VAULT_CHANNEL_GATEWAY, raw[1]}, {VAULT_CHANNEL_TOKEN, rig.token}};
    rig.pid = fork();
    assert_true(rig.pid >= 0);
    if (rig.pid == 0) {
        close(control[0]);
        close(gateway[0]);
        close(raw[0]);
        close(supervisor[0]);
        be_the_vault(channels, rig.token > 0 ? 4 : 3, supervisor[1], export_fd, &confine_rc);
    }
    close(control[1]);
    close(gateway[1]);
    close(raw[1]);
    close(supervisor[1]);
    close(export_fd);
    rig.supervisor = supervisor[0];
    rig.raw = raw[0];
    assert_int_equal(vault_client_attach(rig.control, control[0], NULL), 0);
    assert_int_equal(vault_client_attach(rig.gateway, gateway[0], NULL), 0);
}

static inline void start(void) { start_with(0); }

/* The exit status of the vault's process. */
static inline int wait_for_end(void) {
    int status;
    assert_int_equal(waitpid(rig.pid, &status, 0), rig.pid);
    rig.pid = 0;
    fd_close(rig.supervisor);
    fd_close(rig.raw);
    rig.supervisor = rig.raw = -1;
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static inline int stop(void) {
    kill(rig.pid, SIGTERM);
    return wait_for_end();
}

static inline int set_up(void **state) {
    memset(&rig, 0, sizeof rig);
    snprintf(rig.dir, sizeof rig.dir, "/tmp/test_vault.XXXXXX");
    if (!mkdtemp(rig.dir) || chmod(rig.dir, 0711))
        return -1;
    char path[96];
    snprintf(path, sizeof path, "%s/vault", rig.dir);
    snprintf(rig.socket, sizeof rig.socket, "%s/export", rig.dir);
    if (mkdir(path, 0700))
        return -1;
    rig.dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(8192);
    if (vault_init(rig.dir_fd, &master, NULL, &pem, NULL) || !strstr(buf_str(&pem), "BEGIN CERTIFICATE"))
        return -1;
    rig.loop = loop_new(NULL);
    rig.control = vault_client_new(rig.loop, MAX_OUTSTANDING, NULL);
    rig.gateway = vault_client_new(rig.loop, MAX_OUTSTANDING, NULL);
    rig.raw = rig.supervisor = -1;
    return 0;
}

static inline void empty_dir(const char *path) {
    DIR *list = opendir(path);
    for (struct dirent *e; list && (e = readdir(list));)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(list), e->d_name, 0);
    if (list)
        closedir(list);
}

static inline int tear_down(void **state) {
    char path[96];
    int status = rig.pid ? stop() : 0;
    vault_client_free(rig.control);
    vault_client_free(rig.gateway);
    loop_free(rig.loop);
    snprintf(path, sizeof path, "%s/vault", rig.dir);
    close(rig.dir_fd);
    empty_dir(path);
    rmdir(path);
    empty_dir(rig.dir);
    return rmdir(rig.dir) || status;
}

static inline void assert_logged(const char *text) {
    CLEANUP(buf_fini) struct buf log = BUF_INIT(1 << 20);
    assert_int_equal(file_read(rig.dir_fd, "../log", &log, NULL), 0);
    assert_non_null(strstr(buf_str(&log), text));
}

/* --- requests, waited for -------------------------------------------------------------------------------------------------------------- */

struct got {
    int calls, rc, retry_after;
    char text[480];
    bool changed;
    uint64_t version;
    int64_t time, not_before, not_after;
    uint8_t serial[VAULT_SERIAL_LEN];
    struct hash issuer;
    struct vault_account_view view; /* without its spans */
    struct buf der[5];
};

static inline void got_init(struct got *g) {
    for (size_t i = 0; i < 5; i++)
        buf_fini(&g->der[i]);
    *g = (struct got){.der = {BUF_INIT(65536), BUF_INIT(65536), BUF_INIT(65536), BUF_INIT(65536), BUF_INIT(65536)}};
}

static inline void came(struct got *g, int rc, const struct err *err) {
    g->calls++;
    g->rc = rc;
    g->retry_after = err->retry_after;
    assert_int_equal(err->code, rc);
    snprintf(g->text, sizeof g->text, "%s", err_text(err));
    loop_stop(rig.loop);
}

static inline void on_time(void *arg, int rc, const struct err *err, int64_t now) {
    came(arg, rc, err);
    ((struct got *)arg)->time = now;
}
static inline void on_hello(void *arg, int rc, const struct err *err, uint64_t version) {
    came(arg, rc, err);
    ((struct got *)arg)->version = version;
}
static inline void on_issue(void *arg, int rc, const struct err *err, const struct vault_issued *issued) {
    struct got *g = arg;
    came(g, rc, err);
    assert_int_equal(issued == NULL, rc != 0);
    if (!issued)
        return;
    buf_clear(&g->der[0]);
    buf_add(&g->der[0], issued->der);
    g->issuer = issued->issuer;
    g->not_before = issued->not_before;
    g->not_after = issued->not_after;
    memcpy(g->serial, issued->serial, sizeof g->serial);
}
static inline void on_account(void *arg, int rc, const struct err *err, const struct vault_account_view *view) {
    struct got *g = arg;
    came(g, rc, err);
    assert_int_equal(view == NULL, rc != 0);
    if (!view)
        return;
    g->view = *view;
    g->version = view->version;
    g->changed = view->changed;
    buf_add(&g->der[0], view->fleet_root);
    buf_add(&g->der[1], view->issuing_ca);
    buf_add(&g->der[2], view->provisioning_ca);
    buf_add(&g->der[3], view->former);
    buf_add(&g->der[4], view->crosses);
}
static inline void on_version(void *arg, int rc, const struct err *err, uint64_t version, bool changed) {
    struct got *g = arg;
    came(g, rc, err);
    g->version = version;
    g->changed = changed;
}
static inline void on_der(void *arg, int rc, const struct err *err, struct span der) {
    came(arg, rc, err);
    buf_add(&((struct got *)arg)->der[0], der);
}
/* The current one, the former ones, and what carries trust between them. */
static inline void on_server(void *arg, int rc, const struct err *err, const struct vault_server_view *view) {
    struct got *g = arg;
    came(g, rc, err);
    assert_int_equal(view == NULL, rc != 0);
    if (!view)
        return;
    g->version = view->version;
    g->changed = view->changed;
    g->view.backend = view->backend;
    buf_add(&g->der[0], view->current);
    buf_add(&g->der[3], view->former);
    buf_add(&g->der[4], view->crosses);
}
static inline void on_heads(void *arg, int rc, const struct err *err, int64_t time, struct span signature) {
    struct got *g = arg;
    came(g, rc, err);
    g->time = time;
    buf_add(&g->der[0], signature);
}
static inline void on_time_signed(void *arg, int rc, const struct err *err, const struct vault_time_signed *s) {
    struct got *g = arg;
    came(g, rc, err);
    assert_int_equal(s == NULL, rc != 0);
    if (!s)
        return;
    g->time = s->time;
    buf_add(&g->der[0], s->signature);
    buf_add(&g->der[1], s->certificate);
}
static inline void on_done(void *arg, int rc, const struct err *err) { came(arg, rc, err); }

/* The request was taken: runs the loop until its callback, which comes once and later. */
static inline int answer_of(struct got *g, int asked) {
    assert_int_equal(asked, 0);
    assert_int_equal(g->calls, 0);
    while (!g->calls)
        loop_run(rig.loop);
    assert_int_equal(g->calls, 1);
    return g->rc;
}

static struct got g; /* the last answer */

static inline int hello(uint64_t version) {
    got_init(&g);
    return answer_of(&g, vault_hello(rig.control, version, on_hello, &g, NULL));
}

static const struct vault_account shared_account = {.name = {(const uint8_t *)"fleet", 5}, .kind = VAULT_TEST, .method = VAULT_SHARED};

static inline int create(const struct vault_account *a) {
    got_init(&g);
    return answer_of(&g, vault_account_create(rig.control, a, on_account, &g, NULL));
}
static inline int change(const struct vault_account *a) {
    got_init(&g);
    return answer_of(&g, vault_account_policy(rig.control, a, on_account, &g, NULL));
}
static inline int show(const char *name) {
    got_init(&g);
    return answer_of(&g, vault_account_show(rig.control, span_str(name), on_account, &g, NULL));
}
static inline int renew(const char *name) {
    got_init(&g);
    return answer_of(&g, vault_issuing_renew(rig.control, span_str(name), on_account, &g, NULL));
}
static inline int rotate(const char *name, const struct hash *from) {
    got_init(&g);
    return answer_of(&g, vault_root_rotate(rig.control, &(struct vault_root_rotate){span_str(name), *from}, on_account, &g, NULL));
}
static inline int delete(const char *name) {
    got_init(&g);
    return answer_of(&g, vault_account_delete(rig.control, span_str(name), on_version, &g, NULL));
}
static inline int issue(const struct vault_issue *rq) {
    got_init(&g);
    return answer_of(&g, vault_issue(rig.gateway, rq, on_issue, &g, NULL));
}
static inline int issue_key(const struct vault_key_issue *rq) {
    got_init(&g);
    return answer_of(&g, vault_key_issue(rig.control, rq, on_issue, &g, NULL));
}
static inline int issue_server(const struct span *names, size_t n, struct span public_key) {
    got_init(&g);
    return answer_of(&g, vault_server_issue(rig.control, &(struct vault_server_issue){names, n, public_key}, on_issue, &g, NULL));
}
static inline int time_of(struct vault_client *c) {
    got_init(&g);
    return answer_of(&g, vault_time(c, on_time, &g, NULL));
}

static inline struct span a_key(struct buf *b, enum key_kind kind, int bits) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    buf_clear(b);
    assert_int_equal(key_generate(kind, bits, &key, NULL), 0);
    assert_int_equal(key_public_der(key, b, NULL), 0);
    return buf_span(b);
}

static inline struct cert *cert_of(const struct buf *der) {
    struct cert *c = NULL;
    assert_int_equal(cert_from_der(buf_span(der), &c, NULL), 0);
    return c;
}

static inline void assert_subject(const struct cert *c, const char *part) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(4096);
    cert_subject_text(c, &text);
    if (!strstr(buf_str(&text), part))
        fail_msg("\"%s\" is not in \"%s\"", part, buf_str(&text));
}

static inline bool near(int64_t a, int64_t b) { return a - b < 60 && b - a < 60; }

static inline void begin(void) {
    start();
    assert_int_equal(hello(0), 0);
    assert_int_equal(create(&shared_account), 0);
}

/* Fills the raw channel with questions whose answers nobody reads. */
static inline int ask_without_reading(void) {
    static const uint8_t question[] = {0, 0, 0, 1, 0, WIRE_TIME};
    int sent = 0;
    for (int idle = 0; idle < 20;) {
        if (send(rig.raw, question, sizeof question, MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
            sent++;
            idle = 0;
        } else {
            assert_int_equal(errno, EAGAIN);
            idle++;
            usleep(5000);
        }
    }
    return sent;
}

static inline int end_rig(void **state) {
    got_init(&g);
    return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
static inline int run_vault_tests(const struct CMUnitTest *tests, size_t n) {
    log_init("test", LOG_ERROR);
    return secret_init() ? 1 : _cmocka_run_group_tests("vault", tests, n, NULL, end_rig);
}

#endif
