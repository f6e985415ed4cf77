/* authorise: whose token a request carries, and whether its row in routes.def lets him.  Default deny: a handler runs only after
 * http_exchange_admit(), which stands here once.
 *
 * An account that a token may not see answers as one that does not exist. */
#include "admin/internal.h"
#include "registry/account.h"
#include "registry/certificate.h"

struct authorisation {
    struct http_exchange *x; /* held */
    struct token_check check;
    struct account_of of;
    struct token_used used;
    struct grant *grant;
};

static int check_token(struct store_tx *tx, void *arg, struct err *err) { return token_check_run(tx, &((struct authorisation *)arg)->check, err); }
static int look_account_up(struct store_tx *tx, void *arg, struct err *err) { return account_of_run(tx, &((struct authorisation *)arg)->of, err); }

const struct grant *grant_of(const struct http_exchange *x) { return http_exchange_data(x); }

static const struct admin_route *route_of(const struct http_exchange *x) { return http_exchange_route(x) ? http_exchange_route(x)->data : NULL; }

static void finish(struct authorisation *a, int code, const struct err *err) {
    struct http_exchange *x = a->x;
    const struct admin_route *r = route_of(x);
    struct err why = err && err->code ? *err : (struct err){.code = code};
    free(a);
    if (!code && r && strncmp(r->path, "/api/", 5) == 0)
        code = query_check(x, r, &why);
    if (code)
        http_reply_err(x, &why);
    else
        http_exchange_admit(x);
    http_exchange_unref(x);
}

/* The token may act on the account: 0, or the refusal. */
static int may_see(const struct token *t, const char *account) { return !t->account[0] || strcmp(t->account, account) == 0 ? 0 : MUSTER_ENOTFOUND; }

static void found_account(void *arg, int rc, const struct err *err) {
    struct authorisation *a = arg;
    if (!rc)
        rc = may_see(&a->grant->token, a->of.name);
    if (!rc)
        snprintf(a->grant->account, sizeof a->grant->account, "%s", a->of.name);
    finish(a, rc, rc == MUSTER_ENOTFOUND ? NULL : err);
}

static int read_id(struct span text, struct account_of *out, struct err *err) {
    struct certificate_name name;
    struct uuid uuid;
    if (out->kind == 'c') {
        int rc = certificate_name_parse(text, &name, err);
        memcpy(out->id, name.b, sizeof name.b);
        out->id_n = name.n;
        return rc;
    }
    if (uuid_parse(text, &uuid))
        return err_set(err, MUSTER_EINVALID, "Without an account an object is named by its id.");
    memcpy(out->id, uuid.b, sizeof uuid.b);
    out->id_n = sizeof uuid.b;
    return 0;
}

/* "-" in the place of the account: the one to which the object with this id belongs. */
static void find_account(struct authorisation *a) {
    static const struct {
        const char *param;
        char kind;
    } objects[] = {{"key", 'k'}, {"root", 'r'}, {"device", 'd'}, {"certificate", 'c'}};
    struct control *c = http_exchange_arg(a->x);
    struct err err = ERR_INIT;
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) {
        struct span id = http_param(a->x, objects[i].param);
        if (!id.n)
            continue;
        a->of.kind = objects[i].kind;
        int rc = read_id(id, &a->of, &err);
        if (rc) {
            finish(a, rc, &err);
            return;
        }
        rc = store_read(c->registry, c->loop, look_account_up, found_account, a, &err);
        if (rc)
            finish(a, rc, &err);
        return;
    }
    finish(a, MUSTER_ENOTFOUND, NULL);
}

static void used(void *arg, int rc, const struct err *err) { free(arg); }

/* For `token list`; not worth a wait. */
static void note_use(struct control *c, const struct token *t) {
    if (within(t->last_used, CLOCK_MINUTE, clock_now()))
        return;
    struct token_used *u = malloc(sizeof *u);
    if (!u)
        return;
    u->row = t->row;
    if (store_write(c->store, c->loop, token_used_run, used, u, NULL))
        free(u);
}

static void checked(void *arg, int rc, const struct err *err) {
    struct authorisation *a = arg;
    const struct admin_route *r = route_of(a->x);
    if (rc) {
        finish(a, rc, err);
        return;
    }
    a->grant = arena_alloc(http_exchange_arena(a->x), sizeof *a->grant);
    if (!a->grant) {
        finish(a, MUSTER_ENOMEM, NULL);
        return;
    }
    const struct token *t = &a->check.out;
    a->grant->token = *t;
    a->grant->actor = actor_of("token", span_str(t->name));
    snprintf(a->grant->account, sizeof a->grant->account, "%s", t->account);
    http_exchange_set_data(a->x, a->grant);
    note_use(http_exchange_arg(a->x), t);
    if (!r) { /* 404 or 405, for those who have a token at all */
        finish(a, 0, NULL);
    } else if (!(t->role & r->roles)) {
        finish(a, MUSTER_EROLE, NULL);
    } else if (r->scope == SCOPE_SERVER && t->account[0]) {
        struct err why = ERR_INIT;
        finish(a, err_set(&why, MUSTER_EROLE, "This is of the whole server, and the token of one account alone."), &why);
    } else if (r->scope != SCOPE_ACCOUNT) {
        finish(a, 0, NULL);
    } else if (span_eq_str(http_param(a->x, "account"), "-")) {
        find_account(a);
    } else {
        struct span name = http_param(a->x, "account");
        snprintf(a->grant->account, sizeof a->grant->account, "%.*s", (int)(name.n > ACCOUNT_NAME_MAX ? 0 : name.n), (const char *)name.p);
        rc = name.n > ACCOUNT_NAME_MAX ? MUSTER_ENOTFOUND : may_see(t, a->grant->account);
        finish(a, rc, NULL);
    }
}

static bool is_open(const struct control *c, const struct admin_route *r) {
    return r->scope == SCOPE_OPEN || (c->o->settings->metrics_open && strcmp(r->name, "METRICS") == 0);
}

static void admit(struct http_exchange *x, void *peer, void *arg) {
    struct control *c = arg;
    const struct admin_route *r = route_of(x);
    struct span field = http_field(x, "Authorization");
    struct err err = ERR_INIT;
    if (r && is_open(c, r)) {
        http_exchange_admit(x);
        return;
    }
    if (!span_starts(field, SPAN_LIT("Bearer "))) {
        err.code = MUSTER_ETOKENNONE;
        http_reply_err(x, &err);
        return;
    }
    struct authorisation *a = calloc(1, sizeof *a);
    if (!a) {
        err.code = MUSTER_ENOMEM;
        http_reply_err(x, &err);
        return;
    }
    a->x = x;
    http_exchange_ref(x);
    int rc = token_hash(span_sub(field, 7, field.n), &a->check.hash, &err);
    if (!rc)
        rc = store_read(c->store, c->loop, check_token, checked, a, &err);
    if (rc)
        finish(a, rc, &err);
}

const struct peer_ops AUTHORISE_OPS = {.admit = admit};
