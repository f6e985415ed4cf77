/* vault/ocsp: the request that makes an OCSP answer; see serve.h.  The answer is built here, out of what is to be said of each certificate: whoever
 * asks chooses that, and neither its dates nor its issuer, nor who signs it. */
#include "vault/ocsp_signer.h"
#include "vault/serve.h"

int serve_ocsp_sign(struct vault *v, const struct wire_request *request, int64_t now, struct wire_answer *answer, struct err *err) {
    const struct vault_ocsp *rq = &request->ocsp;
    struct ocsp_signer *signer;
    struct account *a;
    struct authority *ca;
    int rc = serve_ca(v, rq->account, rq->key_id, &a, &ca, err);
    if (rc)
        return rc;
    if (rq->life < VAULT_OCSP_LIFE_MIN || rq->life > VAULT_OCSP_LIFE_MAX)
        return err_set(err, MUSTER_EINVALID, "The next update of an OCSP answer follows within three days.");
    if ((rc = ocsp_signer_of(ca, a->keys, now, &signer, err)))
        return rc;
    struct ocsp_plan plan = {.produced = now, .this_update = now - CRL_BACKDATE, .next_update = now + rq->life, .nonce = rq->nonce, .at = rq->at, .n = rq->n};
    if (plan.next_update > signer->not_after) /* beyond it nobody could verify the answer */
        plan.next_update = signer->not_after;
    buf_clear(&v->der[0]);
    if ((rc = ocsp_make(&signer->issuer, &signer->by, &plan, &v->der[0], err)))
        return rc;
    answer->ocsp = (struct vault_ocsp_signed){.this_update = plan.this_update, .next_update = plan.next_update, .der = buf_span(&v->der[0])};
    return 0;
}
