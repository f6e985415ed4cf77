/* ocsp_ask: see ocsp_ask.h. */
#include "gateway/ocsp_ask.h"

#include "base/clock.h"
#include "base/log.h"
#include "loop/record.h"

#define ANSWER_MS 10000
#define READS_A_TURN 16

struct asked {
    uint32_t id; /* 0: free */
    int64_t deadline;
    ocsp_told_fn done;
    void *arg;
};

struct ocsp_asker {
    struct loop *loop;
    struct loop_watch *watch;
    struct loop_timer *timer;
    int fd; /* -1: none */
    uint32_t last_id;
    struct asked at[OCSP_ASK_OUTSTANDING];
    uint8_t in[OCSP_TOLD_MAX];
};

static void tell(struct asked *a, const struct ocsp_told *t) {
    const struct asked one = *a;
    *a = (struct asked){0};
    one.done(one.arg, t);
}

/* Those whose time is over by then. */
static void give_up(struct ocsp_asker *k, int64_t by) {
    for (size_t i = 0; i < OCSP_ASK_OUTSTANDING; i++)
        if (k->at[i].id && k->at[i].deadline <= by) {
            const struct ocsp_told later = {.id = k->at[i].id, .what = OCSP_LATER};
            tell(&k->at[i], &later);
        }
}

static void set_timer(struct ocsp_asker *k) {
    int64_t first = INT64_MAX;
    for (size_t i = 0; i < OCSP_ASK_OUTSTANDING; i++)
        if (k->at[i].id && k->at[i].deadline < first)
            first = k->at[i].deadline;
    if (first == INT64_MAX)
        loop_timer_clear(k->timer);
    else
        loop_timer_set(k->timer, first - clock_mono_ms());
}

static void expired(void *arg) {
    struct ocsp_asker *k = arg;
    give_up(k, clock_mono_ms());
    set_timer(k);
}

static void detach(struct ocsp_asker *k) {
    loop_watch_free(TAKE(k->watch));
    fd_close(TAKE_FD(k->fd));
}

static void lost(struct ocsp_asker *k) {
    detach(k);
    give_up(k, INT64_MAX);
    set_timer(k);
}

static void readable(void *arg) {
    struct ocsp_asker *k = arg;
    for (int i = 0; i < READS_A_TURN && k->fd >= 0; i++) {
        struct span message;
        struct ocsp_told t;
        int got = record_receive(k->fd, k->in, sizeof k->in, &message);
        if (got == RECORD_LATER)
            break;
        if (got != 1 || ocsp_told_read(message, &t)) {
            if (got != RECORD_ENDED)
                log_event(LOG_ERROR, "ocsp_answer_malformed", NULL);
            lost(k);
            return;
        }
        for (size_t o = 0; o < OCSP_ASK_OUTSTANDING; o++)
            if (k->at[o].id == t.id) {
                tell(&k->at[o], &t);
                break;
            }
    }
    set_timer(k);
}

struct ocsp_asker *ocsp_asker_new(struct loop *l, struct err *err) {
    struct ocsp_asker *k = calloc(1, sizeof *k);
    if (k) {
        k->loop = l;
        k->fd = -1;
        k->timer = loop_timer_new(l, expired, k);
    }
    if (!k || !k->timer) {
        free(k);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    return k;
}

void ocsp_asker_free(struct ocsp_asker *k) {
    if (!k)
        return;
    detach(k);
    loop_timer_free(k->timer);
    free(k);
}

void ocsp_asker_end(struct ocsp_asker *k) {
    if (k)
        lost(k);
}

void ocsp_asker_attach(struct ocsp_asker *k, int fd) {
    lost(k);
    k->watch = loop_watch_new(k->loop, fd, readable, k);
    if (k->watch) {
        k->fd = fd;
        return;
    }
    fd_close(fd);
    log_event(LOG_ERROR, "out_of_memory", NULL);
}

int ocsp_ask(struct ocsp_asker *k, struct span account, struct span der, ocsp_told_fn done, void *arg, struct err *err) {
    CLEANUP(buf_fini) struct buf message = BUF_INIT(OCSP_ASK_MAX);
    size_t i = 0;
    if (k->fd < 0)
        return err_retry(err, MUSTER_EUNAVAILABLE, 1, "The process that answers OCSP is not there at the moment.");
    while (i < OCSP_ASK_OUTSTANDING && k->at[i].id)
        i++;
    if (i == OCSP_ASK_OUTSTANDING)
        return err_retry(err, MUSTER_EBUSY, 1, "More is asked of OCSP than is answered.");
    k->last_id = k->last_id == UINT32_MAX ? 1 : k->last_id + 1;
    const struct ocsp_question q = {.id = k->last_id, .account = account, .der = der};
    int rc = ocsp_question_write(&q, &message);
    if (rc)
        return err_set(err, rc, NULL);
    if (record_send(k->fd, buf_span(&message))) /* full, or it has ended, which reading will say */
        return err_retry(err, MUSTER_EBUSY, 1, "More is asked of OCSP than is answered.");
    k->at[i] = (struct asked){.id = q.id, .deadline = clock_mono_ms() + ANSWER_MS, .done = done, .arg = arg};
    set_timer(k);
    return 0;
}
