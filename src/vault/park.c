/* vault/park: see park.h. */
#include "vault/park.h"

#include "base/clock.h"
#include "base/log.h"
#include "loop/record.h"
#include "metrics/metrics.h"
#include "vault/serve.h"
#include "vault/survey.h"

#define WINDOW 2 /* questions that the token has at a time: the next one is there when it is done with one */

enum stage { STAGE_FREE, STAGE_QUEUED, STAGE_ASKED, STAGE_DONE };

struct job {
    enum stage stage;
    uint64_t channel, number; /* number: in order of coming */
    enum vault_channel kind;
    uint32_t question;        /* ASKED: its id */
    int64_t deadline;         /* monotonic, ms */
    struct buf message, answer;
    struct trail trail;
};

struct park {
    int fd; /* -1: no token's process */
    bool configured, away; /* away: the last answer was that the token is not there */
    uint32_t ids;
    uint64_t numbers;
    /* questions that were sent and not answered; a job may have given up on one */
    struct {
        uint32_t id; /* 0: free */
        int64_t since;
    } asked[WINDOW];
    int64_t heard;      /* monotonic, ms: the last answer, or the last time that it was asked how it is */
    uint32_t surveyed;  /* the question of the survey; 0: none */
    struct survey survey;
    struct job at[PARK_MAX];
};

struct park *park_new(bool configured, struct err *err) {
    struct park *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    p->fd = -1;
    p->configured = configured;
    return p;
}

static void job_end(struct job *j) {
    trail_fini(&j->trail);
    buf_wipe(&j->message);
    buf_fini(&j->answer);
    j->stage = STAGE_FREE;
}

void park_free(struct park *p) {
    if (!p)
        return;
    for (size_t i = 0; i < PARK_MAX; i++)
        if (p->at[i].stage != STAGE_FREE)
            job_end(&p->at[i]);
    fd_close(p->fd);
    free(p);
}

/* --- questions ---------------------------------------------------------------------------------------------------------------------- */

static int away(struct err *err, const char *why) { return err_retry(err, MUSTER_ETOKEN, SERVE_RETRY_SECONDS, "%s", why); }

static size_t free_window(const struct park *p) {
    size_t i = 0;
    while (i < WINDOW && p->asked[i].id)
        i++;
    return i;
}

static bool hangs(const struct park *p, int64_t mono_ms) {
    for (size_t i = 0; i < WINDOW; i++)
        if (p->asked[i].id && mono_ms - p->asked[i].since >= PARK_WAIT_MS)
            return true;
    return false;
}

enum vault_token park_token(const struct park *p, int64_t mono_ms) {
    return !p->configured ? VAULT_TOKEN_NONE : p->fd >= 0 && !p->away && !hangs(p, mono_ms) ? VAULT_TOKEN_ANSWERS : VAULT_TOKEN_SILENT;
}

static bool send_question(struct park *p, struct token_request *rq, int64_t mono_ms) {
    CLEANUP(buf_fini) struct buf message = BUF_INIT(TOKEN_MESSAGE_MAX);
    size_t at = free_window(p);
    if (p->fd < 0 || at == WINDOW)
        return false;
    rq->id = ++p->ids ? p->ids : ++p->ids;
    if (token_request_write(rq, &message) || record_send(p->fd, buf_span(&message)))
        return false;
    p->asked[at].id = rq->id;
    p->asked[at].since = mono_ms;
    return true;
}

static struct job *next_queued(struct park *p) {
    struct job *first = NULL;
    for (size_t i = 0; i < PARK_MAX; i++)
        if (p->at[i].stage == STAGE_QUEUED && (!first || p->at[i].number < first->number))
            first = &p->at[i];
    return first;
}

static void ask_more(struct park *p, int64_t mono_ms) {
    for (struct job *j; free_window(p) < WINDOW && (j = next_queued(p));) {
        if (!send_question(p, &j->trail.want, mono_ms))
            return;
        j->question = j->trail.want.id;
        j->stage = STAGE_ASKED;
    }
}

/* One question of the survey, where nobody waits for the token.  True: there may be more to do at once. */
static bool survey_more(struct park *p, struct vault *v, int64_t mono_ms) {
    struct token_request rq;
    if (p->surveyed || !p->survey.under_way || !v->records || p->fd < 0 || next_queued(p) || free_window(p) == WINDOW)
        return false;
    if (!survey_next(&p->survey, v->records, &rq))
        return p->survey.under_way;
    if (send_question(p, &rq, mono_ms))
        p->surveyed = rq.id;
    else
        p->survey.under_way = false; /* its process has ended, which is about to be heard */
    return false;
}

