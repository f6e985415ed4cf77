/* facts: see facts.h. */
#include "admin/facts.h"

#include "admin/server_cas.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "metrics/metrics.h"
#include "pki/cert.h"

const char *const FACTS_PROCESS[FACTS_PROCESSES] = {"vault", "control", "gateway", "courier", "token"};

struct collecting {
    struct overview registry; /* first: what the operation is given */
    struct facts *facts;
    facts_fn then;
};
struct reading_head {
    struct audit_signed head; /* likewise */
    struct facts *facts;
    facts_fn then;
};

static int64_t size_of(const struct control *c, const char *name) {
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", c->o->dir, name);
    return stat(path, &st) ? 0 : (int64_t)st.st_size;
}

static void look_at_disk(const struct control *c, struct facts *f) {
    struct statvfs fs;
    f->registry_db.bytes = size_of(c, "registry.db");
    f->registry_db.wal_bytes = size_of(c, "registry.db-wal");
    f->control_db.bytes = size_of(c, "control.db");
    f->control_db.wal_bytes = size_of(c, "control.db-wal");
    f->disk_free = statvfs(c->o->dir, &fs) ? -1 : (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
}

static void look_at_processes(const struct control *c, struct facts *f) {
    static const enum metrics_page pages[FACTS_PROCESSES] = {METRICS_VAULT, METRICS_CONTROL, METRICS_GATEWAY, METRICS_COURIER, METRICS_TOKEN};
    const int64_t token = metrics_value_of(c->o->metrics, METRICS_VAULT, METRIC_TOKEN, 0, 0);
    f->token_configured = token != METRICS_TOKEN_NONE;
    f->token_answers = token == METRICS_TOKEN_ANSWERS;
    f->processes = f->token_configured ? FACTS_PROCESSES : FACTS_TOKEN;
    for (size_t i = 0; i < f->processes; i++) {
        f->landlock[i] = metrics_value_of(c->o->metrics, pages[i], METRIC_LANDLOCK, 0, 0);
        f->confined[i] = f->landlock[i] > 0 && metrics_value_of(c->o->metrics, pages[i], METRIC_SECCOMP, 0, 0) > 0;
    }
    f->open = metrics_value_of(c->o->metrics, METRICS_GATEWAY, METRIC_OPEN, 0, 0);
    f->server_end = metrics_value_of(c->o->metrics, METRICS_GATEWAY, METRIC_SERVER_NOT_AFTER, 0, 0);
}

static void finish(struct http_exchange *x, struct facts *f, facts_fn then) {
    const struct control *c = http_exchange_arg(x);
    const struct cert *current = server_cas_current(c);
    look_at_disk(c, f);
    look_at_processes(c, f);
    f->vault = pulse_state(c);
    f->crl_life = c->o->settings->crl_life;
    f->vault_took_us = pulse_took_us(c);
    recent_read(c, &f->recent);
    f->forecast = forecast_newest(c);
    f->forecast_age = forecast_overdue(c);
    f->crls = f->registry.n ? calloc(f->registry.n, sizeof *f->crls) : NULL;
    for (size_t i = 0; f->crls && i < f->registry.n; i++)
        crls_tally(c, f->registry.at[i].name, &f->crls[i]);
    f->server_ca_end = current ? current->not_after : 0;
    for (size_t i = 0; i + 1 < c->server_cas->n; i++)
        f->former_server_ca[f->former_server_cas++] = (struct facts_server_ca){c->server_cas->number[i], c->server_cas->at[i]->not_after};
    then(x, f);
    free(f->registry.at);
    free(f->crls);
    free(f);
}

static void signed_read(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct reading_head *r = op;
    struct facts *f = r->facts;
    const struct control *c = http_exchange_arg(x);
    f->control_db.code = rc ? rc : store_health(c->store);
    f->head_age = rc || !r->head.head.seq ? -1 : f->now > r->head.at ? f->now - r->head.at : 0;
    finish(x, f, r->then);
}

static void registry_read(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct collecting *g = op;
    struct facts *f = g->facts;
    const struct control *c = http_exchange_arg(x);
    f->registry = g->registry;
    if (rc)
        f->registry.n = 0;
    f->registry_db.code = rc ? rc : control_registry_health(c);
    const struct reading_head r = {.facts = f, .then = g->then};
    job_start(x, JOB_CONTROL_READ, audit_signed_run, &r, sizeof r, signed_read);
}

void facts_collect(struct http_exchange *x, const char *only, bool refused, facts_fn then) {
    struct facts *f = calloc(1, sizeof *f);
    if (!f) {
        reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    f->now = clock_now();
    const struct collecting g = {.registry = {.only = only, .now = f->now, .with_refused = refused}, .facts = f, .then = then};
    job_start(x, JOB_READ, overview_run, &g, sizeof g, registry_read);
}
