/* token/process: see process.h.  One thread of ours; the module may have others. */
#include "token/process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "loop/parent.h"
#include "loop/record.h"
#include "token/module.h"

struct run {
    struct module *module;
    int parent_fd, vault_fd; /* -1: no vault */
    bool ended;
};

static void run_fini(struct run *r) {
    module_free(r->module);
    fd_close(r->vault_fd);
}
DEFINE_CLEANUP_FINI(run_fini, struct run)

static volatile sig_atomic_t terminated;
static void on_term(int number) { terminated = 1; }

/* SIGTERM is let through while the process waits; SIGALRM ends it at any time: a call into the module has not come back. */
static int handle_signals(sigset_t *waiting, struct err *err) {
    const struct sigaction ignore = {.sa_handler = SIG_IGN}, term = {.sa_handler = on_term}, end = {.sa_handler = SIG_DFL};
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    terminated = 0;
    if (sigprocmask(SIG_BLOCK, &blocked, waiting) || sigaction(SIGTERM, &term, NULL) || sigaction(SIGALRM, &end, NULL) || sigaction(SIGPIPE, &ignore, NULL))
        return err_set(err, MUSTER_EINTERNAL, "Signals cannot be handled: %s.", strerror(errno));
    sigdelset(waiting, SIGTERM);
    return 0;
}

static void read_parent(struct run *r) {
    struct parent_message m;
    for (int got; !r->ended && (got = parent_recv(r->parent_fd, &m, NULL));) {
        if (got < 0 || m.type == PARENT_DRAIN) {
            r->ended = true;
            return;
        }
        if (m.type == PARENT_CHANNEL) {
            fd_close(r->vault_fd);
            r->vault_fd = TAKE_FD(m.fd);
        }
        fd_close(m.fd);
    }
}

/* One question: between two of them the supervisor is heard. */
static void read_vault(struct run *r) {
    uint8_t room[TOKEN_MESSAGE_MAX];
    struct span message;
    struct token_request rq;
    struct token_answer a;
    CLEANUP(buf_fini) struct buf answer = BUF_INIT(TOKEN_MESSAGE_MAX);
    int got = record_receive(r->vault_fd, room, sizeof room, &message);
    if (got == RECORD_LATER)
        return;
    if (got == 1 && token_request_read(message, &rq) == 0) {
        alarm(TOKEN_HANG_SECONDS);
        module_answer(r->module, &rq, &a);
        alarm(0);
        if (token_answer_write(&a, &answer) == 0 && record_send(r->vault_fd, buf_span(&answer)) == 0)
            return;
    }
    if (got != RECORD_ENDED)
        log_event(LOG_ERROR, "token_channel_broken", NULL);
    fd_close(TAKE_FD(r->vault_fd));
}

static int run_loop(struct run *r, const sigset_t *waiting, struct err *err) {
    while (!r->ended && !terminated) {
        struct pollfd polls[] = {{.fd = r->parent_fd, .events = POLLIN}, {.fd = r->vault_fd, .events = POLLIN}};
        int ready = ppoll(polls, 2, NULL, waiting);
        if (ready < 0 && errno != EINTR)
            return err_set(err, MUSTER_EINTERNAL, "The token's process cannot wait for messages: %s.", strerror(errno));
        if (ready > 0 && polls[1].revents)
            read_vault(r);
        if (ready > 0 && polls[0].revents)
            read_parent(r);
    }
    return 0;
}

int token_process_run(const struct token_options *o, struct err *err) {
    CLEANUP(run_fini) struct run r = {.parent_fd = o->parent_fd, .vault_fd = -1};
    sigset_t waiting;
    int rc = handle_signals(&waiting, err);
    if (rc || (rc = o->confine_files ? o->confine_files(o->confine_arg, err) : 0) || (rc = o->confine ? o->confine(o->confine_arg, err) : 0))
        return rc;
    alarm(TOKEN_HANG_SECONDS);
    if (!(rc = module_load(o->module, o->token, o->pin, &r.module, err)))
        module_begin(r.module);
    alarm(0);
    if (rc || (rc = parent_send(r.parent_fd, PARENT_READY, 0, -1, NULL, err)))
        return rc;
    return run_loop(&r, &waiting, err);
}
