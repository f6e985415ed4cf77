/* vault/crl: the requests that make a CRL; see serve.h.  The list is built here, out of entries: whoever asks chooses whose certificates are on
 * it, and neither its dates nor its number, nor what else stands in it.  One request is a few hundred entries long, so that those of others
 * are served in between. */
#include "vault/crl_number.h"
#include "vault/serve.h"

static void give_up(struct vault *v) {
    crl_maker_free(v->crl);
    v->crl = NULL;
}

int serve_ca(struct vault *v, struct span name, const uint8_t key_id[CRL_KEY_ID_LEN], struct account **account, struct authority **ca, struct err *err) {
    int rc = account_get(v->accounts, name, account, err);
    if (rc)
        return rc;
    *ca = account_ca(*account, key_id);
    return *ca ? 0 : err_set(err, MUSTER_ENOTFOUND, "The account %s has no CA of that key.", (*account)->name);
}

int serve_crl_begin(struct vault *v, const struct wire_request *request, int64_t now, struct wire_answer *answer, struct err *err) {
    const struct vault_crl_begin *rq = &request->crl;
    struct account *a;
    struct authority *ca;
    EVP_PKEY *key;
    give_up(v);
    int rc = serve_ca(v, rq->account, rq->key_id, &a, &ca, err);
    if (rc)
        return rc;
    if (rq->life < VAULT_CRL_LIFE_MIN || rq->life > VAULT_CRL_LIFE_MAX || rq->counts.entries > VAULT_CRL_ENTRIES_MAX)
        return err_set(err, MUSTER_EINVALID, "A CRL has at most %d entries, and its next update follows within 400 days.", VAULT_CRL_ENTRIES_MAX);
    struct crl_plan plan = {.this_update = now - CRL_BACKDATE, .next_update = now + rq->life, .counts = rq->counts};
    if ((rc = authority_key(ca, a->keys, &key, err)) || (rc = crl_number_take(v->records, a->name, secret_span(&a->data_key), rq->key_id, &plan.number, err)))
        return rc;
    buf_clear(&v->der[0]);
    if ((rc = crl_maker_new(ca->cert, key, &plan, &v->der[0], &v->crl, err)))
        return rc;
    answer->begun = (struct vault_crl_begun){.number = plan.number, .this_update = plan.this_update, .next_update = plan.next_update, .head = buf_span(&v->der[0])};
    return 0;
}

/* There are verifiers to whom what was revoked in the future is not revoked: the gateway's process can write such dates. */
static bool is_of_the_past(const struct wire_request *rq, int64_t now) {
    for (size_t i = 0; i < rq->entries.n; i++)
        if (rq->entries.at[i].revoked > now - CRL_BACKDATE)
            return false;
    return true;
}

static int none(struct err *err) { return err_set(err, MUSTER_ESTATE, "No CRL was begun."); }

int serve_crl_entries(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *a, struct err *err) {
    if (!v->crl)
        return none(err);
    buf_clear(&v->der[0]);
    int rc = is_of_the_past(rq, now) ? crl_maker_add(v->crl, rq->entries.at, rq->entries.n, &v->der[0], err) : err_set(err, MUSTER_EINVALID, "An entry of the CRL was revoked later than the list is made.");
    if (rc)
        give_up(v);
    a->der = buf_span(&v->der[0]);
    return rc;
}

int serve_crl_sign(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *a, struct err *err) {
    if (!v->crl)
        return none(err);
    buf_clear(&v->der[0]);
    buf_clear(&v->der[1]);
    int rc = crl_maker_end(v->crl, &v->der[0], &v->der[1], err);
    if (!rc || trail_state_now() != TRAIL_WANTS) /* where the signature is the token's, it is asked for again */
        give_up(v);
    a->crl.front = buf_span(&v->der[0]);
    a->crl.tail = buf_span(&v->der[1]);
    return rc;
}
