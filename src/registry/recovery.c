/* recovery: see recovery.h. */
#include "registry/recovery.h"

#include "registry/recovery_held.h"
#include "registry/row.h"
#include "registry/token.h"

int recovery_get(struct store_tx *tx, struct recovery *out, struct err *err) {
    int rc = meta_get(tx, "recovery", &out->since, err);
    return rc ? rc : meta_get(tx, "recovery_of", &out->made, err);
}

static json_t *restored_json(const struct recovery_begin *b) {
    json_t *o = json_object();
    json_set_uuid(o, "backup", &b->backup);
    json_set_time(o, "made", b->made);
    return o;
}

static const struct actor console = {"console"};

int recovery_begin_registry_run(struct store_tx *registry, void *arg, struct err *err) {
    const struct recovery_begin *b = arg;
    static struct audit_accounts all; /* for a command that does nothing besides */
    struct recovery_sweep sweep = {.more = true};
    int rc = meta_set(registry, "recovery", 0, err);
    while (!rc && sweep.more) /* what an earlier recovery left */
        rc = recovery_held_sweep_run(registry, &sweep, err);
    if (rc || (rc = meta_set(registry, "recovery", clock_now(), err)) || (rc = meta_set(registry, "recovery_of", b->made, err)) || (rc = epoch_raise(registry, err)))
        return rc;
    all.after = 0;
    do {
        if ((rc = audit_accounts_run(registry, &all, err)))
            return rc;
        for (size_t i = 0; i < all.n; i++)
            if ((rc = audit_add(registry, all.at[i].chain, &console, "server.restore", SPAN_NONE, restored_json(b), err)))
                return rc;
    } while (all.n == AUDIT_HEADS_PAGE);
    return 0;
}

int recovery_begin_control_run(struct store_tx *control, void *arg, struct err *err) {
    int rc = token_bar_all(control, err);
    return rc ? rc : audit_add(control, AUDIT_SERVER, &console, "server.restore", SPAN_NONE, restored_json(arg), err);
}

int recovery_backup_run(struct store_tx *control, void *arg, struct err *err) {
    const struct recovery_backup *b = arg;
    json_t *o = json_object();
    json_set_uuid(o, "backup", &b->id);
    json_set_str(o, "to", b->to_recipient ? "recipient" : "passphrase");
    json_set_bool(o, "master_key", b->master_key);
    return audit_add(control, AUDIT_SERVER, &console, "server.backup", SPAN_NONE, o, err);
}

static int show(struct store_tx *tx, json_t **out, struct err *err) {
    struct recovery r;
    int64_t waiting = 0, left_out = 0;
    int rc = recovery_get(tx, &r, err);
    if (rc || (r.since && (rc = recovery_held_count(tx, &waiting, &left_out, err))))
        return rc;
    json_t *o = json_object();
    json_set_str(o, "id", "recovery");
    json_set_str(o, "state", r.since ? "recovery" : "none");
    json_set_time(o, "since", r.since); /* 0: null */
    json_set_time(o, "backup_made", r.since ? r.made : 0);
    json_set_int(o, "waiting", waiting);
    json_set_int(o, "left_out", left_out);
    json_decref(*out);
    *out = o;
    return 0;
}

int recovery_show_run(struct store_tx *tx, void *arg, struct err *err) { return show(tx, &((struct recovery_show *)arg)->out, err); }

int recovery_finish_look_run(struct store_tx *registry, void *arg, struct err *err) {
    struct recovery_finish *f = arg;
    struct recovery r;
    int64_t waiting, left_out, keys = 0, invitations = 0;
    int rc = recovery_get(registry, &r, err);
    if (rc)
        return rc;
    if (!r.since)
        return err_set(err, MUSTER_ESTATE, "The server is in no recovery.");
    if ((rc = recovery_held_count(registry, &waiting, &left_out, err)))
        return rc;
    if ((rc = one_int(registry, &keys, 0, err, SQL_KEY_OPEN, "i", clock_now())) || (rc = one_int(registry, &invitations, 0, err, SQL_INVITATION_OPEN, "i", clock_now())))
        return rc;
    f->count = waiting + left_out + keys + invitations;
    if (f->confirm != f->count)
        return err_set(err, MUSTER_ECONFIRM, "Provisioning keys that enrol again: %lld. Invitations that open again, spent or withdrawn since the backup or not: %lld. Certificates that are younger than the "
                       "backup, held, and would be refused for good: %lld (%lld of them wait to be admitted: `muster recovery admit`). What was blacklisted, revoked or withdrawn since the backup counts only "
                       "where it was done again.", (long long)keys, (long long)invitations, (long long)(waiting + left_out), (long long)waiting);
    return 0;
}

int recovery_finish_record_run(struct store_tx *control, void *arg, struct err *err) {
    const struct recovery_finish *f = arg;
    int64_t revoked;
    int rc = token_bar_end(control, f->keep_tokens, &revoked, err);
    if (rc)
        return rc;
    json_t *detail = json_object();
    json_set_int(detail, "tokens_revoked", revoked);
    return audit_add(control, AUDIT_SERVER, &f->actor, "recovery.finish", SPAN_NONE, detail, err);
}

int recovery_finish_run(struct store_tx *registry, void *arg, struct err *err) {
    struct recovery_finish *f = arg;
    int rc = recovery_finish_look_run(registry, arg, err);
    if (rc || (rc = meta_set(registry, "recovery", 0, err)) || (rc = epoch_raise(registry, err)))
        return rc;
    return show(registry, &f->out, err);
}
