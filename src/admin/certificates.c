/* certificates: what has to be in order for each account, one after the other: that the vault has the registry's idea of it, that the
 * registry has the vault's CAs, that the issuing CA and the server certificate are renewed in time, and that of a deleted one nothing is
 * left.  What the registry says of an account counts where control wrote it (registry/account_told.h).  At start, when an account was made or
 * changed, every hour, and soon after the clock was set (clock_watch.c).  It mends what a crash between the vault and the databases left.
 * What fails for one account is logged and tried again; it stops neither the others nor the start. */
#include "admin/server_cas.h"
#include "base/log.h"
#include "registry/account_told.h"

#define EVERY_MS (3600 * 1000)
#define AGAIN_MS 5000 /* after a failure: the vault is away */
#define BEHIND_MS (60 * 1000) /* while the clock is behind the log */

struct certificates {
    struct control *c;
    struct loop_timer *timer;
    bool looking, wanted; /* wanted: once more when this look is done */
    bool changed, failed, fatal;
    bool good_still; /* the gateway's own certificate: another one is due, and the one that is there goes on without it */
    bool said; /* since the process began: the one before may have died between a certificate and the word of it */
    struct clock_behind {
        bool yes;
    } behind; /* the clock: nothing is issued but what the gateway cannot be without */
    loop_fn first_done;
    void *first_arg;
    /* the look under way */
    struct account_issuing accounts;
    bool accounts_known; /* the default certificate is done, and the accounts were read */
    size_t at;
    enum { AT_SERVER, AT_VAULT, AT_ISSUING } phase; /* of accounts.at[at] */
    struct server_names names;
    EVP_PKEY *key;
    struct vault_version version;
    struct account_cas_add cas;
    struct token_revoke_account tokens;
    struct buf fleet_root, issuing, provisioning, crosses;
};

static void step(struct certificates *k);

static void finish(struct certificates *k) {
    k->looking = false;
    loop_timer_set(k->timer, k->failed ? AGAIN_MS : k->wanted ? 0 : k->behind.yes ? BEHIND_MS : EVERY_MS);
    k->wanted = false;
    if (k->changed) {
        log_event(LOG_INFO, "certificates_renewed", NULL);
        forecast_soon(k->c);
    }
    if (k->changed || (!k->said && !k->fatal)) {
        k->said = true;
        control_certificates_changed(k->c);
    }
    if (!k->fatal && k->first_done) {
        loop_fn fn = TAKE(k->first_done);
        fn(k->first_arg);
    }
    server_ca_go_on(k->c);
    accounts_go_on(k->c);
}

static const char *account_at(const struct certificates *k) { return k->accounts_known ? k->accounts.at[k->at].name : ""; }

/* This one will be tried again; the next. */
static void fail(struct certificates *k, const char *what, const struct err *err) {
    log_err(LOG_ERROR, what, err, "account", *account_at(k) ? account_at(k) : NULL, NULL);
    k->failed = true;
    if (!k->accounts_known && k->good_still) { /* a token that is away keeps no server from starting */
        k->good_still = false;
        step(k);
        return;
    }
    if (!k->accounts_known) { /* the gateway's own certificate, or the list of accounts: without these there is no start */
        k->fatal = true;
        finish(k);
        return;
    }
    k->at++;
    k->phase = AT_SERVER;
    step(k);
}

/* --- one server certificate -------------------------------------------------------------------------------------------------------- */

static void server_issued(void *arg, int rc, const struct err *err, const struct vault_issued *issued) {
    struct certificates *k = arg;
    struct err why = ERR_INIT;
    EVP_PKEY *key = TAKE(k->key);
    if (!rc && (rc = certificate_store(k->c, &k->names, issued->der, key, &why)))
        err = &why;
    EVP_PKEY_free(key);
    if (rc) {
        fail(k, "server_certificate_failed", err);
        return;
    }
    k->changed = true;
    k->good_still = false;
    step(k);
}

