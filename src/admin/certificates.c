/* certificates: server certificates and issuing CAs, renewed in time.  One look after the other, one name after the other: at start, when
 * an account was made, and every hour. */
#include "admin/internal.h"
#include "base/log.h"
#include "registry/account.h"

#define EVERY_MS (3600 * 1000)
#define AGAIN_MS 5000 /* after a failure: the vault is away */

struct certificates {
    struct control *c;
    struct loop_timer *timer;
    bool looking, wanted; /* wanted: once more when this look is done */
    bool changed, failed;
    loop_fn first_done;
    void *first_arg;
    /* the look under way */
    struct account_issuing accounts;
    bool accounts_known; /* the default certificate is done, and the accounts were read */
    size_t at;
    bool issuing_next; /* for accounts.at[at]: the server certificate is done */
    struct server_names names;
    EVP_PKEY *key;
    struct vault_version version;
    struct account_cas_add cas;
    struct buf issuing;
};

static void step(struct certificates *k);

static void finish(struct certificates *k) {
    k->looking = false;
    loop_timer_set(k->timer, k->failed || k->wanted ? (k->failed ? AGAIN_MS : 0) : EVERY_MS);
    k->wanted = false;
    if (k->changed) {
        log_event(LOG_INFO, "certificates_renewed", NULL);
        control_certificates_changed(k->c);
    }
    if (!k->failed && k->first_done) {
        loop_fn fn = TAKE(k->first_done);
        fn(k->first_arg);
    }
}

static void fail(struct certificates *k, const char *what, const struct err *err) {
    log_err(LOG_ERROR, what, err, NULL);
    k->failed = true;
    finish(k);
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
    step(k);
}

/* True: under way. */
static bool renew_server(struct certificates *k, const char *account) {
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    struct err err = ERR_INIT;
    if (!server_names_of(k->c, account, &k->names) || !certificate_due(k->c, &k->names))
        return false;
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

/* --- one issuing CA -------------------------------------------------------------------------------------------------------------------- */

static void cas_added(void *arg, int rc, const struct err *err) {
    struct certificates *k = (struct certificates *)((char *)arg - offsetof(struct certificates, cas));
    if (rc)
        fail(k, "issuing_ca_failed", err);
    else
        step(k);
}

static void version_logged(void *arg, int rc, const struct err *err) {
    struct certificates *k = (struct certificates *)((char *)arg - offsetof(struct certificates, version));
    struct err why = ERR_INIT;
    if (rc) {
        fail(k, "issuing_ca_failed", err);
        return;
    }
    k->cas = (struct account_cas_add){.actor = {"muster"}, .name = span_str(k->version.account), .cas = {.issuing_ca = buf_span(&k->issuing)}};
    if (store_write(k->c->registry, k->c->loop, account_cas_add_run, cas_added, &k->cas, &why))
        fail(k, "issuing_ca_failed", &why);
}

static void issuing_renewed(void *arg, int rc, const struct err *err, const struct vault_account_view *view) {
    struct certificates *k = arg;
    struct err why = ERR_INIT;
    if (rc) {
        fail(k, "issuing_ca_failed", err);
        return;
    }
    /* Also where only the registry has not heard of the newest one yet: a crash came between. */
    CLEANUP(cert_free) struct cert *newest = NULL;
    const char *name = k->accounts.at[k->at - 1].name;
    if (cert_from_der(view->issuing_ca, &newest, &why) || (!view->changed && newest->not_after <= k->accounts.at[k->at - 1].not_after)) {
        if (why.code)
            fail(k, "issuing_ca_failed", &why);
        else
            step(k);
        return;
    }
    buf_clear(&k->issuing);
    buf_add(&k->issuing, view->issuing_ca);
    k->version = (struct vault_version){.actor = {"muster"}, .version = view->version, .what = "account.issuing_renew"};
    snprintf(k->version.account, sizeof k->version.account, "%s", name);
    if (store_write(k->c->store, k->c->loop, vault_version_run, version_logged, &k->version, &why))
        fail(k, "issuing_ca_failed", &why);
}

/* --- the look -------------------------------------------------------------------------------------------------------------------------- */

static void accounts_read(void *arg, int rc, const struct err *err) {
    struct certificates *k = (struct certificates *)((char *)arg - offsetof(struct certificates, accounts));
    if (rc) {
        fail(k, "certificates_failed", err);
        return;
    }
    k->at = 0;
    k->accounts_known = true;
    step(k);
}

static void read_accounts(struct certificates *k) {
    struct err err = ERR_INIT;
    if (store_read(k->c->registry, k->c->loop, account_issuing_run, accounts_read, &k->accounts, &err))
        fail(k, "certificates_failed", &err);
}

/* The next thing to do: for each account its server certificate, then its issuing CA. */
static void step(struct certificates *k) {
    struct err err = ERR_INIT;
    if (!k->accounts_known) {
        read_accounts(k);
        return;
    }
    for (;;) {
        if (k->at == k->accounts.n && !k->issuing_next) {
            if (k->accounts.n == sizeof k->accounts.at / sizeof *k->accounts.at)
                read_accounts(k);
            else
                finish(k);
            return;
        }
        if (!k->issuing_next) {
            k->issuing_next = true;
            if (renew_server(k, k->accounts.at[k->at++].name))
                return;
            continue;
        }
        k->issuing_next = false;
        if (!k->accounts.at[k->at - 1].shared)
            continue;
        if (vault_issuing_renew(k->c->vault, span_str(k->accounts.at[k->at - 1].name), issuing_renewed, k, &err))
            fail(k, "issuing_ca_failed", &err);
        return;
    }
}

static void look(void *arg) {
    struct certificates *k = arg;
    if (k->looking || !k->c->greeted) {
        k->wanted = true;
        return;
    }
    k->looking = true;
    k->wanted = k->changed = k->failed = false;
    memset(&k->accounts, 0, sizeof k->accounts);
    k->at = 0;
    k->issuing_next = false;
    k->accounts_known = false;
    if (!renew_server(k, ""))
        step(k);
}

void certificates_look(struct certificates *k) { look(k); }

struct certificates *certificates_new(struct control *c, loop_fn first_done, void *arg, struct err *err) {
    struct certificates *k = calloc(1, sizeof *k);
    if (!k) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    k->c = c;
    k->first_done = first_done;
    k->first_arg = arg;
    k->issuing = BUF_INIT(16384);
    k->timer = loop_timer_new(c->loop, look, k);
    if (!k->timer) {
        free(k);
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
    buf_fini(&k->issuing);
    free(k);
}
