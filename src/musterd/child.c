/* child: see child.h. */
#include "musterd/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "admin/control.h"
#include "base/clock.h"
#include "base/hex.h"
#include "base/log.h"
#include "courier/process.h"
#include "gateway/gateway.h"
#include "base/passphrase.h"
#include "loop/parent.h"
#include "musterd/title.h"
#include "token/process.h"
#include "vault/process.h"

/* What a new process gets besides memory. */
struct belongings {
    int socket;                      /* its end of the one to the supervisor */
    int vault_dir;                   /* the vault alone */
    int vault_fds[SERVE_LOOPS_MAX];  /* clients' ends: the gateway's, or control's as the first; -1: none */
    struct vault_channel_fd channels[VAULT_CHANNELS_MAX]; /* the vault's ends */
    size_t n_channels;
};

/* --- in the child ------------------------------------------------------------------------------------------------------------ */

static int by_number(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* Closes everything that is neither a standard stream nor in keep. */
static void close_others(int *keep, size_t n) {
    unsigned from = 3;
    qsort(keep, n, sizeof *keep, by_number);
    for (size_t i = 0; i < n; i++) {
        if (keep[i] < (int)from)
            continue;
        if (keep[i] > (int)from)
            syscall(SYS_close_range, from, (unsigned)keep[i] - 1, 0);
        from = (unsigned)keep[i] + 1;
    }
    syscall(SYS_close_range, from, ~0U, 0);
}

static void keep_own(const struct serve *s, enum sandbox_kind kind, const struct belongings *b) {
    int keep[8 + SERVE_LOOPS_MAX * 2 + VAULT_CHANNELS_MAX];
    size_t n = 0;
    keep[n++] = b->socket;
    if (kind == SANDBOX_VAULT) {
        keep[n++] = b->vault_dir;
        keep[n++] = s->export_fd;
    } else if (kind == SANDBOX_CONTROL) {
        keep[n++] = s->admin_fd;
    }
    if (kind == SANDBOX_GATEWAY) {
        keep[n++] = s->auth.fd;
        keep[n++] = s->crl_fd;
    }
    for (size_t i = 0; i < b->n_channels; i++)
        keep[n++] = b->channels[i].fd;
    for (size_t i = 0; (kind == SANDBOX_CONTROL || kind == SANDBOX_GATEWAY) && i < s->loops; i++) {
        keep[n++] = b->vault_fds[i];
        if (kind == SANDBOX_GATEWAY)
            keep[n++] = s->gateway_fds[i];
    }
    close_others(keep, n);
}

static void plain_streams(void) {
    CLEANUP(fd_close) int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nothing >= 0) {
        dup2(nothing, STDIN_FILENO);
        dup2(nothing, STDOUT_FILENO);
    }
}

static void plain_signals(void) {
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* a terminal sends it to all; the supervisor decides */
    sigprocmask(SIG_SETMASK, &none, NULL);
}

int child_become(const struct settings *s, const struct data *d, const struct users *u, enum sandbox_kind kind, int vault_fd, const struct reach *own,
                 bool files, struct err *err) {
    const struct rlimit no_core = {0, 0}, all = {RLIM_INFINITY, RLIM_INFINITY};
    const struct sandbox_paths paths = {d->path, vault_fd, own, NULL, NULL};
    if (kind == SANDBOX_VAULT)
        (void)setrlimit(RLIMIT_MEMLOCK, &all); /* where privileged; vault/process.c says so in the log where it is limited */
    int rc = users_become(u, kind, err);
    if (rc)
        return rc;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || setrlimit(RLIMIT_CORE, &no_core) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return err_set(err, MUSTER_ESANDBOX, "The process cannot be hardened: %s.", strerror(errno));
    return files && s->sandbox ? sandbox_files(kind, &paths, err) : 0;
}

struct confine {
    const struct serve *serve;
    enum sandbox_kind kind;
    int vault_dir, socket;
    struct upstreams *behind; /* the gateway's */
    struct secret pin;        /* the token's */
};

/* The vault's files come last, with its calls: its master key may lie elsewhere, and it has one thread.  It is open then, which it does
 * not tell of its own accord. */
