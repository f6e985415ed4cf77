/* health: /healthz, /readyz and /whoami. */
#include "admin/internal.h"
#include "metrics/metrics.h"

void admin_HEALTHZ(struct http_exchange *x, void *arg) {
    json_t *o = json_object();
    json_set_bool(o, "ok", true);
    reply_json(x, 200, o);
}

int control_registry_health(const struct control *c) {
    int own = store_health(c->registry);
    return own ? own : metrics_value_of(c->o->metrics, METRICS_GATEWAY, METRIC_STORE_FAILING, 0, 0) > 0 ? MUSTER_EIO : 0;
}

static int clock_run(struct store_tx *tx, void *arg, struct err *err) { return clock_check(tx, clock_now(), err); }

static void clock_checked(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct control *c = http_exchange_arg(x);
    enum pulse_state pulse = pulse_state(c);
    int health = control_registry_health(c);
    bool vault = pulse == PULSE_ALIVE, registry = health == 0 && (!rc || rc == MUSTER_ECLOCK), control = store_health(c->store) == 0, clock = rc != MUSTER_ECLOCK;
    json_t *o = json_object();
    json_set_bool(o, "ok", vault && registry && control && clock);
    json_set_str(o, "vault", pulse_word(pulse));
    json_set_str(o, "registry", registry ? "ok" : err_code(rc && rc != MUSTER_ECLOCK ? rc : health));
    json_set_str(o, "control", control ? "ok" : err_code(store_health(c->store)));
    json_set_str(o, "clock", clock ? "ok" : err_code(rc));
    reply_json(x, vault && registry && control && clock ? 200 : 503, o);
}

void admin_READYZ(struct http_exchange *x, void *arg) {
    const char nothing = 0;
    job_start(x, JOB_READ, clock_run, &nothing, sizeof nothing, clock_checked);
}

void admin_WHOAMI(struct http_exchange *x, void *arg) { reply_json(x, 200, token_json(&grant_of(x)->token)); }
