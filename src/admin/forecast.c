/* forecast: what is going to end and whom it stops (verifier/forecast.h): over the API, and by itself for /metrics, `status` and
 * webhooks.  The registry is read in steps on its reader threads, so that neither control's loop nor the database's log is held. */
#include "admin/facts.h"
#include "admin/server_cas.h"
#include "metrics/metrics.h"
#include "registry/event_forecast.h"
#include "registry/trust.h"
#include "verifier/forecast.h"

#define EVERY_MS (3600 * 1000)
#define TICK_MS 1000
#define LEAST_MS 5000     /* between two; twice that after each that has failed */
#define RESTS_FOR_WORK 50
#define OWN_RENEWAL_LATE (30 * CLOCK_DAY) /* Muster renews its own certificates long before */

/* Of the certificate that the gateway shows, by what the gateway says; 0: nothing yet. */
static int64_t server_end(const struct control *c) { return metrics_value_of(c->o->metrics, METRICS_GATEWAY, METRIC_SERVER_NOT_AFTER, 0, 0); }

/* A server certificate that Muster renews by itself ends nowhere, unless that has not happened. */
static struct forecast_server server_of(const struct control *c, int64_t now) {
    struct forecast_server s = {.certificate_end = server_end(c)};
    const struct cert *current = server_cas_current(c);
    if (c->o->settings->server_certificate[0]) /* the operator's own, under an anchor of the operator's */
        return s;
    s.ca_end = current ? current->not_after : 0;
    for (size_t i = 0; i + 1 < c->server_cas->n && s.n_former < FORECAST_FORMER_CAS; i++)
        s.former[s.n_former++] = (struct forecast_former_ca){c->server_cas->number[i], c->server_cas->at[i]->not_after};
    if (s.certificate_end > now + OWN_RENEWAL_LATE && s.certificate_end != s.ca_end)
        s.certificate_end = 0;
    if (s.certificate_end >= s.ca_end)
        s.certificate_end = 0; /* what ends is the CA */
    return s;
}

static int begin(const struct control *c, const char *only, int days, struct forecast **out, struct err *err) {
    const int64_t now = clock_now();
    const struct forecast_server server = server_of(c, now);
    return forecast_new(only, now, days, &server, out, err);
}

struct forecasting {
    struct event_forecast events; /* first: what the operation is given */
    struct control *c;
    struct loop_timer *timer;
    struct forecast *next, *last;      /* under way; the newest one that is whole */
    bool busy, wanted;                 /* wanted: soon, whatever has changed */
    int failed;                        /* one after the other */
    int64_t whole_ms;                  /* monotonic: when `last` was whole; before the first, when control began */
    int64_t damaged;                   /* of `last` */
    uint64_t trust;                    /* the word of trust when the newest one began */
    int64_t began_ms, ended_ms;        /* monotonic */
    int64_t asked_until_ms;            /* likewise: one that an operator asked for is under way until then at most; 0: none */
};

/* --- over the API ---------------------------------------------------------------------------------------------------------------------- */

#define ASKED_DAYS 20000      /* of an answer */
#define ASKED_BYTES (16u << 20) /* likewise: more than they and the causes can be */
#define ASKED_HOLD_MS 30000   /* longer than any step takes */

struct asked {
    struct forecast *f;
    struct buf body; /* of the answer, once it is whole */
};

/* On a reader thread: there too the answer is written, which is long. */
static int asked_run(struct store_tx *tx, void *arg, struct err *err) {
    struct asked *a = arg;
    int rc = forecast_run(tx, a->f, err);
    if (rc || forecast_more(a->f))
        return rc;
    buf_fini(&a->body);
    a->body = BUF_INIT(ASKED_BYTES);
    return forecast_write(a->f, &a->body, err);
}

/* One at a time: a walk takes the registry's only reader of control for as long as it has devices. */
static void hold(const struct control *c, int64_t ms) { c->forecasting->asked_until_ms = ms ? clock_mono_ms() + ms : 0; }