static int confine(void *arg, struct err *err) {
    const struct confine *c = arg;
    const struct settings *s = &c->serve->settings;
    const struct sandbox_paths paths = {c->serve->data.path, c->vault_dir, NULL, NULL, NULL};
    int rc = 0;
    if (!s->sandbox)
        log_event(LOG_WARN, "sandbox_off", NULL);
    else if ((c->kind == SANDBOX_VAULT && (rc = sandbox_files(c->kind, &paths, err))) || (rc = sandbox_calls(c->kind, (c->kind == SANDBOX_GATEWAY && s->n_routes > 0) || (c->kind == SANDBOX_TOKEN && s->pkcs11_network), err)))
        return rc;
    metrics_set(METRIC_LANDLOCK, 0, s->sandbox ? c->serve->landlock : 0);
    metrics_set(METRIC_SECCOMP, 0, s->sandbox);
    return c->kind == SANDBOX_VAULT ? parent_send(c->socket, PARENT_READY, 0, -1, NULL, err) : 0;
}

/* The supervisor's memory is what the next vault begins with. */
static bool tell_rekey(int supervisor_fd, struct span key) {
    char hex[2 * KEY_MASTER_LEN + 1];
    struct err err = ERR_INIT;
    if (key.n != KEY_MASTER_LEN)
        return false;
    hex_encode(key, hex);
    int rc = parent_send(supervisor_fd, PARENT_MASTER, 0, -1, hex, &err);
    secret_wipe(hex, sizeof hex);
    return rc == 0;
}

static bool tell_server_cas(int supervisor_fd, struct span pem) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(PARENT_TEXT_MAX);
    buf_add(&text, pem);
    return buf_ok(&text) && parent_send(supervisor_fd, PARENT_SERVER_CAS, 0, -1, buf_str(&text), NULL) == 0;
}

/* Before any of the module's code runs. */
static int confine_token_files(void *arg, struct err *err) {
    const struct confine *c = arg;
    const struct sandbox_paths paths = {c->serve->data.path, -1, NULL, c->serve->settings.pkcs11_module, c->serve->settings.pkcs11_files};
    return c->serve->settings.sandbox ? sandbox_files(SANDBOX_TOKEN, &paths, err) : 0;
}

/* Before it becomes its user: the file may be readable by the one who started the server alone. */
static int read_pin(const struct settings *s, struct secret *pin, struct err *err) {
    char path[PATH_MAX];
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    if (s->pkcs11_pin_file[0])
        return passphrase_read_file(s->pkcs11_pin_file, "token's PIN", 1, pin, err);
    if (!dir || snprintf(path, sizeof path, "%s/pkcs11-pin", dir) >= (int)sizeof path || access(path, F_OK))
        return 0;
    return passphrase_read_file(path, "token's PIN", 1, pin, err);
}

static int run_token(struct serve *s, const struct belongings *b, struct confine *c, struct err *err) {
    const struct token_options o = {.module = s->settings.pkcs11_module, .token = s->settings.pkcs11_token, .pin = &c->pin, .parent_fd = b->socket,
        .confine_files = confine_token_files, .confine = confine, .confine_arg = c};
    return token_process_run(&o, err);
}

static int run_vault(struct serve *s, const struct belongings *b, struct confine *c, struct err *err) {
    uid_t starter = geteuid() == 0 ? (uid_t)-1 : geteuid();
    const struct vault_process_options o = {.dir_fd = b->vault_dir, .master = s->master.options, .channels = b->channels,
        .n_channels = b->n_channels, .token = s->settings.pkcs11_module[0] != 0, .supervisor_fd = b->socket, .rekey = tell_rekey, .server_cas = tell_server_cas, .ocsp_url = s->settings.certificate_ocsp, .export_fd = s->export_fd, .export_uid = starter, .confine = confine, .confine_arg = c};
    return vault_process_run(&o, err);
}

static int run_control(struct serve *s, const struct belongings *b, struct confine *c, struct err *err) {
    const struct control_options o = {.settings = &s->settings, .dir = s->data.path, .listen_fd = s->admin_fd, .vault_fd = b->vault_fds[0],
        .parent_fd = b->socket, .gateway_url = s->gateway_url, .admin_url = s->admin_url, .crl_url = s->crl_url, .metrics = &s->metrics, .trust = s->trust, .confine = confine, .confine_arg = c};
    return control_process_run(&o, err);
}

static int run_gateway(struct serve *s, const struct belongings *b, struct confine *c, struct err *err) {
    const struct gateway_options o = {.settings = &s->settings, .dir = s->data.path, .loops = s->loops, .listen_fds = s->gateway_fds,
        .vault_fds = b->vault_fds, .auth_fd = s->auth.fd, .auth_uids = s->auth.uids, .n_auth_uids = s->auth.n_uids, .crl_fd = s->crl_fd, .parent_fd = b->socket,
        .url = s->gateway_url, .behind = c->behind, .trust = s->trust, .confine = confine, .confine_arg = c};
    return gateway_process_run(&o, err);
}

