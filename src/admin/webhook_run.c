/* webhook_run: see webhook_run.h. */
#include "admin/webhook_run.h"

#include "base/log.h"
#include "base/secret.h"
#include "courier/sign.h"
#include "registry/event_sweep.h"

#define TICK_MS 200
#define SWEEP_MS (3600 * 1000)
#define AGAIN_MS 5000 /* after a storage error */

/* One webhook, and what of it is under way. */
struct lane {
    struct lane *next;
    struct webhooks *all;
    struct webhook_loaded hook;
    bool there;              /* still one of the webhooks; else freed once it is idle */
    bool busy;               /* reading, delivering, or writing down */
    int64_t hold_until;      /* seconds: it fails, and waits */
    int64_t next_at;         /* seconds: when something in its queue is due; INT64_MAX: when something is put there */
    struct delivery_take take;
    size_t sent, answered;
    struct delivery_settle settle;
    struct delivery_policy policy;
};

struct waiter {
    struct waiter *next;
    loop_fn fn;
    void *arg;
};

struct webhooks {
    struct control *c;
    struct courier_client *courier;
    struct loop_timer *tick, *again, *sweep_timer;
    struct delivery_policy policy;
    struct lane *lanes;
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
    struct event_sweep sweep;
};

/* --- delivering ---------------------------------------------------------------------------------------------------------------------- */

static void lane_go(struct lane *l);

static void lane_free(struct lane *l) {
    buf_fini(&l->hook.ca);
    secret_wipe(l->hook.secret, sizeof l->hook.secret);
    secret_wipe(l->hook.secret_before, sizeof l->hook.secret_before);
    delivery_take_fini(&l->take);
    free(l);
}

static void lane_idle(struct lane *l) {
    l->busy = false;
    delivery_take_fini(&l->take);
    if (l->there)
        return;
    for (struct lane **at = &l->all->lanes; *at; at = &(*at)->next)
        if (*at == l) {
            *at = l->next;
            break;
        }
    lane_free(l);
}

static void settled(void *arg, int rc, const struct err *err) {
    struct lane *l = (struct lane *)((char *)arg - offsetof(struct lane, settle));
    struct webhooks *w = l->all;
    bool disabled = !rc && l->settle.disabled;
    char id[UUID_TEXT_LEN + 1];
    uuid_text(&l->hook.w.uuid, id);
    if (rc) { /* what was delivered will be once more; receivers tell by the event's id */
        log_err(LOG_ERROR, "webhook_not_settled", err, "webhook", id, NULL);
        l->next_at = clock_now() + AGAIN_MS / 1000;
    } else {
        l->hold_until = l->settle.next_at;
        if (l->settle.next_at)
            log_event(LOG_WARN, "webhook_failing", "webhook", id, "error", l->settle.at[0].error, NULL);
        if (l->settle.given_up)
            log_event(LOG_ERROR, "webhook_given_up", "webhook", id, "events", log_num(l->settle.given_up), NULL);
        if (disabled) {
            log_event(LOG_WARN, "webhook_disabled", "webhook", id, "why", "410", NULL);
            l->hook.w.state = WEBHOOK_DISABLED;
        }
    }
    bool there = l->there;
    lane_idle(l);
    if (disabled)
        webhooks_reload(w, NULL, NULL);
    if (there)
        lane_go(l);
}

static void settle(struct lane *l) {
    struct err err = ERR_INIT;
    uint32_t random;
    secret_random_bytes(&random, sizeof random);
    l->policy = l->all->policy;
    l->settle = (struct delivery_settle){.webhook = l->hook.w.row, .now = clock_now(), .at = l->take.at, .n = l->take.n, .policy = &l->policy, .random = random};
    int rc = l->take.n ? store_write(l->all->c->store, l->all->c->loop, delivery_settle_run, settled, &l->settle, &err) : MUSTER_EBUSY;
    if (!rc)
        return;
    l->next_at = clock_now() + 1;
    lane_idle(l);
}

static void judge(struct delivery *d, const struct courier_report *r) {
    d->result = DELIVERY_FAILED;
    if (!r) {
        snprintf(d->error, sizeof d->error, "The process that delivers webhooks ended meanwhile.");
        return;
    }
    d->retry_after = r->status == 429 || r->status == 503 ? r->retry_after : 0;
    if (r->status >= 200 && r->status < 300)
        d->result = DELIVERY_DONE;
    else if (r->status == 410)
        d->result = DELIVERY_GONE;
    else if (r->status)
        snprintf(d->error, sizeof d->error, "The receiver answered %u%s.", r->status, r->status >= 300 && r->status < 400 ? "; redirects are not followed" : "");
    else
        snprintf(d->error, sizeof d->error, "%.*s", SPAN_FMT(r->text));
}

