/* pulse: whether the vault answers: control asks it the time once a second.  A vault that was stopped, or hangs, keeps its channel and is
 * noticed all the same; whoever asks (/readyz, status, /metrics) gets the last word and makes no request of his own. */
#include "admin/internal.h"
#include "base/clock.h"

#define EVERY_MS 1000
#define ANSWER_MS 1500

struct pulse {
    struct control *c;
    struct loop_timer *timer;
    bool asked;       /* and no answer yet */
    int64_t asked_us; /* monotonic */
    int64_t took_us;  /* of the last answer; -1: none */
    bool failed;      /* the last one was an error */
};

static void answered(void *arg, int rc, const struct err *err, int64_t now) {
    struct pulse *p = arg;
    p->asked = false;
    p->failed = rc != 0;
    p->took_us = rc ? -1 : clock_mono_us() - p->asked_us;
}

static void beat(void *arg) {
    struct pulse *p = arg;
    if (!p->asked && vault_client_attached(p->c->vault)) {
        p->asked_us = clock_mono_us();
        p->asked = vault_time(p->c->vault, answered, p, NULL) == 0;
        p->failed = !p->asked;
    }
    loop_timer_set(p->timer, EVERY_MS);
}

enum pulse_state pulse_state(const struct control *c) {
    const struct pulse *p = c->pulse;
    if (!vault_client_attached(c->vault) || !c->greeted)
        return p->asked && vault_client_attached(c->vault) && clock_mono_us() - p->asked_us > ANSWER_MS * 1000 ? PULSE_SILENT : PULSE_AWAY;
    if (p->failed || (p->asked && clock_mono_us() - p->asked_us > ANSWER_MS * 1000))
        return PULSE_SILENT;
    return PULSE_ALIVE;
}

const char *pulse_word(enum pulse_state s) { return s == PULSE_ALIVE ? "ok" : s == PULSE_SILENT ? "silent" : "unavailable"; }
int64_t pulse_took_us(const struct control *c) { return c->pulse->took_us; }

struct pulse *pulse_new(struct control *c, struct err *err) {
    struct pulse *p = calloc(1, sizeof *p);
    if (p)
        *p = (struct pulse){.c = c, .took_us = -1, .timer = loop_timer_new(c->loop, beat, p)};
    if (!p || !p->timer) {
        free(p);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    loop_timer_set(p->timer, 0);
    return p;
}

void pulse_free(struct pulse *p) {
    if (!p)
        return;
    loop_timer_free(p->timer);
    free(p);
}
