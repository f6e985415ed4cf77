/* accounts: accounts over the API.  Making or changing one goes through the vault first (it holds the policy and makes the CAs), then
 * into the registry; each step can be repeated, so that a crash in between leaves nothing that a second try does not mend. */
#include "registry/account.h"

#include "admin/internal.h"
#include "base/log.h"
#include "registry/audit.h"

static void add_urls(struct control *c, json_t *account) {
    CLEANUP(buf_fini) struct buf url = BUF_INIT(1024);
    char host[600];
    const char *name = json_string_value(json_object_get(account, "id"));
    account_url(c, name, &url);
    json_set_str(account, "gateway_host", account_host(c, name, host));
    json_set_str(account, "gateway_url", buf_str(&url));
}

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) {
    json_t *out = TAKE(((struct account_list *)op)->page.out), *one;
    size_t i;
    json_array_foreach(json_object_get(out, "items"), i, one) {
        add_urls(http_exchange_arg(x), one);
    }
    reply_done(x, rc, err, out);
}

void admin_ACCOUNT_LIST(struct http_exchange *x, void *arg) {
    struct account_list l = {.only = grant_of(x)->account};
    if (page_of(x, &l.page))
        job_start(x, JOB_READ, account_list_run, &l, sizeof l, listed);
}

static void shown(struct http_exchange *x, int rc, const struct err *err, void *op) {
    json_t *out = TAKE(((struct account_show *)op)->out);
    if (out)
        add_urls(http_exchange_arg(x), out);
    reply_done(x, rc, err, out);
}

void admin_ACCOUNT_SHOW(struct http_exchange *x, void *arg) {
    const struct account_show s = {.name = grant_account(x)};
    job_start(x, JOB_READ, account_show_run, &s, sizeof s, shown);
}

/* --- making and changing ----------------------------------------------------------------------------------------------------------- */

/* Between a request and its answer; the exchange is held. */
struct change {
    struct control *c;
    struct http_exchange *x;
    bool create;
    char name[ACCOUNT_NAME_MAX + 1];
    enum account_kind kind;
    enum account_method method;
    struct account_settings settings;
    struct actor actor;
    struct buf fleet_root, issuing_ca, provisioning_ca;
    struct vault_version version;
    struct account_create creation;
    struct account_set setting;
};

static void change_free(struct change *ch) {
    buf_fini(&ch->fleet_root);
    buf_fini(&ch->issuing_ca);
    buf_fini(&ch->provisioning_ca);
    json_decref(ch->creation.out);
    json_decref(ch->setting.out);
    http_exchange_unref(ch->x);
    free(ch);
}

static void fail(struct change *ch, const struct err *err) {
    http_reply_err(ch->x, err);
    change_free(ch);
}

static void registered(void *arg, int rc, const struct err *err) {
    struct change *ch = arg;
    if (rc) {
        fail(ch, err);
        return;
    }
    json_t *out = ch->create ? TAKE(ch->creation.out) : TAKE(ch->setting.out);
    add_urls(ch->c, out);
    certificates_look(ch->c->certificates);
    reply_json(ch->x, ch->create ? 201 : 200, out);
    change_free(ch);
}

/* The operation's argument is the member; what is freed is the whole. */
static void creation_done(void *arg, int rc, const struct err *err) { registered((char *)arg - offsetof(struct change, creation), rc, err); }
static void setting_done(void *arg, int rc, const struct err *err) { registered((char *)arg - offsetof(struct change, setting), rc, err); }

static void logged(void *arg, int rc, const struct err *err) {
    struct change *ch = arg;
    struct err why = ERR_INIT;
    if (rc) {
        fail(ch, err);
        return;
    }
    const struct account_cas cas = {buf_span(&ch->fleet_root), buf_span(&ch->issuing_ca), buf_span(&ch->provisioning_ca)};
    if (ch->create) {
        ch->creation = (struct account_create){.actor = ch->actor, .name = span_str(ch->name), .kind = ch->kind, .method = ch->method, .settings = ch->settings, .cas = cas};
        rc = store_write(ch->c->registry, ch->c->loop, account_create_run, creation_done, &ch->creation, &why);
    } else {
        ch->setting = (struct account_set){.actor = ch->actor, .name = span_str(ch->name), .method = ch->method, .settings = ch->settings, .cas = cas};
        rc = store_write(ch->c->registry, ch->c->loop, account_set_run, setting_done, &ch->setting, &why);
    }
    if (rc)
        fail(ch, &why);
}

