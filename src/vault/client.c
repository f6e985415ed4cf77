/* vault/client: see vault.h and client.h.
 *
 * Requests wait in a table of fixed size; a request's id names its place and the place's generation, so that an answer that comes
 * after its time is recognised.  The list of requests in order of making is the list of deadlines.
 * A vault that has said nothing for SILENT_MS while it was asked hangs: no request is made then, and none waits long.
 * What the channel does not take at once is kept, and sent when an answer shows that the vault goes on reading. */
#include "vault/client.h"

#include "base/clock.h"
#include "base/log.h"
#include "metrics/metrics.h"
#include "vault/channel.h"

#define OUTSTANDING_MAX 1024
#define PLACE_BITS 10
#define NONE UINT32_MAX
#define RETRY_SECONDS 5
#define READS_A_TURN 64
#define SILENT_MS 3000
#define SILENT_TIMEOUT_MS 1000 /* of what is asked of a silent one, to find out whether it is back */
_Static_assert(OUTSTANDING_MAX <= 1 << PLACE_BITS, "an id names its place");

struct outstanding {
    uint32_t id; /* 0: the place is free */
    enum wire_type type;
    bool forgotten;
    union client_callback done;
    void *arg;
    int64_t asked, deadline; /* monotonic, ms */
    struct buf unsent;  /* the message, while the channel has not taken it */
    uint32_t next, previous; /* places, in order of making; next also of free ones */
};

struct vault_client {
    struct loop *loop;
    int fd; /* -1: no channel */
    struct loop_watch *watch;
    struct loop_timer *timer;
    loop_fn lost;
    void *lost_arg;
    vault_export_fn export;
    void *export_arg;
    struct outstanding *places;
    size_t max, n;
    uint32_t first, last, free;
    uint32_t first_unsent; /* all behind it are unsent too */
    uint32_t generation;
    int64_t heard;         /* monotonic, ms: the last message of the vault, or when the channel came */
    bool silent;           /* a request's time was over and nothing had been heard since it was made */
    uint32_t attachment;   /* counts channels: a callback may have changed it */
    struct buf out;        /* the message being made */
    uint8_t in[WIRE_MESSAGE_MAX];
};

static int no_vault(struct err *err, const char *why) {
    return err_retry(err, MUSTER_EVAULT, RETRY_SECONDS, "%s", why);
}

/* --- the table ---------------------------------------------------------------------------------------------------------------- */

static struct outstanding *place_take(struct vault_client *c) {
    uint32_t at = c->free;
    struct outstanding *o = &c->places[at];
    c->free = o->next;
    c->generation = (c->generation + 1) & (UINT32_MAX >> PLACE_BITS);
    if (c->generation == 0)
        c->generation = 1;
    *o = (struct outstanding){.id = c->generation << PLACE_BITS | at, .unsent = BUF_INIT(WIRE_MESSAGE_MAX), .next = NONE, .previous = c->last};
    if (c->last == NONE)
        c->first = at;
    else
        c->places[c->last].next = at;
    c->last = at;
    c->n++;
    return o;
}

static uint32_t place_of(const struct outstanding *o) { return o->id & ((1U << PLACE_BITS) - 1); }

static void place_release(struct vault_client *c, struct outstanding *o) {
    uint32_t at = place_of(o);
    if (c->first_unsent == at)
        c->first_unsent = o->next;
    if (o->previous == NONE)
        c->first = o->next;
    else
        c->places[o->previous].next = o->next;
    if (o->next == NONE)
        c->last = o->previous;
    else
        c->places[o->next].previous = o->previous;
    buf_fini(&o->unsent);
    *o = (struct outstanding){.next = c->free};
    c->free = at;
    c->n--;
}

static void set_timer(struct vault_client *c) {
    if (c->first == NONE)
        loop_timer_clear(c->timer);
    else
        loop_timer_set(c->timer, c->places[c->first].deadline - clock_mono_ms());
}

