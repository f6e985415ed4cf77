/* invitations: one-time codes for devices over the API.  A code is made here, goes into the one answer, and is kept nowhere. */
#include "registry/invitation.h"

#include "admin/internal.h"
#include "base/secret.h"

struct creation {
    struct invitation_create op; /* first: what the operation is given */
    char code[INVITATION_CODE_LEN + 1];
};

static void reply_code_once(struct http_exchange *x, json_t *out, const char *code) {
    CLEANUP_JSON json_t *owned = out;
    struct buf body = BUF_INIT(16384);
    json_set_str(out, "code", code);
    if (json_write(&body, out) == 0) {
        http_reply_buf(x, 201, "application/json", &body, true);
        return;
    }
    buf_wipe(&body);
    reply_code(x, MUSTER_ENOMEM, NULL);
}

static void created(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct creation *c = op;
    json_t *out = TAKE(c->op.out);
    if (rc)
        reply_done(x, rc, err, out);
    else
        reply_code_once(x, out, c->code);
    secret_wipe(c->code, sizeof c->code);
}

static int take_expires(const char *text, int64_t *out, struct err *err) {
    int64_t now = clock_now(), length;
    *out = now + INVITATION_LIFE_DEFAULT;
    if (text && clock_parse_rfc3339(span_str(text), out))
        *out = clock_parse_span(span_str(text), &length) ? 0 : now + length;
    if (*out <= now || *out > now + INVITATION_LIFE_MAX)
        return err_set(err, MUSTER_EINVALID, "expires is a time to come, at most a year ahead, like \"2027-01-31T00:00:00Z\", or a length of time from now like \"7d\".");
    return 0;
}

void admin_INVITATION_CREATE(struct http_exchange *x, void *arg) {
    struct creation c = {.op = {.actor = grant_of(x)->actor, .account = grant_account(x), .id = uuid_new()}};
    const char *device_id = NULL, *expires = NULL;
    struct err err = ERR_INIT;
    CLEANUP_JSON json_t *body = body_object(x);
    if (!body)
        return;
    int rc = json_take(body, &err, "{s:s, s?s}", "device_id", &device_id, "expires", &expires);
    if (!rc && !(rc = take_expires(expires, &c.op.expires, &err))) {
        c.op.device_id = arena_copy(http_exchange_arena(x), span_str(device_id));
        rc = c.op.device_id.p || !*device_id ? 0 : err_set(&err, MUSTER_ENOMEM, NULL);
    }
    if (rc) {
        http_reply_err(x, &err);
        return;
    }
    invitation_make(c.code, &c.op.code);
    job_start(x, JOB_WRITE, invitation_create_run, &c, sizeof c, created);
    secret_wipe(c.code, sizeof c.code);
}

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct invitation_list *)op)->page.out)); }

void admin_INVITATION_LIST(struct http_exchange *x, void *arg) {
    struct invitation_list l = {.account = grant_account(x)};
    if (page_of(x, &l.page))
        job_start(x, JOB_READ, invitation_list_run, &l, sizeof l, listed);
}

static void removed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct invitation_remove *)op)->out)); }

void admin_INVITATION_REMOVE(struct http_exchange *x, void *arg) {
    const struct invitation_remove r = {.actor = grant_of(x)->actor, .account = grant_account(x), .invitation = param_of(x, "invitation")};
    job_start(x, JOB_WRITE, invitation_remove_run, &r, sizeof r, removed);
}
