/* roots: fleet roots over the API. */
#include "registry/root.h"

#include "admin/internal.h"
#include "registry/tried.h"

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct root_list *)op)->page.out)); }

void admin_ROOT_LIST(struct http_exchange *x, void *arg) {
    struct root_list l = {.account = grant_account(x)};
    if (page_of(x, &l.page))
        job_start(x, JOB_READ, root_list_run, &l, sizeof l, listed);
}

static void shown(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct root_show *)op)->out)); }

void admin_ROOT_SHOW(struct http_exchange *x, void *arg) {
    const struct root_show s = {.account = grant_account(x), .root = param_of(x, "root")};
    job_start(x, JOB_READ, root_show_run, &s, sizeof s, shown);
}

struct export {
    struct root_show op;
    struct buf pem;
};

static int export_run(struct store_tx *tx, void *arg, struct err *err) {
    struct export *e = arg;
    e->op.pem = &e->pem;
    return root_show_run(tx, &e->op, err);
}

static void exported(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct export *e = op;
    json_decref(TAKE(e->op.out));
    if (rc)
        http_reply_err(x, err);
    else
        http_reply_buf(x, 200, "application/x-pem-file", &e->pem, false);
    buf_fini(&e->pem);
}

/* false: answered already. */
static bool yes_of(struct http_exchange *x, const char *name, bool *out) {
    struct span said;
    if (!http_query_param(x, name, &said))
        return true;
    *out = span_eq_str(said, "yes");
    if (*out || span_eq_str(said, "no"))
        return true;
    char text[64];
    snprintf(text, sizeof text, "%s is yes or no.", name);
    reply_code(x, MUSTER_EINVALID, text);
    return false;
}

void admin_ROOT_EXPORT(struct http_exchange *x, void *arg) {
    struct export e = {.op = {.account = grant_account(x), .root = param_of(x, "root")}, .pem = BUF_INIT(65536)};
    if (!yes_of(x, "crosses", &e.op.crosses) || !yes_of(x, "issuing", &e.op.issuing))
        return;
    if (e.op.crosses && e.op.issuing)
        reply_code(x, MUSTER_EINVALID, "Either crosses or issuing, not both.");
    else
        job_start(x, JOB_READ, export_run, &e, sizeof e, exported);
}

/* --- upload and proof ----------------------------------------------------------------------------------------------------------- */

static int take_rules(const char *id_rule, const char *key_rule, enum id_rule *id, enum key_rule *key, struct err *err) {
    if (id_rule && id_rule_parse(span_str(id_rule), id))
        return err_set(err, MUSTER_EINVALID, "id_rule is cn, san-uri, san-dns, serial-number or key-fingerprint.");
    if (key_rule && !(*key = (enum key_rule)word_parse(&WORDS_KEY_RULE, key_rule)))
        return err_set(err, MUSTER_EINVALID, "key_rule is never, ask or announced.");
    return 0;
}

static void uploaded(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct root_upload *u = op;
    cert_free((struct cert *)u->cert);
    if (rc)
        http_reply_err(x, err);
    else
        reply_json(x, 201, TAKE(u->out));
}

void admin_ROOT_UPLOAD(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    const char *pem = NULL, *id_rule = NULL, *key_rule = NULL;
    struct root_upload u = {.actor = grant_of(x)->actor, .account = grant_account(x), .id_rule = ID_RULE_CN, .key_rule = KEY_RULE_REFUSE};
    struct err err = ERR_INIT;
    struct cert *cert = NULL;
    if (!body)
        return;
    int rc = json_take(body, &err, "{s:s, s?s, s?s}", "certificate", &pem, "id_rule", &id_rule, "key_rule", &key_rule);
    if (!rc)
        rc = take_rules(id_rule, key_rule, &u.id_rule, &u.key_rule, &err);
    if (!rc)
        rc = cert_from_file(span_str(pem), &cert, &err);
    if (rc) {
        err.code = rc == MUSTER_ECERTMALFORMED ? MUSTER_EROOTUNFIT : rc;
        http_reply_err(x, &err);
        return;
    }
    u.cert = cert;
    u.n_server_ca = server_ca_keys(http_exchange_arg(x), u.server_ca, sizeof u.server_ca / sizeof *u.server_ca);
    job_start(x, JOB_WRITE, root_upload_run, &u, sizeof u, uploaded);
}

struct proof {
    struct root_prove op;
    struct cert *certs[8];
};

static int proof_run(struct store_tx *tx, void *arg, struct err *err) {
    struct proof *p = arg;
    p->op.proof = p->certs;
    return root_prove_run(tx, &p->op, err);
}

static void proved(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct proof *p = op;
    for (size_t i = 0; i < p->op.n_proof; i++)
        cert_free(p->certs[i]);
    reply_done(x, rc, err, TAKE(p->op.out));
}