/* --- answers ------------------------------------------------------------------------------------------------------------------ */

/* Releases the place, then calls back with the answer, or with err where that is set. */
static void deliver(struct vault_client *c, struct outstanding *o, const struct wire_answer *a, const struct err *err) {
    union client_callback done = o->done;
    enum wire_type type = o->type;
    bool forgotten = o->forgotten;
    void *arg = o->arg;
    int rc = err->code;
    place_release(c, o);
    if (forgotten)
        return;
    switch (type) {
    case WIRE_HELLO:
        done.hello(arg, rc, err, rc ? 0 : a->version.version);
        return;
    case WIRE_TIME:
        done.time(arg, rc, err, rc ? 0 : a->time);
        return;
    case WIRE_TIME_SIGN:
        done.time_sign(arg, rc, err, rc ? NULL : &a->time_signed);
        return;
    case WIRE_ISSUE:
    case WIRE_KEY_ISSUE:
    case WIRE_LINE_ISSUE:
    case WIRE_SERVER_ISSUE:
        done.issue(arg, rc, err, rc ? NULL : &a->issued);
        return;
    case WIRE_ACCOUNT_CREATE:
    case WIRE_ACCOUNT_POLICY:
    case WIRE_ACCOUNT_SHOW:
    case WIRE_ISSUING_RENEW:
    case WIRE_ROOT_ROTATE:
        done.account(arg, rc, err, rc ? NULL : &a->view);
        return;
    case WIRE_ACCOUNT_DELETE:
        done.version(arg, rc, err, rc ? 0 : a->version.version, rc ? false : a->version.changed);
        return;
    case WIRE_SERVER_CA:
    case WIRE_SERVER_ROTATE:
    case WIRE_SERVER_RETIRE:
        done.server(arg, rc, err, rc ? NULL : &a->server);
        return;
    case WIRE_AUDIT_KEY:
    case WIRE_CRL_ENTRIES:
        done.der(arg, rc, err, rc ? SPAN_NONE : a->der);
        return;
    case WIRE_HEADS_SIGN:
        done.heads(arg, rc, err, rc ? 0 : a->heads.time, rc ? SPAN_NONE : a->heads.signature);
        return;
    case WIRE_EXPORT_ANSWER:
        done.done(arg, rc, err);
        return;
    case WIRE_CRL_BEGIN:
        done.crl_begin(arg, rc, err, rc ? NULL : &a->begun);
        return;
    case WIRE_CRL_SIGN:
        done.crl_sign(arg, rc, err, rc ? SPAN_NONE : a->crl.front, rc ? SPAN_NONE : a->crl.tail);
        return;
    case WIRE_OCSP_SIGN:
        done.ocsp(arg, rc, err, rc ? NULL : &a->ocsp);
        return;
    }
}

/* The request has got no answer and will get none. */
static void fail_one(struct vault_client *c, struct outstanding *o, const struct err *err) {
    metrics_count(METRIC_VAULT_UNANSWERED, 0, 0);
    deliver(c, o, NULL, err);
}

static void fail_all(struct vault_client *c, const struct err *err) {
    while (c->first != NONE)
        fail_one(c, &c->places[c->first], err);
    loop_timer_clear(c->timer);
}

static void detach(struct vault_client *c) {
    loop_watch_free(c->watch);
    c->watch = NULL;
    fd_close(c->fd);
    c->fd = -1;
    c->attachment++;
}

static void lost(struct vault_client *c, const char *why) {
    struct err err = ERR_INIT;
    detach(c);
    uint32_t attachment = c->attachment;
    no_vault(&err, why);
    fail_all(c, &err);
    if (c->lost && c->attachment == attachment)
        c->lost(c->lost_arg);
}

static void flush(struct vault_client *c) {
    while (c->first_unsent != NONE) {
        struct outstanding *o = &c->places[c->first_unsent];
        if (record_send(c->fd, buf_span(&o->unsent))) /* if it has ended, reading will say so */
            return;
        buf_fini(&o->unsent);
        c->first_unsent = o->next;
    }
}