static int run_courier(struct serve *s, const struct belongings *b, struct confine *c, struct err *err) {
    const struct courier_options o = {.networks = s->settings.webhook_networks, .parent_fd = b->socket, .confine = confine, .confine_arg = c};
    return courier_process_run(&o, err);
}

static _Noreturn void child_main(struct serve *s, enum sandbox_kind kind, enum metrics_page page, const struct belongings *b, const struct reach *own) {
    static int (*const run[SANDBOX_KINDS])(struct serve *, const struct belongings *, struct confine *, struct err *) = {
        [SANDBOX_VAULT] = run_vault, [SANDBOX_CONTROL] = run_control, [SANDBOX_GATEWAY] = run_gateway, [SANDBOX_COURIER] = run_courier, [SANDBOX_TOKEN] = run_token};
    struct confine c = {s, kind, b->vault_dir, b->socket, NULL, SECRET_INIT};
    struct err err = ERR_INIT;
    title_set(sandbox_name(kind));
    log_init(sandbox_name(kind), (enum log_level)s->settings.log_level);
    if (kind != SANDBOX_VAULT)
        master_fini(&s->master);
    plain_streams();
    plain_signals();
    keep_own(s, kind, b);
    metrics_use(&s->metrics, page);
    if (kind != SANDBOX_CONTROL && kind != SANDBOX_GATEWAY)
        munmap(s->trust, sizeof *s->trust);
    int rc = metrics_keep(&s->metrics, page, kind == SANDBOX_CONTROL, &err);
    /* The files of the routes' TLS may be readable by the one who started the server alone. */
    if (!rc && kind == SANDBOX_GATEWAY)
        rc = gateway_upstreams_new(&s->settings, &c.behind, &err);
    if (!rc && kind == SANDBOX_TOKEN)
        rc = read_pin(&s->settings, &c.pin, &err);
    if (!rc)
        rc = child_become(&s->settings, &s->data, &s->users, kind, b->vault_dir, own, kind != SANDBOX_VAULT && kind != SANDBOX_TOKEN, &err);
    /* A change of user clears the death signal, so it comes here; a supervisor that died before is found out by its number.  SIGKILL: the
     * lock on DIR is gone with the supervisor, and another one may begin. */
    if (!rc && (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) || getppid() != s->pid))
        exit(1);
    if (!rc)
        rc = run[kind](s, b, &c, &err);
    if (rc)
        log_err(LOG_ERROR, "process_failed", &err, NULL);
    exit(rc ? 1 : 0);
}

/* --- in the supervisor ----------------------------------------------------------------------------------------------------------- */

static size_t clients_of(const struct serve *s, enum sandbox_kind kind) { return kind == SANDBOX_GATEWAY ? s->loops : kind == SANDBOX_CONTROL ? 1 : 0; }
static enum vault_channel channel_kind(enum sandbox_kind kind) { return kind == SANDBOX_GATEWAY ? VAULT_CHANNEL_GATEWAY : VAULT_CHANNEL_CONTROL; }

static void belongings_close(struct belongings *b) {
    fd_close(b->socket);
    fd_close(b->vault_dir);
    for (size_t i = 0; i < SERVE_LOOPS_MAX; i++)
        fd_close(b->vault_fds[i]);
    for (size_t i = 0; i < b->n_channels; i++)
        fd_close(b->channels[i].fd);
}
DEFINE_CLEANUP_FINI(belongings_close, struct belongings)

/* A channel for a client that is about to be forked; the vault, where it runs, gets its end now. */
static int channel_for_client(struct serve *s, struct belongings *b, enum sandbox_kind kind, size_t i, struct err *err) {
    int fds[2];
    if (!s->children[SANDBOX_VAULT].pid)
        return 0;
    int rc = vault_channel_pair(fds, err);
    if (rc)
        return rc;
    b->vault_fds[i] = fds[0];
    struct err gone = ERR_INIT; /* a vault that just died: its successor brings channels */
    if (vault_channel_send(s->children[SANDBOX_VAULT].socket, channel_kind(kind), fds[1], &gone))
        log_err(LOG_WARN, "channel_not_sent", &gone, "to", "vault", NULL);
    fd_close(fds[1]);
    return 0;
}