void admin_ROOT_PROVE(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    const char *pem = NULL;
    struct proof p = {.op = {.actor = grant_of(x)->actor, .account = grant_account(x), .root = param_of(x, "root")}};
    struct err err = ERR_INIT;
    if (!body)
        return;
    int rc = json_take(body, &err, "{s:s}", "certificate", &pem);
    if (!rc && (rc = cert_chain_from_file(span_str(pem), p.certs, sizeof p.certs / sizeof *p.certs, &p.op.n_proof, &err)))
        rc = err.code = rc == MUSTER_ECERTMALFORMED ? MUSTER_EPROOF : rc;
    if (rc)
        http_reply_err(x, &err);
    else
        job_start(x, JOB_WRITE, proof_run, &p, sizeof p, proved);
}

/* --- rules and states -------------------------------------------------------------------------------------------------------------- */

static void changed(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct root_set *s = op;
    if (rc == MUSTER_ECONFIRM)
        reply_confirm(x, err, s->devices);
    else
        reply_done(x, rc, err, TAKE(s->out));
}

void admin_ROOT_SET(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    const char *id_rule = NULL, *key_rule = NULL, *state = NULL, *expired = NULL, *shadow = NULL;
    enum tried_change tried = TRIED_NOT;
    struct root_set s = {.actor = grant_of(x)->actor, .account = grant_account(x), .root = param_of(x, "root"), .change = ROOT_SET, .id_rule = (enum id_rule)-1, .confirm = -1};
    struct err err = ERR_INIT;
    if (!body)
        return;
    int rc = json_take(body, &err, "{s?s, s?s, s?s, s?s, s?s}", "id_rule", &id_rule, "key_rule", &key_rule, "state", &state, "expired", &expired, "shadow", &shadow);
    if (!rc && !(rc = tried_change_of(body, &tried, &err)) && tried > TRIED_TRY && json_object_size(body) > 1)
        rc = err_set(&err, MUSTER_EINVALID, "What was tried is enforced, or dropped, as it is.");
    s.tried = tried;
    if (!rc)
        rc = take_rules(id_rule, key_rule, &s.id_rule, &s.key_rule, &err);
    if (!rc && expired && !(s.expired = (enum expired_rule)word_parse(&WORDS_EXPIRED_RULE, expired)))
        rc = err_set(&err, MUSTER_EINVALID, "expired is refuse or known.");
    if (!rc && state) {
        s.state = (enum root_state)word_parse(&WORDS_ROOT_STATE, state);
        if (s.state != ROOT_ACTIVE && s.state != ROOT_KNOWN_ONLY)
            rc = err_set(&err, MUSTER_EINVALID, "state is active or known-only.");
    }
    if (rc)
        http_reply_err(x, &err);
    else
        job_start(x, JOB_WRITE, root_set_run, &s, sizeof s, changed);
}

static void change(struct http_exchange *x, enum root_change what) {
    CLEANUP_JSON json_t *body = body_object(x);
    struct err err = ERR_INIT;
    json_int_t confirm = -1;
    if (!body)
        return;
    if (json_take(body, &err, "{s?I}", "confirm", &confirm)) {
        http_reply_err(x, &err);
        return;
    }
    const struct root_set s = {.actor = grant_of(x)->actor, .account = grant_account(x), .root = param_of(x, "root"), .change = what, .confirm = confirm};
    job_start(x, JOB_WRITE, root_set_run, &s, sizeof s, changed);
}

void admin_ROOT_DISABLE(struct http_exchange *x, void *arg) { change(x, ROOT_DISABLE); }
void admin_ROOT_ENABLE(struct http_exchange *x, void *arg) { change(x, ROOT_ENABLE); }
void admin_ROOT_REVOKE(struct http_exchange *x, void *arg) { change(x, ROOT_REVOKE); }

/* --- out of use ---------------------------------------------------------------------------------------------------------------------- */

static void retired(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct root_retire *t = op;
    if (rc == MUSTER_EROOTINUSE || rc == MUSTER_ECONFIRM)
        reply_confirm(x, err, t->devices);
    else
        reply_done(x, rc, err, TAKE(t->out));
}

static void may_retire(struct http_exchange *x, int rc, const struct err *err, void *op) {
    if (rc)
        retired(x, rc, err, op);
    else
        job_start(x, JOB_WRITE, root_retire_run, op, sizeof(struct root_retire), retired);
}

void admin_ROOT_RETIRE(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    struct err err = ERR_INIT;
    json_int_t days = ROOT_RETIRE_DAYS, confirm = -1;
    if (!body)
        return;
    int rc = json_take(body, &err, "{s?I, s?I}", "days", &days, "confirm", &confirm);
    if (!rc && (days < 1 || days > 36500))
        rc = err_set(&err, MUSTER_EINVALID, "days is between 1 and 36500.");
    const struct root_retire t = {.actor = grant_of(x)->actor, .account = grant_account(x), .root = param_of(x, "root"), .days = days, .confirm = confirm};
    if (rc)
        http_reply_err(x, &err);
    else
        job_start(x, JOB_READ, root_retire_look_run, &t, sizeof t, may_retire);
}