/* false: the vault speaks another language. */
static bool take_message(struct vault_client *c, struct span message) {
    uint32_t id;
    uint16_t number;
    struct wire_answer a;
    c->heard = clock_mono_ms();
    c->silent = false;
    if (!wire_peek(message, &id, &number))
        return false;
    if (id == 0 && number == WIRE_WORKING)
        return true;
    if (id == 0) {
        struct vault_export wanted;
        if (wire_wanted_read(message, &wanted))
            return false;
        if (c->export)
            c->export(c->export_arg, &wanted);
        return true;
    }
    if (wire_answer_read(message, &a))
        return false;
    uint32_t at = id & ((1U << PLACE_BITS) - 1);
    if (at >= c->max || c->places[at].id != id) /* its time was over */
        return true;
    struct outstanding *o = &c->places[at];
    if (o->type != a.type)
        return false;
    struct err err = ERR_INIT;
    if (a.rc)
        err_set(&err, a.rc, "%.*s", SPAN_FMT(a.text));
    err.retry_after = a.rc ? a.retry_after : 0;
    deliver(c, o, &a, &err);
    return true;
}

static void readable(void *arg) {
    struct vault_client *c = arg;
    uint32_t attachment = c->attachment;
    for (int i = 0; i < READS_A_TURN && c->attachment == attachment; i++) {
        struct span message;
        int got = record_receive(c->fd, c->in, sizeof c->in, &message);
        if (got == RECORD_LATER)
            break;
        if (got == RECORD_ENDED) {
            lost(c, "The vault has ended.");
            return;
        }
        if (got == RECORD_MALFORMED || !take_message(c, message)) {
            log_event(LOG_ERROR, "vault_answer_malformed", NULL);
            if (c->attachment == attachment)
                lost(c, "The vault's answer cannot be read.");
            return;
        }
    }
    if (c->attachment == attachment) {
        flush(c);
        set_timer(c);
    }
}

static void expired(void *arg) {
    struct vault_client *c = arg;
    struct err err = ERR_INIT;
    int64_t now = clock_mono_ms();
    no_vault(&err, "The vault did not answer in time.");
    if (c->first != NONE && c->places[c->first].deadline <= now && now - c->heard >= SILENT_MS) {
        c->silent = true;
        fail_all(c, &err); /* the others would wait for nothing, and in vain */
    }
    while (c->first != NONE && c->places[c->first].deadline <= now)
        fail_one(c, &c->places[c->first], &err);
    set_timer(c);
}

/* --- the client --------------------------------------------------------------------------------------------------------------- */

struct vault_client *vault_client_new(struct loop *l, size_t max_outstanding, struct err *err) {
    if (max_outstanding < 1 || max_outstanding > OUTSTANDING_MAX) {
        err_set(err, MUSTER_EINVALID, "A vault's client has 1 to %d requests outstanding.", OUTSTANDING_MAX);
        return NULL;
    }
    CLEANUP(vault_client_free) struct vault_client *c = calloc(1, sizeof *c);
    if (c) {
        *c = (struct vault_client){.loop = l, .fd = -1, .max = max_outstanding, .first = NONE, .last = NONE, .first_unsent = NONE, .out = BUF_INIT(WIRE_MESSAGE_MAX)};
        c->places = calloc(max_outstanding, sizeof *c->places);
        c->timer = loop_timer_new(l, expired, c);
    }
    if (!c || !c->places || !c->timer) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    for (size_t i = 0; i < max_outstanding; i++)
        c->places[i].next = i + 1 < max_outstanding ? (uint32_t)i + 1 : NONE;
    return TAKE(c);
}

void vault_client_end(struct vault_client *c) {
    struct err err = ERR_INIT;
    if (!c)
        return;
    detach(c);
    no_vault(&err, "The server is ending.");
    fail_all(c, &err);
}

