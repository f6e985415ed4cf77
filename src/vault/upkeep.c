/* vault/upkeep: see upkeep.h. */
#include "vault/upkeep.h"

#include "base/log.h"
#include "vault/serve.h"

#define COUNTED_A_TURN 64
#define WRAPPED_A_TURN 4 /* each is made durable */
#define TIDIED_A_TURN 4

static int begin_rekey(struct upkeep *u, struct vault *v, const struct wire_local_request *rq, int64_t now, struct err *err) {
    const struct records_rekey next = {.kind = rq->kind, .costs = rq->costs, .key = rq->key};
    if (u->tidy)
        return err_retry(err, MUSTER_EBUSY, SERVE_RETRY_SECONDS, "The vault is still removing what the change before left.");
    int rc = key_master_costs_check(&next.costs, "vault", err);
    if (rc)
        return rc;
    if (secret_copy(&u->key, rq->key))
        return err_set(err, MUSTER_ENOMEM, NULL);
    rc = records_rekey_begin(v->records, &next, now, err);
    if (rc)
        secret_fini(&u->key);
    return rc;
}

int upkeep_begin(struct upkeep *u, struct vault *v, const struct wire_local_request *rq, int64_t now, struct err *err) {
    if (u->op)
        return err_retry(err, MUSTER_EBUSY, SERVE_RETRY_SECONDS, "The vault is asked for its status, or for another master key, already.");
    int rc = rq->op == WIRE_LOCAL_REKEY ? begin_rekey(u, v, rq, now, err) : 0;
    if (rc)
        return rc;
    u->op = rq->op;
    u->next = 0;
    u->status = (struct vault_status){0};
    return 0;
}

bool upkeep_pending(const struct upkeep *u) { return u->op != 0 || u->tidy; }

void upkeep_cancel(struct upkeep *u, struct vault *v) {
    if (u->op == WIRE_LOCAL_REKEY)
        records_rekey_cancel(v->records);
    secret_fini(&u->key);
    u->op = 0;
}

void upkeep_tidy(struct upkeep *u, struct vault *v) {
    if (u->tidy)
        u->tidy = records_rekey_tidy(v->records, TIDIED_A_TURN);
}

/* --- status ----------------------------------------------------------------------------------------------------------------------- */

/* Accounts that come or go meanwhile shift the others by one: a status is of about one moment. */
static int count_some(struct upkeep *u, struct vault *v, struct err *err) {
    const char *name;
    for (int i = 0; i < COUNTED_A_TURN && (name = records_name(v->records, u->next)); i++, u->next++) {
        uint8_t ids[CORE_TOKEN_KEYS_MAX][TOKEN_ID_LEN];
        size_t n;
        int rc = account_count_keys(v->records, name, u->status.keys, err);
        if (rc || (rc = core_keys(v->records, name, u->status.keys, ids, &n, err)))
            return rc;
    }
    return records_name(v->records, u->next) ? 1 : 0;
}

static void fill_status(struct upkeep *u, const struct vault *v) {
    const struct records_head *h = records_head(v->records);
    memcpy(u->status.id, h->id, sizeof u->status.id);
    u->status.kind = h->kind;
    u->status.rekeys = h->rekeys;
    u->status.rekeyed = h->rekeyed;
    u->status.version = records_version(v->records);
    u->status.token = v->park ? park_token(v->park, clock_mono_ms()) : VAULT_TOKEN_NONE;
}

/* --- rekey ------------------------------------------------------------------------------------------------------------------------ */

/* They are told before the head changes: whatever happens to this process then, the next one is given both keys.  The one in force too: after a
 * change before this one no source of the supervisor's gives it any more. */
static int rekey_end(struct upkeep *u, struct vault *v, upkeep_told_fn tell, void *arg, bool *fatal, struct err *err) {
    if (!tell(arg, records_master(v->records)) || !tell(arg, secret_span(&u->key)))
        return err_retry(err, MUSTER_EVAULT, SERVE_RETRY_SECONDS, "The supervisor, which starts the vault again when it ends, could not be told of the key.");
    int rc = records_rekey_end(v->records, fatal, err);
    if (rc)
        return rc;
    u->tidy = true;
    log_event(LOG_WARN, "vault_rekeyed", "source", records_kind_name(records_head(v->records)->kind), "version", log_num((long long)records_version(v->records)), NULL);
    return 0;
}

int upkeep_step(struct upkeep *u, struct vault *v, upkeep_told_fn tell, void *arg, struct buf *answer, bool *fatal, struct err *err) {
    *fatal = false;
    int rc = u->op == WIRE_LOCAL_STATUS ? count_some(u, v, err) : records_rekey_step(v->records, WRAPPED_A_TURN, err);
    if (!rc && u->op == WIRE_LOCAL_REKEY)
        rc = rekey_end(u, v, tell, arg, fatal, err);
    if (rc > 0)
        return rc;
    if (!rc) {
        fill_status(u, v);
        rc = wire_status_write(&u->status, answer);
    } else if (!*fatal) {
        upkeep_cancel(u, v);
    }
    secret_fini(&u->key);
    u->op = 0;
    return rc;
}
