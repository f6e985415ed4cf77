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

/* What the supervisor has made of them already: sockets, users, threads, the vault. */
static const char *const FIXED[] = {"listen", "admin", "loops", "sandbox", "vault_user", "control_user", "gateway_user", "courier_user", "master_key", "master_key_file",
                                    "auth_socket", "auth_socket_group", "auth_users", "crl_listen", "certificate_ocsp", "pkcs11_module", "pkcs11_network", "token_user"};

static int keep_fixed(const struct settings *old, struct settings *fresh, struct err *err) {
    int rc = 0;
    for (size_t i = 0; !rc && i < SETTINGS_COUNT; i++)
        for (size_t f = 0; !rc && f < sizeof FIXED / sizeof *FIXED; f++)
            if (!strcmp(SETTINGS_TABLE[i].name, FIXED[f]) && !config_same_key(&SETTINGS_TABLE[i], old, fresh)) {
                log_event(LOG_WARN, "setting_needs_restart", "name", FIXED[f], NULL);
                rc = config_copy_key(&SETTINGS_TABLE[i], fresh, old, err);
            }
    return rc;
}

/* Whether there are others now. */
static bool take_settings(struct serve *s) {
    struct settings fresh = {0};
    struct err err = ERR_INIT;
    if (serve_settings(s, &fresh, &err) || keep_fixed(&s->settings, &fresh, &err)) {
        settings_fini(&fresh);
        log_err(LOG_ERROR, "settings_not_loaded", &err, "meaning", "the settings from before go on", NULL);
        return false;
    }
    bool changed = !settings_same(&s->settings, &fresh);
    if (changed) {
        struct settings old = s->settings;
        s->settings = fresh;
        fresh = old;
        log_init("musterd", (enum log_level)s->settings.log_level);
        log_set_format((enum log_format)s->settings.log_format);
        log_event(LOG_INFO, "settings_loaded", NULL);
        if (serve_urls(s, &err))
            log_err(LOG_ERROR, "urls_not_written", &err, NULL);
    }
    settings_fini(&fresh);
    return changed;
}

/* The process ends and begins with the settings of now; what connects meanwhile waits at its socket. */
static void start_again(struct serve *s, enum sandbox_kind kind) {
    if (!s->children[kind].pid)
        return;
    s->again[kind] = true;
    if (parent_send(s->children[kind].socket, PARENT_DRAIN, 0, -1, NULL, NULL))
        kill(s->children[kind].pid, SIGTERM);
}

/* The files of the routes' TLS are read when a gateway begins. */
static bool routes_have_files(const struct settings *s) {
    for (size_t i = 0; i < s->n_routes; i++)
        if (!strncmp(s->routes[i].upstream, "https:", 6))
            return true;
    return false;
}

static void begin(struct serve *s) {
    bool changed = take_settings(s), within = !changed && !routes_have_files(&s->settings) && reach_covers(&s->reach, &s->settings);
    struct err err = ERR_INIT;
    s->reload_wanted = false;
    log_event(LOG_INFO, "reload", "settings", changed ? "have changed" : "are as before", "gateway", within ? "reads again" : "is replaced", NULL);
    if (changed)
        start_again(s, SANDBOX_CONTROL);
    else
        tell(s, SANDBOX_CONTROL);
    start_again(s, SANDBOX_TOKEN); /* another PIN, perhaps */
    start_again(s, SANDBOX_COURIER); /* it may not open files that have been replaced, resolv.conf for one: another one may */
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
        s->retired = (struct retired){old->pid, old->socket, old->page, clock_mono_ms() + SERVE_DRAIN_MS};
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
