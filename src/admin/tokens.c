/* tokens: operators' tokens over the API.  An account's owner sees and makes tokens of that account alone. */
#include "admin/internal.h"
#include "base/secret.h"
#include "registry/account.h"

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct token_list *l = op;
    reply_done(x, rc, err, TAKE(l->page.out));
}

void admin_TOKEN_LIST(struct http_exchange *x, void *arg) {
    struct token_list l = {.account = grant_of(x)->account};
    if (page_of(x, &l.page))
        job_start(x, JOB_CONTROL_READ, token_list_run, &l, sizeof l, listed);
}

struct creation {
    struct token_create op;
    char text[TOKEN_TEXT_LEN + 1];
};

static int creation_run(struct store_tx *tx, void *arg, struct err *err) { return token_create_run(tx, &((struct creation *)arg)->op, err); }

static void created(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct creation *c = op;
    json_t *out = TAKE(c->op.out);
    if (!rc) {
        json_set_str(out, "token", c->text);
        CLEANUP_JSON json_t *owned = out;
        struct buf body = BUF_INIT(16384);
        rc = json_write(&body, out);
        secret_wipe(c->text, sizeof c->text);
        if (!rc) {
            http_reply_buf(x, 201, "application/json", &body, true);
            return;
        }
        buf_wipe(&body);
        reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    reply_done(x, rc, err, out);
}

static int take_creation(struct http_exchange *x, json_t *body, struct token_create *c, struct err *err) {
    const char *name = NULL, *role = NULL, *account = NULL, *expires = NULL;
    const struct grant *g = grant_of(x);
    int rc = json_take(body, err, "{s:s, s:s, s?s, s?s}", "name", &name, "role", &role, "account", &account, "expires", &expires);
    if (rc)
        return rc;
    if (!*name || strlen(name) > NAME_MAX_BYTES || span_has_control(span_str(name)))
        return err_set(err, MUSTER_EINVALID, "A token's name is 1 to %d bytes without control characters.", NAME_MAX_BYTES);
    if (!account)
        account = g->account;
    if (*account && account_name_check(span_str(account), err))
        return MUSTER_EINVALID;
    if (g->token.account[0] && strcmp(account, g->token.account) != 0)
        return err_set(err, MUSTER_EROLE, "A token of one account makes tokens of that account only.");
    c->actor = g->actor;
    c->role = (enum role)word_parse(&WORDS_ROLE, role);
    if (!c->role)
        return err_set(err, MUSTER_EINVALID, "role is owner, operator, auditor or factory.");
    int64_t length;
    if (expires && clock_parse_rfc3339(span_str(expires), &c->expires) && !clock_parse_span(span_str(expires), &length))
        c->expires = clock_now() + length;
    if (expires && c->expires <= clock_now())
        return err_set(err, MUSTER_EINVALID, "expires is a time to come, like \"2027-01-31T00:00:00Z\", or a length of time from now like \"90d\".");
    snprintf(c->name, sizeof c->name, "%s", name);
    snprintf(c->account, sizeof c->account, "%s", account);
    return 0;
}

static void account_known(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct account_show *s = op;
    json_decref(TAKE(s->out));
    if (rc) {
        http_reply_err(x, err);
        return;
    }
    struct creation c = {0};
    struct err why = ERR_INIT;
    CLEANUP_JSON json_t *body = body_object(x);
    if (!body)
        return;
    if (take_creation(x, body, &c.op, &why)) {
        http_reply_err(x, &why);
        return;
    }
    token_make(c.text, &c.op.hash);
    job_start(x, JOB_CONTROL_WRITE, creation_run, &c, sizeof c, created);
    secret_wipe(c.text, sizeof c.text);
}

void admin_TOKEN_CREATE(struct http_exchange *x, void *arg) {
    struct creation c = {0};
    struct err err = ERR_INIT;
    CLEANUP_JSON json_t *body = body_object(x);
    if (!body)
        return;
    if (take_creation(x, body, &c.op, &err)) {
        http_reply_err(x, &err);
        return;
    }
    if (c.op.account[0]) { /* has to be there */
        const char *name = arena_strdup(http_exchange_arena(x), span_str(c.op.account));
        const struct account_show s = {.name = name ? span_str(name) : SPAN_NONE};
        job_start(x, JOB_READ, account_show_run, &s, sizeof s, account_known);
        return;
    }
    token_make(c.text, &c.op.hash);
    job_start(x, JOB_CONTROL_WRITE, creation_run, &c, sizeof c, created);
    secret_wipe(c.text, sizeof c.text);
}

static void revoked(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct token_revoke *r = op;
    reply_done(x, rc, err, TAKE(r->out));
}

void admin_TOKEN_REVOKE(struct http_exchange *x, void *arg) {
    struct token_revoke r = {.actor = grant_of(x)->actor, .account = grant_of(x)->account};
    if (uuid_parse(param_of(x, "token"), &r.id))
        reply_code(x, MUSTER_ENOTFOUND, "There is no such token.");
    else
        job_start(x, JOB_CONTROL_WRITE, token_revoke_run, &r, sizeof r, revoked);
}
