/* est_queue: EST's simplereenroll of devices whose certificates are of the customer's own CA, which is not here: the request waits in a queue until
 * an operator brings what that CA has signed (registry/csr_queue.h). */
#include "base/log.h"
#include "gateway/est_part.h"
#include "gateway/est_request.h"
#include "pki/csr_claim.h"
#include "pki/key_weak.h"
#include "registry/csr_queue.h"

#define WAIT 3600 /* seconds until the device asks again: a person has to carry the request to a CA */

struct queueing {
    struct csr_ask op; /* first: what the operation is given */
    struct http_exchange *x; /* held */
    struct buf request;
    char address[HTTP_ADDRESS_MAX];
};

static void queueing_free(struct queueing *q) {
    if (!q)
        return;
    buf_fini(&q->op.certificate);
    buf_fini(&q->request);
    free(q);
}
DEFINE_CLEANUP(queueing_free, struct queueing *)

static void answered(void *arg, int rc, const struct err *err) {
    CLEANUP(queueing_free) struct queueing *q = arg;
    struct http_exchange *x = q->x;
    struct err *verdict = &q->op.verdict;
    if (rc) {
        http_reply_err(x, err);
    } else if (verdict->code == MUSTER_ECSRWAITS) {
        verdict->retry_after = WAIT;
        refusal_keep_shadow(x, q->op.shadow.code ? &q->op.shadow : NULL);
        est_reply_waits(x, verdict);
    } else if (verdict->code) {
        http_reply_err(x, verdict);
    } else {
        refusal_keep_shadow(x, q->op.shadow.code ? &q->op.shadow : NULL);
        log_event(LOG_INFO, "certificate_collected", "request", http_exchange_id(x), "account", q->op.account_name, "device", q->op.device_id, NULL);
        est_reply_certificate(x, buf_span(&q->op.certificate));
    }
    http_exchange_unref(x);
}

int est_queue(struct http_exchange *x, struct worker *w, const struct csr_claim *claim, struct err *err) {
    const struct identity *id = http_exchange_peer(x);
    CLEANUP(queueing_free) struct queueing *q = calloc(1, sizeof *q);
    if (!q)
        return err_set(err, MUSTER_ENOMEM, NULL);
    q->request = BUF_INIT(EST_BODY_MAX);
    q->x = x;
    snprintf(q->address, sizeof q->address, "%s", id->address);
    int rc = est_request_der(http_body(x), &q->request, err);
    if (rc || (rc = limits_report(w->gateway->limits, id->admit.device_row, err)) || (rc = key_check_prime(buf_span(&claim->public_der), &claim->key, err)))
        return rc;
    if (q->request.n > CSR_REQUEST_MAX)
        return err_set(err, MUSTER_ECSR, "The request has %zu bytes; at most %d are kept for the fleet CA.", q->request.n, CSR_REQUEST_MAX);
    q->op = (struct csr_ask){.device = id->admit.device_row, .request = buf_span(&q->request), .spki = claim->key.spki, .address = q->address, .certificate = BUF_INIT(CERT_DER_MAX)};
    if ((rc = store_write(w->gateway->store, w->loop, csr_ask_run, answered, q, err)))
        return rc;
    http_exchange_ref(x);
    (void)TAKE(q);
    return 0;
}
