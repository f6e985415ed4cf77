/* reload: see reload.h. */
#include "musterd/reload.h"

#include <signal.h>
#include <sys/stat.h>

#include "base/log.h"
#include "loop/parent.h"
#include "musterd/child.h"

static struct stat known[2];

static void look(const struct serve *s, struct stat now[2]) {
    const char *const paths[2] = {s->settings.server_certificate, s->settings.server_key};
    for (int i = 0; i < 2; i++)
        if (!paths[i][0] || stat(paths[i], &now[i]))
            now[i] = (struct stat){0};
}

void reload_remember(const struct serve *s) { look(s, known); }

/* By inode: a file that was written over is still the one that Landlock lets through. */
static bool other_files(const struct serve *s) {
    struct stat now[2];
    look(s, now);
    return s->settings.sandbox && (now[0].st_ino != known[0].st_ino || now[0].st_dev != known[0].st_dev || now[1].st_ino != known[1].st_ino ||
                                   now[1].st_dev != known[1].st_dev);
}

/* The gateway's successor takes connections while the old one finishes its own; control's waits, for there is one at a time. */
static void replace(struct serve *s, enum sandbox_kind kind, int64_t until) {
    struct child *c = &s->children[kind];
    struct err err = ERR_INIT;
    size_t i = 0;
    if (!c->pid) /* its successor is on the way anyhow */
        return;
    while (s->retired[i].pid)
        i++;
    if (parent_send(c->socket, PARENT_DRAIN, 0, -1, NULL, NULL))
        kill(c->pid, SIGTERM);
    s->retired[i] = (struct retired){c->pid, c->socket, until, kind == SANDBOX_CONTROL, kind};
    *c = (struct child){.socket = -1};
    if (kind != SANDBOX_CONTROL && child_start(s, kind, &err)) {
        log_err(LOG_ERROR, "process_not_started", &err, "name", sandbox_name(kind), NULL);
        c->restart_at = 1; /* at once, and with back-off from there */
    }
}

void reload(struct serve *s, int64_t until) {
    bool others = other_files(s);
    log_event(LOG_INFO, "reload", "certificate", others ? "replaced" : "same file", NULL);
    for (size_t i = 0; others && i < SERVE_RETIRED_MAX; i++)
        if (s->retired[i].pid) { /* ends soon; SIGHUP once more then */
            log_event(LOG_WARN, "reload_busy", "name", sandbox_name(s->retired[i].kind), NULL);
            return;
        }
    if (others)
        reload_remember(s);
    for (enum sandbox_kind k = SANDBOX_CONTROL; k < SANDBOX_KINDS; k++) {
        if (others)
            replace(s, k, until);
        else if (s->children[k].pid)
            (void)!parent_send(s->children[k].socket, PARENT_RELOAD, 0, -1, NULL, NULL);
    }
}
