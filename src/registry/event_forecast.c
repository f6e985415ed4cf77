/* event_forecast: see event_forecast.h. */
#include "registry/event_forecast.h"

#define WHAT_FORECAST 32 /* beside those of event_sweep.c and event.c: and the kind */
#define EVENTS_MAX 1000  /* of one look; what is beyond comes with the next */

int event_forecast_add(struct event_forecast *e, const struct event_forecast_row *row) {
    if (e->n == e->cap) {
        void *more = realloc(e->at, (e->cap = e->cap ? e->cap * 2 : 32) * sizeof *e->at);
        if (!more)
            return MUSTER_ENOMEM;
        e->at = more;
    }
    e->at[e->n++] = *row;
    return 0;
}

void event_forecast_fini(struct event_forecast *e) {
    free(e->at);
    e->at = NULL;
    e->n = e->cap = 0;
}

static int by_group(const void *l, const void *r) {
    const struct event_forecast_row *a = l, *b = r;
    if (a->account != b->account)
        return a->account < b->account ? -1 : 1;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return a->day < b->day ? -1 : a->day > b->day;
}

static int say(struct store_tx *tx, const struct event_forecast_row *r, int days, struct err *err) {
    struct account a;
    int found = r->account ? account_find_row(tx, r->account, &a, err) : 1;
    if (found <= 0 || (r->account && a.state != ACCOUNT_ACTIVE))
        return found < 0 ? found : 0;
    json_t *o = json_object();
    json_set_str(o, "cause", r->cause);
    json_set_uuid(o, "object", &r->id);
    json_set_str(o, "subject", *r->subject ? r->subject : NULL);
    json_set_str(o, "code", err_code(r->code));
    json_set_time(o, "day", r->day);
    json_set_int(o, "stops", r->stops);
    json_set_int(o, "renews", r->renews);
    json_set_int(o, "days", days);
    return event_plain(tx, r->account ? &a : NULL, EVENT_FORECAST_STOPS, o, err);
}

/* The days of one account and kind, n from `at` on, for one number of days; what ends within `below` days is said with that smaller number. */
static int group(struct store_tx *tx, const struct event_forecast *e, const struct event_forecast_row *at, size_t n, int days, int below, int *left, struct err *err) {
    const int64_t today = e->now - e->now % CLOCK_DAY, what = WHAT_FORECAST + at->kind, least = today + (below ? below : -1) * CLOCK_DAY;
    int64_t until, reached = today + days * CLOCK_DAY;
    int rc = one_int(tx, &until, 0, err, SQL_EVENT_SWEPT, "iii", at->account, what, I(days));
    if (until > reached + CLOCK_DAY) /* that a clock has written which ran ahead */
        until = 0;
    const int64_t done = until > least ? until : least;
    for (size_t i = 0; !rc && i < n && at[i].day <= reached; i++) {
        if (at[i].day <= done)
            continue;
        if (*left)
            rc = say(tx, &at[i], days, err);
        else
            reached = at[i].day - CLOCK_DAY;
        *left -= *left > 0;
    }
    return rc || reached <= until ? rc : store_exec(tx, NULL, err, SQL_EVENT_SWEPT_SET, "iiiii", at->account, what, I(days), reached, INT64_MAX);
}

int event_forecast_run(struct store_tx *tx, void *arg, struct err *err) {
    static const int days[] = {1, 7, EVENT_FORECAST_DAYS};
    struct event_forecast *e = arg;
    int left = EVENTS_MAX, rc = 0;
    if (e->n)
        qsort(e->at, e->n, sizeof *e->at, by_group);
    for (size_t i = 0, n; !rc && i < e->n; i += n) {
        bool wanted;
        for (n = 1; i + n < e->n && e->at[i + n].account == e->at[i].account && e->at[i + n].kind == e->at[i].kind;)
            n++;
        rc = event_is_wanted(tx, e->at[i].account, EVENT_FORECAST_STOPS, &wanted, err);
        for (size_t d = 0; !rc && wanted && d < sizeof days / sizeof *days; d++)
            rc = group(tx, e, &e->at[i], n, days[d], d ? days[d - 1] : 0, &left, err);
    }
    return rc;
}
