/* ocsp: see ocsp.h. */
#include "admin/ocsp.h"

#include "loop/record.h"
#include "registry/ocsp.h"
#include "registry/ocsp_ask.h"

#define CHANNELS_MAX 256   /* loops of the gateway, of its predecessor and its successor */
#define UNDER_WAY_MAX 32   /* half of what the vault's client takes: operators have the rest */
#define READS_A_TURN 8     /* of one channel, before the others and the operators have their turn */

struct channel {
    struct ocsp_desk *desk;
    struct loop_watch *watch;
    uint64_t id; /* never used again */
    int fd;
};

struct ocsp_desk {
    struct control *c;
    struct channel *channels[CHANNELS_MAX];
    size_t n;
    uint64_t ids;
    size_t under_way;
    uint8_t in[OCSP_ASK_MAX];
};

/* One question. */
struct asked {
    struct ocsp_look look; /* first: what the operation is given; its request's spans point into der */
    struct ocsp_desk *desk;
    uint64_t channel;
    uint32_t id;
    uint8_t der[];
};

static void channel_free(struct channel *ch) {
    loop_watch_free(ch->watch);
    fd_close(ch->fd);
    free(ch);
}

static void drop(struct channel *ch) {
    struct ocsp_desk *d = ch->desk;
    size_t kept = 0;
    for (size_t i = 0; i < d->n; i++)
        if (d->channels[i] != ch)
            d->channels[kept++] = d->channels[i];
    d->n = kept;
    channel_free(ch);
}

/* --- answers ---------------------------------------------------------------------------------------------------------------------- */

/* One that is full is not read: whoever asks there waits for nothing. */
static void send_told(struct ocsp_desk *d, uint64_t channel, const struct ocsp_told *t) {
    CLEANUP(buf_fini) struct buf message = BUF_INIT(OCSP_TOLD_MAX);
    if (ocsp_told_write(t, &message))
        return;
    for (size_t i = 0; i < d->n; i++)
        if (d->channels[i]->id == channel)
            (void)!record_send(d->channels[i]->fd, buf_span(&message));
}

static void end(struct asked *a, const struct ocsp_told *t) {
    send_told(a->desk, a->channel, t);
    a->desk->under_way--;
    free(a);
}

/* RFC 6960, 2.3: unauthorized is for what this responder cannot speak of. */
static enum ocsp_answer answer_of(int rc) {
    if (rc == MUSTER_ENOTFOUND || rc == MUSTER_EDELETED)
        return OCSP_UNAUTHORIZED;
    if (rc == MUSTER_EBUSY || rc == MUSTER_EVAULT || rc == MUSTER_EUNAVAILABLE || rc == MUSTER_ETOKEN || rc == MUSTER_ECLOCK || rc == MUSTER_ERECOVERY)
        return OCSP_LATER;
    return OCSP_INTERNAL;
}

static void fail(struct asked *a, int rc, const struct err *err) {
    const struct ocsp_told t = {.id = a->id, .what = answer_of(rc)};
    if (t.what == OCSP_INTERNAL)
        log_err(LOG_ERROR, "ocsp_failed", err, "account", a->look.account, NULL);
    end(a, &t);
}

static void signed_by_vault(void *arg, int rc, const struct err *err, const struct vault_ocsp_signed *s) {
    struct asked *a = arg;
    if (rc) {
        fail(a, rc, err);
        return;
    }
    struct ocsp_told t = {.id = a->id, .what = OCSP_SUCCESSFUL, .this_update = s->this_update, .next_update = s->next_update, .der = s->der};
    ocsp_said(&a->look, &t.said, &t.all);
    end(a, &t);
}

static void looked(void *arg, int rc, const struct err *err) {
    struct asked *a = arg;
    struct control *c = a->desk->c;
    struct err why = ERR_INIT;
    if (rc) {
        fail(a, rc, err);
        return;
    }
    struct vault_ocsp rq = {.account = span_str(a->look.account), .life = c->o->settings->ocsp_life, .nonce = a->look.request.nonce, .n = a->look.request.n};
    memcpy(rq.key_id, a->look.key_id, sizeof rq.key_id);
    memcpy(rq.at, a->look.at, sizeof rq.at);
    if ((rc = vault_ocsp_sign(c->vault, &rq, signed_by_vault, a, &why)))
        fail(a, rc, &why);
}

/* --- questions ---------------------------------------------------------------------------------------------------------------------- */

/* 0: under way; otherwise what is answered at once. */
static enum ocsp_answer begin(struct channel *ch, const struct ocsp_question *q) {
    struct ocsp_desk *d = ch->desk;
    struct err err = ERR_INIT;
    struct asked *a = d->under_way < UNDER_WAY_MAX ? calloc(1, sizeof *a + q->der.n) : NULL;
    if (!a)
        return OCSP_LATER;
    a->desk = d;
    a->channel = ch->id;
    a->id = q->id;
    memcpy(a->der, q->der.p, q->der.n);
    memcpy(a->look.account, q->account.p, q->account.n);
    enum ocsp_answer at_once = account_name_check(q->account, NULL)                                              ? OCSP_UNAUTHORIZED
                               : ocsp_request_read(span_of(a->der, q->der.n), &a->look.request, NULL)             ? OCSP_MALFORMED
                               : store_read(d->c->registry, d->c->loop, ocsp_look_run, looked, &a->look, &err) ? OCSP_LATER
                                                                                                               : OCSP_SUCCESSFUL;
    if (at_once)
        free(a);
    else
        d->under_way++;
    return at_once;
}

static void readable(void *arg) {
    struct channel *ch = arg;
    struct ocsp_desk *d = ch->desk;
    for (int i = 0; i < READS_A_TURN; i++) {
        struct span message;
        struct ocsp_question q;
        int got = record_receive(ch->fd, d->in, sizeof d->in, &message);
        if (got == RECORD_LATER)
            return;
        if (got != 1 || ocsp_question_read(message, &q)) {
            if (got != RECORD_ENDED)
                log_event(LOG_ERROR, "ocsp_question_malformed", "meaning", "the gateway's process has sent what is no question; it gets no more answers", NULL);
            drop(ch);
            return;
        }
        const struct ocsp_told t = {.id = q.id, .what = begin(ch, &q)};
        if (t.what)
            send_told(d, ch->id, &t);
    }
}

/* --- the desk -------------------------------------------------------------------------------------------------------------------------- */

struct ocsp_desk *ocsp_desk_new(struct control *c, struct err *err) {
    struct ocsp_desk *d = calloc(1, sizeof *d);
    if (d)
        d->c = c;
    else
        err_set(err, MUSTER_ENOMEM, NULL);
    return d;
}

void ocsp_desk_free(struct ocsp_desk *d) {
    if (!d)
        return;
    for (size_t i = 0; i < d->n; i++)
        channel_free(d->channels[i]);
    free(d);
}

void ocsp_desk_attach(struct ocsp_desk *d, int fd) {
    CLEANUP(fd_close) int mine = fd;
    struct channel *ch = d->n < CHANNELS_MAX ? calloc(1, sizeof *ch) : NULL;
    if (ch) {
        *ch = (struct channel){.desk = d, .id = ++d->ids, .fd = -1};
        ch->watch = loop_watch_new(d->c->loop, mine, readable, ch);
    }
    if (!ch || !ch->watch) {
        free(ch);
        log_event(LOG_ERROR, "ocsp_channel_not_taken", NULL);
        return;
    }
    ch->fd = TAKE_FD(mine);
    d->channels[d->n++] = ch;
}
