/* hook_run: see hook_run.h. */
#include "admin/hook_run.h"

#include "admin/webhook_run.h"
#include "base/log.h"
#include "metrics/metrics.h"
#include "registry/hook.h"

#define TICK_MS 100
#define PAGES_MAX 40 /* of what waits, a look */

/* One that was sent, until its answer is written down. */
struct asked {
    struct asked *next;
    struct hooks *hooks;
    int64_t row;
    bool trial;
    char account[ACCOUNT_NAME_MAX + 1];
    struct hook_settle settle;
};

struct hooks {
    struct control *c;
    struct loop_timer *tick;
    int64_t version; /* of the registry, when nothing waited */
    bool looking;
    int pages;
    struct hook_waiting waiting;
    struct asked *first;
};

static void forget(struct asked *a) {
    for (struct asked **at = &a->hooks->first; *at; at = &(*at)->next)
        if (*at == a) {
            *at = a->next;
            break;
        }
    free(a);
}

static void settled(void *arg, int rc, const struct err *err) {
    struct asked *a = (struct asked *)((char *)arg - offsetof(struct asked, settle));
    if (rc) /* it is asked again, once it is over */
        log_err(LOG_ERROR, "hook_not_settled", err, "account", a->account, NULL);
    else if (a->settle.shadow)
        metrics_count(METRIC_SHADOW, 0, 0);
    a->hooks->version = -1;
    forget(a);
}

static void settle(struct asked *a) {
    struct err err = ERR_INIT;
    a->settle.row = a->row;
    if (a->settle.state == HOOK_FAILED && !a->trial)
        log_event(LOG_WARN, "hook_failed", "account", a->account, "why", a->settle.reason, NULL);
    int rc = store_write(a->hooks->c->registry, a->hooks->c->loop, hook_settle_run, settled, &a->settle, &err);
    if (rc)
        settled(&a->settle, rc, &err);
}

static void judge(const struct courier_report *r, struct hook_settle *s) {
    s->state = HOOK_FAILED;
    if (!r)
        snprintf(s->reason, sizeof s->reason, "the process that asks ended meanwhile.");
    else if (r->status == 202)
        *s = (struct hook_settle){.state = HOOK_LATER, .seconds = r->retry_after};
    else if (r->status >= 200 && r->status < 300)
        s->state = HOOK_ALLOWED;
    else if (r->status == 403)
        s->state = HOOK_DENIED;
    else if (r->status)
        snprintf(s->reason, sizeof s->reason, "it answered %u.", r->status);
    else
        snprintf(s->reason, sizeof s->reason, "%.*s", SPAN_FMT(r->text));
}

static void answered(void *arg, const struct courier_report *report) {
    struct asked *a = arg;
    if (a->hooks->c->draining) { /* the courier went first: nothing was learned */
        forget(a);
        return;
    }
    judge(report, &a->settle);
    settle(a);
}

/* Of those on trial, or of the others: neither takes room from the other. */
static bool is_under_way(const struct hooks *h, int64_t row, bool trial, const char *account, size_t *all, size_t *of_account) {
    *all = *of_account = 0;
    for (const struct asked *a = h->first; a; a = a->next) {
        if (a->row == row)
            return true;
        if (a->trial != trial)
            continue;
        *all += 1;
        *of_account += strcmp(a->account, account) == 0;
    }
    return false;
}

static int payload_of(const struct hooks *h, size_t i, struct buf *out) {
    __auto_type w = &h->waiting.at[i];
    json_t *parts = json_object();
    json_set_str(parts, "device_id", w->device_id);
    json_set_str(parts, "kind", w->renews ? "renew" : "enrol");
    json_set_str(parts, "key", w->by[0] ? w->by : NULL);
    json_set(parts, "spki", json_null());
    if (w->has_spki)
        json_set_hex(parts, "spki", hash_span(&w->spki));
    json_set_str(parts, "address", w->address);
    json_set_bool(parts, "tried", w->trial != HOOK_DECIDES);
    return event_payload(&w->uuid, w->account, EVENT_CERTIFICATE_ASK, parts, out);
}

