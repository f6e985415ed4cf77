/* recovery: what a restore leaves to be done, over the API; registry/recovery.h and recovery_held.h. */
#include "registry/recovery_crl.h"
#include "registry/recovery_held.h"

#include "admin/internal.h"

static void shown(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct recovery_show *)op)->out)); }

void admin_RECOVERY_SHOW(struct http_exchange *x, void *arg) {
    const struct recovery_show s = {0};
    job_start(x, JOB_READ, recovery_show_run, &s, sizeof s, shown);
}

/* --- what is held ---------------------------------------------------------------------------------------------------------------- */

static void held_listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct recovery_held_list *)op)->page.out)); }

void admin_RECOVERY_HELD(struct http_exchange *x, void *arg) {
    struct recovery_held_list l = {0};
    if (page_of(x, &l.page))
        job_start(x, JOB_READ, recovery_held_list_run, &l, sizeof l, held_listed);
}

/* false: answered already.  keep_tokens NULL: the body may not have it. */
static bool confirm_of(struct http_exchange *x, int64_t *confirm, bool *keep_tokens) {
    struct err err = ERR_INIT;
    CLEANUP_JSON json_t *body = body_object(x);
    json_int_t n = -1;
    int keep = 0;
    if (!body)
        return false;
    if (keep_tokens ? json_take(body, &err, "{s?I,s?b}", "confirm", &n, "keep_tokens", &keep) : json_take(body, &err, "{s?I}", "confirm", &n)) {
        http_reply_err(x, &err);
        return false;
    }
    *confirm = n;
    if (keep_tokens)
        *keep_tokens = keep != 0;
    return true;
}

static void admitted(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct recovery_admit *a = op;
    if (rc == MUSTER_ECONFIRM) {
        reply_confirm(x, err, a->count);
    } else if (!rc && a->more) {
        struct recovery_admit next = *a;
        next.begun = true;
        next.before = a->done;
        job_start(x, JOB_WRITE, recovery_admit_run, &next, sizeof next, admitted);
    } else {
        reply_done(x, rc, err, TAKE(a->out));
    }
}

void admin_RECOVERY_ADMIT(struct http_exchange *x, void *arg) {
    struct recovery_admit a = {.actor = grant_of(x)->actor};
    if (confirm_of(x, &a.confirm, NULL))
        job_start(x, JOB_WRITE, recovery_admit_run, &a, sizeof a, admitted);
}

/* --- revocation lists --------------------------------------------------------------------------------------------------------------- */

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct recovery_crl *c = op;
    if (!rc && c->more) {
        struct recovery_crl next = *c;
        next.begun = true;
        next.before = c->done;
        job_start(x, JOB_WRITE, recovery_crl_run, &next, sizeof next, listed);
        return;
    }
    revocation_file_free((struct revocation_file *)c->file);
    reply_done(x, rc, err, TAKE(c->out));
}

void admin_RECOVERY_CRL(struct http_exchange *x, void *arg) {
    struct recovery_crl c = {.actor = grant_of(x)->actor, .account = grant_account(x)};
    struct revocation_file *file = NULL;
    const char *pem = NULL;
    struct err err = ERR_INIT;
    CLEANUP_JSON json_t *body = body_object(x);
    if (!body)
        return;
    if (json_take(body, &err, "{s:s}", "crl", &pem) || revocation_file_read(span_str(pem), &file, &err)) {
        http_reply_err(x, &err);
        return;
    }
    c.file = file;
    job_start(x, JOB_WRITE, recovery_crl_run, &c, sizeof c, listed);
}

/* --- its end ----------------------------------------------------------------------------------------------------------------------- */

/* What was held counts no more, and goes in steps. */
static void swept(struct http_exchange *x, int rc, const struct err *err, void *op) {
    const struct recovery_sweep next = {0};
    if (rc)
        log_err(LOG_WARN, "recovery_not_swept", err, NULL);
    else if (((struct recovery_sweep *)op)->more)
        job_start(x, JOB_WRITE, recovery_held_sweep_run, &next, sizeof next, swept);
}

static void finished(struct http_exchange *x, int rc, const struct err *err, void *op) {
    const struct recovery_sweep all = {0};
    reply_done(x, rc, err, TAKE(((struct recovery_finish *)op)->out));
    if (!rc)
        job_start(x, JOB_WRITE, recovery_held_sweep_run, &all, sizeof all, swept);
}

/* The record first: an end that nobody can read of must not be. */
static void recorded(struct http_exchange *x, int rc, const struct err *err, void *op) {
    if (rc)
        http_reply_err(x, err);
    else
        job_start(x, JOB_WRITE, recovery_finish_run, op, sizeof(struct recovery_finish), finished);
}

static void looked(struct http_exchange *x, int rc, const struct err *err, void *op) {
    if (rc == MUSTER_ECONFIRM)
        reply_confirm(x, err, ((struct recovery_finish *)op)->count);
    else if (rc)
        http_reply_err(x, err);
    else
        job_start(x, JOB_CONTROL_WRITE, recovery_finish_record_run, op, sizeof(struct recovery_finish), recorded);
}

void admin_RECOVERY_FINISH(struct http_exchange *x, void *arg) {
    struct recovery_finish f = {.actor = grant_of(x)->actor};
    if (confirm_of(x, &f.confirm, &f.keep_tokens))
        job_start(x, JOB_READ, recovery_finish_look_run, &f, sizeof f, looked);
}