void vault_client_free(struct vault_client *c) {
    if (!c)
        return;
    detach(c);
    loop_timer_free(c->timer);
    for (size_t i = 0; c->places && i < c->max; i++)
        buf_fini(&c->places[i].unsent);
    free(c->places);
    buf_fini(&c->out);
    free(c);
}

int vault_client_attach(struct vault_client *c, int fd, struct err *err) {
    CLEANUP(fd_close) int mine = fd;
    struct err before = ERR_INIT;
    detach(c);
    no_vault(&before, "The vault was started again.");
    fail_all(c, &before);
    c->watch = loop_watch_new(c->loop, mine, readable, c);
    if (!c->watch)
        return err_set(err, MUSTER_ENOMEM, NULL);
    c->fd = TAKE_FD(mine);
    c->heard = clock_mono_ms();
    c->silent = false;
    return 0;
}

bool vault_client_attached(const struct vault_client *c) { return c->fd >= 0; }
size_t vault_client_outstanding(const struct vault_client *c) { return c->n; }

void vault_client_on_lost(struct vault_client *c, loop_fn fn, void *arg) {
    c->lost = fn;
    c->lost_arg = arg;
}

void vault_client_on_export(struct vault_client *c, vault_export_fn fn, void *arg) {
    c->export = fn;
    c->export_arg = arg;
}

void vault_forget(struct vault_client *c, const void *arg) {
    for (uint32_t at = c->first; at != NONE;) {
        struct outstanding *o = &c->places[at];
        at = o->next;
        if (o->arg != arg)
            continue;
        if (o->unsent.n)
            place_release(c, o);
        else
            o->forgotten = true; /* the vault works on it: its place stays taken */
    }
}

/* --- a request ----------------------------------------------------------------------------------------------------------------- */

/* Whether the vault was asked and has said nothing since, for so long that nobody else should wait for it. */
static bool hangs(const struct vault_client *c, int64_t now) {
    if (c->first == NONE)
        return false;
    int64_t asked = c->places[c->first].asked;
    return c->silent || now - (c->heard > asked ? c->heard : asked) >= SILENT_MS;
}

static int not_asked(struct err *err, const char *why) {
    metrics_count(METRIC_VAULT_UNANSWERED, 0, 0);
    return no_vault(err, why);
}

int client_ask(struct vault_client *c, struct wire_request *rq, union client_callback done, void *arg, struct err *err) {
    if (c->fd < 0)
        return not_asked(err, "The vault is not there at the moment.");
    int64_t now = clock_mono_ms();
    if (hangs(c, now))
        return not_asked(err, "The vault does not answer.");
    if (c->n == c->max)
        return err_retry(err, MUSTER_EBUSY, RETRY_SECONDS, "%zu requests to the vault are outstanding.", c->n);
    flush(c);
    struct outstanding *o = place_take(c);
    o->type = rq->type;
    o->done = done;
    o->arg = arg;
    o->asked = now;
    o->deadline = now + (c->silent ? SILENT_TIMEOUT_MS : VAULT_TIMEOUT_MS);
    rq->id = o->id;
    buf_clear(&c->out);
    int rc = wire_request_write(rq, &c->out);
    if (rc) {
        place_release(c, o);
        return err_set(err, MUSTER_EINVALID, "The request is too long for the vault.");
    }
    int sent = c->first_unsent == NONE ? record_send(c->fd, buf_span(&c->out)) : RECORD_LATER;
    if (sent == RECORD_LATER) {
        buf_add(&o->unsent, buf_span(&c->out));
        if (c->first_unsent == NONE)
            c->first_unsent = place_of(o);
    }
    if (sent == RECORD_ENDED || !buf_ok(&o->unsent)) {
        place_release(c, o);
        return not_asked(err, "The vault is not there at the moment.");
    }
    if (c->n == 1)
        set_timer(c);
    return 0;
}
