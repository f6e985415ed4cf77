/* audit: the audit logs over the API. */
#include "admin/audit_chain.h"

#include "base/hex.h"
#include "registry/account.h"

int audit_chain_find(struct store_tx *tx, struct audit_chain *c, struct err *err) {
    struct account a;
    if (!c->name[0])
        return 0;
    int rc = account_need(tx, span_str(c->name), &a, err);
    c->number = a.row;
    return rc;
}

struct audit_chain audit_chain_of(struct http_exchange *x, bool server) {
    struct audit_chain c = {.number = AUDIT_SERVER};
    if (!server)
        snprintf(c.name, sizeof c.name, "%s", grant_of(x)->account);
    return c;
}

/* --- list ------------------------------------------------------------------------------------------------------------------------- */

struct listing {
    struct audit_chain chain;
    struct audit_list op;
};

static int listing_run(struct store_tx *tx, void *arg, struct err *err) {
    struct listing *l = arg;
    int rc = audit_chain_find(tx, &l->chain, err);
    l->op.chain = l->chain.number;
    l->op.name = l->chain.name;
    return rc ? rc : audit_list_run(tx, &l->op, err);
}

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct listing *)op)->op.page.out)); }

static void list(struct http_exchange *x, bool server) {
    struct listing l = {.chain = audit_chain_of(x, server)};
    struct span value;
    uint64_t from;
    if (!page_of(x, &l.op.page))
        return;
    if (!l.op.page.after && http_query_param(x, "from", &value)) {
        if (!span_to_u64(value, &from) || from < 1 || from > INT64_MAX) {
            reply_code(x, MUSTER_EINVALID, "from is the number of an entry.");
            return;
        }
        l.op.page.after = (int64_t)from - 1;
    }
    job_start(x, server ? JOB_CONTROL_READ : JOB_READ, listing_run, &l, sizeof l, listed);
}

void admin_AUDIT_LIST(struct http_exchange *x, void *arg) { list(x, false); }
void admin_AUDIT_SERVER_LIST(struct http_exchange *x, void *arg) { list(x, true); }

/* --- head ------------------------------------------------------------------------------------------------------------------------- */

struct head_request {
    struct http_exchange *x; /* held */
    struct control *c;
    struct audit_signed head;
};

static json_t *head_json(const struct audit_signed *h, struct span key, struct err *err) {
    CLEANUP(buf_fini) struct buf signature = BUF_INIT(256);
    CLEANUP(buf_fini) struct buf public = BUF_INIT(1024);
    json_t *o = json_object();
    char id[ACCOUNT_NAME_MAX + 32];
    const char *chain = h->chain[0] ? h->chain : "server";
    snprintf(id, sizeof id, "%s/%lld", chain, (long long)h->head.seq);
    base64_add(&signature, span_of(h->signature, sizeof h->signature));
    base64_add(&public, key);
    json_set_str(o, "id", id);
    json_set_str(o, "chain", chain);
    json_set_int(o, "seq", h->head.seq);
    json_set_hex(o, "hash", hash_span(&h->head.hash));
    json_set_int(o, "signed_at", h->at);
    json_set_time(o, "at", h->at);
    json_set_str(o, "signature", buf_str(&signature));
    json_set_str(o, "key", buf_str(&public));
    return o;
}

static void head_key(void *arg, int rc, const struct err *err, struct span der) {
    struct head_request *r = arg;
    struct err why = ERR_INIT;
    reply_done(r->x, rc, err, rc ? NULL : head_json(&r->head, der, &why));
    http_exchange_unref(r->x);
    free(r);
}

static void head_signed(void *arg, int rc, const struct err *err, const struct audit_signed *head) {
    struct head_request *r = arg;
    struct err why = ERR_INIT;
    if (!rc) {
        r->head = *head;
        rc = vault_audit_key(r->c->vault, head_key, r, &why);
        if (!rc)
            return;
        err = &why;
    }
    head_key(r, rc, err, SPAN_NONE);
}

static void head_start(struct http_exchange *x, const struct audit_chain *chain) {
    struct head_request *r = calloc(1, sizeof *r);
    if (!r) {
        reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    *r = (struct head_request){.x = x, .c = http_exchange_arg(x)};
    http_exchange_ref(x);
    anchor_now(r->c, chain->number, chain->name, head_signed, r);
}

int audit_chain_run(struct store_tx *tx, void *arg, struct err *err) { return audit_chain_find(tx, arg, err); }

static void chain_found(struct http_exchange *x, int rc, const struct err *err, void *op) {
    if (rc)
        http_reply_err(x, err);
    else
        head_start(x, op);
}

void admin_AUDIT_HEAD(struct http_exchange *x, void *arg) {
    const struct audit_chain c = audit_chain_of(x, false);
    job_start(x, JOB_READ, audit_chain_run, &c, sizeof c, chain_found);
}

void admin_AUDIT_SERVER_HEAD(struct http_exchange *x, void *arg) {
    const struct audit_chain c = audit_chain_of(x, true);
    head_start(x, &c);
}
