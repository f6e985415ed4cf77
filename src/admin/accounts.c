/* accounts: accounts over the API.  Making or changing one goes through the vault first (it holds the policy and makes the CAs), then
 * into the registry; each step can be repeated, so that a crash in between leaves nothing that a second try does not mend. */
#include "registry/account_told.h"

#include "admin/internal.h"
#include "base/log.h"
#include "registry/audit.h"
#include "registry/root.h"
#include "registry/tried.h"

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

/* --- making, changing, deleting ------------------------------------------------------------------------------------------------- */

/* One at a time: each looks first and acts then, in the vault and in two databases, and two at once could leave these of different minds.
 * What a crash leaves half-done certificates.c finds at the next start. */
struct change {
    struct control *c;
    struct http_exchange *x; /* held */
    struct change *next;     /* that waits for its turn */
    void (*begin)(struct change *ch);
    bool begun;
    json_t *body;
    bool create, rotate, profile; /* profile: what changes, and is answered, is the issuing profile */
    bool moves;                   /* rotate: into another backend, which is a setting of the account */
    char name[ACCOUNT_NAME_MAX + 1];
    enum account_kind kind;
    enum account_method method;
    struct account_settings settings;
    struct actor actor;
    struct buf fleet_root, issuing_ca, provisioning_ca, crosses;
    struct vault_version version;
    /* operations under way; a completion is given the member that it was started with */
    struct account_show show;
    struct account_told told;
    struct account_create creation;
    struct account_set setting;
    struct root_rotate_look look;
    struct account_cas_add cas;
    struct account_delete deletion;
    struct token_revoke_account tokens;
};
#define CHANGE_OF(arg, member) ((struct change *)((char *)(arg) - offsetof(struct change, member)))

static void change_end(struct change *ch) {
    struct control *c = ch->c;
    buf_fini(&ch->fleet_root);
    buf_fini(&ch->issuing_ca);
    buf_fini(&ch->provisioning_ca);
    buf_fini(&ch->crosses);
    json_decref(ch->show.out);
    json_decref(ch->creation.out);
    json_decref(ch->setting.out);
    json_decref(ch->cas.out);
    json_decref(ch->body);
    http_exchange_unref(ch->x);
    c->change = ch->next;
    free(ch);
    if (c->change)
        accounts_go_on(c);
    else
        certificates_go_on(c->certificates);
}

void accounts_go_on(struct control *c) {
    struct change *ch = c->change;
    if (!ch || ch->begun || certificates_looking(c->certificates))
        return;
    ch->begun = true;
    ch->begin(ch);
}

static void fail(struct change *ch, const struct err *err) {
    http_reply_err(ch->x, err);
    change_end(ch);
}

static void change_begin(struct http_exchange *x, struct span name, void (*begin)(struct change *ch)) {
    struct control *c = http_exchange_arg(x);
    json_t *body = body_object(x);
    struct change *ch = body ? calloc(1, sizeof *ch) : NULL, **last = &c->change;
    if (!ch) {
        if (body)
            reply_code(x, MUSTER_ENOMEM, NULL);
        json_decref(body);
        return;
    }
    *ch = (struct change){.c = c, .x = x, .begin = begin, .body = body, .actor = grant_of(x)->actor};
    snprintf(ch->name, sizeof ch->name, "%.*s", (int)(name.n > ACCOUNT_NAME_MAX ? 0 : name.n), (const char *)name.p);
    ch->fleet_root = ch->issuing_ca = ch->provisioning_ca = BUF_INIT(16384);
    ch->crosses = BUF_INIT(65536);
    http_exchange_ref(x);
    while (*last)
        last = &(*last)->next;
    *last = ch;
    accounts_go_on(c);
}

static void look_up(struct change *ch, store_done_fn then) {
    struct err err = ERR_INIT;
    ch->show = (struct account_show){.name = span_str(ch->name)};
    if (store_read(ch->c->registry, ch->c->loop, account_show_clock_run, then, &ch->show, &err))
        fail(ch, &err);
}

