/* root_crls: revocation lists of customers' fleet CAs over the API; what becomes of them is registry/root_crl.h's. */
#include "registry/root_crl.h"

#include "admin/internal.h"

/* What one import reads once and its steps share. */
struct read_in {
    struct revocation_file *file;
    struct cert *signers[ROOT_CRL_SIGNERS_MAX];
    size_t n;
};

static void read_in_free(struct read_in *in) {
    if (!in)
        return;
    revocation_file_free(in->file);
    for (size_t i = 0; i < in->n; i++)
        cert_free(in->signers[i]);
    free(in);
}
DEFINE_CLEANUP(read_in_free, struct read_in *)

struct importing {
    struct root_crl_import op; /* first: what the operation is given */
    struct read_in *in;
};

static void swept(struct http_exchange *x, int rc, const struct err *err, void *op) {
    const struct root_crl_sweep *s = op;
    const struct root_crl_sweep next = {.account = s->account};
    if (rc)
        log_err(LOG_WARN, "root_crl_not_swept", err, NULL);
    else if (s->more)
        job_start(x, JOB_WRITE, root_crl_sweep_run, &next, sizeof next, swept);
}

static void imported(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct importing *i = op;
    if (!rc && i->op.more) {
        struct importing next = *i;
        next.op.begun = true;
        next.op.before = i->op.done;
        job_start(x, JOB_WRITE, root_crl_import_run, &next, sizeof next, imported);
        return;
    }
    const struct root_crl_sweep sweep = {.account = i->op.account_row};
    read_in_free(i->in);
    reply_done(x, rc, err, TAKE(i->op.out));
    if (sweep.account) /* what it replaced goes in steps, also where it came to nothing */
        job_start(x, JOB_WRITE, root_crl_sweep_run, &sweep, sizeof sweep, swept);
}

static int read_body(struct http_exchange *x, json_t *body, struct read_in *in, struct err *err) {
    const char *crl = NULL, *ca = NULL;
    int rc = json_take(body, err, "{s:s, s?s}", "crl", &crl, "ca", &ca);
    if (rc || (rc = revocation_file_read(span_str(crl), &in->file, err)))
        return rc;
    return ca ? cert_chain_from_file(span_str(ca), in->signers, ROOT_CRL_SIGNERS_MAX, &in->n, err) : 0;
}

void admin_ROOT_CRL_IMPORT(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    CLEANUP(read_in_free) struct read_in *in = calloc(1, sizeof *in);
    struct err err = ERR_INIT;
    if (!body)
        return;
    if (!in) {
        reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    if (read_body(x, body, in, &err)) {
        http_reply_err(x, &err);
        return;
    }
    const struct importing i = {.op = {.actor = grant_of(x)->actor, .account = grant_account(x), .root = param_of(x, "root"), .file = in->file, .signers = in->signers, .n_signers = in->n}, .in = in};
    job_start(x, JOB_WRITE, root_crl_import_run, &i, sizeof i, imported);
    in = NULL; /* the job's */
}

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct root_crl_list *)op)->page.out)); }

void admin_ROOT_CRL_LIST(struct http_exchange *x, void *arg) {
    struct root_crl_list l = {.account = grant_account(x)};
    if (page_of(x, &l.page))
        job_start(x, JOB_READ, root_crl_list_run, &l, sizeof l, listed);
}