/* Keys that nobody will know of: best effort, a token that is away keeps them. */
static void destroy_generated(struct park *p, const struct job *j, int64_t mono_ms) {
    uint8_t ids[TRAIL_MAX][TOKEN_ID_LEN];
    size_t n = trail_generated(&j->trail, ids);
    for (size_t i = 0; i < n; i++) {
        CLEANUP(buf_fini) struct buf message = BUF_INIT(TOKEN_MESSAGE_MAX);
        struct token_request rq = {.op = TOKEN_DESTROY}; /* id 0: nobody waits for the answer */
        memcpy(rq.key, ids[i], sizeof rq.key);
        if (p->fd < 0 || token_request_write(&rq, &message) || record_send(p->fd, buf_span(&message)))
            log_event(LOG_WARN, "token_key_left", "meaning", "a key that was made for a request that failed stays in the token", NULL);
    }
}

/* --- running ------------------------------------------------------------------------------------------------------------------------ */

/* From the beginning, with what the trail knows by now. */
static int run(struct park *p, struct vault *v, struct job *j, int64_t mono_ms, struct err *err) {
    buf_clear(&j->answer);
    int rc = serve_again(v, j->kind, buf_span(&j->message), &j->trail, &j->answer, err);
    if (rc < 0)
        return rc;
    if (rc == SERVE_WANTS) {
        j->stage = STAGE_QUEUED;
        return 0;
    }
    if (rc == SERVE_REFUSED)
        destroy_generated(p, j, mono_ms);
    j->stage = STAGE_DONE;
    return 0;
}

static int refuse(struct park *p, struct vault *v, struct job *j, const struct err *why, int64_t mono_ms, struct err *err) {
    trail_refuse(&j->trail, why);
    return run(p, v, j, mono_ms, err);
}

static int refuse_all(struct park *p, struct vault *v, const char *text, int64_t mono_ms, struct err *err) {
    struct err why = ERR_INIT;
    int rc = 0;
    away(&why, text);
    for (size_t i = 0; !rc && i < PARK_MAX; i++)
        if (p->at[i].stage == STAGE_QUEUED || p->at[i].stage == STAGE_ASKED)
            rc = refuse(p, v, &p->at[i], &why, mono_ms, err);
    return rc;
}