/* True: under way. */
static bool renew_server(struct certificates *k, const char *account) {
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    struct err err = ERR_INIT;
    if (!server_names_of(k->c, account, &k->names))
        return false;
    enum certificate_state state = certificate_look(k->c, &k->names);
    if (state == CERTIFICATE_GOOD || (state == CERTIFICATE_DUE && k->behind.yes))
        return false;
    k->good_still = !*account && state == CERTIFICATE_DUE;
    const struct vault_server_issue rq = {.names = k->names.names, .n_names = k->names.n};
    struct vault_server_issue with_key = rq;
    int rc = key_generate(KEY_P256, 0, &k->key, &err);
    if (!rc)
        rc = key_public_der(k->key, &spki, &err);
    with_key.public_key = buf_span(&spki);
    if (!rc)
        rc = vault_server_issue(k->c->vault, &with_key, server_issued, k, &err);
    if (rc) {
        EVP_PKEY_free(TAKE(k->key));
        fail(k, "server_certificate_failed", &err);
    }
    return true;
}

/* --- one account in the vault ----------------------------------------------------------------------------------------------------- */

static void cas_added(void *arg, int rc, const struct err *err) {
    struct certificates *k = (struct certificates *)((char *)arg - offsetof(struct certificates, cas));
    if (rc)
        fail(k, "account_cas_failed", err);
    else
        step(k);
}

static void version_logged(void *arg, int rc, const struct err *err) {
    struct certificates *k = (struct certificates *)((char *)arg - offsetof(struct certificates, version));
    struct err why = ERR_INIT;
    if (rc) {
        fail(k, "account_cas_failed", err);
        return;
    }
    if (!k->issuing.n) {
        step(k);
        return;
    }
    k->cas = (struct account_cas_add){.actor = {"muster"}, .name = span_str(k->version.account),
                                      .cas = {buf_span(&k->fleet_root), buf_span(&k->issuing), buf_span(&k->provisioning), buf_span(&k->crosses)}};
    if (store_write(k->c->registry, k->c->loop, account_cas_add_run, cas_added, &k->cas, &why))
        fail(k, "account_cas_failed", &why);
}

/* The vault's answer about account `name`: into the log where it changed something, into the registry where that lacks a CA.  known: the key of
 * the registry's newest issuing CA. */
static void take_view(struct certificates *k, const char *name, const struct hash *known, const char *what, const struct vault_account_view *view) {
    CLEANUP(cert_free) struct cert *newest = NULL;
    struct err err = ERR_INIT;
    buf_clear(&k->fleet_root);
    buf_clear(&k->issuing);
    buf_clear(&k->provisioning);
    buf_clear(&k->crosses);
    if (view->issuing_ca.n && cert_from_der(view->issuing_ca, &newest, &err)) {
        fail(k, "account_cas_failed", &err);
        return;
    }
    if (newest && !hash_eq(&newest->key.spki, known)) {
        buf_add(&k->fleet_root, view->fleet_root);
        buf_add(&k->issuing, view->issuing_ca);
        buf_add(&k->provisioning, view->provisioning_ca);
        buf_add(&k->crosses, view->crosses);
    }
    if (!k->issuing.n && !view->changed) {
        step(k);
        return;
    }
    k->version = (struct vault_version){.actor = {"muster"}, .version = view->version};
    snprintf(k->version.what, sizeof k->version.what, "%s", what);
    snprintf(k->version.account, sizeof k->version.account, "%s", name);
    if (store_write(k->c->store, k->c->loop, vault_version_run, version_logged, &k->version, &err))
        fail(k, "account_cas_failed", &err);
}

static void issuing_renewed(void *arg, int rc, const struct err *err, const struct vault_account_view *view) {
    struct certificates *k = arg;
    size_t i = k->at;
    if (rc) {
        fail(k, "issuing_ca_failed", err);
        return;
    }
    k->at++;
    k->phase = AT_SERVER;
    take_view(k, k->accounts.at[i].name, &k->accounts.at[i].issuing, "account.issuing_renew", view);
}

/* The account was mended where it had to be: its issuing CA next. */
static void vault_agrees(void *arg, int rc, const struct err *err, const struct vault_account_view *view) {
    struct certificates *k = arg;
    if (rc) {
        fail(k, "vault_account_failed", err);
        return;
    }
    k->phase = AT_ISSUING;
    CLEANUP(cert_free) struct cert *newest = NULL;
    const struct hash known = k->accounts.at[k->at].issuing;
    if (view->issuing_ca.n && cert_from_der(view->issuing_ca, &newest, NULL) == 0)
        k->accounts.at[k->at].issuing = newest->key.spki;
    take_view(k, k->accounts.at[k->at].name, &known, "account.mended", view);
}

