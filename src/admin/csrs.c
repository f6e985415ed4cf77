/* csrs: requests of devices for certificates of the customer's own CA, over the API. */
#include "registry/csr_queue.h"

#include "admin/internal.h"

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct csr_list *)op)->page.out)); }

void admin_CSR_LIST(struct http_exchange *x, void *arg) {
    struct csr_list l = {.account = grant_account(x)};
    struct span state;
    if (http_query_param(x, "state", &state)) {
        l.state = span_eq_str(state, "waiting") ? CSR_WAITING : CSR_SIGNED;
        if (l.state == CSR_SIGNED && !span_eq_str(state, "signed")) {
            reply_code(x, MUSTER_EINVALID, "state is waiting or signed.");
            return;
        }
    }
    if (page_of(x, &l.page))
        job_start(x, JOB_READ, csr_list_run, &l, sizeof l, listed);
}

struct bringing {
    struct csr_import op;
    struct cert *certs[CSR_IMPORT_MAX];
};

static int import_run(struct store_tx *tx, void *arg, struct err *err) {
    struct bringing *b = arg;
    b->op.certs = b->certs;
    return csr_import_run(tx, &b->op, err);
}

static void imported(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct bringing *b = op;
    for (size_t i = 0; i < b->op.n; i++)
        cert_free(b->certs[i]);
    reply_done(x, rc, err, TAKE(b->op.out));
}

void admin_CSR_IMPORT(struct http_exchange *x, void *arg) {
    struct bringing b = {.op = {.actor = grant_of(x)->actor, .account = grant_account(x)}};
    CLEANUP_JSON json_t *body = body_object(x);
    const char *pem = NULL;
    struct err err = ERR_INIT;
    if (!body)
        return;
    int rc = json_take(body, &err, "{s:s}", "certificates", &pem);
    if (!rc)
        rc = cert_chain_from_file(span_str(pem), b.certs, CSR_IMPORT_MAX, &b.op.n, &err);
    if (rc)
        http_reply_err(x, &err);
    else
        job_start(x, JOB_WRITE, import_run, &b, sizeof b, imported);
}

static void removed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct csr_remove *)op)->out)); }

void admin_CSR_REMOVE(struct http_exchange *x, void *arg) {
    const struct csr_remove r = {.actor = grant_of(x)->actor, .account = grant_account(x), .csr = param_of(x, "csr")};
    job_start(x, JOB_WRITE, csr_remove_run, &r, sizeof r, removed);
}
