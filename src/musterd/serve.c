/* serve: see serve.h.  A table of stages, run forward and unwound backward. */
#include "musterd/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "admin/control.h"
#include "base/file.h"
#include "base/log.h"
#include "courier/process.h"
#include "gateway/gateway.h"
#include "musterd/landlock.h"
#include "musterd/places.h"
#include "musterd/supervise.h"
#include "token/process.h"
#include "vault/vault.h"

#define LISTEN_SECONDS 3
#define LISTEN_TRIES_A_SECOND 20

/* As many as the system lets us have: what a shell gives, 1,024, is less than the connections of one loop, and where descriptors run out
 * those that say nothing cannot make room. */
static int descriptors_begin(struct serve *s, struct err *err) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files))
        return err_set(err, MUSTER_EIO, "The limit of open files cannot be read: %s.", strerror(errno));
    files.rlim_cur = files.rlim_max;
    (void)!setrlimit(RLIMIT_NOFILE, &files); /* then with what there is */
    return 0;
}

static int data_begin(struct serve *s, struct err *err) {
    int rc = data_open_ready(&s->data, s->options->value[OPT_DATA], err);
    return rc ? rc : data_lock(&s->data, err);
}
static void data_end(struct serve *s) { data_close(&s->data); }

static int check_own_certificate(const struct settings *s, struct err *err) {
    const char *const own[] = {s->server_certificate, s->server_key};
    for (size_t i = 0; i < 2; i++)
        if (own[i][0] && own[i][0] != '/')
            return err_set(err, MUSTER_ECONFIG, "server_certificate and server_key: `%s` is not an absolute path.", own[i]);
    if (!own[0][0] != !own[1][0])
        return err_set(err, MUSTER_ECONFIG, "server_certificate and server_key belong together: give both, or none.");
    return 0;
}

static int check_crls(const struct settings *s, struct err *err) {
    return s->crl_interval < s->crl_life ? 0 : err_set(err, MUSTER_ECONFIG, "crl_interval has to be shorter than crl_life, lest a list is over before the next one is made.");
}

/* Certificates that have it live for years. */
static int check_ocsp_url(const char *url, struct err *err) {
    const struct span s = span_str(url);
    bool good = s.n == 0 || (s.n <= VAULT_OCSP_URL_MAX && span_starts(s, SPAN_LIT("http://")) && s.n > 7 && s.p[s.n - 1] != '/');
    for (size_t i = 0; i < s.n; i++)
        good = good && s.p[i] > 0x20 && s.p[i] < 0x7f && !strchr("\"<>\\^`{|}?#", s.p[i]);
    return good ? 0 : err_set(err, MUSTER_ECONFIG, "certificate_ocsp is a URL like http://pki.example.com:8080/ocsp, of at most %d characters, without a slash at its end.", VAULT_OCSP_URL_MAX);
}

int serve_settings(const struct serve *s, struct settings *out, struct err *err) {
    CLEANUP(settings_fini) struct settings fresh = {0};
    int rc = places_settings(s->options, &s->data, &fresh, err);
    if (rc || (rc = check_own_certificate(&fresh, err)) || (rc = check_crls(&fresh, err)) || (rc = check_ocsp_url(fresh.certificate_ocsp, err)) || (rc = gateway_settings_check(&fresh, err)) ||
        (rc = courier_settings_check(fresh.webhook_networks, err)) || (rc = token_settings_check(fresh.pkcs11_module, fresh.pkcs11_token, err)))
        return rc;
    *out = fresh;
    fresh = (struct settings){0};
    return 0;
}

static int settings_begin(struct serve *s, struct err *err) {
    int rc = serve_settings(s, &s->settings, err);
    if (rc)
        return rc;
    log_init("musterd", (enum log_level)s->settings.log_level);
    log_set_format((enum log_format)s->settings.log_format);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    s->loops = (size_t)(s->settings.loops ? s->settings.loops : cores > 0 ? cores : 1);
    if (s->loops > SERVE_LOOPS_MAX) {
        log_event(LOG_INFO, "loops_bounded", "loops", log_num(SERVE_LOOPS_MAX), NULL);
        s->loops = SERVE_LOOPS_MAX;
    }
    return users_find(&s->settings, &s->users, err);
}
static void settings_end(struct serve *s) { settings_fini(&s->settings); }

