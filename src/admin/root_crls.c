/* root_crls: revocation lists of customers' fleet CAs over the API; what becomes of them is registry/root_crl.h's. */
#include "registry/root_crl.h"

#include "admin/internal.h"

/* What one import reads once and its steps share. */
struct read_in {
    struct revocation_file *file;
    struct cert *signers[ROOT_CRL_SIGNERS_MAX];
    size_t n;
};

struct importing {
    struct root_crl_import op; /* first: what the operation is given */
    struct span body;          /* the request's */
    struct read_in *in;
};

/* Reading a list of very many entries, and letting it go, takes longer than a loop, or who writes, may be held: it is done on a reading thread. */
static int look_run(struct store_tx *tx, void *arg, struct err *err) {
    struct importing *i = arg;
    const char *crl = NULL, *ca = NULL;
    CLEANUP_JSON json_t *body = body_read(i->body, err);
    if (!body)
        return err->code;
    int rc = json_take(body, err, "{s:s, s?s}", "crl", &crl, "ca", &ca);
    if (rc || (ca && !i->in->n && (rc = cert_chain_from_file(span_str(ca), i->in->signers, ROOT_CRL_SIGNERS_MAX, &i->in->n, err))))
        return rc;
    i->op.text = span_str(crl);
    i->op.signers = i->in->signers;
    i->op.n_signers = i->in->n;
    rc = root_crl_look_run(tx, &i->op, err);
    i->in->file = i->op.file;
    i->op.text = SPAN_NONE;
    return rc;
}

static int forget_run(struct store_tx *tx, void *arg, struct err *err) {
    struct importing *i = arg;
    struct read_in *in = TAKE(i->in);
    for (size_t k = 0; in && k < in->n; k++)
        cert_free(in->signers[k]);
    if (in)
        revocation_file_free(in->file);
    free(in);
    return 0;
}

static void swept(struct http_exchange *x, int rc, const struct err *err, void *op) {
    const struct root_crl_sweep *s = op;
    const struct root_crl_sweep next = {.account = s->account};
    if (rc)
        log_err(LOG_WARN, "root_crl_not_swept", err, NULL);
    else if (s->more)
        job_later(x, JOB_REST_MS, JOB_WRITE, root_crl_sweep_run, &next, sizeof next, swept);
}

static void forgotten(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct importing *i = op;
    const struct root_crl_sweep sweep = {.account = i->op.account_row};
    (void)!forget_run(NULL, i, NULL); /* where nobody else did */
    if (sweep.account && i->op.looked_at && !i->op.same) /* what it replaced goes in steps, also where it came to nothing */
        job_start(x, JOB_WRITE, root_crl_sweep_run, &sweep, sizeof sweep, swept);
}

static void end(struct http_exchange *x, int rc, const struct err *err, struct importing *i) {
    reply_done(x, rc, err, TAKE(i->op.out));
    job_start(x, JOB_READ, forget_run, i, sizeof *i, forgotten);
}

static void imported(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct importing *i = op;
    if (rc || !i->op.more) {
        end(x, rc, err, i);
        return;
    }
    struct importing next = *i;
    next.op.begun = true;
    next.op.before = i->op.done;
    job_later(x, JOB_REST_MS, JOB_WRITE, root_crl_import_run, &next, sizeof next, imported);
}

static void looked_at(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct importing *i = op;
    if (rc || i->op.same)
        end(x, rc, err, i);
    else
        job_start(x, JOB_WRITE, root_crl_import_run, i, sizeof *i, imported);
}

void admin_ROOT_CRL_IMPORT(struct http_exchange *x, void *arg) {
    const struct importing i = {.op = {.actor = grant_of(x)->actor, .account = grant_account(x), .root = param_of(x, "root")}, .body = http_body(x), .in = calloc(1, sizeof *i.in)};
    if (i.in)
        job_start(x, JOB_READ, look_run, &i, sizeof i, looked_at);
    else
        reply_code(x, MUSTER_ENOMEM, NULL);
}

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct root_crl_list *)op)->page.out)); }

void admin_ROOT_CRL_LIST(struct http_exchange *x, void *arg) {
    struct root_crl_list l = {.account = grant_account(x)};
    if (page_of(x, &l.page))
        job_start(x, JOB_READ, root_crl_list_run, &l, sizeof l, listed);
}
