/* vault_log: the vault's version stands in control's log, so that a vault put back from an old copy is found out at the next greeting. */
#include "admin/internal.h"
#include "base/log.h"
#include "registry/audit.h"

int vault_version_run(struct store_tx *control, void *arg, struct err *err) {
    const struct vault_version *v = arg;
    int64_t known;
    int rc = meta_get(control, "vault", &known, err);
    if (rc || known >= (int64_t)v->version)
        return rc;
    json_t *detail = json_object();
    json_set_int(detail, "vault_version", (int64_t)v->version);
    if (*v->account)
        json_set_str(detail, "account", v->account);
    rc = meta_set(control, "vault", (int64_t)v->version, err);
    if (rc) {
        json_decref(detail);
        return rc;
    }
    return audit_add(control, AUDIT_SERVER, &v->actor, v->what, span_str(v->account), detail, err);
}

/* --- greeting ---------------------------------------------------------------------------------------------------------------------- */

struct greeting {
    struct control *c;
    int64_t version; /* that the log holds */
    loop_fn done;
    void *arg;
    struct vault_version found;
};

static int read_version_run(struct store_tx *tx, void *arg, struct err *err) { return meta_get(tx, "vault", &((struct greeting *)arg)->version, err); }

static void finish(struct greeting *g, const struct err *err) {
    loop_fn done = g->done;
    void *arg = g->arg;
    if (err)
        log_err(LOG_ERROR, "vault_not_greeted", err, NULL);
    free(g);
    if (done)
        done(arg);
}

static void recorded(void *arg, int rc, const struct err *err) {
    struct greeting *g = arg;
    g->c->greeted = rc == 0;
    finish(g, rc ? err : NULL);
}

static void greeted(void *arg, int rc, const struct err *err, uint64_t version) {
    struct greeting *g = arg;
    struct err why = ERR_INIT;
    if (rc) {
        finish(g, err);
        return;
    }
    /* A change whose answer never came: the log learns of it now. */
    g->found = (struct vault_version){.actor = {"muster"}, .version = version, .what = "vault.version"};
    if (store_write(g->c->store, g->c->loop, vault_version_run, recorded, g, &why))
        finish(g, &why);
}

static void version_read(void *arg, int rc, const struct err *err) {
    struct greeting *g = arg;
    struct err why = ERR_INIT;
    if (rc)
        finish(g, err);
    else if (vault_hello(g->c->vault, (uint64_t)g->version, greeted, g, &why))
        finish(g, &why);
}

void vault_greet(struct control *c, loop_fn done, void *arg) {
    struct err err = ERR_INIT;
    struct greeting *g = calloc(1, sizeof *g);
    c->greeted = false;
    if (!g)
        return;
    *g = (struct greeting){.c = c, .done = done, .arg = arg};
    if (store_read(c->store, c->loop, read_version_run, version_read, g, &err))
        finish(g, &err);
}