int park_take(struct park *p, uint64_t channel, enum vault_channel kind, struct span message, struct trail *t, int64_t mono_ms, struct err *err) {
    struct job *j = NULL;
    if (!p->configured)
        return err_set(err, MUSTER_ETOKEN, "The account's keys are in a security module, and musterd.conf names none (pkcs11_module).");
    if (p->fd < 0)
        return away(err, "The process with the security module is not there at the moment.");
    if (hangs(p, mono_ms))
        return away(err, "The security module does not answer.");
    for (size_t i = 0; i < PARK_MAX && !j; i++)
        if (p->at[i].stage == STAGE_FREE)
            j = &p->at[i];
    if (!j)
        return err_retry(err, MUSTER_EBUSY, SERVE_RETRY_SECONDS, "%d requests wait for the security module.", PARK_MAX);
    j->message = BUF_INIT(WIRE_MESSAGE_MAX);
    buf_add(&j->message, message);
    j->answer = BUF_INIT(WIRE_MESSAGE_MAX);
    if (!buf_ok(&j->message)) {
        buf_fini(&j->message);
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    j->stage = STAGE_QUEUED;
    j->channel = channel;
    j->kind = kind;
    j->number = ++p->numbers;
    j->deadline = mono_ms + PARK_WAIT_MS;
    j->trail = *t;
    t->n = t->at = 0;
    ask_more(p, mono_ms);
    return 0;
}

/* --- the token's side ------------------------------------------------------------------------------------------------------------------ */

void park_attach(struct park *p, int fd) {
    fd_close(p->fd);
    p->fd = fd;
    p->configured = true;
    p->away = false;
    memset(p->asked, 0, sizeof p->asked);
    p->surveyed = 0;
    survey_begin(&p->survey);
    for (size_t i = 0; i < PARK_MAX; i++)
        if (p->at[i].stage == STAGE_ASKED) /* the process before took the question with it */
            p->at[i].stage = STAGE_QUEUED;
    ask_more(p, clock_mono_ms());
}

struct pollfd park_poll(const struct park *p) { return (struct pollfd){.fd = p->fd, .events = POLLIN}; }

static int take_answer(struct park *p, struct vault *v, const struct token_answer *a, int64_t mono_ms, struct err *err) {
    struct job *j = NULL;
    for (size_t i = 0; i < WINDOW; i++)
        if (a->id && p->asked[i].id == a->id)
            p->asked[i].id = 0;
    if (a->status == TOKEN_AWAY && !p->away)
        log_event(LOG_ERROR, "token_away", "why", a->text, NULL);
    else if ((a->status == TOKEN_OK || a->status == TOKEN_NO_KEY) && p->away) {
        log_event(LOG_INFO, "token_back", NULL);
        survey_begin(&p->survey);
    }
    p->away = a->status == TOKEN_AWAY || (p->away && a->status == TOKEN_REFUSED); /* without the key that was asked for it is there all the same */
    p->heard = mono_ms;
    if (a->id && a->id == p->surveyed) {
        p->surveyed = 0;
        survey_answer(&p->survey, a);
        return 0;
    }
    for (size_t i = 0; i < PARK_MAX && !j; i++)
        if (a->id && p->at[i].stage == STAGE_ASKED && p->at[i].question == a->id)
            j = &p->at[i];
    if (!j || j->trail.want.op != a->op)
        return 0;
    if (a->status == TOKEN_OK) {
        trail_answer(&j->trail, a);
        return run(p, v, j, mono_ms, err);
    }
    struct err why = ERR_INIT;
    if (a->status == TOKEN_NO_KEY)
        err_set(&why, MUSTER_ETOKEN, "The security module does not have the account's key: %s.", a->text);
    else
        err_retry(&why, MUSTER_ETOKEN, SERVE_RETRY_SECONDS, "The security module does not do it: %s.", a->text);
    return refuse(p, v, j, &why, mono_ms, err);
}

int park_ready(struct park *p, struct vault *v, int64_t mono_ms, struct err *err) {
    uint8_t room[TOKEN_MESSAGE_MAX];
    for (;;) {
        struct span message;
        struct token_answer a;
        int got = record_receive(p->fd, room, sizeof room, &message);
        if (got == RECORD_LATER)
            break;
        if (got != 1 || token_answer_read(message, &a)) {
            if (got != RECORD_ENDED)
                log_event(LOG_ERROR, "token_answer_malformed", NULL);
            fd_close(TAKE_FD(p->fd));
            memset(p->asked, 0, sizeof p->asked);
            return refuse_all(p, v, "The process with the security module has ended; it is started again.", mono_ms, err);
        }
        int rc = take_answer(p, v, &a, mono_ms, err);
        if (rc)
            return rc;
    }
    ask_more(p, mono_ms);
    return 0;
}

/* Where nobody has wanted anything of it for a while: that it is gone is told before somebody needs it.  It has no key without an ID, and says so. */
static void ask_how_it_is(struct park *p, int64_t mono_ms, int64_t *next) {
    struct token_request rq = {.op = TOKEN_LOOK};
    if (p->fd < 0)
        return;
    if (mono_ms - p->heard >= PARK_LOOK_MS && free_window(p) == 0 && send_question(p, &rq, mono_ms))
        p->heard = mono_ms;
    if (p->heard + PARK_LOOK_MS > mono_ms && p->heard + PARK_LOOK_MS < *next)
        *next = p->heard + PARK_LOOK_MS;
}

int park_expire(struct park *p, struct vault *v, int64_t mono_ms, int64_t *next, struct err *err) {
    struct err why = ERR_INIT;
    int rc = 0;
    *next = INT64_MAX;
    away(&why, "The security module did not answer in time.");
    for (size_t i = 0; !rc && i < PARK_MAX; i++) {
        struct job *j = &p->at[i];
        if (j->stage != STAGE_QUEUED && j->stage != STAGE_ASKED)
            continue;
        if (j->deadline > mono_ms)
            *next = j->deadline < *next ? j->deadline : *next;
        else
            rc = refuse(p, v, j, &why, mono_ms, err);
    }
    if (!rc) {
        ask_more(p, mono_ms);
        if (survey_more(p, v, mono_ms))
            *next = mono_ms;
        ask_how_it_is(p, mono_ms, next);
    }
    static const enum metrics_token told[] = {[VAULT_TOKEN_NONE] = METRICS_TOKEN_NONE, [VAULT_TOKEN_ANSWERS] = METRICS_TOKEN_ANSWERS, [VAULT_TOKEN_SILENT] = METRICS_TOKEN_SILENT};
    metrics_set(METRIC_TOKEN, 0, told[park_token(p, mono_ms)]);
    return rc;
}

void park_deliver(struct park *p, park_deliver_fn deliver, void *arg) {
    for (size_t i = 0; i < PARK_MAX; i++)
        if (p->at[i].stage == STAGE_DONE && deliver(arg, p->at[i].channel, buf_span(&p->at[i].answer)))
            job_end(&p->at[i]);
}

bool park_waits(const struct park *p) {
    for (size_t i = 0; i < PARK_MAX; i++)
        if (p->at[i].stage == STAGE_QUEUED || p->at[i].stage == STAGE_ASKED)
            return true;
    return false;
}

bool park_has(const struct park *p, uint64_t channel) {
    for (size_t i = 0; i < PARK_MAX; i++)
        if ((p->at[i].stage == STAGE_QUEUED || p->at[i].stage == STAGE_ASKED) && p->at[i].channel == channel)
            return true;
    return false;
}
