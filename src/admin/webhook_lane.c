/* webhook_lane: see webhook_lane.h. */
#include "admin/webhook_lane.h"

#include "base/log.h"
#include "base/secret.h"
#include "courier/sign.h"
#include "metrics/metrics.h"

#define AGAIN_S 5 /* after a storage error */

/* One webhook, and what of it is under way. */
struct lane {
    struct lane *next;
    struct lanes *all;
    struct webhook_loaded hook;
    bool there;              /* still one of the webhooks; else freed once it is idle */
    bool busy;               /* reading, delivering, or writing down */
    int64_t failed;          /* batches in which something failed, since this process or the webhook went on */
    int64_t hold_until;      /* seconds: it fails, and waits */
    int64_t next_at;         /* seconds: when something in its queue is due; INT64_MAX: when something is put there */
    struct delivery_take take;
    size_t sent, answered;
    struct delivery_settle settle;
};

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
    for (struct lane **at = &l->all->first; *at; at = &(*at)->next)
        if (*at == l) {
            *at = l->next;
            break;
        }
    lane_free(l);
}

static void settled(void *arg, int rc, const struct err *err) {
    struct lane *l = (struct lane *)((char *)arg - offsetof(struct lane, settle));
    struct lanes *all = l->all;
    bool disabled = !rc && l->settle.disabled;
    char id[UUID_TEXT_LEN + 1];
    uuid_text(&l->hook.w.uuid, id);
    if (rc) { /* what was delivered will be once more; receivers tell by the event's id */
        log_err(LOG_ERROR, "webhook_not_settled", err, "webhook", id, NULL);
        l->next_at = clock_now() + AGAIN_S;
    } else {
        l->hold_until = l->settle.next_at;
        l->failed += l->settle.failed;
        for (size_t i = 0; i < l->settle.n; i++)
            metrics_count(METRIC_DELIVERIES, l->settle.at[i].result == DELIVERY_DONE ? RESULT_OK : RESULT_FAILED, 0);
        metrics_add(METRIC_GIVEN_UP, 0, 0, l->settle.given_up);
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
        all->changed(all->arg);
    if (there)
        lane_go(l);
}

static void settle(struct lane *l) {
    struct err err = ERR_INIT;
    uint32_t random;
    secret_random_bytes(&random, sizeof random);
    l->settle = (struct delivery_settle){.webhook = l->hook.w.row, .now = clock_now(), .at = l->take.at, .n = l->take.n, .policy = &l->all->policy, .failed_before = l->failed, .random = random};
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
        l->next_at = clock_now() + AGAIN_S;
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

/* No wait is longer than the policy's: by whichever clock that was said, it is not this one. */
static bool waits(const struct lane *l, int64_t until, int64_t now) { return until > now && until <= now + delivery_longest(&l->all->policy); }

static void lane_go(struct lane *l) {
    struct control *c = l->all->c;
    int64_t now = clock_now();
    bool idle = l->next_at == INT64_MAX || waits(l, l->next_at, now) || waits(l, l->hold_until, now);
    if (l->busy || !l->there || l->hook.w.state != WEBHOOK_ACTIVE || idle || c->draining || !courier_client_ready(l->all->courier))
        return;
    l->busy = true;
    l->take.webhook = l->hook.w.row;
    l->take.now = now;
    l->take.longest = delivery_longest(&l->all->policy);
    l->next_at = INT64_MAX;
    if (store_read(c->store, c->loop, delivery_take_run, taken, &l->take, NULL)) {
        l->next_at = now + 1;
        lane_idle(l);
    }
}

void lanes_go(struct lanes *all) {
    for (struct lane *l = all->first; l; l = l->next)
        lane_go(l);
}

void lanes_wake(struct lanes *all) {
    for (struct lane *l = all->first; l; l = l->next)
        l->next_at = 0;
}

void lanes_turn(struct lanes *all) {
    struct lane *first = all->first, **last = &all->first;
    if (!first || !first->next)
        return;
    while (*last)
        last = &(*last)->next;
    all->first = first->next;
    first->next = NULL;
    *last = first;
}

/* --- the webhooks -------------------------------------------------------------------------------------------------------------------- */

void lanes_take_over(struct lanes *all, struct webhook_load *load) {
    for (struct lane *l = all->first; l; l = l->next)
        l->there = false;
    for (size_t i = 0; i < load->n; i++) {
        struct webhook_loaded *from = &load->at[i];
        struct lane *l = all->first;
        while (l && l->hook.w.row != from->w.row)
            l = l->next;
        if (!l && (l = calloc(1, sizeof *l))) {
            l->all = all;
            l->next = all->first;
            all->first = l;
        }
        if (!l)
            continue;
        if (l->hook.w.state != from->w.state)
            l->failed = 0;
        buf_fini(&l->hook.ca);
        l->hook = *from;
        from->ca = BUF_INIT(WEBHOOK_CA_MAX);
        l->there = true;
        l->hold_until = from->w.next_at;
        l->next_at = 0;
    }
    for (struct lane *l = all->first, *next; l; l = next) {
        next = l->next;
        if (!l->there && !l->busy)
            lane_idle(l);
    }
}

int lanes_test(struct lanes *all, const struct uuid *webhook, const char *account, struct uuid *event, courier_fn fn, void *arg, struct err *err) {
    CLEANUP(buf_fini) struct buf payload = BUF_INIT(1024);
    CLEANUP(buf_fini) struct buf signature = BUF_INIT(512);
    struct courier_order order;
    char id[UUID_TEXT_LEN + 1];
    struct lane *l = all->first;
    while (l && (!l->there || !uuid_eq(&l->hook.w.uuid, webhook)))
        l = l->next;
    if (!l || (*account && strcmp(account, l->hook.w.account)))
        return err_set(err, MUSTER_ENOTFOUND, "There is no such webhook.");
    *event = uuid_new();
    int rc = event_payload(event, l->hook.w.account, EVENT_TEST, NULL, &payload);
    if (rc)
        return err_set(err, rc, NULL);
    if (!all->courier)
        return err_retry(err, MUSTER_EUNAVAILABLE, 5, "The server ends.");
    rc = order_of(&l->hook, EVENT_TEST, event, buf_span(&payload), &signature, id, &order, err);
    return rc ? rc : courier_client_send(all->courier, &order, fn, arg, err);
}

/* The account's own comes first. */
static struct lane *asked_lane(struct lanes *all, const char *account, enum event_kind event) {
    struct lane *found = NULL;
    for (struct lane *l = all->first; l; l = l->next) {
        bool own = strcmp(l->hook.w.account, account) == 0;
        if (l->there && l->hook.w.state == WEBHOOK_ACTIVE && (l->hook.w.events & event_bit(event)) && (own || (!l->hook.w.account[0] && !found)))
            found = l;
        if (found == l && own)
            return l;
    }
    return found;
}

int lanes_ask(struct lanes *all, const char *account, enum hook_trial trial, const struct uuid *id, struct span payload, courier_fn fn, void *arg, struct err *err) {
    CLEANUP(buf_fini) struct buf signature = BUF_INIT(512);
    struct courier_order order;
    char text[UUID_TEXT_LEN + 1];
    struct lane *l = trial ? asked_lane(all, account, EVENT_CERTIFICATE_TRY) : NULL;
    if (!l && trial != HOOK_TRIAL_BESIDE)
        l = asked_lane(all, account, EVENT_CERTIFICATE_ASK);
    if (!l)
        return err_set(err, MUSTER_ENOTFOUND, "no active webhook is told of certificate.ask.");
    if (!all->courier)
        return err_retry(err, MUSTER_EBUSY, 5, "The server ends.");
    int rc = order_of(&l->hook, EVENT_CERTIFICATE_ASK, id, payload, &signature, text, &order, err);
    return rc ? rc : courier_client_send(all->courier, &order, fn, arg, err);
}

void lanes_fini(struct lanes *all) {
    for (struct lane *l = all->first, *next; l; l = next) {
        next = l->next;
        lane_free(l);
    }
    all->first = NULL;
}
