/* vault/serve: see serve.h.  The handlers of accounts are in serve_account.c, those of certificates in issue.c, those of CRLs in crl.c. */
#include "vault/serve.h"

#include "base/clock.h"
#include "base/log.h"
#include "metrics/metrics.h"

#define DER_MAX (32 * 1024)

#define CHANNELS_GATEWAY VAULT_CHANNEL_GATEWAY
#define CHANNELS_CONTROL VAULT_CHANNEL_CONTROL
#define CHANNELS_ANY (VAULT_CHANNEL_GATEWAY | VAULT_CHANNEL_CONTROL)
enum needs { NEEDS_NOTHING, NEEDS_GREETING };

struct row {
    int (*serve)(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *a, struct err *err);
    unsigned channels;
    enum needs needs;
};

static const struct row rows[] = {
#define R(NAME, name, number, channels, needs) [number] = {serve_##name, CHANNELS_##channels, NEEDS_##needs},
#include "vault/requests.def"
#undef R
};

/* --- the process's state -------------------------------------------------------------------------------------------------- */

int vault_open(struct vault *v, int dir_fd, const struct key_master_options *master, struct err *err) {
    *v = (struct vault){.park = v->park};
    for (size_t i = 0; i < SERVE_DERS; i++)
        buf_init(&v->der[i], DER_MAX);
    int rc = records_open(dir_fd, master, &v->records, err);
    if (rc || (rc = core_load(v->records, &v->core, err)) || (rc = accounts_new(v->records, &v->accounts, err)))
        return rc;
    v->counts = counts_new();
    v->exports = exports_new();
    return v->counts && v->exports ? 0 : err_set(err, MUSTER_ENOMEM, NULL);
}

void vault_close(struct vault *v) {
    trail_fini(&v->trail);
    time_signer_fini(&v->time);
    crl_maker_free(v->crl);
    exports_free(v->exports);
    secret_fini(&v->upkeep.key);
    counts_free(v->counts);
    accounts_free(v->accounts);
    core_free(v->core);
    records_free(v->records);
    for (size_t i = 0; i < SERVE_DERS; i++)
        buf_fini(&v->der[i]);
}

int vault_ready(const struct vault *v, struct err *err) {
    if (v->older)
        return err_retry(err, MUSTER_EVAULT, SERVE_RETRY_SECONDS, "The vault is older than the audit log; it serves nothing until a newer one is put in its place.");
    if (!v->greeted)
        return err_retry(err, MUSTER_EVAULT, SERVE_RETRY_SECONDS, "The vault has not been greeted by control yet.");
    return 0;
}

/* --- one message ------------------------------------------------------------------------------------------------------------ */

/* The row of a request that a channel of this kind may carry, or NULL. */
static const struct row *row_for(enum vault_channel kind, struct span message, struct err *err) {
    uint32_t id;
    uint16_t number;
    const char *word = kind == VAULT_CHANNEL_GATEWAY ? "gateway" : "control";
    if (!wire_peek(message, &id, &number) || !wire_name(number))
        err_set(err, MUSTER_EINVALID, "A %s channel carried a message that is no request.", word);
    else if (!(rows[number].channels & kind))
        err_set(err, MUSTER_EINVALID, "A %s channel carried the request %s, which it may not.", word, wire_name(number));
    else
        return &rows[number];
    return NULL;
}

static void log_failure(const struct wire_request *rq, const struct err *why) {
    if (why->code == MUSTER_EIO || why->code == MUSTER_ECORRUPT || why->code == MUSTER_EINTERNAL || why->code == MUSTER_ENOMEM || why->code == MUSTER_ECRYPTO)
        log_err(LOG_ERROR, "vault_request_failed", why, "request", wire_name((uint16_t)rq->type), NULL);
}

/* Once.  Where the token is wanted it has changed nothing. */
static int run(struct vault *v, const struct row *row, struct trail *t, struct wire_answer *a, struct err *why) {
    *a = (struct wire_answer){.id = v->request.id, .type = v->request.type};
    trail_enter(t);
    int rc = row->needs == NEEDS_GREETING ? vault_ready(v, why) : 0;
    if (!rc)
        rc = row->serve(v, &v->request, t->now, a, why);
    trail_enter(NULL);
    return rc;
}