static void keys_gone(void *arg, int rc, const struct err *err, uint64_t version, bool changed) {
    struct certificates *k = arg;
    if (rc) {
        fail(k, "account_delete_unfinished", err);
        return;
    }
    k->at++;
    step(k);
}

static void tokens_gone(void *arg, int rc, const struct err *err) {
    struct certificates *k = (struct certificates *)((char *)arg - offsetof(struct certificates, tokens));
    struct err why = ERR_INIT;
    if (rc)
        fail(k, "account_delete_unfinished", err);
    else if (vault_account_delete(k->c->vault, span_str(account_at(k)), keys_gone, k, &why))
        fail(k, "account_delete_unfinished", &why);
}

/* --- the look -------------------------------------------------------------------------------------------------------------------------- */

static void accounts_read(void *arg, int rc, const struct err *err) {
    struct certificates *k = (struct certificates *)((char *)arg - offsetof(struct certificates, accounts));
    if (rc) {
        k->accounts_known = false;
        fail(k, "certificates_failed", err);
        return;
    }
    k->at = 0;
    k->phase = AT_SERVER;
    k->accounts_known = true;
    step(k);
}

/* Which of the rows are control's own: of the others nobody is told. */
static void accounts_listed(void *arg, int rc, const struct err *err) {
    struct certificates *k = (struct certificates *)((char *)arg - offsetof(struct certificates, accounts));
    struct err why = ERR_INIT;
    if (rc || (rc = store_write(k->c->store, k->c->loop, account_told_check_run, accounts_read, &k->accounts, &why)))
        accounts_read(arg, rc, why.code ? &why : err);
}

static void read_accounts(struct certificates *k) {
    struct err err = ERR_INIT;
    if (store_read(k->c->registry, k->c->loop, account_issuing_run, accounts_listed, &k->accounts, &err)) {
        k->accounts_known = false;
        fail(k, "certificates_failed", &err);
    }
}

static void step_deleted(struct certificates *k) {
    struct err err = ERR_INIT;
    k->tokens = (struct token_revoke_account){.actor = {"muster"}, .account = account_at(k)};
    if (store_write(k->c->store, k->c->loop, token_revoke_account_run, tokens_gone, &k->tokens, &err))
        fail(k, "account_delete_unfinished", &err);
}

static void step_vault(struct certificates *k) {
    struct err err = ERR_INIT;
    struct vault_account rq;
    vault_account_of(account_at(k), k->accounts.at[k->at].kind, k->accounts.at[k->at].method, &k->accounts.at[k->at].settings, &rq);
    if (vault_account_create(k->c->vault, &rq, vault_agrees, k, &err))
        fail(k, "vault_account_failed", &err);
}

/* The next thing to do. */
static void step(struct certificates *k) {
    struct err err = ERR_INIT;
    if (!k->accounts_known) {
        read_accounts(k);
        return;
    }
    for (;;) {
        if (k->at == k->accounts.n) {
            if (k->accounts.n == sizeof k->accounts.at / sizeof *k->accounts.at)
                read_accounts(k);
            else
                finish(k);
            return;
        }
        if (!k->accounts.at[k->at].control_s) {
            if (!k->accounts.at[k->at].let_be && k->phase == AT_SERVER)
                log_event(LOG_ERROR, "account_not_control_s", "account", account_at(k), "meaning", "its row in the registry is not one that an operator made; the vault is told nothing", NULL);
            /* Its devices find the gateway nevertheless: the name is an operator's, whatever became of the settings. */
            bool renewing = k->accounts.at[k->at].known && k->phase == AT_SERVER;
            k->phase = AT_VAULT;
            if (renewing && renew_server(k, account_at(k)))
                return;
            k->at++;
            k->phase = AT_SERVER;
            continue;
        }
        if (k->accounts.at[k->at].state == ACCOUNT_DELETED) {
            step_deleted(k);
            return;
        }
        switch (k->phase) {
        case AT_SERVER:
            k->phase = AT_VAULT;
            if (renew_server(k, account_at(k)))
                return;
            if (!k->behind.yes)
                continue;
            k->at++;
            k->phase = AT_SERVER;
            continue;
        case AT_VAULT:
            step_vault(k);
            return;
        case AT_ISSUING:
            break;
        }
        if (k->accounts.at[k->at].method & METHOD_SHARED) {
            if (vault_issuing_renew(k->c->vault, span_str(account_at(k)), issuing_renewed, k, &err))
                fail(k, "issuing_ca_failed", &err);
            return;
        }
        k->at++;
        k->phase = AT_SERVER;
    }
}