static void stepped(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct asked *a = op;
    const struct asked next = {.f = a->f};
    const struct control *c = http_exchange_arg(x);
    const bool gone = !http_exchange_conn(x);
    hold(c, !rc && !gone && forecast_more(a->f) ? ASKED_HOLD_MS : 0);
    if (!rc && !gone && forecast_more(a->f)) {
        job_start(x, JOB_READ, asked_run, &next, sizeof next, stepped);
        return;
    }
    if (rc)
        http_reply_err(x, err);
    else
        http_reply_buf(x, 200, "application/json", &a->body, false);
    buf_fini(&a->body);
    forecast_free(a->f);
}

static bool days_of(struct http_exchange *x, int *days) {
    struct span value;
    uint64_t number;
    *days = FORECAST_DAYS;
    if (!http_query_param(x, "days", &value))
        return true;
    if (!span_to_u64(value, &number) || number < 1 || number > FORECAST_DAYS_MAX) {
        reply_code(x, MUSTER_EINVALID, "days is between 1 and 36500.");
        return false;
    }
    *days = (int)number;
    return true;
}

void admin_FORECAST(struct http_exchange *x, void *arg) {
    struct asked a = {0};
    char only[ACCOUNT_NAME_MAX + 1];
    struct span account = SPAN_NONE;
    struct err err = ERR_INIT;
    int days;
    snprintf(only, sizeof only, "%s", grant_of(x)->account);
    if (http_query_param(x, "account", &account)) {
        if (only[0] ? !span_eq_str(account, only) : account_name_check(account, NULL) != 0) {
            reply_code(x, MUSTER_ENOTFOUND, NULL);
            return;
        }
        snprintf(only, sizeof only, "%.*s", (int)account.n, (const char *)account.p);
    }
    if (!days_of(x, &days))
        return;
    const struct control *c = http_exchange_arg(x);
    if (clock_mono_ms() < c->forecasting->asked_until_ms) {
        http_reply_err(x, &(struct err){.code = MUSTER_ETOOMANY, .retry_after = 2});
        return;
    }
    if (begin(c, only, days, &a.f, &err)) {
        http_reply_err(x, &err);
        return;
    }
    forecast_bound_days(a.f, ASKED_DAYS);
    hold(c, ASKED_HOLD_MS);
    job_start(x, JOB_READ, asked_run, &a, sizeof a, stepped);
}

/* --- by itself --------------------------------------------------------------------------------------------------------------------------- */

static void step(struct forecasting *g);

static void settle(struct forecasting *g, bool failed) {
    g->busy = false;
    g->ended_ms = clock_mono_ms();
    g->failed = failed ? g->failed + 1 : 0;
    g->wanted = g->wanted || failed;
}

static void announced(void *arg, int rc, const struct err *err) {
    struct forecasting *g = arg;
    if (rc)
        log_err(LOG_ERROR, "forecast_not_announced", err, NULL);
    event_forecast_fini(&g->events);
    settle(g, rc != 0);
}

/* One row for each day on which devices of an account stop by one kind of end. */
static int rows_of(const struct forecast *f, struct event_forecast *e) {
    const int64_t horizon = forecast_from(f) + EVENT_FORECAST_DAYS * CLOCK_DAY;
    for (size_t i = 0; i < forecast_count(f); i++) {
        const struct forecast_cause *c = forecast_at(f, i);
        for (size_t k = 0; k < c->n_days && c->days[k].at < horizon; k++) {
            struct event_forecast_row row = {.kind = (int)c->kind, .cause = FORECAST_WORDS[c->kind], .account = c->account_row, .id = c->id, .subject = c->subject, .code = c->code,
                                             .day = c->days[k].at, .stops = c->days[k].stops, .renews = c->days[k].renews};
            int rc = c->days[k].stops ? event_forecast_add(e, &row) : 0;
            if (rc)
                return rc;
        }
    }
    return 0;
}

