/* device_certificates: every certificate that was issued to devices, over the API; the rules are registry/certificate.h's. */
#include "registry/certificate.h"

#include "admin/internal.h"

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct certificate_list *)op)->page.out)); }

/* false: answered already. */
static bool take_name(struct http_exchange *x, const char *parameter, bool fingerprint, struct certificate_name *out) {
    struct span text;
    if (!http_query_param(x, parameter, &text))
        return true;
    if (certificate_name_parse(text, out, NULL) == 0 && fingerprint == (out->n == sizeof out->b))
        return true;
    reply_code(x, MUSTER_EINVALID, fingerprint ? "fingerprint is the SHA-256 of the certificate in 64 hex digits." : "serial is the certificate's serial number in hex digits.");
    return false;
}

static bool take_state(struct http_exchange *x, enum certificate_filter *out) {
    struct span state;
    char word[32] = "";
    if (!http_query_param(x, "state", &state))
        return true;
    snprintf(word, sizeof word, "%.*s", (int)(state.n < sizeof word ? state.n : 0), (const char *)state.p);
    if ((*out = (enum certificate_filter)word_parse(&WORDS_CERTIFICATE_FILTER, word)))
        return true;
    CLEANUP(buf_fini) struct buf words = BUF_INIT(256);
    buf_adds(&words, "state is ");
    words_list(&WORDS_CERTIFICATE_FILTER, &words);
    buf_adds(&words, ".");
    reply_code(x, MUSTER_EINVALID, buf_str(&words));
    return false;
}

/* Of the account; or, where the token is of no account alone, of all. */
static void list(struct http_exchange *x, bool lenient) {
    struct certificate_list l = {.account = grant_account(x), .lenient = lenient};
    if (!page_limit(x, &l.page) || !take_name(x, "serial", false, &l.serial) || !take_name(x, "fingerprint", true, &l.fingerprint) || !take_state(x, &l.state) || !spki_of(x, &l.spki, &l.has_spki) ||
        !ahead_of(x, "expires_after", &l.ends_after) || !ahead_of(x, "expires_before", &l.ends_before))
        return;
    http_query_param(x, "cursor", &l.cursor);
    http_query_param(x, "device", &l.device);
    http_query_param(x, "key", &l.key);
    job_start(x, JOB_READ, certificate_list_run, &l, sizeof l, listed);
}

void admin_CERT_LIST(struct http_exchange *x, void *arg) { list(x, false); }
void admin_CERT_LIST_ALL(struct http_exchange *x, void *arg) { list(x, true); }

/* The {certificate} of the path; false: answered already. */
static bool named(struct http_exchange *x, struct certificate_name *out) {
    struct err err = ERR_INIT;
    if (certificate_name_parse(param_of(x, "certificate"), out, &err) == 0)
        return true;
    http_reply_err(x, &err);
    return false;
}

static void shown(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct certificate_show *)op)->out)); }

void admin_CERT_SHOW(struct http_exchange *x, void *arg) {
    struct certificate_show s = {.account = grant_account(x)};
    if (named(x, &s.name))
        job_start(x, JOB_READ, certificate_show_run, &s, sizeof s, shown);
}

struct issuer_export {
    struct certificate_show op;
    struct buf pem;
};

static int issuer_run(struct store_tx *tx, void *arg, struct err *err) {
    struct issuer_export *e = arg;
    e->op.issuer = &e->pem;
    buf_clear(&e->pem);
    return certificate_show_run(tx, &e->op, err);
}

static void issuer_exported(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct issuer_export *e = op;
    json_decref(TAKE(e->op.out));
    if (rc)
        http_reply_err(x, err);
    else
        http_reply_buf(x, 200, "application/x-pem-file", &e->pem, false);
    buf_fini(&e->pem);
}

void admin_CERT_ISSUER(struct http_exchange *x, void *arg) {
    struct issuer_export e = {.op = {.account = grant_account(x)}, .pem = BUF_INIT(2 * CERT_DER_MAX)};
    if (named(x, &e.op.name))
        job_start(x, JOB_READ, issuer_run, &e, sizeof e, issuer_exported);
}

static void revoked(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct certificate_revoke *r = op;
    if (rc == MUSTER_ECONFIRM)
        reply_confirm(x, err, r->count);
    else
        reply_done(x, rc, err, TAKE(r->out));
}

void admin_CERT_REVOKE(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    struct certificate_revoke r = {.actor = grant_of(x)->actor, .account = grant_account(x)};
    const char *reason = "unspecified";
    json_int_t confirm = 0;
    struct err err = ERR_INIT;
    if (!body)
        return;
    int rc = json_take(body, &err, "{s?s, s?I}", "reason", &reason, "confirm", &confirm);
    r.reason = (enum revoke_reason)word_parse(&WORDS_REVOKE_REASON, reason);
    r.confirm = confirm;
    if (!rc && strcmp(word_of(&WORDS_REVOKE_REASON, r.reason), reason) != 0) {
        CLEANUP(buf_fini) struct buf words = BUF_INIT(512);
        words_list(&WORDS_REVOKE_REASON, &words);
        rc = err_set(&err, MUSTER_EINVALID, "reason is %s.", buf_str(&words));
    }
    if (rc)
        http_reply_err(x, &err);
    else if (named(x, &r.name))
        job_start(x, JOB_WRITE, certificate_revoke_run, &r, sizeof r, revoked);
}