/* --- making and changing: the vault, its version into the log, the registry ---------------------------------------------------- */

static void registered(struct change *ch, int rc, const struct err *err) {
    if (rc) {
        fail(ch, err);
        return;
    }
    json_t *out = ch->create ? TAKE(ch->creation.out) : TAKE(ch->setting.out);
    if (!ch->profile)
        add_urls(ch->c, out);
    certificates_look(ch->c->certificates);
    reply_json(ch->x, ch->create ? 201 : 200, out);
    change_end(ch);
}

static void creation_done(void *arg, int rc, const struct err *err) { registered(CHANGE_OF(arg, creation), rc, err); }
static void setting_done(void *arg, int rc, const struct err *err) { registered(CHANGE_OF(arg, setting), rc, err); }

static void rotation_done(void *arg, int rc, const struct err *err) {
    struct change *ch = CHANGE_OF(arg, cas);
    if (rc) {
        fail(ch, err);
        return;
    }
    certificates_look(ch->c->certificates);
    reply_json(ch->x, 200, TAKE(ch->cas.out));
    change_end(ch);
}

static void version_done(void *arg, int rc, const struct err *err) {
    struct change *ch = CHANGE_OF(arg, version);
    struct err why = ERR_INIT;
    if (rc) {
        fail(ch, err);
        return;
    }
    const struct account_cas cas = {buf_span(&ch->fleet_root), buf_span(&ch->issuing_ca), buf_span(&ch->provisioning_ca), buf_span(&ch->crosses)};
    if (ch->rotate) {
        ch->cas = (struct account_cas_add){.actor = ch->actor, .name = span_str(ch->name), .cas = cas, .settings = ch->moves ? &ch->settings : NULL, .method = ch->method, .show_root = true};
        rc = store_write(ch->c->registry, ch->c->loop, account_cas_add_run, rotation_done, &ch->cas, &why);
    } else if (ch->create) {
        ch->creation = (struct account_create){.actor = ch->actor, .name = span_str(ch->name), .kind = ch->kind, .method = ch->method, .settings = ch->settings, .cas = cas};
        rc = store_write(ch->c->registry, ch->c->loop, account_create_run, creation_done, &ch->creation, &why);
    } else {
        ch->setting = (struct account_set){.actor = ch->actor, .name = span_str(ch->name), .method = ch->method, .settings = ch->settings, .cas = cas, .profile = ch->profile};
        rc = store_write(ch->c->registry, ch->c->loop, account_set_run, setting_done, &ch->setting, &why);
    }
    if (rc)
        fail(ch, &why);
}

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
    buf_add(&ch->crosses, view->crosses);
    ch->version = (struct vault_version){.actor = ch->actor, .version = view->version};
    snprintf(ch->version.account, sizeof ch->version.account, "%s", ch->name);
    snprintf(ch->version.what, sizeof ch->version.what, "%s", ch->rotate ? "root.rotate" : ch->create ? "account.create" : "account.set");
    if (store_write(ch->c->store, ch->c->loop, vault_version_run, version_done, &ch->version, &why))
        fail(ch, &why);
}

void vault_account_of(const char *name, enum account_kind kind, enum account_method method, const struct account_settings *s, struct vault_account *out) {
    *out = (struct vault_account){.name = span_str(name),
                                  .kind = kind == ACCOUNT_TEST ? VAULT_TEST : VAULT_PRODUCTION,
                                  .method = (enum vault_method)method,
                                  .backend = s->backend == BACKEND_PKCS11 ? VAULT_BACKEND_PKCS11 : VAULT_BACKEND_SEALED,
                                  .policy = {.set = VAULT_SET_LIFE | VAULT_SET_LIFE_MAX | VAULT_SET_RSA | VAULT_SET_CEILING | VAULT_SET_PROFILE,
                                             .device_life = s->device_life,
                                             .device_life_max = s->profile.life_max > s->device_life ? s->profile.life_max : s->device_life,
                                             .rsa_allowed = s->device_key == DEVICE_KEY_RSA,
                                             .ceiling = (uint32_t)s->issue_ceiling,
                                             .profile = s->profile}};
    out->policy.profile.life_max = 0; /* stands in the two above */
    out->policy.profile.est_life = 0; /* the gateway asks for it, as for any life */
}

