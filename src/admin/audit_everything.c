/* audit_everything: `audit verify` of every account, deleted ones too, behind the server's own log; and how far a verification is.  See audit_check.h. */
#include "admin/audit_check.h"

static void accounts_read(void *arg, int rc, const struct err *err);

static void read_accounts(struct checking *whole) {
    struct err err = ERR_INIT;
    whole->account_at = 0;
    if (store_read(whole->c->registry, whole->c->loop, audit_accounts_run, accounts_read, &whole->accounts, &err))
        audit_check_fail(whole, &err);
}

void audit_all_begin(struct checking *k, json_t *own) {
    k->own = own;
    k->reports = json_array();
    read_accounts(k);
}

static void all_done(struct checking *k) {
    reply_json(k->x, 200, TAKE(k->own));
    audit_check_free(k);
}

static void next_account(struct checking *whole) {
    struct err err = ERR_INIT;
    if (whole->account_at == whole->accounts.n) {
        if (whole->accounts.n == AUDIT_HEADS_PAGE) {
            read_accounts(whole);
        } else {
            json_set(whole->own, "accounts", TAKE(whole->reports));
            all_done(whole);
        }
        return;
    }
    struct checking *k = calloc(1, sizeof *k);
    if (!k) {
        err_set(&err, MUSTER_ENOMEM, NULL);
        audit_check_fail(whole, &err);
        return;
    }
    *k = (struct checking){.c = whole->c, .whole = whole, .chain.number = whole->accounts.at[whole->account_at].chain};
    memcpy(k->chain.name, whole->accounts.at[whole->account_at++].name, sizeof k->chain.name);
    audit_check_begin(k);
}

static void accounts_read(void *arg, int rc, const struct err *err) {
    struct checking *whole = (struct checking *)((char *)arg - offsetof(struct checking, accounts));
    if (rc)
        audit_check_fail(whole, err);
    else
        next_account(whole);
}

void audit_all_verified(struct checking *whole, json_t *said) {
    const char *id = json_string_value(json_object_get(said, "id")), *reason = json_string_value(json_object_get(said, "reason"));
    char why[400];
    if (!json_is_true(json_object_get(said, "ok")) && json_is_true(json_object_get(whole->own, "ok"))) {
        snprintf(why, sizeof why, "The account %s: %s", id, reason ? reason : "");
        json_set_bool(whole->own, "ok", false);
        json_set_str(whole->own, "reason", why);
    }
    json_array_append_new(whole->reports, said);
    whole->accounts_done++;
    next_account(whole);
}

/* --- progress ----------------------------------------------------------------------------------------------------------------------------- */

static void set_of(json_t *o, const char *name, int64_t of) { json_set(o, name, of > 0 ? json_integer(of) : json_null()); }

static void progress(struct http_exchange *x, const char *name, bool server) {
    static const struct progress none;
    struct control *c = http_exchange_arg(x);
    struct checking *k = c->checks, *part = NULL;
    for (; k && (k->server != server || strcmp(k->chain.name, name) != 0); k = k->next)
        if (k->whole && !part)
            part = k;
    const struct checking *at = k && part && part->whole == k ? part : k;
    const struct progress *p = at ? &at->progress : &none;
    json_t *o = json_object();
    json_set_str(o, "id", server ? "server" : name);
    json_set_bool(o, "running", k != NULL);
    json_set_str(o, "account", at && at->chain.name[0] ? at->chain.name : NULL);
    json_set_int(o, "accounts", k ? k->accounts_done : 0);
    json_set_int(o, "entries", p->entries);
    set_of(o, "entries_all", p->entries_all);
    json_set_int(o, "devices", p->devices);
    set_of(o, "devices_all", p->devices_all);
    json_set_int(o, "certificates", p->certificates);
    set_of(o, "certificates_all", p->certificates_all);
    reply_json(x, 200, o);
}

void admin_AUDIT_PROGRESS(struct http_exchange *x, void *arg) { progress(x, grant_of(x)->account, false); }
void admin_AUDIT_SERVER_PROGRESS(struct http_exchange *x, void *arg) { progress(x, "", true); }
