/* token: see token.h. */
#include "registry/token.h"

#include "base/hex.h"
#include "base/secret.h"
#include "registry/audit.h"

#define TOKEN_BYTES 32
#define BARRED "tokens_barred" /* the last row of those that a backup brought */

void token_make(char text[TOKEN_TEXT_LEN + 1], struct hash *hash) {
    uint8_t random[TOKEN_BYTES];
    CLEANUP(buf_wipe) struct buf b = BUF_INIT(64);
    secret_random_bytes(random, sizeof random);
    buf_adds(&b, TOKEN_PREFIX);
    base64url_add(&b, span_of(random, sizeof random));
    memcpy(text, buf_str(&b), TOKEN_TEXT_LEN);
    text[TOKEN_TEXT_LEN] = '\0';
    hash_of(buf_span(&b), hash);
    secret_wipe(random, sizeof random);
}

int token_hash(struct span text, struct hash *out, struct err *err) {
    if (text.n != TOKEN_TEXT_LEN || !span_starts(text, SPAN_LIT(TOKEN_PREFIX)))
        return err_set(err, MUSTER_ETOKENBAD, NULL);
    hash_of(text, out);
    return 0;
}

json_t *token_json(const struct token *t) {
    json_t *o = json_object();
    json_set_uuid(o, "id", &t->uuid);
    json_set_str(o, "name", t->name);
    json_set_str(o, "role", word_of(&WORDS_ROLE, t->role));
    json_set_str(o, "account", t->account[0] ? t->account : NULL);
    json_set_time(o, "created", t->created);
    json_set_time(o, "expires", t->expires);
    json_set_time(o, "revoked", t->revoked);
    json_set_time(o, "last_used", t->last_used);
    return o;
}

int token_check_run(struct store_tx *control, void *arg, struct err *err) {
    struct token_check *c = arg;
    struct store_row *row;
    int found = first_row(control, &row, err, SQL_TOKEN_BY_HASH, "b", hash_span(&c->hash));
    if (found < 0)
        return found;
    if (!found)
        return err_set(err, MUSTER_ETOKENBAD, NULL);
    int rc = row_token(row, &c->out, err);
    store_row_end(row);
    if (!rc && (c->out.revoked || (c->out.expires && c->out.expires <= clock_now())))
        return err_set(err, MUSTER_ETOKENBAD, NULL);
    int64_t barred = 0;
    if (!rc)
        rc = meta_get(control, BARRED, &barred, err);
    return rc || c->out.row > barred ? rc : err_set(err, MUSTER_ETOKENBAD, "The server was put back from a backup, and tokens from before wait for an owner.");
}

int token_bar_all(struct store_tx *control, struct err *err) {
    int64_t last;
    int rc = one_int(control, &last, 0, err, SQL_TOKEN_LAST, "");
    return rc ? rc : meta_put(control, BARRED, last, err);
}

int token_bar_end(struct store_tx *control, bool keep, int64_t *revoked, struct err *err) {
    int64_t barred;
    *revoked = 0;
    int rc = meta_get(control, BARRED, &barred, err);
    if (!rc && !keep)
        rc = store_exec(control, revoked, err, SQL_TOKEN_REVOKE_UNTIL, "ii", barred, clock_now());
    return rc ? rc : meta_set(control, BARRED, 0, err); /* no row where nothing was ever restored */
}

static json_t *detail_of(const struct token *t) {
    json_t *d = json_object();
    json_set_str(d, "name", t->name);
    json_set_str(d, "role", word_of(&WORDS_ROLE, t->role));
    json_set_str(d, "account", t->account[0] ? t->account : NULL);
    json_set_time(d, "expires", t->expires);
    return d;
}

static int audit_token(struct store_tx *control, const struct actor *actor, const char *action, const struct token *t, struct err *err) {
    char id[UUID_TEXT_LEN + 1];
    uuid_text(&t->uuid, id);
    return audit_add(control, AUDIT_SERVER, actor, action, span_str(id), detail_of(t), err);
}

int token_create_run(struct store_tx *control, void *arg, struct err *err) {
    struct token_create *c = arg;
    int64_t now = clock_now();
    int rc = c->reset ? store_exec(control, NULL, err, SQL_TOKEN_REVOKE_OWNERS, "i", now) : 0;
    if (rc)
        return rc;
    struct token t = {.uuid = uuid_new(), .role = c->role, .created = now, .expires = c->expires};
    snprintf(t.name, sizeof t.name, "%s", c->name);
    snprintf(t.account, sizeof t.account, "%s", c->account);
    rc = store_exec(control, NULL, err, SQL_TOKEN_ADD, "usisbii", &t.uuid, t.name, I(t.role), t.account, hash_span(&c->hash), now, t.expires);
    if (rc || (rc = audit_token(control, &c->actor, c->reset ? "token.reset" : "token.create", &t, err)))
        return rc;
    json_decref(c->out);
    c->out = token_json(&t);
    return 0;
}

int token_list_run(struct store_tx *control, void *arg, struct err *err) {
    struct token_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int64_t last = l->page.after, n = 0;
    int rc = *l->account ? store_query(control, &row, err, SQL_TOKEN_PAGE_ACCOUNT, "iis", l->page.after, l->page.limit + 1, l->account)
                         : store_query(control, &row, err, SQL_TOKEN_PAGE, "ii", l->page.after, l->page.limit + 1);
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < l->page.limit) {
        struct token t;
        if ((rc = row_token(row, &t, err)))
            return rc;
        json_array_append_new(items, token_json(&t));
        last = t.row;
        n++;
    }
    return rc < 0 ? rc : page_finish(&l->page, TAKE(items), last, rc > 0);
}

int token_revoke_run(struct store_tx *control, void *arg, struct err *err) {
    struct token_revoke *r = arg;
    struct store_row *row;
    struct token t;
    int found = first_row(control, &row, err, SQL_TOKEN_BY_UUID, "u", &r->id);
    if (found < 0)
        return found;
    int rc = found ? row_token(row, &t, err) : 0;
    store_row_end(row);
    if (rc)
        return rc;
    if (!found || (*r->account && strcmp(r->account, t.account) != 0))
        return err_set(err, MUSTER_ENOTFOUND, "There is no such token.");
    if (!t.revoked) {
        t.revoked = clock_now();
        if ((rc = store_exec(control, NULL, err, SQL_TOKEN_REVOKE, "ii", t.row, t.revoked)) || (rc = audit_token(control, &r->actor, "token.revoke", &t, err)))
            return rc;
    }
    json_decref(r->out);
    r->out = token_json(&t);
    return 0;
}

int token_revoke_account_run(struct store_tx *control, void *arg, struct err *err) {
    struct token_revoke_account *r = arg;
    int64_t recorded;
    int rc = store_exec(control, NULL, err, SQL_TOKEN_REVOKE_ACCOUNT, "si", r->account, clock_now());
    if (rc || (rc = store_exec(control, NULL, err, SQL_WEBHOOK_DROP_ACCOUNT, "s", r->account)) || (rc = one_int(control, &recorded, 0, err, SQL_AUDIT_HAS, "s", r->account)) || recorded)
        return rc;
    return audit_add(control, AUDIT_SERVER, &r->actor, "account.delete", span_str(r->account), NULL, err);
}

int token_used_run(struct store_tx *control, void *arg, struct err *err) {
    struct token_used *u = arg;
    return store_exec(control, NULL, err, SQL_TOKEN_USED, "ii", u->row, clock_now());
}
