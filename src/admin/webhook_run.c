/* webhook_run: see webhook_run.h. */
#include "admin/webhook_run.h"

#include "admin/server_cas.h"
#include "admin/webhook_lane.h"
#include "base/log.h"
#include "metrics/metrics.h"
#include "registry/event_sweep.h"

#define TICK_MS 200
#define SWEEP_MS (3600 * 1000)
#define AGAIN_MS 5000 /* after a storage error */
#define GATEWAY_WAIT_MS 1000
#define GATEWAY_WAITS 60 /* then what ends is looked for without the gateway's certificate */

struct waiter {
    struct waiter *next;
    loop_fn fn;
    void *arg;
};

struct webhooks {
    struct control *c;
    struct loop_timer *tick, *again, *sweep_timer;
    struct lanes lanes;
    /* reading the webhooks again */
    bool loading, load_again;
    struct webhook_load load;
    struct event_wants wants;
    struct waiter *waiting, *served; /* for the next reading; for the one under way */
    /* emptying the outbox */
    bool moving, move_again;
    int64_t version, lost;
    struct event_take take;
    struct delivery_put put;
    int64_t upto;
    /* the look at what ends soon */
    bool sweeping;
    int gateway_waits;
    struct event_sweep sweep;
};

/* --- from the outbox into the queues ---------------------------------------------------------------------------------------------------- */

static void move(struct webhooks *w);

static void moved(struct webhooks *w, bool failed) {
    size_t n = w->take.n;
    event_take_fini(&w->take);
    w->moving = false;
    if (failed) {
        w->version = -1;
        loop_timer_set(w->again, AGAIN_MS);
    } else if (n == EVENT_BATCH || w->move_again) {
        move(w);
    }
}

static void forgotten(void *arg, int rc, const struct err *err) {
    struct webhooks *w = (struct webhooks *)((char *)arg - offsetof(struct webhooks, upto));
    if (rc) /* they will come again, and be known */
        log_err(LOG_ERROR, "events_not_forgotten", err, NULL);
    moved(w, rc != 0);
}

static void queued(void *arg, int rc, const struct err *err) {
    struct webhooks *w = (struct webhooks *)((char *)arg - offsetof(struct webhooks, put));
    struct err why = ERR_INIT;
    if (rc) {
        log_err(LOG_ERROR, "events_not_queued", err, NULL);
        moved(w, true);
        return;
    }
    if (w->put.overflowed)
        log_event(LOG_ERROR, "webhook_queue_full", "events", log_num(w->put.overflowed), NULL);
    lanes_wake(&w->lanes);
    w->upto = w->take.at[w->take.n - 1].row;
    if (store_write(w->c->registry, w->c->loop, event_forget_run, forgotten, &w->upto, &why))
        moved(w, true);
}

static void outbox_read(void *arg, int rc, const struct err *err) {
    struct webhooks *w = (struct webhooks *)((char *)arg - offsetof(struct webhooks, take));
    struct err why = ERR_INIT;
    if (rc) {
        log_err(LOG_ERROR, "events_unreadable", err, NULL);
        moved(w, true);
        return;
    }
    if (w->take.lost > w->lost)
        log_event(LOG_ERROR, "events_lost", "events", log_num(w->take.lost), "meaning", "so many found the outbox full, ever", NULL);
    w->lost = w->take.lost;
    if (!w->take.n) {
        moved(w, false);
        return;
    }
    w->put = (struct delivery_put){.at = w->take.at, .n = w->take.n, .policy = &w->lanes.policy};
    if (store_write(w->c->store, w->c->loop, delivery_put_run, queued, &w->put, &why))
        moved(w, true);
}

static void move(struct webhooks *w) {
    w->move_again = w->moving;
    if (w->moving)
        return;
    w->moving = true;
    if (store_read(w->c->registry, w->c->loop, event_take_run, outbox_read, &w->take, NULL))
        moved(w, true);
}

/* --- what ends soon ----------------------------------------------------------------------------------------------------------------------- */

static void sweep_step(struct webhooks *w);