/* A channel that a new vault is born with, and whose other end goes to a client that runs. */
static int channel_for_vault(struct serve *s, struct belongings *b, enum sandbox_kind kind, size_t i, struct err *err) {
    int fds[2], rc = vault_channel_pair(fds, err);
    if (rc)
        return rc;
    b->channels[b->n_channels++] = (struct vault_channel_fd){channel_kind(kind), fds[1]};
    struct err gone = ERR_INIT;
    if (parent_send(s->children[kind].socket, PARENT_CHANNEL, (uint32_t)i, fds[0], NULL, &gone))
        log_err(LOG_WARN, "channel_not_sent", &gone, "to", sandbox_name(kind), NULL);
    fd_close(fds[0]);
    return 0;
}

static int provide_channels(struct serve *s, enum sandbox_kind kind, struct belongings *b, struct err *err) {
    int rc = 0;
    for (size_t i = 0; !rc && i < clients_of(s, kind); i++)
        rc = channel_for_client(s, b, kind, i, err);
    for (enum sandbox_kind client = SANDBOX_CONTROL; kind == SANDBOX_VAULT && client < SANDBOX_KINDS; client++)
        for (size_t i = 0; !rc && s->children[client].pid && i < clients_of(s, client); i++)
            rc = channel_for_vault(s, b, client, i, err);
    return rc;
}

/* Whichever of the two comes second brings the channel between them; each finds its end among the supervisor's messages. */
static int link_courier(struct serve *s, enum sandbox_kind kind, int own_end, struct err *err) {
    const struct child *other = &s->children[kind == SANDBOX_CONTROL ? SANDBOX_COURIER : SANDBOX_CONTROL];
    CLEANUP(fd_close) int a = -1;
    CLEANUP(fd_close) int b = -1;
    int fds[2];
    if (!other->pid)
        return 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
        return err_set(err, MUSTER_EUNAVAILABLE, "No channel to the courier can be made: %s.", strerror(errno));
    a = fds[0];
    b = fds[1];
    struct err gone = ERR_INIT; /* one that just died: its successor brings a channel */
    if (parent_send(other->socket, PARENT_COURIER, 0, b, NULL, &gone))
        log_err(LOG_WARN, "channel_not_sent", &gone, "to", kind == SANDBOX_CONTROL ? "courier" : "control", NULL);
    return parent_send(own_end, PARENT_COURIER, 0, a, NULL, err);
}