/* Which delivery of which lane: the answers come in any order. */
struct flight {
    struct lane *lane;
    size_t at;
};

static void answered(void *arg, const struct courier_report *report) {
    struct flight f = *(struct flight *)arg;
    free(arg);
    judge(&f.lane->take.at[f.at], report);
    if (++f.lane->answered < f.lane->sent)
        return;
    if (f.lane->all->c->draining) { /* the courier went first: nothing was learned */
        lane_idle(f.lane);
        return;
    }
    settle(f.lane);
}

static int order_of(const struct webhook_loaded *h, enum event_kind kind, const struct uuid *event, struct span payload, struct buf *signature, char id[UUID_TEXT_LEN + 1],
                    struct courier_order *out, struct err *err) {
    int64_t now = clock_now();
    uuid_text(event, id);
    int rc = courier_sign(now, payload, h->secret, h->w.secret_before_until > now ? h->secret_before : NULL, signature);
    if (rc)
        return err_set(err, rc, NULL);
    *out = (struct courier_order){.url = span_str(h->w.url), .type = span_str(event_name((int64_t)kind)), .event = span_str(id), .signature = buf_span(signature),
                                  .ca = buf_span(&h->ca), .body = payload};
    return 0;
}

static int send_one(struct lane *l, size_t at) {
    CLEANUP(buf_fini) struct buf signature = BUF_INIT(512);
    struct delivery *d = &l->take.at[at];
    struct courier_order order;
    char id[UUID_TEXT_LEN + 1];
    struct err err = ERR_INIT;
    struct flight *f = malloc(sizeof *f);
    if (!f)
        return MUSTER_ENOMEM;
    *f = (struct flight){l, at};
    int rc = order_of(&l->hook, d->kind, &d->event, buf_span(&d->payload), &signature, id, &order, &err);
    if (!rc)
        rc = courier_client_send(l->all->courier, &order, answered, f, &err);
    if (rc)
        free(f);
    return rc;
}

static void taken(void *arg, int rc, const struct err *err) {
    struct lane *l = (struct lane *)((char *)arg - offsetof(struct lane, take));
    if (rc) {
        log_err(LOG_ERROR, "webhook_queue_unreadable", err, NULL);
        l->next_at = clock_now() + AGAIN_MS / 1000;
    } else if (!l->take.n && l->next_at == INT64_MAX) { /* nothing was put there meanwhile */
        l->next_at = l->take.next_at ? l->take.next_at : INT64_MAX;
    } else if (l->take.n) {
        l->next_at = 0;
    }
    if (rc || !l->take.n || !l->there) {
        lane_idle(l);
        return;
    }
    /* What the courier takes no more of waits for the next batch. */
    size_t n = 0;
    l->answered = 0;
    l->sent = SIZE_MAX;
    while (n < l->take.n && !send_one(l, n))
        n++;
    for (size_t i = n; i < l->take.n; i++)
        buf_fini(&l->take.at[i].payload);
    l->take.n = l->sent = n;
    if (!n) {
        l->next_at = clock_now() + 1;
        lane_idle(l);
    }
}

static void lane_go(struct lane *l) {
    struct control *c = l->all->c;
    int64_t now = clock_now();
    if (l->busy || !l->there || l->hook.w.state != WEBHOOK_ACTIVE || l->next_at > now || l->hold_until > now || c->draining || !courier_client_ready(l->all->courier))
        return;
    l->busy = true;
    l->take.webhook = l->hook.w.row;
    l->take.now = now;
    l->next_at = INT64_MAX;
    if (store_read(c->store, c->loop, delivery_take_run, taken, &l->take, NULL)) {
        l->next_at = now + 1;
        lane_idle(l);
    }
}

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
    for (struct lane *l = w->lanes; l; l = l->next)
        l->next_at = 0;
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
    w->put = (struct delivery_put){.at = w->take.at, .n = w->take.n, .policy = &w->policy};
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

static int64_t server_end(struct control *c) {
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(64 * 1024);
    CLEANUP(cert_free) struct cert *cert = NULL;
    return certificate_default(c, &pem, NULL) || cert_from_file(buf_span(&pem), &cert, NULL) ? 0 : cert->not_after;
}

