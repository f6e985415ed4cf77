/* keys: provisioning keys over the API.  The private half is made here, goes into the credentials.zip of the one answer, and is kept
 * nowhere. */
#include "registry/key.h"

#include "admin/internal.h"
#include "bundle/credentials.h"
#include "pki/make.h"
#include "registry/device.h"


static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct key_list *)op)->page.out)); }

void admin_KEY_LIST(struct http_exchange *x, void *arg) {
    struct key_list l = {.account = grant_account(x)};
    if (page_of(x, &l.page))
        job_start(x, JOB_READ, key_list_run, &l, sizeof l, listed);
}

static void shown(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct key_show *)op)->out)); }

void admin_KEY_SHOW(struct http_exchange *x, void *arg) {
    const struct key_show s = {.account = grant_account(x), .key = param_of(x, "key")};
    job_start(x, JOB_READ, key_show_run, &s, sizeof s, shown);
}

static void set_done(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct key_set *s = op;
    json_decref(s->change);
    reply_done(x, rc, err, TAKE(s->out));
}

void admin_KEY_SET(struct http_exchange *x, void *arg) {
    json_t *body = body_object(x);
    const struct key_set s = {.actor = grant_of(x)->actor, .account = grant_account(x), .key = param_of(x, "key"), .change = body};
    if (body)
        job_start(x, JOB_WRITE, key_set_run, &s, sizeof s, set_done);
}

static void blacklisted(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct key_blacklist *)op)->out)); }

void admin_KEY_BLACKLIST(struct http_exchange *x, void *arg) {
    const struct key_blacklist b = {.actor = grant_of(x)->actor, .account = grant_account(x), .key = param_of(x, "key")};
    job_start(x, JOB_WRITE, key_blacklist_run, &b, sizeof b, blacklisted);
}

/* --- a key's devices -------------------------------------------------------------------------------------------------------------------- */

static void devices_listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct device_list *)op)->page.out)); }

void admin_KEY_DEVICES(struct http_exchange *x, void *arg) {
    struct device_list l = {.account = grant_account(x), .key = param_of(x, "key")};
    http_query_param(x, "cursor", &l.cursor);
    if (page_limit(x, &l.page) && when_of(x, "since", &l.since))
        job_start(x, JOB_READ, device_list_run, &l, sizeof l, devices_listed);
}

static void acted(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct key_devices_act *k = op;
    if (rc == MUSTER_ECONFIRM) {
        reply_confirm(x, err, k->count);
        return;
    }
    if (rc) {
        http_reply_err(x, err);
        return;
    }
    if (k->more) {
        struct key_devices_act next = *k;
        next.after = k->next;
        job_start(x, JOB_WRITE, key_devices_act_run, &next, sizeof next, acted);
        return;
    }
    reply_json(x, 200, TAKE(k->out));
}

void admin_KEY_DEVICES_ACT(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    const char *action = NULL, *since = NULL, *reason = NULL;
    json_int_t confirm = -1;
    struct err err = ERR_INIT;
    struct key_devices_act k = {.actor = grant_of(x)->actor, .account = grant_account(x), .key = param_of(x, "key")};
    if (!body)
        return;
    int rc = json_take(body, &err, "{s:s, s?s, s?s, s?I}", "action", &action, "since", &since, "reason", &reason, "confirm", &confirm);
    if (!rc && since)
        rc = read_when(span_str(since), "since", &k.since, &err);
    if (!rc && strcmp(action, "revoke") != 0 && strcmp(action, "quarantine") != 0)
        rc = err_set(&err, MUSTER_EINVALID, "action is quarantine or revoke.");
    if (!rc && reason && (strlen(reason) >= sizeof k.reason || span_has_control(span_str(reason))))
        rc = err_set(&err, MUSTER_EINVALID, "reason has at most %zu bytes and no control characters.", sizeof k.reason - 1);
    if (rc) {
        http_reply_err(x, &err);
        return;
    }
    k.to = strcmp(action, "revoke") == 0 ? DEVICE_REVOKED : DEVICE_QUARANTINED;
    k.confirm = confirm;
    snprintf(k.reason, sizeof k.reason, "%s", reason ? reason : "");
    job_start(x, JOB_WRITE, key_devices_act_run, &k, sizeof k, acted);
}

/* --- making ------------------------------------------------------------------------------------------------------------------------------ */

struct making {
    struct control *c;
    struct http_exchange *x; /* held */
    EVP_PKEY *key;
    struct cert *cert;
    struct key_create op;
};

static void making_free(struct making *m) {
    EVP_PKEY_free(m->key);
    cert_free(m->cert);
    json_decref(m->op.out);
    http_exchange_unref(m->x);
    free(m);
}

