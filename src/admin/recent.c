/* recent: the counters of the last hour, minute by minute, for what happens now.  From the start of control on: what was before is in
 * Prometheus. */
#include "admin/internal.h"
#include "base/clock.h"
#include "metrics/metrics.h"

#define MINUTES 60
#define CODES_MAX 256

struct sample {
    int64_t at; /* monotonic, ms; 0: not taken */
    int64_t enrolled, requests, refused[CODES_MAX], turned_away[CODES_MAX]; /* both as they are kept; turned_away: by TLS, before there was a request */
};

struct recent {
    struct control *c;
    struct loop_timer *timer;
    struct sample ring[MINUTES + 1];
    size_t next;
};

static int64_t total(const struct metrics *m, enum metric id, unsigned a_n, unsigned b_n) {
    uint64_t sum = 0;
    for (unsigned a = 0; a < a_n; a++)
        for (unsigned b = 0; b < b_n; b++)
            sum += (uint64_t)metrics_value_of(m, METRICS_GATEWAY, id, a, b);
    return (int64_t)sum;
}

static void take(const struct control *c, struct sample *s) {
    const struct metrics *m = c->o->metrics;
    const struct metrics_row *requests = &METRICS_TABLE[METRIC_REQUESTS];
    s->at = clock_mono_ms();
    s->enrolled = metrics_value(m, METRIC_ENROLMENTS, ENROLMENT_NEW, 0) + metrics_value(m, METRIC_ENROLMENTS, ENROLMENT_REPLACED, 0) +
                  metrics_value(m, METRIC_FIRST_CONTACTS, 0, 0);
    s->requests = total(m, METRIC_REQUESTS, requests->set[0]->n, requests->set[1]->n);
    for (unsigned i = 0; i < CODES_MAX && i < (unsigned)err_count(); i++) {
        s->refused[i] = metrics_value_of(m, METRICS_GATEWAY, METRIC_REFUSALS, i, 0);
        s->turned_away[i] = metrics_value_of(m, METRICS_GATEWAY, METRIC_TLS_REFUSALS, i, 0);
    }
}

static void minute(void *arg) {
    struct recent *r = arg;
    take(r->c, &r->ring[r->next]);
    r->next = (r->next + 1) % (MINUTES + 1);
    loop_timer_set(r->timer, CLOCK_MINUTE * 1000);
}

/* The newest sample that is at least so many minutes old, or else the oldest. */
static const struct sample *before(const struct recent *r, int minutes) {
    const struct sample *found = NULL;
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < MINUTES + 1; i++) {
        const struct sample *s = &r->ring[(r->next + MINUTES - i) % (MINUTES + 1)]; /* newest first */
        if (s->at)
            found = s;
        if (s->at && now - s->at >= minutes * CLOCK_MINUTE * 1000 - 500)
            break;
    }
    return found;
}

/* What a stranger counted may go backwards; a difference never does. */
static int64_t grown(int64_t now, int64_t then) { return now > then ? now - then : 0; }

void recent_read(const struct control *c, struct recent_numbers *out) {
    static struct sample now; /* control has one thread */
    const struct sample *hour = before(c->recent, MINUTES), *minute_ago = before(c->recent, 1);
    take(c, &now);
    *out = (struct recent_numbers){.enrolled_hour = grown(now.enrolled, hour->enrolled), .enrolled_minute = grown(now.enrolled, minute_ago->enrolled),
                                   .requests_hour = grown(now.requests, hour->requests), .since_s = (now.at - hour->at) / 1000};
    for (int i = 0; i < CODES_MAX && i < err_count(); i++) {
        int64_t n = grown(now.refused[i], hour->refused[i]);
        out->refused_hour += n;
        n += grown(now.turned_away[i], hour->turned_away[i]);
        for (size_t k = 0; n && k < RECENT_TOP; k++)
            if (n > out->top[k].n) {
                memmove(&out->top[k + 1], &out->top[k], (RECENT_TOP - k - 1) * sizeof out->top[0]);
                out->top[k].n = n;
                out->top[k].code = err_at(i);
                break;
            }
    }
}

struct recent *recent_new(struct control *c, struct err *err) {
    struct recent *r = calloc(1, sizeof *r);
    if (r) {
        r->c = c;
        r->timer = loop_timer_new(c->loop, minute, r);
    }
    if (!r || !r->timer) {
        free(r);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    minute(r);
    return r;
}

void recent_free(struct recent *r) {
    if (!r)
        return;
    loop_timer_free(r->timer);
    free(r);
}