static void sweep(void *arg) {
    struct webhooks *w = arg;
    if (w->sweeping)
        return;
    if (!w->wants.n) {
        loop_timer_set(w->sweep_timer, SWEEP_MS);
        return;
    }
    w->sweeping = true;
    w->sweep = (struct event_sweep){.now = clock_now(), .server_end = server_end(w->c), .after = -1};
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

static void take_over(struct webhooks *w) {
    for (struct lane *l = w->lanes; l; l = l->next)
        l->there = false;
    for (size_t i = 0; i < w->load.n; i++) {
        struct webhook_loaded *from = &w->load.at[i];
        struct lane *l = w->lanes;
        while (l && l->hook.w.row != from->w.row)
            l = l->next;
        if (!l && (l = calloc(1, sizeof *l))) {
            l->all = w;
            l->next = w->lanes;
            w->lanes = l;
        }
        if (!l)
            continue;
        buf_fini(&l->hook.ca);
        l->hook = *from;
        from->ca = BUF_INIT(WEBHOOK_CA_MAX);
        l->there = true;
        l->hold_until = from->w.next_at;
        l->next_at = 0;
    }
    for (struct lane *l = w->lanes, *next; l; l = next) {
        next = l->next;
        if (!l->there && !l->busy)
            lane_idle(l);
    }
}

static void wants_written(void *arg, int rc, const struct err *err) {
    struct webhooks *w = (struct webhooks *)((char *)arg - offsetof(struct webhooks, wants));
    if (rc) {
        log_err(LOG_ERROR, "webhooks_not_told", err, NULL);
        loaded(w, true);
        return;
    }
    take_over(w);
    loaded(w, false);
    move(w); /* what nobody wants any more goes too */
    for (struct lane *l = w->lanes; l; l = l->next)
        lane_go(l);
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
    if (!w->lanes || w->c->draining)
        return;
    if (!store_version(w->c->registry, &version, NULL) && version != w->version) {
        w->version = version;
        move(w);
    }
    for (struct lane *l = w->lanes; l; l = l->next)
        lane_go(l);
    /* Whoever was first is last the next time: where the courier is full, each has its turn. */
    struct lane **last = &w->lanes;
    while (*last)
        last = &(*last)->next;
    struct lane *first = w->lanes;
    if (first->next) {
        w->lanes = first->next;
        first->next = NULL;
        *last = first;
    }
}

int webhooks_test(struct webhooks *w, const struct uuid *webhook, const char *account, struct uuid *event, courier_fn fn, void *arg, struct err *err) {
    CLEANUP(buf_fini) struct buf payload = BUF_INIT(1024);
    CLEANUP(buf_fini) struct buf signature = BUF_INIT(512);
    struct courier_order order;
    char id[UUID_TEXT_LEN + 1];
    struct lane *l = w->lanes;
    while (l && (!l->there || !uuid_eq(&l->hook.w.uuid, webhook)))
        l = l->next;
    if (!l || (*account && strcmp(account, l->hook.w.account)))
        return err_set(err, MUSTER_ENOTFOUND, "There is no such webhook.");
    *event = uuid_new();
    int rc = event_payload(event, l->hook.w.account, EVENT_TEST, NULL, &payload);
    if (rc)
        return err_set(err, rc, NULL);
    rc = order_of(&l->hook, EVENT_TEST, event, buf_span(&payload), &signature, id, &order, err);
    return rc ? rc : courier_client_send(w->courier, &order, fn, arg, err);
}

void webhooks_stop(struct webhooks *w) {
    if (!w)
        return;
    w->c->draining = true;
    courier_client_free(TAKE(w->courier));
}

void webhooks_attach(struct webhooks *w, int fd) {
    struct err err = ERR_INIT;
    if (courier_client_attach(w->courier, fd, &err))
        log_err(LOG_ERROR, "courier_attach_failed", &err, NULL);
}

struct webhooks *webhooks_new(struct control *c, struct err *err) {
    const struct settings *s = c->o->settings;
    struct webhooks *w = calloc(1, sizeof *w);
    if (w) {
        w->c = c;
        w->version = -1;
        w->policy = (struct delivery_policy){.first = s->webhook_retry_first, .most = s->webhook_retry_most, .lasts = s->webhook_retry_for, .queue_max = s->webhook_queue};
        w->courier = courier_client_new(c->loop, err);
        w->tick = loop_timer_new(c->loop, tick, w);
        w->again = loop_timer_new(c->loop, again, w);
        w->sweep_timer = loop_timer_new(c->loop, sweep, w);
    }
    if (!w || !w->courier || !w->tick || !w->again || !w->sweep_timer) {
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
    courier_client_free(w->courier);
    call_all(&w->served);
    call_all(&w->waiting);
    loop_timer_free(w->tick);
    loop_timer_free(w->again);
    loop_timer_free(w->sweep_timer);
    for (struct lane *l = w->lanes, *next; l; l = next) {
        next = l->next;
        lane_free(l);
    }
    webhook_load_fini(&w->load);
    event_take_fini(&w->take);
    free(w);
}