static int behind_run(struct store_tx *tx, void *arg, struct err *err) {
    struct clock_behind *b = arg;
    int rc = clock_check(tx, clock_now(), err);
    b->yes = rc == MUSTER_ECLOCK;
    return b->yes ? 0 : rc;
}

/* The gateway goes on without: what the registry says of them is for `server-ca show` and `retire`. */
static void server_cas_registered(void *arg, int rc, const struct err *err) {
    struct certificates *k = arg;
    if (rc) {
        log_err(LOG_ERROR, "server_cas_not_registered", err, NULL);
        k->failed = true;
    }
    if (!renew_server(k, ""))
        step(k);
}

static void server_cas_shown(void *arg, int rc, const struct err *err, const struct vault_server_view *view) {
    struct certificates *k = arg;
    struct err why = ERR_INIT;
    if (!rc && (rc = server_cas_take(k->c, view, &why)) < 0)
        err = &why;
    if (rc < 0) {
        fail(k, "server_cas_failed", err);
        return;
    }
    k->changed = k->changed || rc > 0;
    server_cas_register(k->c, server_cas_registered, k);
}

static void behind_known(void *arg, int rc, const struct err *err) {
    struct certificates *k = (struct certificates *)((char *)arg - offsetof(struct certificates, behind));
    if (rc) {
        fail(k, "certificates_failed", err);
        return;
    }
    if (k->behind.yes)
        log_event(LOG_WARN, "certificates_wait", "code", err_code(MUSTER_ECLOCK), NULL);
    struct err why = ERR_INIT;
    if (vault_server_ca(k->c->vault, server_cas_shown, k, &why))
        fail(k, "server_cas_failed", &why);
}

static void look(void *arg) {
    struct certificates *k = arg;
    struct err err = ERR_INIT;
    if (k->looking || !k->c->greeted || k->c->change || k->c->server_change) { /* never while an account is being changed: certificates_go_on() */
        k->wanted = true;
        return;
    }
    k->looking = true;
    sweep_start(k->c);
    k->wanted = k->changed = k->failed = k->fatal = k->good_still = false;
    memset(&k->accounts, 0, sizeof k->accounts);
    k->at = 0;
    k->phase = AT_SERVER;
    k->accounts_known = false;
    if (store_read(k->c->registry, k->c->loop, behind_run, behind_known, &k->behind, &err))
        fail(k, "certificates_failed", &err);
}

void certificates_look(struct certificates *k) { look(k); }
bool certificates_looking(const struct certificates *k) { return k->looking; }

void certificates_go_on(struct certificates *k) {
    if (k->wanted && !k->looking)
        look(k);
}

struct certificates *certificates_new(struct control *c, loop_fn first_done, void *arg, struct err *err) {
    struct certificates *k = calloc(1, sizeof *k);
    if (!k) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    k->c = c;
    k->first_done = first_done;
    k->first_arg = arg;
    k->fleet_root = k->issuing = k->provisioning = BUF_INIT(16384);
    k->crosses = BUF_INIT(65536);
    k->timer = loop_timer_new(c->loop, look, k);
    if (!k->timer) {
        certificates_free(k);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    return k;
}

void certificates_free(struct certificates *k) {
    if (!k)
        return;
    loop_timer_free(k->timer);
    EVP_PKEY_free(k->key);
    buf_fini(&k->fleet_root);
    buf_fini(&k->issuing);
    buf_fini(&k->provisioning);
    buf_fini(&k->crosses);
    free(k);
}