static void stepped_alone(void *arg, int rc, const struct err *err) {
    struct forecasting *g = ((struct forecasting **)arg)[0];
    free(arg);
    if (!rc && forecast_more(g->next)) {
        step(g);
        return;
    }
    if (rc) {
        log_err(LOG_ERROR, "forecast_failed", err, NULL);
        forecast_free(TAKE(g->next));
        settle(g, true);
        return;
    }
    forecast_free(g->last);
    g->last = TAKE(g->next);
    g->whole_ms = clock_mono_ms();
    if (forecast_damaged(g->last) > g->damaged)
        log_err(LOG_ERROR, "forecast_incomplete", forecast_damage(g->last), NULL);
    g->damaged = forecast_damaged(g->last);
    g->events = (struct event_forecast){.now = forecast_from(g->last)};
    if (rows_of(g->last, &g->events) || !g->events.n || store_write(g->c->registry, g->c->loop, event_forecast_run, announced, g, NULL)) {
        event_forecast_fini(&g->events);
        settle(g, false);
    }
}

struct stepping {
    struct forecasting *g; /* first: stepped_alone() */
};

static int step_run(struct store_tx *tx, void *arg, struct err *err) { return forecast_run(tx, ((struct stepping *)arg)->g->next, err); }

static void step(struct forecasting *g) {
    struct stepping *s = calloc(1, sizeof *s);
    if (s)
        s->g = g;
    if (!s || store_read(g->c->registry, g->c->loop, step_run, stepped_alone, s, NULL)) {
        free(s);
        forecast_free(TAKE(g->next));
        settle(g, true);
    }
}

/* Every hour, and where something changed on which a judgement rests; but it never takes more than a fiftieth of the time. */
static bool is_due(const struct forecasting *g) {
    const int64_t rest = clock_mono_ms() - g->ended_ms, took = g->ended_ms - g->began_ms, least = (int64_t)LEAST_MS << (g->failed < 10 ? g->failed : 10);
    if (!g->ended_ms || rest >= EVERY_MS)
        return true;
    return (g->wanted || trust_word() != g->trust) && rest >= least && rest >= took * RESTS_FOR_WORK;
}

static void look(void *arg) {
    struct forecasting *g = arg;
    struct err err = ERR_INIT;
    loop_timer_set(g->timer, TICK_MS);
    if (g->busy || !g->c->ready || !is_due(g))
        return;
    g->busy = true;
    g->wanted = !server_end(g->c); /* no gateway has said it yet */
    g->trust = trust_word();
    g->began_ms = clock_mono_ms();
    if (!begin(g->c, "", FORECAST_DAYS, &g->next, &err)) {
        step(g);
        return;
    }
    log_err(LOG_ERROR, "forecast_failed", &err, NULL);
    settle(g, true);
}

void forecast_soon(struct control *c) {
    if (c->forecasting)
        c->forecasting->wanted = true;
}

const struct forecast *forecast_newest(const struct control *c) { return c->forecasting->last; }
int64_t forecast_overdue(const struct control *c) { return (clock_mono_ms() - c->forecasting->whole_ms) / 1000; }

struct forecasting *forecasting_new(struct control *c, struct err *err) {
    struct forecasting *g = calloc(1, sizeof *g);
    if (g) {
        g->c = c;
        g->whole_ms = clock_mono_ms();
        g->timer = loop_timer_new(c->loop, look, g);
    }
    if (!g || !g->timer) {
        free(g);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    loop_timer_set(g->timer, TICK_MS);
    return g;
}

void forecasting_free(struct forecasting *g) {
    if (!g)
        return;
    loop_timer_free(g->timer);
    forecast_free(g->next);
    forecast_free(g->last);
    event_forecast_fini(&g->events);
    free(g);
}