/* Likewise between control and each loop of a gateway, for what OCSP is asked. */
static int link_loops(const struct serve *s, int own_end, const struct child *other, const char *name, struct err *err) {
    struct err gone = ERR_INIT; /* one that just died: its successor brings channels */
    int rc = 0;
    for (size_t i = 0; !rc && !gone.code && other->pid && i < s->loops; i++) {
        CLEANUP(fd_close) int a = -1;
        CLEANUP(fd_close) int b = -1;
        int fds[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
            return err_set(err, MUSTER_EUNAVAILABLE, "No channel for OCSP can be made: %s.", strerror(errno));
        a = fds[0];
        b = fds[1];
        if (parent_send(other->socket, PARENT_OCSP, (uint32_t)i, b, NULL, &gone))
            log_err(LOG_WARN, "channel_not_sent", &gone, "to", name, NULL);
        else
            rc = parent_send(own_end, PARENT_OCSP, (uint32_t)i, a, NULL, err);
    }
    return rc;
}

static int link_ocsp(const struct serve *s, enum sandbox_kind kind, int own_end, struct err *err) {
    if (s->crl_fd < 0)
        return 0;
    if (kind == SANDBOX_GATEWAY)
        return link_loops(s, own_end, &s->children[SANDBOX_CONTROL], "control", err);
    int rc = link_loops(s, own_end, &s->children[SANDBOX_GATEWAY], "gateway", err);
    return rc ? rc : link_loops(s, own_end, &s->successor, "gateway", err);
}

/* Likewise between the vault and the token's process. */
static int link_token(struct serve *s, enum sandbox_kind kind, struct belongings *b, int own_end, struct err *err) {
    enum sandbox_kind other = kind == SANDBOX_VAULT ? SANDBOX_TOKEN : SANDBOX_VAULT;
    struct err gone = ERR_INIT; /* one that just died: its successor brings a channel */
    int fds[2], rc = 0;
    if (!s->children[other].pid || !s->settings.pkcs11_module[0])
        return 0;
    if ((rc = vault_channel_pair(fds, err)))
        return rc;
    if (kind == SANDBOX_VAULT) {
        b->channels[b->n_channels++] = (struct vault_channel_fd){VAULT_CHANNEL_TOKEN, fds[1]};
        if (parent_send(s->children[SANDBOX_TOKEN].socket, PARENT_CHANNEL, 0, fds[0], NULL, &gone))
            log_err(LOG_WARN, "channel_not_sent", &gone, "to", "token", NULL);
        fd_close(fds[0]);
        return 0;
    }
    if (vault_channel_send(s->children[SANDBOX_VAULT].socket, VAULT_CHANNEL_TOKEN, fds[1], &gone))
        log_err(LOG_WARN, "channel_not_sent", &gone, "to", "vault", NULL);
    fd_close(fds[1]);
    rc = parent_send(own_end, PARENT_CHANNEL, 0, fds[0], NULL, err);
    fd_close(fds[0]);
    return rc;
}

static int provide(struct serve *s, enum sandbox_kind kind, struct belongings *b, int *own_end, struct err *err) {
    int fds[2], rc;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
        return err_set(err, MUSTER_EUNAVAILABLE, "A socket to the %s cannot be made: %s.", sandbox_name(kind), strerror(errno));
    *own_end = fds[0];
    b->socket = fds[1];
    if (kind == SANDBOX_VAULT && (b->vault_dir = openat(s->data.fd, "vault", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)) < 0)
        return err_set(err, MUSTER_EIO, "%s/vault cannot be opened: %s.", s->data.path, strerror(errno));
    if ((kind == SANDBOX_CONTROL || kind == SANDBOX_COURIER) && (rc = link_courier(s, kind, *own_end, err)))
        return rc;
    if ((kind == SANDBOX_CONTROL || kind == SANDBOX_GATEWAY) && (rc = link_ocsp(s, kind, *own_end, err)))
        return rc;
    if ((kind == SANDBOX_VAULT || kind == SANDBOX_TOKEN) && (rc = link_token(s, kind, b, *own_end, err)))
        return rc;
    return provide_channels(s, kind, b, err);
}

/* A gateway that is about to replace another one has a page of its own: for a while they count side by side. */
static enum metrics_page page_for(const struct serve *s, enum sandbox_kind kind, const struct child *c) {
    static const enum metrics_page pages[SANDBOX_KINDS] = {[SANDBOX_VAULT] = METRICS_VAULT, [SANDBOX_CONTROL] = METRICS_CONTROL, [SANDBOX_GATEWAY] = METRICS_GATEWAY,
                                                            [SANDBOX_COURIER] = METRICS_COURIER, [SANDBOX_TOKEN] = METRICS_TOKEN};
    if (c != &s->successor)
        return c->page == METRICS_GATEWAY_NEXT ? METRICS_GATEWAY_NEXT : pages[kind];
    return s->children[SANDBOX_GATEWAY].page == METRICS_GATEWAY_NEXT ? METRICS_GATEWAY : METRICS_GATEWAY_NEXT;
}

int child_start(struct serve *s, enum sandbox_kind kind, struct child *c, struct err *err) {
    CLEANUP(belongings_close) struct belongings b = {.socket = -1, .vault_dir = -1};
    CLEANUP(fd_close) int own_end = -1;
    struct reach *own = kind != SANDBOX_GATEWAY ? NULL : c == &s->successor ? &s->successor_reach : &s->reach;
    memset(b.vault_fds, 0xff, sizeof b.vault_fds); /* -1 each */
    int rc = provide(s, kind, &b, &own_end, err);
    if (rc)
        return rc;
    if (own) /* before the fork: a reload asks what the gateway may read */
        reach_find(own, &s->settings, s->data.path);
    enum metrics_page page = page_for(s, kind, c);
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return err_set(err, MUSTER_EUNAVAILABLE, "The %s cannot be forked: %s.", sandbox_name(kind), strerror(errno));
    if (pid == 0)
        child_main(s, kind, page, &b, own);
    metrics_count(METRIC_STARTS, (unsigned)kind, 0);
    *c = (struct child){.pid = pid, .page = page, .socket = TAKE_FD(own_end), .started = clock_mono_ms(), .delay = c->delay};
    log_event(LOG_INFO, "process_started", "name", sandbox_name(kind), "pid", log_num(pid), NULL);
    return 0;
}
