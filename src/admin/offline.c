/* offline: what musterd does to the databases by itself: at init, before serve, and on the server's console; see control.h. */
#include "admin/internal.h"
#include "base/secret.h"
#include "registry/account_told.h"
#include "registry/audit_seal.h"
#include "registry/clock_set.h"
#include "registry/recovery.h"

static int open_one(const char *dir, const char *name, bool control, bool migrate, struct store **out, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    buf_addf(&path, "%s/%s", dir, name);
    const struct registry_open o = {.path = buf_str(&path), .queue_max = 16, .migrate = migrate};
    return control ? control_open(&o, out, err) : registry_open(&o, out, err);
}

/* Once: what stands in the registry before control began to seal and to remember what it writes. */
static int note_unsealed(struct store *registry, struct store *control, struct err *err) {
    static struct audit_heads heads;
    static struct account_issuing accounts;
    bool wanted;
    int rc = store_read_now(control, audit_unsealed_wanted_run, &wanted, err);
    if (rc || !wanted)
        return rc;
    heads.after = -1;
    do {
        if ((rc = store_read_now(registry, audit_heads_run, &heads, err)) || (rc = store_write_now(control, audit_unsealed_note_run, &heads, err)))
            return rc;
        heads.after = heads.next;
    } while (heads.n == AUDIT_HEADS_PAGE);
    accounts.after = 0;
    do {
        if ((rc = store_read_now(registry, account_issuing_run, &accounts, err)) || (rc = store_write_now(control, account_told_adopt_run, &accounts, err)))
            return rc;
    } while (accounts.n == sizeof accounts.at / sizeof *accounts.at);
    return store_write_now(control, audit_unsealed_done_run, NULL, err);
}

int control_migrate(const char *dir, struct err *err) {
    struct store *registry = NULL, *control = NULL;
    int rc = open_one(dir, "registry.db", false, true, &registry, err);
    if (rc)
        return rc;
    rc = open_one(dir, "control.db", true, true, &control, err);
    if (!rc)
        rc = note_unsealed(registry, control, err);
    store_close(registry);
    if (control)
        store_close(control);
    return rc;
}

static int new_owner(struct store *control, const char *actor, bool reset, struct buf *token, struct err *err) {
    struct token_create c = {.role = ROLE_OWNER, .reset = reset};
    char text[TOKEN_TEXT_LEN + 1];
    snprintf(c.actor.text, sizeof c.actor.text, "%s", actor);
    snprintf(c.name, sizeof c.name, "admin");
    token_make(text, &c.hash);
    int rc = store_write_now(control, token_create_run, &c, err);
    json_decref(c.out);
    if (!rc) {
        buf_adds(token, text);
        rc = buf_check(token, err);
    }
    secret_wipe(text, sizeof text);
    return rc;
}

int control_init(const char *dir, struct buf *token, struct err *err) {
    struct store *control = NULL;
    int rc = control_migrate(dir, err);
    if (rc || (rc = open_one(dir, "control.db", true, false, &control, err)))
        return rc;
    rc = new_owner(control, "muster", false, token, err);
    store_close(control);
    return rc;
}

int control_token_reset(const char *dir, struct buf *token, struct err *err) {
    struct store *control = NULL;
    int rc = open_one(dir, "control.db", true, false, &control, err);
    if (rc)
        return rc;
    rc = new_owner(control, "console", true, token, err);
    store_close(control);
    return rc;
}

/* The newest time of a log that ran ahead becomes the present, and the entry that says so is the first of the new count. */
static int accept_run(struct store_tx *tx, void *arg, struct err *err) {
    const bool *record = arg;
    const struct actor console = {"console"};
    int64_t newest, now = clock_now();
    int rc = meta_get(tx, "newest", &newest, err);
    if (rc || (rc = meta_set(tx, "newest", newest > now ? now : newest, err)))
        return rc;
    if (!*record)
        return clock_set_forget(tx, err);
    json_t *detail = json_object();
    json_set_time(detail, "log_was_at", newest);
    return audit_add(tx, AUDIT_SERVER, &console, "clock.accept", SPAN_NONE, detail, err);
}

int control_clock_accept(const char *dir, struct err *err) {
    static const struct {
        const char *file;
        bool control;
    } databases[] = {{"control.db", true}, {"registry.db", false}}; /* recorded first */
    for (size_t i = 0; i < 2; i++) {
        struct store *s = NULL;
        bool record = databases[i].control;
        int rc = open_one(dir, databases[i].file, databases[i].control, false, &s, err);
        if (rc)
            return rc;
        rc = store_write_now(s, accept_run, &record, err);
        store_close(s);
        if (rc)
            return rc;
    }
    return 0;
}

int control_backup_record(const char *dir, const struct recovery_backup *b, struct err *err) {
    struct store *control = NULL;
    struct recovery_backup copy = *b;
    int rc = open_one(dir, "control.db", true, false, &control, err);
    if (rc)
        return rc;
    rc = store_write_now(control, recovery_backup_run, &copy, err);
    store_close(control);
    return rc;
}

struct rekey {
    const char *from, *to;
    bool done;
    uint64_t version;
};

/* The version is remembered as the newest that the log has: a vault put back from before is found out. */
static int rekey_run(struct store_tx *tx, void *arg, struct err *err) {
    const struct rekey *r = arg;
    const struct actor console = {"console"};
    int64_t known;
    int rc = meta_get(tx, "vault", &known, err);
    if (rc || (known < (int64_t)r->version && (rc = meta_set(tx, "vault", (int64_t)r->version, err))))
        return rc;
    json_t *detail = json_object();
    json_set_str(detail, "from", r->from);
    json_set_str(detail, "to", r->to);
    if (r->version)
        json_set_int(detail, "vault_version", (int64_t)r->version);
    return audit_add(tx, AUDIT_SERVER, &console, r->done ? "vault.rekeyed" : "vault.rekey", SPAN_NONE, detail, err);
}

int control_rekey_record(const char *dir, const char *from, const char *to, bool done, uint64_t version, struct err *err) {
    struct store *control = NULL;
    struct rekey rekey = {from, to, done, version};
    int rc = open_one(dir, "control.db", true, false, &control, err);
    if (rc)
        return rc;
    rc = store_write_now(control, rekey_run, &rekey, err);
    store_close(control);
    return rc;
}

/* The accounts' logs are sealed with the key that control.db has. */
int control_restored(const char *dir, const struct recovery_begin *b, struct buf *token, struct err *err) {
    struct store *control = NULL, *registry = NULL;
    struct recovery_begin copy = *b;
    int rc = control_migrate(dir, err);
    if (rc || (rc = open_one(dir, "control.db", true, false, &control, err)))
        return rc;
    if (!(rc = store_write_now(control, audit_seal_load_run, NULL, err)) && !(rc = open_one(dir, "registry.db", false, false, &registry, err)))
        rc = store_write_now(registry, recovery_begin_registry_run, &copy, err);
    if (!rc)
        rc = store_write_now(control, recovery_begin_control_run, &copy, err);
    if (!rc) /* behind the bar */
        rc = new_owner(control, "console", true, token, err);
    if (registry)
        store_close(registry);
    store_close(control);
    return rc;
}
