/* export: a fleet root's private key leaves the vault only after the entry that says so is durable. */
#include "admin/internal.h"
#include "base/log.h"
#include "registry/account.h"
#include "registry/audit.h"

struct exporting {
    struct control *c;
    uint8_t nonce[VAULT_NONCE_LEN];
    char account[ACCOUNT_NAME_MAX + 1];
    uint32_t uid, pid;
};

static json_t *detail_of(const struct exporting *e) {
    json_t *d = json_object();
    json_set_int(d, "uid", e->uid);
    json_set_int(d, "pid", e->pid);
    return d;
}

static int account_entry_run(struct store_tx *tx, void *arg, struct err *err) {
    const struct exporting *e = arg;
    const struct actor actor = {"console"};
    struct account a;
    int rc = account_need(tx, span_str(e->account), &a, err);
    return rc ? rc : audit_add(tx, a.row, &actor, "root.export_key", span_str(e->account), detail_of(e), err);
}

static int server_entry_run(struct store_tx *tx, void *arg, struct err *err) {
    const struct exporting *e = arg;
    const struct actor actor = {"console"};
    return audit_add(tx, AUDIT_SERVER, &actor, "root.export_key", span_str(e->account), detail_of(e), err);
}

static void answered(void *arg, int rc, const struct err *err) {
    struct exporting *e = arg;
    log_event(LOG_WARN, "fleet_root_key_exported", "account", e->account, "uid", log_num(e->uid), "code", rc ? err_code(rc) : NULL, NULL);
    free(e);
}

static void answer(struct exporting *e, bool allowed, const struct err *why) {
    struct err err = ERR_INIT;
    if (!allowed)
        log_err(LOG_ERROR, "export_not_recorded", why, "account", e->account, NULL);
    if (vault_export_answer(e->c->vault, e->nonce, allowed, answered, e, &err))
        free(e);
}

static void account_recorded(void *arg, int rc, const struct err *err) { answer(arg, rc == 0, err); }

static void server_recorded(void *arg, int rc, const struct err *err) {
    struct exporting *e = arg;
    struct err why = ERR_INIT;
    if (!rc && !(rc = store_write(e->c->registry, e->c->loop, account_entry_run, account_recorded, e, &why)))
        return;
    answer(e, false, why.code ? &why : err);
}

static void wanted(void *arg, const struct vault_export *w) {
    struct control *c = arg;
    struct err err = ERR_INIT;
    struct exporting *e = calloc(1, sizeof *e);
    if (!e)
        return; /* the vault gives nothing out without an answer */
    *e = (struct exporting){.c = c, .uid = w->uid, .pid = w->pid};
    memcpy(e->nonce, w->nonce, sizeof e->nonce);
    snprintf(e->account, sizeof e->account, "%.*s", (int)w->account.n, (const char *)w->account.p);
    if (store_write(c->store, c->loop, server_entry_run, server_recorded, e, &err))
        answer(e, false, &err);
}

void export_listen(struct control *c) { vault_client_on_export(c->vault, wanted, c); }