static void rotate_in_vault(struct change *ch);

static void told_done(void *arg, int rc, const struct err *err) {
    struct change *ch = CHANGE_OF(arg, told);
    struct err why = ERR_INIT;
    struct vault_account rq;
    if (rc) {
        fail(ch, err);
        return;
    }
    if (ch->rotate) {
        rotate_in_vault(ch);
        return;
    }
    vault_account_of(ch->name, ch->kind, ch->method, &ch->settings, &rq);
    if (vault_account_create(ch->c->vault, &rq, vault_changed, ch, &why)) /* which also changes one that is there */
        fail(ch, &why);
}

static void ask_vault(struct change *ch) {
    struct err err = ERR_INIT;
    ch->told = (struct account_told){.kind = ch->kind, .method = ch->method, .settings = ch->settings, .is_new = ch->create, .method_before = ch->show.method, .settings_before = ch->show.settings};
    memcpy(ch->told.name, ch->name, sizeof ch->told.name);
    if (store_write(ch->c->store, ch->c->loop, account_told_run, told_done, &ch->told, &err))
        fail(ch, &err);
}

static int take_method(struct change *ch, const char *method, struct err *err) {
    if (method)
        ch->method = (enum account_method)word_parse(&WORDS_METHOD, method);
    return ch->method ? 0 : err_set(err, MUSTER_EINVALID, "method is shared, device or both.");
}

static int take_creation(struct change *ch, struct err *err) {
    CLEANUP_JSON json_t *rest = NULL;
    const char *id = NULL, *kind = NULL, *method = NULL;
    account_settings_default(&ch->settings);
    int rc = account_settings_json(&ch->settings, ch->body, &rest, err);
    if (rc || (rc = json_take(rest, err, "{s:s, s:s, s:s}", "id", &id, "kind", &kind, "method", &method)) || (rc = account_name_check(span_str(id), err)))
        return rc;
    snprintf(ch->name, sizeof ch->name, "%s", id);
    ch->kind = (enum account_kind)word_parse(&WORDS_ACCOUNT_KIND, kind);
    return ch->kind ? take_method(ch, method, err) : err_set(err, MUSTER_EINVALID, "kind is test or production.");
}

/* A name that exists, or did, is refused before the vault makes anything. */
static void name_looked_up(void *arg, int rc, const struct err *err) {
    struct change *ch = CHANGE_OF(arg, show);
    struct err taken = ERR_INIT;
    if (rc == MUSTER_ENOTFOUND) {
        ask_vault(ch);
        return;
    }
    if (!rc)
        err_set(&taken, MUSTER_EEXISTS, "There is an account \"%s\" already.", ch->name);
    else if (rc == MUSTER_EDELETED)
        err_set(&taken, MUSTER_EEXISTS, "There was an account \"%s\" before, and names of accounts are not used again.", ch->name);
    fail(ch, taken.code ? &taken : err);
}

static void begin_creation(struct change *ch) {
    struct err err = ERR_INIT;
    ch->create = true;
    if (take_creation(ch, &err))
        fail(ch, &err);
    else
        look_up(ch, name_looked_up);
}

void admin_ACCOUNT_CREATE(struct http_exchange *x, void *arg) { change_begin(x, SPAN_NONE, begin_creation); }

/* Devices of a method that goes away are cut off: never without having been counted. */
static int confirm_method(const struct change *ch, json_int_t confirm, int64_t *count, struct err *err) {
    enum account_method lost = ch->show.method & ~ch->method;
    *count = (lost & METHOD_SHARED ? ch->show.devices_shared : 0) + (lost & METHOD_DEVICE ? ch->show.devices_device : 0);
    if (*count == 0 || confirm == *count)
        return 0;
    return err_set(err, MUSTER_ECONFIRM, "The account %s would lose the method of %lld device%s, which would be cut off.", ch->name, (long long)*count, *count == 1 ? "" : "s");
}