static int counters_begin(struct serve *s, struct err *err) {
    int rc = metrics_open(&s->metrics, err);
    if (!rc)
        metrics_use(&s->metrics, METRICS_SUPERVISOR);
    return rc;
}
static void counters_end(struct serve *s) { metrics_close(&s->metrics); }

static int trust_begin(struct serve *s, struct err *err) {
    void *p = mmap(NULL, sizeof *s->trust, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return err_set(err, MUSTER_ENOMEM, NULL);
    s->trust = p;
    atomic_store(s->trust, 1);
    return 0;
}

static void trust_end(struct serve *s) {
    munmap(s->trust, sizeof *s->trust);
    s->trust = NULL;
}

/* What a library would read from files later, when it may not any more. */
static int libraries_begin(struct serve *s, struct err *err) {
    if (OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL) != 1)
        return err_set(err, MUSTER_ECRYPTO, "OpenSSL cannot be initialised; look at its configuration file.");
    return 0;
}

static int sandbox_begin(struct serve *s, struct err *err) {
    s->landlock = s->settings.sandbox ? landlock_level() : 0;
    if (s->settings.sandbox)
        return sandbox_available(err);
    log_event(LOG_WARN, "sandbox_off", "meaning", "the processes are not confined", NULL);
    return 0;
}