/* A request whose account changed while it waited begins anew, a few times. */
static int run_to_end(struct vault *v, const struct row *row, struct trail *t, struct wire_answer *a, struct err *why) {
    int rc = run(v, row, t, a, why);
    while (rc && t->state == TRAIL_STRAYED && t->strays++ < TRAIL_STRAYS_MAX)
        rc = run(v, row, t, a, why);
    if (!rc || t->state == TRAIL_GOES_ON || t->state == TRAIL_WANTS)
        return rc;
    if (t->state == TRAIL_FAILED)
        *why = t->why;
    else
        err_retry(why, MUSTER_ETOKEN, SERVE_RETRY_SECONDS, "The account changed all the while.");
    return why->code;
}

int serve_message(struct vault *v, enum vault_channel kind, struct span message, struct buf *answer, struct err *err) {
    trail_fini(&v->trail);
    trail_init(&v->trail, clock_now());
    return serve_again(v, kind, message, &v->trail, answer, err);
}

int serve_again(struct vault *v, enum vault_channel kind, struct span message, struct trail *t, struct buf *answer, struct err *err) {
    struct wire_request *rq = &v->request;
    const struct row *row = row_for(kind, message, err);
    if (!row)
        return MUSTER_EINVALID;
    if (wire_request_read(message, rq))
        return err_set(err, MUSTER_EINVALID, "A request %s is malformed.", wire_name((uint16_t)(row - rows)));
    int64_t began = clock_mono_us();
    struct wire_answer a;
    struct err why = ERR_INIT;
    int served = run_to_end(v, row, t, &a, &why);
    if (served && t->state == TRAIL_WANTS)
        return SERVE_WANTS;
    a.rc = served;
    if (a.rc) {
        log_failure(rq, &why);
        a.retry_after = why.retry_after;
        a.text = span_str(why.text);
    }
    metrics_count(METRIC_VAULT_REQUESTS, (unsigned)rq->type, a.rc ? RESULT_FAILED : RESULT_OK);
    metrics_observe(METRIC_VAULT_TIME, clock_mono_us() - began);
    buf_clear(answer);
    int rc = wire_answer_write(&a, answer);
    return rc ? err_set(err, rc, "The answer to %s does not fit.", wire_name((uint16_t)rq->type)) : a.rc ? SERVE_REFUSED : SERVE_ANSWERED;
}

/* --- handlers without a subject of their own ------------------------------------------------------------------------------- */

int serve_hello(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *a, struct err *err) {
    uint64_t mine = records_version(v->records);
    if (rq->log_version > mine && !v->older) {
        v->older = true;
        log_event(LOG_ERROR, "vault_older_than_log", "vault", log_num((long long)mine), "log", log_num((long long)rq->log_version), NULL);
    }
    if (v->older)
        return vault_ready(v, err);
    v->greeted = true;
    a->version.version = mine;
    return 0;
}

int serve_time(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *a, struct err *err) {
    a->time = now;
    return 0;
}

int serve_der(struct vault *v, size_t slot, const struct cert *c, struct span *out, struct err *err) {
    struct buf *b = &v->der[slot];
    buf_clear(b);
    int rc = cert_der(c, b);
    *out = buf_span(b);
    return rc ? err_set(err, rc, NULL) : 0;
}

int serve_audit_key(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *a, struct err *err) {
    buf_clear(&v->der[0]);
    int rc = key_public_der(v->core->audit_key, &v->der[0], err);
    a->der = buf_span(&v->der[0]);
    return rc;
}

int serve_heads_sign(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *a, struct err *err) {
    CLEANUP(buf_fini) struct buf message = BUF_INIT(WIRE_MESSAGE_MAX);
    vault_heads_message(now, rq->heads.at, rq->heads.n, &message);
    buf_clear(&v->der[0]);
    int rc = buf_check(&message, err);
    if (rc || (rc = key_sign(v->core->audit_key, buf_span(&message), &v->der[0], err)))
        return rc;
    a->heads.time = now;
    a->heads.signature = buf_span(&v->der[0]);
    return 0;
}

int serve_export_answer(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *a, struct err *err) {
    return exports_decide(v->exports, v, rq->export.nonce, rq->export.allowed, err);
}