static void version_done(void *arg, int rc, const struct err *err) { logged((char *)arg - offsetof(struct change, version), rc, err); }

static void vault_changed(void *arg, int rc, const struct err *err, const struct vault_account_view *view) {
    struct change *ch = arg;
    struct err why = ERR_INIT;
    if (rc) {
        fail(ch, err);
        return;
    }
    buf_add(&ch->fleet_root, view->fleet_root);
    buf_add(&ch->issuing_ca, view->issuing_ca);
    buf_add(&ch->provisioning_ca, view->provisioning_ca);
    ch->version = (struct vault_version){.actor = ch->actor, .version = view->version};
    snprintf(ch->version.account, sizeof ch->version.account, "%s", ch->name);
    snprintf(ch->version.what, sizeof ch->version.what, "%s", ch->create ? "account.create" : "account.set");
    if (store_write(ch->c->store, ch->c->loop, vault_version_run, version_done, &ch->version, &why))
        fail(ch, &why);
}

static void ask_vault(struct change *ch) {
    struct err err = ERR_INIT;
    const struct vault_account rq = {.name = span_str(ch->name),
                                     .kind = ch->kind == ACCOUNT_TEST ? VAULT_TEST : VAULT_PRODUCTION,
                                     .method = (enum vault_method)ch->method,
                                     .policy = {.set = VAULT_SET_LIFE | VAULT_SET_LIFE_MAX | VAULT_SET_RSA | VAULT_SET_CEILING | (ch->create ? 0 : VAULT_SET_METHOD),
                                                .device_life = ch->settings.device_life,
                                                .device_life_max = ch->settings.device_life,
                                                .rsa_allowed = ch->settings.device_key == DEVICE_KEY_RSA,
                                                .ceiling = (uint32_t)ch->settings.issue_ceiling}};
    int rc = ch->create ? vault_account_create(ch->c->vault, &rq, vault_changed, ch, &err) : vault_account_policy(ch->c->vault, &rq, vault_changed, ch, &err);
    if (rc)
        fail(ch, &err);
}