static void swept(void *arg, int rc, const struct err *err) {
    struct webhooks *w = (struct webhooks *)((char *)arg - offsetof(struct webhooks, sweep));
    if (rc)
        log_err(LOG_ERROR, "expiry_sweep_failed", err, NULL);
    if (!rc && w->sweep.more) {
        sweep_step(w);
        return;
    }
    w->sweeping = false;
    loop_timer_set(w->sweep_timer, rc ? AGAIN_MS : SWEEP_MS);
}

static void sweep_step(struct webhooks *w) {
    if (!store_write(w->c->registry, w->c->loop, event_sweep_run, swept, &w->sweep, NULL))
        return;
    w->sweeping = false;
    loop_timer_set(w->sweep_timer, AGAIN_MS);
}

/* Of the certificate that the gateway shows, by what the gateway says: the operator's own is a file that control may not be able to read,
 * and Muster's own in DIR/tls is then not what clients see.  0: no gateway has said it yet. */
static int64_t server_end(const struct control *c) { return metrics_value_of(c->o->metrics, METRICS_GATEWAY, METRIC_SERVER_NOT_AFTER, 0, 0); }

/* Where the gateway shows the operator's own certificate, the anchor is the operator's too. */
static void add_cas(const struct control *c, struct event_sweep *s) {
    if (c->o->settings->server_certificate[0] || !server_cas_current(c))
        return;
    s->server_ca_end = server_cas_current(c)->not_after;
    for (size_t i = 0; i + 1 < c->server_cas->n; i++) {
        const int64_t end = c->server_cas->at[i]->not_after;
        if (end > s->now && (!s->former_ca_end || end < s->former_ca_end))
            s->former_ca_end = end;
    }
}

static void sweep(void *arg) {
    struct webhooks *w = arg;
    if (w->sweeping)
        return;
    if (!w->wants.n) {
        loop_timer_set(w->sweep_timer, SWEEP_MS);
        return;
    }
    const int64_t end = server_end(w->c);
    if (!end && w->gateway_waits++ < GATEWAY_WAITS) { /* at the start control may be the first */
        loop_timer_set(w->sweep_timer, GATEWAY_WAIT_MS);
        return;
    }
    w->gateway_waits = 0;
    w->sweeping = true;
    w->sweep = (struct event_sweep){.now = clock_now(), .server_end = end, .after = -1};
    add_cas(w->c, &w->sweep);
    sweep_step(w);
}

/* --- reading the webhooks ------------------------------------------------------------------------------------------------------------------- */

static void load(struct webhooks *w);

static void call_all(struct waiter **list) {
    while (*list) {
        struct waiter *one = *list;
        *list = one->next;
        if (one->fn)
            one->fn(one->arg);
        free(one);
    }
}

static void loaded(struct webhooks *w, bool failed) {
    w->loading = false;
    webhook_load_fini(&w->load);
    call_all(&w->served);
    if (failed)
        loop_timer_set(w->again, AGAIN_MS);
    else if (w->load_again)
        load(w);
}

static void wants_written(void *arg, int rc, const struct err *err) {
    struct webhooks *w = (struct webhooks *)((char *)arg - offsetof(struct webhooks, wants));
    if (rc) {
        log_err(LOG_ERROR, "webhooks_not_told", err, NULL);
        loaded(w, true);
        return;
    }
    lanes_take_over(&w->lanes, &w->load);
    loaded(w, false);
    move(w); /* what nobody wants any more goes too */
    lanes_go(&w->lanes);
    sweep(w);
}

static void add_want(struct event_wants *w, const struct webhook *hook) {
    size_t i = 0;
    while (i < w->n && strcmp(w->at[i].account, hook->account))
        i++;
    if (i == w->n) {
        snprintf(w->at[w->n].account, sizeof w->at[w->n].account, "%s", hook->account);
        w->at[w->n++].events = 0;
    }
    w->at[i].events |= hook->events ? hook->events : INT64_MAX & ~INT64_C(1);
}

