/* limits: see limits.h.  A table of rates; what is beyond the line of enrolments, enrol_line.h says. */
#include "gateway/limits.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/enrol_line.h"
#include "gateway/rate.h"
#include "metrics/metrics.h"

#define ENTRIES 65536 /* of each kind */
#define SPREAD 60     /* seconds, over which the devices of one key or account are told to come again */
#define SECOND 1000000LL

struct limits {
    struct rate *rates[LIMITED_N];
    struct enrol_line *line;
};

int limits_new(const struct settings *s, struct limits **out, struct err *err) {
    const int64_t per_minute[LIMITED_N] = {
        [LIMITED_SOURCE] = s->limit_source, [LIMITED_DEVICE] = s->limit_device, [LIMITED_KEY] = s->limit_key, [LIMITED_ACCOUNT] = s->limit_account,
        [LIMITED_GUESS] = s->limit_guesses, [LIMITED_TIME] = s->limit_time};
    struct limits *l = calloc(1, sizeof *l);
    bool good = l && (l->line = enrol_line_new((size_t)s->enrolments));
    for (size_t i = 0; good && i < LIMITED_N; i++)
        good = i == LIMITED_LINE || (l->rates[i] = rate_new(ENTRIES, per_minute[i]));
    if (!good) {
        limits_free(l);
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    *out = l;
    return 0;
}

void limits_free(struct limits *l) {
    if (!l)
        return;
    for (size_t i = 0; i < LIMITED_N; i++)
        rate_free(l->rates[i]);
    enrol_line_free(l->line);
    free(l);
}

void limits_source(const char *address, char out[LIMITS_SOURCE_MAX]) {
    struct in6_addr a;
    char text[INET6_ADDRSTRLEN];
    snprintf(out, LIMITS_SOURCE_MAX, "%s", address);
    if (inet_pton(AF_INET6, address, &a) != 1)
        return;
    memset(a.s6_addr + 8, 0, 8);
    if (inet_ntop(AF_INET6, &a, text, sizeof text))
        snprintf(out, LIMITS_SOURCE_MAX, "%s/64", text);
}

void limits_failed(struct limits *l, const char *address) {
    char source[LIMITS_SOURCE_MAX];
    limits_source(address, source);
    if (source[0])
        rate_add(l->rates[LIMITED_SOURCE], span_str(source), clock_mono_us());
}

bool limits_turn_away(struct limits *l, const char *address) {
    char source[LIMITS_SOURCE_MAX];
    limits_source(address, source);
    if (!source[0] || !rate_wait(l->rates[LIMITED_SOURCE], span_str(source), clock_mono_us()))
        return false;
    metrics_count(METRIC_LIMITED, LIMITED_SOURCE, 0);
    return true;
}

static int too_many(enum metrics_limited of, int64_t wait, const char *whose, struct err *err) {
    metrics_count(METRIC_LIMITED, of, 0);
    return err_retry(err, MUSTER_ETOOMANY, (int)((wait + SECOND - 1) / SECOND), "%s asks more often than the server takes it.", whose);
}

/* Each device may come again at a time of its own: a key's or an account's whole fleet would otherwise come back as one. */
static int take_shared(struct limits *l, enum metrics_limited of, struct span who, struct span device_id, const char *whose, int64_t now, struct err *err) {
    int64_t wait = rate_take(l->rates[of], who, now);
    return wait ? too_many(of, wait + enrol_line_place(device_id, 0, SPREAD) * SECOND, whose, err) : 0;
}

static int take_device(struct limits *l, struct span who, int64_t now, struct err *err) {
    int64_t wait = rate_take(l->rates[LIMITED_DEVICE], who, now);
    return wait ? too_many(LIMITED_DEVICE, wait, "The device", err) : 0;
}

static int enter_line(struct limits *l, enum enrol_line_who who, struct span device_id, int64_t now, struct err *err) {
    int wait;
    if (enrol_line_enter(l->line, who, device_id, now, &wait))
        return 0;
    metrics_count(METRIC_LIMITED, LIMITED_LINE, 0);
    return err_retry(err, MUSTER_ELINE, wait, NULL);
}

/* The device first: one that asks in a loop does not use up what its key and its account have. */
int limits_enrolment_begin(struct limits *l, const struct limits_enrolment *e, struct err *err) {
    CLEANUP(buf_fini) struct buf who = BUF_INIT(4096);
    int64_t now = clock_mono_us();
    buf_add(&who, e->key);
    buf_add(&who, e->device_id);
    int rc = buf_check(&who, err);
    if (rc || (rc = take_device(l, buf_span(&who), now, err)) || (e->key.n && (rc = take_shared(l, LIMITED_KEY, e->key, e->device_id, "The provisioning key", now, err))) ||
        (rc = take_shared(l, LIMITED_ACCOUNT, e->account, e->device_id, "The account", now, err)))
        return rc;
    return enter_line(l, ENROL_LINE_NEW, e->device_id, now, err);
}

int limits_renewal_begin(struct limits *l, int64_t device_row, struct span device_id, struct err *err) {
    int64_t now = clock_mono_us();
    int rc = take_device(l, span_of(&device_row, sizeof device_row), now, err);
    return rc ? rc : enter_line(l, ENROL_LINE_RENEWAL, device_id, now, err);
}

/* --- of a source ----------------------------------------------------------------------------------------------------------------------------- */

static int take_source(struct limits *l, enum metrics_limited of, const char *address, struct err *err) {
    char source[LIMITS_SOURCE_MAX];
    limits_source(address, source);
    int64_t wait = rate_take(l->rates[of], span_str(source), clock_mono_us());
    return wait ? too_many(of, wait, "The source", err) : 0;
}

int limits_guess_begin(struct limits *l, const char *address, struct err *err) { return take_source(l, LIMITED_GUESS, address, err); }
int limits_time_begin(struct limits *l, const char *address, struct err *err) { return take_source(l, LIMITED_TIME, address, err); }

void limits_guess_was_right(struct limits *l, const char *address) {
    char source[LIMITS_SOURCE_MAX];
    limits_source(address, source);
    rate_give_back(l->rates[LIMITED_GUESS], span_str(source), clock_mono_us());
}

void limits_enrolment_end(struct limits *l) { enrol_line_leave(l->line, clock_mono_us()); }

int limits_report(struct limits *l, int64_t device_row, struct err *err) { return take_device(l, span_of(&device_row, sizeof device_row), clock_mono_us(), err); }
