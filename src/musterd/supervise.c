/* supervise: see supervise.h.  signalfd and poll, one thread. */
#include "musterd/supervise.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/log.h"
#include "loop/parent.h"
#include "musterd/child.h"
#include "musterd/reload.h"

#define START_MS 90000 /* until the first READY of control and gateway, and for Argon2id before it */
#define DELAY_FIRST_MS 100
#define DELAY_MAX_MS 10000
#define HEALTHY_MS 60000
#define TERM_MS 5000

struct run {
    struct serve *s;
    int64_t start_by;
    bool drained, terminated, killed; /* what has been sent while ending */
};

/* --- starting -------------------------------------------------------------------------------------------------------------------- */

static int announce(struct serve *s, struct err *err) {
    s->serving = true;
    if (printf("ready gateway=%s admin=%s\n", s->gateway_url, s->admin_url) < 0 || fflush(stdout))
        return err_set(err, MUSTER_EIO, "Standard output cannot be written.");
    sd_notifyf(0, "READY=1\nSTATUS=gateway %s, operators %s", s->gateway_url, s->admin_url);
    log_event(LOG_INFO, "ready", "gateway", s->gateway_url, "admin", s->admin_url, NULL);
    return 0;
}

/* The next one at the first start.  Control begins when the vault is open, the gateway when both are ready. */
static int advance(struct run *r, struct err *err) {
    struct serve *s = r->s;
    int rc = 0;
    if (s->serving || s->ending_since)
        return 0;
    if (!s->children[SANDBOX_VAULT].pid && (rc = child_start(s, SANDBOX_VAULT, &s->children[SANDBOX_VAULT], err)))
        return rc;
    if (s->settings.pkcs11_module[0] && !s->children[SANDBOX_TOKEN].started && (rc = child_start(s, SANDBOX_TOKEN, &s->children[SANDBOX_TOKEN], err)))
        return rc;
    /* The vault says first what server-ca.pem holds: a file that is replaced is another one, which who has begun may not read. */
    if (s->children[SANDBOX_VAULT].ready && !s->children[SANDBOX_CONTROL].pid)
        return child_start(s, SANDBOX_CONTROL, &s->children[SANDBOX_CONTROL], err);
    if (!s->children[SANDBOX_COURIER].pid)
        return child_start(s, SANDBOX_COURIER, &s->children[SANDBOX_COURIER], err);
    if (s->children[SANDBOX_VAULT].ready && s->children[SANDBOX_CONTROL].ready && !s->children[SANDBOX_GATEWAY].pid)
        return child_start(s, SANDBOX_GATEWAY, &s->children[SANDBOX_GATEWAY], err);
    if (s->children[SANDBOX_GATEWAY].ready)
        return announce(s, err);
    return clock_mono_ms() < r->start_by ? 0 : err_set(err, MUSTER_ESTART, "The server did not start in %d seconds.", START_MS / 1000);
}

static void plan_restart(struct child *c, int64_t after) {
    c->restart_at = clock_mono_ms() + after;
    c->delay = after;
}

static void start_again(struct serve *s, enum sandbox_kind kind) {
    struct child *c = &s->children[kind];
    struct err err = ERR_INIT;
    if (child_start(s, kind, c, &err)) {
        log_err(LOG_ERROR, "process_not_started", &err, "name", sandbox_name(kind), NULL);
        plan_restart(c, DELAY_MAX_MS);
    }
}

static void restart_due(struct serve *s) {
    int64_t now = clock_mono_ms();
    for (enum sandbox_kind k = 0; k < SANDBOX_KINDS; k++)
        if (!s->ending_since && !s->children[k].pid && s->children[k].restart_at && s->children[k].restart_at <= now)
            start_again(s, k);
}

static void take_message(struct serve *s, enum sandbox_kind kind, struct child *c, struct parent_message *m);

/* --- children that end -------------------------------------------------------------------------------------------------------------- */

/* With 0, or by the signal that asks it to. */
static bool ended_well(int status) { return WIFSIGNALED(status) ? WTERMSIG(status) == SIGTERM : WEXITSTATUS(status) == 0; }

