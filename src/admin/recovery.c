/* recovery: what a restore leaves to be done, over the API; registry/recovery.h. */
#include "registry/recovery.h"

#include "admin/internal.h"

static void shown(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct recovery_show *)op)->out)); }

void admin_RECOVERY_SHOW(struct http_exchange *x, void *arg) {
    const struct recovery_show s = {0};
    job_start(x, JOB_READ, recovery_show_run, &s, sizeof s, shown);
}

static void finished(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct recovery_finish *)op)->out)); }

/* The record first: an end that nobody can read of must not be. */
static void recorded(struct http_exchange *x, int rc, const struct err *err, void *op) {
    if (rc)
        http_reply_err(x, err);
    else
        job_start(x, JOB_WRITE, recovery_finish_run, op, sizeof(struct recovery_finish), finished);
}

static void looked(struct http_exchange *x, int rc, const struct err *err, void *op) {
    if (rc)
        http_reply_err(x, err);
    else
        job_start(x, JOB_CONTROL_WRITE, recovery_finish_record_run, op, sizeof(struct recovery_finish), recorded);
}

void admin_RECOVERY_FINISH(struct http_exchange *x, void *arg) {
    struct err err = ERR_INIT;
    CLEANUP_JSON json_t *body = body_object(x);
    json_int_t confirm = -1;
    if (!body)
        return;
    if (json_take(body, &err, "{s?I}", "confirm", &confirm)) {
        http_reply_err(x, &err);
        return;
    }
    const struct recovery_finish f = {.actor = grant_of(x)->actor};
    job_start(x, JOB_READ, recovery_finish_look_run, &f, sizeof f, looked);
}