static void hooks_read(void *arg, int rc, const struct err *err) {
    struct webhooks *w = (struct webhooks *)((char *)arg - offsetof(struct webhooks, load));
    struct err why = ERR_INIT;
    if (rc) {
        log_err(LOG_ERROR, "webhooks_unreadable", err, NULL);
        loaded(w, true);
        return;
    }
    w->wants.n = 0;
    for (size_t i = 0; i < w->load.n; i++)
        if (w->load.at[i].w.state == WEBHOOK_ACTIVE)
            add_want(&w->wants, &w->load.at[i].w);
    if (store_write(w->c->registry, w->c->loop, event_wants_run, wants_written, &w->wants, &why))
        loaded(w, true);
}

static void load(struct webhooks *w) {
    w->load_again = w->loading;
    if (w->loading)
        return;
    w->loading = true;
    w->served = TAKE(w->waiting);
    if (store_read(w->c->store, w->c->loop, webhook_load_run, hooks_read, &w->load, NULL))
        loaded(w, true);
}

void webhooks_reload(struct webhooks *w, loop_fn fn, void *arg) {
    struct waiter *one = calloc(1, sizeof *one);
    if (one) {
        *one = (struct waiter){w->waiting, fn, arg};
        w->waiting = one;
    }
    load(w);
    if (!one && fn)
        fn(arg);
}

/* --- the whole ---------------------------------------------------------------------------------------------------------------------------------- */

static void again(void *arg) {
    load(arg);
    move(arg);
}

static void tick(void *arg) {
    struct webhooks *w = arg;
    int64_t version;
    loop_timer_set(w->tick, TICK_MS);
    if (!w->lanes.first || w->c->draining)
        return;
    if (!store_version(w->c->registry, &version, NULL) && version != w->version) {
        w->version = version;
        move(w);
    }
    lanes_go(&w->lanes);
    lanes_turn(&w->lanes);
}

int webhooks_test(struct webhooks *w, const struct uuid *webhook, const char *account, struct uuid *event, courier_fn fn, void *arg, struct err *err) {
    return lanes_test(&w->lanes, webhook, account, event, fn, arg, err);
}

int webhooks_ask(struct webhooks *w, const char *account, enum hook_trial trial, const struct uuid *id, struct span payload, courier_fn fn, void *arg, struct err *err) {
    return lanes_ask(&w->lanes, account, trial, id, payload, fn, arg, err);
}

void webhooks_stop(struct webhooks *w) {
    if (!w)
        return;
    w->c->draining = true;
    courier_client_free(TAKE(w->lanes.courier));
}

void webhooks_attach(struct webhooks *w, int fd) {
    struct err err = ERR_INIT;
    if (courier_client_attach(w->lanes.courier, fd, &err))
        log_err(LOG_ERROR, "courier_attach_failed", &err, NULL);
}

static void ended(void *arg) { webhooks_reload(arg, NULL, NULL); }

struct webhooks *webhooks_new(struct control *c, struct err *err) {
    const struct settings *s = c->o->settings;
    struct webhooks *w = calloc(1, sizeof *w);
    if (w) {
        w->c = c;
        w->version = -1;
        w->lanes = (struct lanes){.c = c, .changed = ended, .arg = w};
        w->lanes.policy = (struct delivery_policy){.first = s->webhook_retry_first, .most = s->webhook_retry_most, .lasts = s->webhook_retry_for, .queue_max = s->webhook_queue};
        w->lanes.courier = courier_client_new(c->loop, err);
        w->tick = loop_timer_new(c->loop, tick, w);
        w->again = loop_timer_new(c->loop, again, w);
        w->sweep_timer = loop_timer_new(c->loop, sweep, w);
    }
    if (!w || !w->lanes.courier || !w->tick || !w->again || !w->sweep_timer) {
        webhooks_free(w);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    loop_timer_set(w->tick, TICK_MS);
    load(w);
    return w;
}

void webhooks_free(struct webhooks *w) {
    if (!w)
        return;
    courier_client_free(w->lanes.courier);
    call_all(&w->served);
    call_all(&w->waiting);
    loop_timer_free(w->tick);
    loop_timer_free(w->again);
    loop_timer_free(w->sweep_timer);
    lanes_fini(&w->lanes);
    webhook_load_fini(&w->load);
    event_take_fini(&w->take);
    free(w);
}