/* False: there is no room for more at the moment. */
static bool ask_one(struct hooks *h, size_t i) {
    CLEANUP(buf_fini) struct buf payload = BUF_INIT(EVENT_PAYLOAD_MAX);
    __auto_type w = &h->waiting.at[i];
    const bool trial = w->trial != HOOK_DECIDES;
    struct err err = ERR_INIT;
    size_t all, of_account;
    if (is_under_way(h, w->row, trial, w->account, &all, &of_account) || of_account >= (trial ? HOOKS_TRIED_ACCOUNT : HOOKS_UNDER_WAY_ACCOUNT))
        return true;
    struct asked *a = all < (trial ? HOOKS_TRIED : HOOKS_UNDER_WAY) ? calloc(1, sizeof *a) : NULL;
    if (!a)
        return false;
    *a = (struct asked){.next = h->first, .hooks = h, .row = w->row, .trial = trial};
    memcpy(a->account, w->account, sizeof a->account);
    h->first = a;
    int rc = payload_of(h, i, &payload);
    if (!rc && !(rc = webhooks_ask(h->c->webhooks, w->account, w->trial, &w->uuid, buf_span(&payload), answered, a, &err)))
        return true;
    if (rc == MUSTER_EBUSY) {
        forget(a);
        return false;
    }
    a->settle.state = rc == MUSTER_ENOTFOUND && w->trial == HOOK_TRIAL_BESIDE ? HOOK_ALLOWED : HOOK_FAILED; /* beside: nobody else is tried, and who is asked has said yes */
    snprintf(a->settle.reason, sizeof a->settle.reason, "%.*s", HOOK_REASON_MAX, err_text(&err));
    settle(a);
    return true;
}

static void look(struct hooks *h);

static void looked(void *arg, int rc, const struct err *err) {
    struct hooks *h = (struct hooks *)((char *)arg - offsetof(struct hooks, waiting));
    bool room = !h->c->draining;
    if (rc)
        log_err(LOG_ERROR, "hook_asks_unreadable", err, NULL);
    for (size_t i = 0; !rc && room && i < h->waiting.n; i++)
        room = ask_one(h, i);
    if (rc || h->waiting.n)
        h->version = -1;
    const bool more = !rc && room && h->waiting.n == HOOK_BATCH && ++h->pages < PAGES_MAX;
    if (more || (!rc && !h->waiting.trial && !h->c->draining)) {
        if (!more) { /* those on trial come behind the others */
            h->waiting.trial = true;
            h->waiting.after = h->pages = 0;
        }
        look(h);
    } else {
        h->looking = false;
    }
}

static void look(struct hooks *h) {
    h->looking = store_read(h->c->registry, h->c->loop, hook_waiting_run, looked, &h->waiting, NULL) == 0;
}

static void tick(void *arg) {
    struct hooks *h = arg;
    int64_t version;
    loop_timer_set(h->tick, TICK_MS);
    if (h->looking || h->c->draining || (!store_version(h->c->registry, &version, NULL) && version == h->version))
        return;
    h->version = version;
    h->waiting.trial = false;
    h->waiting.after = h->pages = 0;
    look(h);
}

struct hooks *hooks_new(struct control *c, struct err *err) {
    struct hooks *h = calloc(1, sizeof *h);
    if (h) {
        h->c = c;
        h->version = -1;
        h->tick = loop_timer_new(c->loop, tick, h);
    }
    if (!h || !h->tick) {
        hooks_free(h);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    loop_timer_set(h->tick, TICK_MS);
    return h;
}

void hooks_free(struct hooks *h) {
    if (!h)
        return;
    while (h->first)
        forget(h->first);
    loop_timer_free(h->tick);
    free(h);
}