static void log_end(const char *name, pid_t pid, int status, bool expected) {
    log_event(expected && ended_well(status) ? LOG_INFO : LOG_ERROR, "process_ended", "name", name, "pid", log_num(pid), WIFSIGNALED(status) ? "signal" : "status",
              log_num(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)), NULL);
}

/* One of the gateways on either side of the one that serves. */
static bool other_ended(struct serve *s, pid_t pid, int status) {
    bool retired = s->retired.pid == pid;
    if (!retired && s->successor.pid != pid)
        return false;
    log_end(sandbox_name(SANDBOX_GATEWAY), pid, status, retired || s->ending_since);
    if (s->ending_since && !ended_well(status))
        s->failed_at_end = sandbox_name(SANDBOX_GATEWAY);
    metrics_ended(&s->metrics, retired ? s->retired.page : s->successor.page);
    if (retired) {
        fd_close(TAKE_FD(s->retired.socket));
        s->retired.pid = 0;
    } else {
        reload_failed(s);
    }
    return true;
}

static int child_ended(struct serve *s, enum sandbox_kind kind, int status, struct err *err) {
    struct child *c = &s->children[kind];
    bool healthy = clock_mono_ms() - c->started >= HEALTHY_MS;
    bool again = s->again[kind];
    log_end(sandbox_name(kind), c->pid, status, again || s->ending_since != 0);
    s->again[kind] = false;
    struct parent_message last;
    while (kind == SANDBOX_VAULT && c->socket >= 0 && parent_recv(c->socket, &last, NULL) > 0) /* of a key that the next one may need */
        take_message(s, kind, c, &last);
    fd_close(TAKE_FD(c->socket));
    metrics_ended(&s->metrics, c->page);
    c->pid = 0;
    c->ready = false;
    if (s->ending_since) {
        if (!ended_well(status))
            s->failed_at_end = sandbox_name(kind);
        return 0;
    }
    if (!s->serving && kind != SANDBOX_TOKEN) /* without the token the server serves whoever does not need it */
        return err_set(err, MUSTER_ESTART, "The process %s ended while the server was starting.", sandbox_name(kind));
    if (kind == SANDBOX_VAULT && s->successor.pid) { /* it has no channel to the next vault */
        kill(s->successor.pid, SIGTERM);
        s->reload_wanted = true;
    }
    if (again) {
        plan_restart(c, 1);
        return 0;
    }
    int64_t longer = 2 * c->delay < DELAY_MAX_MS ? 2 * c->delay : DELAY_MAX_MS;
    plan_restart(c, healthy || !c->delay ? DELAY_FIRST_MS : longer);
    return 0;
}