/* What is enforced is what an operator said when it was tried, said now. */
static int take_setting(struct change *ch, int64_t *count, struct err *err) {
    CLEANUP_JSON json_t *rest = NULL, *body = NULL;
    const char *method = NULL;
    json_int_t confirm = -1;
    enum tried_change change;
    int rc = tried_change_of(ch->body, &change, err);
    if (rc || change == TRIED_TRY)
        return rc ? rc : account_settings_try(&ch->settings, ch->method, ch->body, err);
    body = change == TRIED_NOT ? json_incref(ch->body) : tried_settle(change, ch->settings.tried, false, ch->body, err);
    if (!body)
        return err->code;
    if (change != TRIED_NOT)
        ch->settings.tried[0] = '\0';
    rc = account_settings_json(&ch->settings, body, &rest, err);
    if (rc || (rc = json_take(rest, err, "{s?s, s?I}", "method", &method, "confirm", &confirm)) || (rc = take_method(ch, method ? method : word_of(&WORDS_METHOD, ch->method), err)))
        return rc;
    return confirm_method(ch, confirm, count, err);
}

static void current_known(void *arg, int rc, const struct err *err) {
    struct change *ch = CHANGE_OF(arg, show);
    struct err why = ERR_INIT;
    int64_t count = 0;
    if (rc) {
        fail(ch, err);
        return;
    }
    ch->kind = ch->show.kind;
    ch->method = ch->show.method;
    ch->settings = ch->show.settings;
    rc = ch->profile ? profile_change(ch->body, &ch->settings, &why) : take_setting(ch, &count, &why);
    if (rc == MUSTER_ECONFIRM) {
        reply_confirm(ch->x, &why, count);
        change_end(ch);
    } else if (rc) {
        fail(ch, &why);
    } else {
        ask_vault(ch);
    }
}

static void begin_setting(struct change *ch) { look_up(ch, current_known); }

void admin_ACCOUNT_SET(struct http_exchange *x, void *arg) { change_begin(x, grant_account(x), begin_setting); }

static void begin_profile(struct change *ch) {
    ch->profile = true;
    begin_setting(ch);
}

void admin_PROFILE_SET(struct http_exchange *x, void *arg) { change_begin(x, grant_account(x), begin_profile); }

/* --- rotating its fleet root: likewise --------------------------------------------------------------------------------------------- */

static void rotate_in_vault(struct change *ch) {
    struct err err = ERR_INIT;
    const struct vault_root_rotate rq = {.account = span_str(ch->name), .from = ch->look.spki,
                                         .backend = !ch->moves ? VAULT_BACKEND_AS_IS : ch->settings.backend == BACKEND_PKCS11 ? VAULT_BACKEND_PKCS11 : VAULT_BACKEND_SEALED};
    if (vault_root_rotate(ch->c->vault, &rq, vault_changed, ch, &err))
        fail(ch, &err);
}

static void root_looked_at(void *arg, int rc, const struct err *err) {
    struct change *ch = CHANGE_OF(arg, look);
    if (rc)
        fail(ch, err);
    else if (ch->moves)
        ask_vault(ch); /* once control.db has what is wanted */
    else
        rotate_in_vault(ch);
}

static void look_at_root(struct change *ch) {
    struct err err = ERR_INIT;
    ch->look = (struct root_rotate_look){.account = span_str(ch->name), .root = param_of(ch->x, "root")};
    if (store_read(ch->c->registry, ch->c->loop, root_rotate_look_run, root_looked_at, &ch->look, &err))
        fail(ch, &err);
}

static void settings_known(void *arg, int rc, const struct err *err) {
    struct change *ch = CHANGE_OF(arg, show);
    const char *backend = json_string_value(json_object_get(ch->body, "backend"));
    if (rc) {
        fail(ch, err);
        return;
    }
    ch->kind = ch->show.kind;
    ch->method = ch->show.method;
    ch->settings = ch->show.settings;
    ch->settings.backend = (enum account_backend)word_parse(&WORDS_BACKEND, backend);
    ch->moves = ch->settings.backend != ch->show.settings.backend;
    look_at_root(ch);
}