static struct change *change_new(struct http_exchange *x, bool create) {
    struct change *ch = calloc(1, sizeof *ch);
    if (!ch) {
        reply_code(x, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    ch->c = http_exchange_arg(x);
    ch->x = x;
    ch->create = create;
    ch->actor = grant_of(x)->actor;
    ch->fleet_root = ch->issuing_ca = ch->provisioning_ca = BUF_INIT(16384);
    http_exchange_ref(x);
    return ch;
}

static int take_method(struct change *ch, const char *method, struct err *err) {
    if (method)
        ch->method = (enum account_method)word_parse(&WORDS_METHOD, method);
    return ch->method ? 0 : err_set(err, MUSTER_EINVALID, "method is shared, device or both.");
}

static int take_creation(struct change *ch, json_t *body, struct err *err) {
    CLEANUP_JSON json_t *rest = NULL;
    const char *id = NULL, *kind = NULL, *method = NULL;
    account_settings_default(&ch->settings);
    int rc = account_settings_json(&ch->settings, body, &rest, err);
    if (rc || (rc = json_take(rest, err, "{s:s, s:s, s:s}", "id", &id, "kind", &kind, "method", &method)) || (rc = account_name_check(span_str(id), err)))
        return rc;
    snprintf(ch->name, sizeof ch->name, "%s", id);
    ch->kind = (enum account_kind)word_parse(&WORDS_ACCOUNT_KIND, kind);
    return ch->kind ? take_method(ch, method, err) : err_set(err, MUSTER_EINVALID, "kind is test or production.");
}

/* A name that exists, or did, must be refused before the vault's policy of that account is touched. */
static void name_looked_up(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct account_show *s = op;
    json_decref(TAKE(s->out));
    if (rc != MUSTER_ENOTFOUND) {
        struct err taken = ERR_INIT;
        err_set(&taken, MUSTER_EEXISTS, rc == MUSTER_EDELETED ? "There was an account \"%.*s\" before, and names of accounts are not used again." : "There is an account \"%.*s\" already.",
                SPAN_FMT(s->name));
        http_reply_err(x, !rc || rc == MUSTER_EDELETED ? &taken : err);
        return;
    }
    CLEANUP_JSON json_t *body = body_object(x);
    struct err why = ERR_INIT;
    struct change *ch = body ? change_new(x, true) : NULL;
    if (!ch)
        return;
    if (take_creation(ch, body, &why))
        fail(ch, &why);
    else
        ask_vault(ch);
}

void admin_ACCOUNT_CREATE(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    struct change probe = {0};
    struct err err = ERR_INIT;
    if (!body)
        return;
    if (take_creation(&probe, body, &err)) {
        http_reply_err(x, &err);
        return;
    }
    const char *name = arena_strdup(http_exchange_arena(x), span_str(probe.name));
    const struct account_show s = {.name = name ? span_str(name) : SPAN_NONE};
    job_start(x, JOB_READ, account_show_run, &s, sizeof s, name_looked_up);
}

static int take_setting(struct change *ch, json_t *body, struct err *err) {
    CLEANUP_JSON json_t *rest = NULL;
    const char *method = NULL;
    int rc = account_settings_json(&ch->settings, body, &rest, err);
    if (rc || (rc = json_take(rest, err, "{s?s}", "method", &method)))
        return rc;
    return take_method(ch, method ? method : word_of(&WORDS_METHOD, ch->method), err);
}

static void current_known(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct account_show *s = op;
    struct err why = ERR_INIT;
    json_decref(TAKE(s->out));
    if (rc) {
        http_reply_err(x, err);
        return;
    }
    CLEANUP_JSON json_t *body = body_object(x);
    struct change *ch = body ? change_new(x, false) : NULL;
    if (!ch)
        return;
    snprintf(ch->name, sizeof ch->name, "%s", grant_of(x)->account);
    ch->kind = s->kind;
    ch->method = s->method;
    ch->settings = s->settings;
    if (take_setting(ch, body, &why))
        fail(ch, &why);
    else
        ask_vault(ch);
}

void admin_ACCOUNT_SET(struct http_exchange *x, void *arg) {
    const struct account_show s = {.name = grant_account(x)};
    job_start(x, JOB_READ, account_show_run, &s, sizeof s, current_known);
}

/* --- deleting ------------------------------------------------------------------------------------------------------------------------ */

static void keys_destroyed(void *arg, int rc, const struct err *err, uint64_t version, bool changed) {
    struct change *ch = arg;
    if (rc)
        log_err(LOG_ERROR, "account_keys_not_destroyed", err, "account", ch->name, NULL);
    json_t *o = json_object();
    json_set_str(o, "id", ch->name);
    json_set_str(o, "state", word_of(&WORDS_ACCOUNT_STATE, ACCOUNT_DELETED));
    reply_json(ch->x, 200, o);
    change_free(ch);
}

static void tokens_revoked(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct err why = ERR_INIT;
    struct change *ch = change_new(x, false);
    if (!ch)
        return;
    snprintf(ch->name, sizeof ch->name, "%s", grant_of(x)->account);
    if (certificate_remove(ch->c, ch->name, &why))
        log_err(LOG_WARN, "certificate_not_removed", &why, "account", ch->name, NULL);
    if (rc)
        fail(ch, err);
    else if (vault_account_delete(ch->c->vault, span_str(ch->name), keys_destroyed, ch, &why))
        keys_destroyed(ch, why.code, &why, 0, false);
}

static void deleted(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct account_delete *d = op;
    if (rc == MUSTER_ECONFIRM) {
        reply_confirm(x, err, d->devices);
        return;
    }
    if (rc) {
        http_reply_err(x, err);
        return;
    }
    const struct token_revoke_account t = {.actor = grant_of(x)->actor, .account = grant_of(x)->account};
    job_start(x, JOB_CONTROL_WRITE, token_revoke_account_run, &t, sizeof t, tokens_revoked);
}

void admin_ACCOUNT_DELETE(struct http_exchange *x, void *arg) {
    struct account_delete d = {.actor = grant_of(x)->actor, .name = span_str(grant_of(x)->account), .confirm = -1};
    struct span value;
    uint64_t number;
    char named[ACCOUNT_NAME_MAX + 1];
    struct span path_name = param_of(x, "account");
    if (http_query_param(x, "confirm", &value) && span_to_u64(value, &number) && number <= INT64_MAX)
        d.confirm = (int64_t)number;
    /* The route is the server's, so that the grant has no account: the path names it. */
    struct grant *g = http_exchange_data(x);
    snprintf(named, sizeof named, "%.*s", (int)(path_name.n > ACCOUNT_NAME_MAX ? 0 : path_name.n), (const char *)path_name.p);
    memcpy(g->account, named, sizeof g->account);
    d.name = span_str(g->account);
    job_start(x, JOB_WRITE, account_delete_run, &d, sizeof d, deleted);
}