static int reap(struct serve *s, struct err *err) {
    int rc = 0, status;
    for (pid_t pid; !rc && (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (other_ended(s, pid, status))
            continue;
        for (enum sandbox_kind k = 0; k < SANDBOX_KINDS; k++)
            if (s->children[k].pid == pid) {
                rc = child_ended(s, k, status, err);
                break;
            }
    }
    return rc;
}

/* --- the end -------------------------------------------------------------------------------------------------------------------------- */

static void end_begin(struct run *r) {
    struct serve *s = r->s;
    if (s->ending_since) { /* asked twice: no more waiting */
        s->ending_since = clock_mono_ms() - SERVE_DRAIN_MS;
        return;
    }
    log_event(LOG_INFO, "ending", NULL);
    sd_notify(0, "STOPPING=1");
    s->ending_since = clock_mono_ms();
    for (enum sandbox_kind k = 0; k < SANDBOX_KINDS; k++)
        if (k != SANDBOX_VAULT && k != SANDBOX_TOKEN && s->children[k].pid && parent_send(s->children[k].socket, PARENT_DRAIN, 0, -1, NULL, NULL))
            kill(s->children[k].pid, SIGTERM);
    if (s->successor.pid)
        kill(s->successor.pid, SIGTERM);
}

static bool anybody(const struct serve *s, bool vault_too) {
    return s->retired.pid || s->successor.pid || s->children[SANDBOX_CONTROL].pid || s->children[SANDBOX_GATEWAY].pid || s->children[SANDBOX_COURIER].pid || (vault_too && (s->children[SANDBOX_VAULT].pid || s->children[SANDBOX_TOKEN].pid));
}

static void signal_all(const struct serve *s, int number) {
    if (s->retired.pid)
        kill(s->retired.pid, number);
    if (s->successor.pid)
        kill(s->successor.pid, number);
    for (enum sandbox_kind k = 0; k < SANDBOX_KINDS; k++)
        if (s->children[k].pid)
            kill(s->children[k].pid, number);
}

/* The vault goes last: what is under way may need it. */
static void end_continue(struct run *r) {
    struct serve *s = r->s;
    int64_t since = clock_mono_ms() - s->ending_since;
    if (!r->drained && !anybody(s, false)) {
        r->drained = true;
        if (s->children[SANDBOX_VAULT].pid)
            kill(s->children[SANDBOX_VAULT].pid, SIGTERM);
        if (s->children[SANDBOX_TOKEN].pid)
            kill(s->children[SANDBOX_TOKEN].pid, SIGTERM);
    }
    if (!r->terminated && since >= SERVE_DRAIN_MS) {
        r->terminated = true;
        signal_all(s, SIGTERM);
    }
    if (!r->killed && since >= SERVE_DRAIN_MS + TERM_MS) {
        r->killed = true;
        signal_all(s, SIGKILL);
    }
}

static void retired_overdue(struct serve *s) {
    struct retired *old = &s->retired;
    if (old->pid && old->end_at <= clock_mono_ms()) {
        kill(old->pid, old->socket < 0 ? SIGKILL : SIGTERM);
        fd_close(TAKE_FD(old->socket));
        old->end_at += TERM_MS;
    }
}

/* --- messages and signals ----------------------------------------------------------------------------------------------------------------- */

static void pass_on(struct serve *s, enum sandbox_kind from, const struct parent_message *m) {
    for (enum sandbox_kind k = 0; k < SANDBOX_KINDS; k++)
        if (k != from && k != SANDBOX_VAULT && k != SANDBOX_COURIER && k != SANDBOX_TOKEN && s->children[k].pid)
            (void)!parent_send(s->children[k].socket, m->type, m->index, -1, m->text, NULL);
    if (s->successor.pid)
        (void)!parent_send(s->successor.socket, m->type, m->index, -1, m->text, NULL);
}

/* The vault's word for what clients know the gateway by.  Whatever becomes of the file the gateway goes on by it, and at the next start it is told again. */
static void take_server_cas(struct serve *s, const struct parent_message *m) {
    struct err err = ERR_INIT;
    if (data_server_cas(&s->data, span_str(m->text), &err))
        log_err(LOG_ERROR, "server_ca_file_not_written", &err, NULL);
    pass_on(s, SANDBOX_CONTROL, m);
}

static void take_message(struct serve *s, enum sandbox_kind kind, struct child *c, struct parent_message *m) {
    fd_close(m->fd);
    if (m->type == PARENT_READY)
        c->ready = true;
    else if (m->type == PARENT_EPOCH)
        pass_on(s, kind, m);
    else if (m->type == PARENT_SERVER_CAS && kind == SANDBOX_VAULT)
        take_server_cas(s, m);
    else if (m->type == PARENT_MASTER && kind == SANDBOX_VAULT && !master_take_candidate(&s->master, m->text))
        log_event(LOG_ERROR, "vault_key_not_taken", NULL);
    if (m->type == PARENT_MASTER)
        secret_wipe(m->text, sizeof m->text);
}

static void read_child(struct serve *s, enum sandbox_kind kind, struct child *c) {
    struct parent_message m;
    while (c->socket >= 0) {
        struct err err = ERR_INIT;
        int rc = parent_recv(c->socket, &m, &err);
        if (rc == 0)
            return;
        if (rc < 0) { /* it has ended, or its end is broken: either way its process is done for */
            if (rc != MUSTER_EUNAVAILABLE)
                log_err(LOG_ERROR, "process_message", &err, "name", sandbox_name(kind), NULL);
            fd_close(TAKE_FD(c->socket));
            if (!s->ending_since || rc != MUSTER_EUNAVAILABLE)
                kill(c->pid, SIGTERM);
            return;
        }
        take_message(s, kind, c, &m);
    }
}

static int read_signals(struct run *r, struct err *err) {
    struct signalfd_siginfo info;
    int rc = 0;
    while (!rc && read(r->s->signal_fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            rc = reap(r->s, err);
        else if (info.ssi_signo == SIGHUP && r->s->serving && !r->s->ending_since)
            reload(r->s);
        else if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            end_begin(r);
    }
    return rc;
}

/* --- the loop ------------------------------------------------------------------------------------------------------------------------------ */

static void sooner(int64_t *first, int64_t at) {
    if (at < *first)
        *first = at;
}

/* Milliseconds until something is due by the clock; -1: nothing. */
static int wait_ms(const struct run *r) {
    const struct serve *s = r->s;
    int64_t first = INT64_MAX, now = clock_mono_ms();
    for (enum sandbox_kind k = 0; k < SANDBOX_KINDS; k++)
        if (!s->ending_since && !s->children[k].pid && s->children[k].restart_at)
            sooner(&first, s->children[k].restart_at);
    if (s->retired.pid)
        sooner(&first, s->retired.end_at);
    sooner(&first, reload_due(s));
    if (s->ending_since && !r->killed)
        sooner(&first, s->ending_since + SERVE_DRAIN_MS + (r->terminated ? TERM_MS : 0));
    if (!s->serving && !s->ending_since)
        sooner(&first, r->start_by);
    if (first == INT64_MAX)
        return -1;
    return first <= now ? 0 : (int)(first - now);
}

static int turn(struct run *r, struct err *err) {
    struct serve *s = r->s;
    struct pollfd polls[SANDBOX_KINDS + 2] = {[SANDBOX_KINDS] = {.fd = s->signal_fd, .events = POLLIN}, {.fd = s->successor.socket, .events = POLLIN}};
    for (enum sandbox_kind k = 0; k < SANDBOX_KINDS; k++)
        polls[k] = (struct pollfd){.fd = s->children[k].socket, .events = POLLIN};
    if (poll(polls, SANDBOX_KINDS + 2, wait_ms(r)) < 0 && errno != EINTR)
        return err_set(err, MUSTER_EINTERNAL, "The supervisor cannot wait: %s.", strerror(errno));
    for (enum sandbox_kind k = 0; k < SANDBOX_KINDS; k++)
        if (polls[k].fd >= 0 && polls[k].revents && s->children[k].socket == polls[k].fd)
            read_child(s, k, &s->children[k]);
    if (polls[SANDBOX_KINDS + 1].revents)
        read_child(s, SANDBOX_GATEWAY, &s->successor);
    int rc = read_signals(r, err);
    if (s->ending_since)
        end_continue(r);
    reload_continue(s);
    retired_overdue(s);
    restart_due(s);
    return rc;
}

int supervise(struct serve *s, struct err *err) {
    struct run r = {.s = s, .start_by = clock_mono_ms() + START_MS};
    int rc = 0;
    while (!rc && (!s->ending_since || anybody(s, true))) {
        rc = advance(&r, err);
        if (!rc)
            rc = turn(&r, err);
    }
    if (!rc && s->failed_at_end)
        return err_set(err, MUSTER_EINTERNAL, "The process %s did not end well; what it wrote before tells why.", s->failed_at_end);
    if (!rc)
        log_event(LOG_INFO, "ended", NULL);
    return rc;
}

void supervise_end(struct serve *s) {
    signal_all(s, SIGTERM);
    for (int64_t by = clock_mono_ms() + TERM_MS; anybody(s, true);) {
        struct err ignored = ERR_INIT;
        s->ending_since = 1;
        (void)!reap(s, &ignored);
        if (clock_mono_ms() >= by)
            signal_all(s, SIGKILL);
        poll(NULL, 0, 20);
    }
}