/* A key file that waits to take its place does so before a vault is there; where that is not possible the vault opens all the same. */
static int master_begin(struct serve *s, struct err *err) {
    struct err why = ERR_INIT;
    int rc = master_prepare(&s->master, &s->settings, false, err);
    CLEANUP(fd_close) int vault = rc ? -1 : openat(s->data.fd, "vault", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (!rc && vault >= 0 && master_tidy(&s->master, vault, &why))
        log_err(LOG_WARN, "vault_rekey_not_tidied", &why, NULL);
    return rc;
}
static void master_end(struct serve *s) { master_fini(&s->master); }

static int make_urls(struct serve *s, struct err *err) {
    char host[256];
    places_first_host(&s->settings, host, sizeof host);
    int rc = listen_url_local(&s->admin_at, host, s->admin_url, sizeof s->admin_url, err);
    if (!rc && s->settings.crl_listen[0])
        rc = listen_url_plain(&s->crl_at, host, s->crl_url, sizeof s->crl_url, err);
    if (rc)
        return rc;
    if (!s->settings.gateway_url[0])
        return listen_url(&s->gateway_at, host, s->gateway_url, sizeof s->gateway_url, err);
    if (snprintf(s->gateway_url, sizeof s->gateway_url, "%s", s->settings.gateway_url) >= (int)sizeof s->gateway_url)
        return err_set(err, MUSTER_ECONFIG, "gateway_url is too long.");
    return 0;
}

int serve_urls(struct serve *s, struct err *err) {
    int rc = make_urls(s, err);
    if (!rc)
        rc = data_write_line(&s->data, "gateway.url", s->gateway_url, 0644, err);
    return rc ? rc : data_write_line(&s->data, "admin.url", s->admin_url, 0644, err);
}

/* The lock of DIR is ours, but the processes of a predecessor that was killed may be a moment behind it, with its sockets. */
static int listen_soon(struct listen_address *at, const char *what, int *fds, size_t n, struct err *err) {
    const struct timespec pause = {.tv_nsec = 1000000000 / LISTEN_TRIES_A_SECOND};
    for (int left = LISTEN_SECONDS * LISTEN_TRIES_A_SECOND;; left--) {
        struct err why = ERR_INIT;
        int rc = listen_open(at, what, fds, n, &why);
        if (!rc || !why.retry_after || left == 0) {
            if (rc && err)
                *err = why;
            return rc && left == 0 ? err_prefix(err, "After %d seconds still", LISTEN_SECONDS) : rc;
        }
        nanosleep(&pause, NULL);
    }
}

static int crl_socket(struct serve *s, struct err *err) {
    if (!s->settings.crl_listen[0])
        return 0;
    int rc = listen_parse(s->settings.crl_listen, "crl_listen", &s->crl_at, err);
    return rc ? rc : listen_soon(&s->crl_at, "crl_listen", &s->crl_fd, 1, err);
}

static int sockets_begin(struct serve *s, struct err *err) {
    int rc = listen_parse(s->settings.listen, "listen", &s->gateway_at, err);
    if (rc || (rc = listen_parse(s->settings.admin, "admin", &s->admin_at, err)) ||
        (rc = listen_soon(&s->gateway_at, "listen", s->gateway_fds, s->loops, err)) || (rc = listen_soon(&s->admin_at, "admin", &s->admin_fd, 1, err)) ||
        (rc = crl_socket(s, err)) ||
        (rc = listen_local(s->data.fd, "vault.sock", &s->export_fd, err)) || (rc = auth_socket_open(&s->settings, &s->auth, err)))
        return rc;
    return serve_urls(s, err);
}
static void sockets_end(struct serve *s) {
    for (size_t i = 0; i < SERVE_LOOPS_MAX; i++)
        fd_close(s->gateway_fds[i]);
    fd_close(s->admin_fd);
    fd_close(s->crl_fd);
    if (s->export_fd >= 0)
        unlinkat(s->data.fd, "vault.sock", 0);
    fd_close(s->export_fd);
    auth_socket_close(&s->auth);
}

static int databases_begin(struct serve *s, struct err *err) {
    int rc = file_make_dir(s->data.fd, "crl", 0755, err); /* a data directory from before there were lists */
    if (!rc)
        rc = control_migrate(s->data.path, err);
    return rc ? rc : users_own_files(&s->users, &s->data, err);
}

/* Blocked for good: they are read from a descriptor. */
static int signals_begin(struct serve *s, struct err *err) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sigprocmask(SIG_BLOCK, &set, NULL) || (s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return err_set(err, MUSTER_EINTERNAL, "Signals cannot be handled: %s.", strerror(errno));
    return 0;
}
static void signals_end(struct serve *s) { fd_close(s->signal_fd); }

static int children_begin(struct serve *s, struct err *err) {
    s->pid = getpid();
    return supervise(s, err);
}
static void children_end(struct serve *s) { supervise_end(s); }

static const struct {
    const char *name;
    int (*init)(struct serve *s, struct err *err);
    void (*fini)(struct serve *s); /* also where init failed half-way; NULL: nothing to undo */
} STAGES[] = {
    {"descriptors", descriptors_begin, NULL},
    {"data directory", data_begin, data_end},
    {"settings", settings_begin, settings_end},
    {"counters", counters_begin, counters_end},
    {"trust", trust_begin, trust_end},
    {"libraries", libraries_begin, NULL},
    {"sandbox", sandbox_begin, NULL},
    {"sockets", sockets_begin, sockets_end},
    {"master key", master_begin, master_end},
    {"databases", databases_begin, NULL},
    {"signals", signals_begin, signals_end},
    {"processes", children_begin, children_end},
};
#define STAGES_N (sizeof STAGES / sizeof *STAGES)

int serve_run(const struct options *o, struct err *err) {
    static struct serve s; /* large, and once a process */
    s = (struct serve){.options = o, .data = DATA_NONE, .admin_fd = -1, .export_fd = -1, .crl_fd = -1, .auth = {.fd = -1}, .signal_fd = -1, .successor = {.socket = -1}, .retired = {.socket = -1}};
    memset(s.gateway_fds, 0xff, sizeof s.gateway_fds); /* -1 each */
    for (int i = 0; i < SANDBOX_KINDS; i++)
        s.children[i].socket = -1;
    size_t begun = 0;
    int rc = 0;
    while (!rc && begun < STAGES_N)
        rc = STAGES[begun++].init(&s, err);
    if (rc)
        log_err(LOG_ERROR, "serve_failed", err, "stage", STAGES[begun - 1].name, NULL);
    while (begun-- > 0)
        if (STAGES[begun].fini)
            STAGES[begun].fini(&s);
    return rc;
}
