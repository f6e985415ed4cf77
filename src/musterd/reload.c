/* reload: see reload.h. */
#include "musterd/reload.h"

#include <signal.h>

#include "base/clock.h"
#include "base/log.h"
#include "loop/parent.h"
#include "musterd/child.h"

#define READY_MS 30000

static void tell(struct serve *s, enum sandbox_kind kind) {
    if (s->children[kind].pid)
        (void)!parent_send(s->children[kind].socket, PARENT_RELOAD, 0, -1, NULL, NULL);
}

static void begin(struct serve *s) {
    bool within = reach_covers(&s->reach, &s->settings);
    struct err err = ERR_INIT;
    s->reload_wanted = false;
    log_event(LOG_INFO, "reload", "gateway", within ? "reads again" : "is replaced", NULL);
    tell(s, SANDBOX_CONTROL);
    if (s->children[SANDBOX_COURIER].pid) /* it may not open files that have been replaced, resolv.conf for one: another one may */
        (void)!parent_send(s->children[SANDBOX_COURIER].socket, PARENT_DRAIN, 0, -1, NULL, NULL);
    if (within)
        tell(s, SANDBOX_GATEWAY);
    else if (child_start(s, SANDBOX_GATEWAY, &s->successor, &err))
        log_err(LOG_ERROR, "gateway_not_replaced", &err, NULL);
    else
        s->successor_by = clock_mono_ms() + READY_MS;
}

static void take_over(struct serve *s) {
    struct child *old = &s->children[SANDBOX_GATEWAY];
    if (old->pid) {
        if (parent_send(old->socket, PARENT_DRAIN, 0, -1, NULL, NULL))
            kill(old->pid, SIGTERM);
        s->retired = (struct retired){old->pid, old->socket, clock_mono_ms() + SERVE_DRAIN_MS};
    }
    log_event(LOG_INFO, "gateway_replaced", "pid", log_num(s->successor.pid), NULL);
    *old = s->successor;
    s->reach = s->successor_reach;
    s->successor = (struct child){.socket = -1};
}

void reload(struct serve *s) {
    s->reload_wanted = true;
    reload_continue(s);
}

/* A successor gets its channels from the vault that runs when it begins, so it waits for one. */
void reload_continue(struct serve *s) {
    if (s->ending_since)
        return;
    if (s->successor.pid && s->successor.ready) {
        take_over(s);
    } else if (s->successor.pid && s->successor_by <= clock_mono_ms()) {
        kill(s->successor.pid, SIGKILL);
        s->successor_by = INT64_MAX;
    }
    if (s->reload_wanted && !s->successor.pid && !s->retired.pid && s->children[SANDBOX_VAULT].pid)
        begin(s);
}

void reload_failed(struct serve *s) {
    fd_close(TAKE_FD(s->successor.socket));
    s->successor = (struct child){.socket = -1};
    if (!s->ending_since)
        log_event(LOG_ERROR, "gateway_not_replaced", "why", s->successor_by == INT64_MAX ? "it did not serve in time" : "it ended before it served", "meaning",
                  "the gateway from before goes on, with the certificate from before; the log of the one that ended says what is wrong", NULL);
}

int64_t reload_due(const struct serve *s) { return s->successor.pid && !s->ending_since ? s->successor_by : INT64_MAX; }