static void fail(struct making *m, const struct err *err) {
    http_reply_err(m->x, err);
    making_free(m);
}

static int make_p12(struct making *m, struct buf *p12, struct err *err) {
    CLEANUP(buf_fini) struct buf leaf = BUF_INIT(CERT_DER_MAX);
    struct cert *anchors[SERVER_CAS_MAX];
    size_t n = 0;
    int rc = cert_chain_from_file(buf_span(&m->c->server_ca), anchors, SERVER_CAS_MAX, &n, err);
    if (!rc && (rc = cert_der(m->cert, &leaf)))
        err_set(err, rc, NULL);
    if (!rc)
        rc = make_pkcs12(m->key, SPAN_NONE, buf_span(&leaf), anchors, n, p12, err);
    for (size_t i = 0; i < n; i++)
        cert_free(anchors[i]);
    return rc;
}

static void stored(void *arg, int rc, const struct err *err) {
    struct making *m = (struct making *)((char *)arg - offsetof(struct making, op));
    CLEANUP(buf_wipe) struct buf p12 = BUF_INIT(65536);
    CLEANUP(buf_fini) struct buf url = BUF_INIT(1024);
    struct buf zip = BUF_INIT(256 * 1024);
    struct err why = ERR_INIT;
    if (rc) {
        fail(m, err);
        return;
    }
    account_url(m->c, grant_of(m->x)->account, &url);
    buf_addc(&url, '\n');
    if ((rc = make_p12(m, &p12, &why)) == 0) {
        const struct credentials parts = {.url = buf_span(&url), .p12 = buf_span(&p12), .server_ca = buf_span(&m->c->server_ca)};
        rc = credentials_zip(&parts, &zip, &why);
    }
    if (rc) {
        buf_wipe(&zip);
        fail(m, &why);
        return;
    }
    char id[UUID_TEXT_LEN + 1];
    uuid_text(&m->op.id, id);
    http_reply_field(m->x, "X-Muster-Key", id);
    http_reply_field(m->x, "Content-Disposition", "attachment; filename=\"credentials.zip\"");
    http_reply_buf(m->x, 201, "application/zip", &zip, true);
    making_free(m);
}

static void issued(void *arg, int rc, const struct err *err, const struct vault_issued *i) {
    struct making *m = arg;
    struct err why = ERR_INIT;
    if (rc) {
        fail(m, err);
        return;
    }
    if (cert_from_der(i->der, &m->cert, &why)) {
        fail(m, &why);
        return;
    }
    m->op.cert = m->cert;
    if (store_write(m->c->registry, m->c->loop, key_create_run, stored, &m->op, &why))
        fail(m, &why);
}

static int ask_vault(struct making *m, struct err *err) {
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    int rc = key_generate(KEY_P256, 0, &m->key, err);
    if (rc || (rc = key_public_der(m->key, &spki, err)))
        return rc;
    const struct vault_key_issue rq = {.account = grant_account(m->x), .key = m->op.id, .public_key = buf_span(&spki)};
    return vault_key_issue(m->c->vault, &rq, issued, m, err);
}

/* The registry refuses what it will not store before the vault signs anything. */
static void account_known(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct key_list *l = op;
    struct err why = ERR_INIT;
    json_decref(TAKE(l->page.out));
    if (rc) {
        http_reply_err(x, err);
        return;
    }
    CLEANUP_JSON json_t *body = body_object(x);
    struct making *m = body ? calloc(1, sizeof *m) : NULL;
    if (!m) {
        if (body)
            reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    m->c = http_exchange_arg(x);
    m->x = x;
    http_exchange_ref(x);
    m->op = (struct key_create){.actor = grant_of(x)->actor, .account = grant_account(x), .id = uuid_new(), .bounds = {.expires = clock_now() + KEY_LIFE_DEFAULT}};
    rc = key_bounds_json(&m->op.bounds, body, &why);
    if (!rc && m->op.bounds.expires <= clock_now())
        rc = err_set(&why, MUSTER_EINVALID, "expires lies in the past.");
    if (rc || (rc = ask_vault(m, &why)))
        fail(m, &why);
}

static int account_run(struct store_tx *tx, void *arg, struct err *err) {
    int rc = clock_check(tx, clock_now(), err);
    return rc ? rc : key_list_run(tx, arg, err);
}

void admin_KEY_CREATE(struct http_exchange *x, void *arg) {
    const struct key_list l = {.account = grant_account(x), .page = {.limit = 1}};
    job_start(x, JOB_READ, account_run, &l, sizeof l, account_known);
}
