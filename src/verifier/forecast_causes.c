/* forecast_causes: what was found, put together by what ends; see forecast.h. */
#include "verifier/forecast_part.h"

const char *const FORECAST_WORDS[FORECAST_KINDS] = {
    [FORECAST_DEVICE] = "device-certificate",  [FORECAST_INTERMEDIATE] = "intermediate", [FORECAST_ISSUING] = "issuing-ca", [FORECAST_ROOT] = "fleet-root",
    [FORECAST_SERVER] = "server-certificate", [FORECAST_SERVER_CA] = "server-ca",        [FORECAST_KEY] = "provisioning-key",
};

#define OTHERS (-1) /* the object of what stands for all that is beyond an account's bound */

/* Causes of an account stand together: the walk takes one account after the other. */
static struct forecast_cause *find(struct forecast *f, const struct forecast_cause *like, size_t *n, size_t *keys) {
    *n = *keys = 0;
    for (size_t i = f->n; i-- > 0 && f->causes[i]->account_row == like->account_row;) {
        struct forecast_cause *c = f->causes[i];
        if (c->kind == like->kind && c->object == like->object)
            return c;
        ++*(c->kind == FORECAST_KEY ? keys : n);
    }
    return NULL;
}

struct forecast_cause *forecast_cause(struct forecast *f, const struct forecast_cause *like) {
    struct forecast_cause others = *like;
    size_t n, keys;
    struct forecast_cause *known = find(f, like, &n, &keys);
    if (!known && (like->kind == FORECAST_KEY ? keys >= FORECAST_KEYS_ACCOUNT : n >= FORECAST_CAUSES_ACCOUNT)) {
        others.object = OTHERS;
        others.id = (struct uuid){0};
        snprintf(others.subject, sizeof others.subject, "others");
        like = &others;
        known = find(f, like, &n, &keys);
    }
    if (known)
        return known;
    if (f->n == f->cap) {
        void *more = realloc(f->causes, (f->cap = f->cap ? f->cap * 2 : 16) * sizeof *f->causes);
        if (!more)
            return NULL;
        f->causes = more;
    }
    struct forecast_cause *c = malloc(sizeof *c);
    if (!c)
        return NULL;
    *c = *like;
    f->causes[f->n++] = c;
    return c;
}

/* The walk goes along the ends, so that the day is the last one, or close to it. */
static struct forecast_day *day_of(struct forecast *f, struct forecast_cause *c, int64_t at) {
    const int64_t begin = at - at % f->bin;
    size_t i = c->n_days;
    while (i > 0 && c->days[i - 1].at > begin)
        i--;
    if (i > 0 && c->days[i - 1].at == begin)
        return &c->days[i - 1];
    if (c->n_days == c->cap_days) {
        void *more = realloc(c->days, (c->cap_days = c->cap_days ? c->cap_days * 2 : 8) * sizeof *c->days);
        if (!more)
            return NULL;
        c->days = more;
    }
    memmove(&c->days[i + 1], &c->days[i], (c->n_days - i) * sizeof *c->days);
    c->n_days++;
    f->n_days++;
    c->days[i] = (struct forecast_day){.at = begin};
    return &c->days[i];
}

/* Days twice as long: each of the new ones is made of whole old ones. */
static void widen(struct forecast *f) {
    f->bin *= 2;
    f->n_days = 0;
    for (size_t i = 0; i < f->n; i++) {
        struct forecast_cause *c = f->causes[i];
        size_t n = 0;
        for (size_t k = 0; k < c->n_days; k++) {
            struct forecast_day d = c->days[k];
            d.at -= d.at % f->bin;
            if (n && c->days[n - 1].at == d.at) {
                c->days[n - 1].stops += d.stops;
                c->days[n - 1].renews += d.renews;
            } else {
                c->days[n++] = d;
            }
        }
        c->n_days = n;
        f->n_days += n;
    }
}

void forecast_bound_days(struct forecast *f, size_t days) { f->days_max = days; }

int forecast_add(struct forecast *f, struct forecast_cause *c, int64_t at, int64_t stops, int64_t renews, struct err *err) {
    struct forecast_day *d = day_of(f, c, at);
    if (!d)
        return err_set(err, MUSTER_ENOMEM, NULL);
    d->stops += stops;
    d->renews += renews;
    c->stops += stops;
    c->renews += renews;
    c->first = c->first && c->first < at ? c->first : at;
    c->last = c->last > at ? c->last : at;
    if (stops) {
        c->first_stop = c->first_stop && c->first_stop < at ? c->first_stop : at;
        c->last_stop = c->last_stop > at ? c->last_stop : at;
    }
    while (f->days_max && f->n_days > f->days_max && f->bin < FORECAST_DAYS_MAX * CLOCK_DAY)
        widen(f);
    return 0;
}

static int by_first(const void *l, const void *r) {
    const struct forecast_cause *a = *(const struct forecast_cause *const *)l, *b = *(const struct forecast_cause *const *)r;
    if (a->first != b->first)
        return a->first < b->first ? -1 : 1;
    return a->kind < b->kind ? -1 : a->kind > b->kind;
}

void forecast_sort(struct forecast *f) {
    if (f->n)
        qsort(f->causes, f->n, sizeof *f->causes, by_first);
}

size_t forecast_count(const struct forecast *f) { return f->n; }
const struct forecast_cause *forecast_at(const struct forecast *f, size_t i) { return f->causes[i]; }
int64_t forecast_from(const struct forecast *f) { return f->from; }
bool forecast_complete(const struct forecast *f) { return f->n <= FORECAST_CAUSES_MAX && !f->damaged; }
int64_t forecast_damaged(const struct forecast *f) { return f->damaged; }
const struct err *forecast_damage(const struct forecast *f) { return &f->damage; }

int64_t forecast_stops(const struct forecast *f, const char *account, enum forecast_kind kind, int64_t until) {
    int64_t n = 0;
    for (size_t i = 0; i < f->n; i++) {
        const struct forecast_cause *c = f->causes[i];
        if (c->kind != kind || (*account && strcmp(account, c->account) != 0))
            continue;
        for (size_t k = 0; k < c->n_days && c->days[k].at < until; k++)
            n += c->days[k].stops;
    }
    return n;
}