static void begin_rotation(struct change *ch) {
    struct err err = ERR_INIT;
    const char *backend = NULL;
    ch->rotate = true;
    int rc = json_take(ch->body, &err, "{s?s}", "backend", &backend);
    if (!rc && backend && !word_parse(&WORDS_BACKEND, backend))
        rc = err_set(&err, MUSTER_EINVALID, "backend is sealed or pkcs11.");
    if (rc)
        fail(ch, &err);
    else if (backend)
        look_up(ch, settings_known);
    else
        look_at_root(ch);
}

void admin_ROOT_ROTATE(struct http_exchange *x, void *arg) { change_begin(x, grant_account(x), begin_rotation); }

/* --- deleting: the registry, the tokens, the keys ----------------------------------------------------------------------------------- */

/* The deletion itself is durable; what failed behind it is done by certificates.c. */
static void deletion_answer(struct change *ch, const struct err *left) {
    json_t *o = json_object(), *warnings = json_array();
    struct err err = ERR_INIT;
    if (certificate_remove(ch->c, ch->name, &err))
        log_err(LOG_WARN, "certificate_not_removed", &err, "account", ch->name, NULL);
    control_certificates_changed(ch->c);
    sweep_start(ch->c);
    if (left) {
        log_err(LOG_ERROR, "account_delete_unfinished", left, "account", ch->name, NULL);
        json_array_append_new(warnings, json_string("The account's tokens or its keys in the vault are still there; they go as soon as the vault and the storage answer."));
        certificates_look(ch->c->certificates);
    }
    json_set_str(o, "id", ch->name);
    json_set_str(o, "state", word_of(&WORDS_ACCOUNT_STATE, ACCOUNT_DELETED));
    json_set(o, "warnings", warnings);
    reply_json(ch->x, 200, o);
    change_end(ch);
}

static void keys_destroyed(void *arg, int rc, const struct err *err, uint64_t version, bool changed) { deletion_answer(arg, rc ? err : NULL); }

static void tokens_revoked(void *arg, int rc, const struct err *err) {
    struct change *ch = CHANGE_OF(arg, tokens);
    struct err why = ERR_INIT;
    if (rc)
        deletion_answer(ch, err);
    else if (vault_account_delete(ch->c->vault, span_str(ch->name), keys_destroyed, ch, &why))
        deletion_answer(ch, &why);
}

static void deleted(void *arg, int rc, const struct err *err) {
    struct change *ch = CHANGE_OF(arg, deletion);
    struct err why = ERR_INIT;
    if (rc == MUSTER_ECONFIRM) {
        reply_confirm(ch->x, err, ch->deletion.devices);
        change_end(ch);
        return;
    }
    if (rc) {
        fail(ch, err);
        return;
    }
    ch->tokens = (struct token_revoke_account){.actor = ch->actor, .account = ch->name};
    if (store_write(ch->c->store, ch->c->loop, token_revoke_account_run, tokens_revoked, &ch->tokens, &why))
        deletion_answer(ch, &why);
}

static void begin_deletion(struct change *ch) {
    struct err err = ERR_INIT;
    struct span value;
    uint64_t number;
    ch->deletion = (struct account_delete){.actor = ch->actor, .name = span_str(ch->name), .confirm = -1};
    if (http_query_param(ch->x, "confirm", &value) && span_to_u64(value, &number) && number <= INT64_MAX)
        ch->deletion.confirm = (int64_t)number;
    if (store_write(ch->c->registry, ch->c->loop, account_delete_run, deleted, &ch->deletion, &err))
        fail(ch, &err);
}

/* The route is the server's: the path alone names the account. */
void admin_ACCOUNT_DELETE(struct http_exchange *x, void *arg) { change_begin(x, param_of(x, "account"), begin_deletion); }
