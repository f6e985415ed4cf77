/* audit: the audit logs over the API. */
#include "registry/audit.h"

#include "admin/internal.h"
#include "base/hex.h"
#include "registry/account.h"

/* The chain of the account of the grant (its number has to be looked up), or the server's. */
struct chain {
    int64_t number;
    char name[ACCOUNT_NAME_MAX + 1];
};

static int chain_find(struct store_tx *tx, struct chain *c, struct err *err) {
    struct account a;
    if (!c->name[0])
        return 0;
    int rc = account_need(tx, span_str(c->name), &a, err);
    c->number = a.row;
    return rc;
}

static struct chain chain_of(struct http_exchange *x, bool server) {
    struct chain c = {.number = AUDIT_SERVER};
    if (!server)
        snprintf(c.name, sizeof c.name, "%s", grant_of(x)->account);
    return c;
}

/* --- list ------------------------------------------------------------------------------------------------------------------------- */

struct listing {
    struct chain chain;
    struct audit_list op;
};

static int listing_run(struct store_tx *tx, void *arg, struct err *err) {
    struct listing *l = arg;
    int rc = chain_find(tx, &l->chain, err);
    l->op.chain = l->chain.number;
    l->op.name = l->chain.name;
    return rc ? rc : audit_list_run(tx, &l->op, err);
}

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct listing *)op)->op.page.out)); }

static void list(struct http_exchange *x, bool server) {
    struct listing l = {.chain = chain_of(x, server)};
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

static void head_start(struct http_exchange *x, const struct chain *chain) {
    struct head_request *r = calloc(1, sizeof *r);
    if (!r) {
        reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    *r = (struct head_request){.x = x, .c = http_exchange_arg(x)};
    http_exchange_ref(x);
    anchor_now(r->c, chain->number, chain->name, head_signed, r);
}

static int chain_run(struct store_tx *tx, void *arg, struct err *err) { return chain_find(tx, arg, err); }

static void chain_found(struct http_exchange *x, int rc, const struct err *err, void *op) {
    if (rc)
        http_reply_err(x, err);
    else
        head_start(x, op);
}

void admin_AUDIT_HEAD(struct http_exchange *x, void *arg) {
    const struct chain c = chain_of(x, false);
    job_start(x, JOB_READ, chain_run, &c, sizeof c, chain_found);
}

void admin_AUDIT_SERVER_HEAD(struct http_exchange *x, void *arg) {
    const struct chain c = chain_of(x, true);
    head_start(x, &c);
}

/* --- verify ---------------------------------------------------------------------------------------------------------------------------- */

struct checking {
    struct http_exchange *x; /* held */
    struct control *c;
    bool server;
    struct chain chain;
    bool outside;            /* a head was given that was kept elsewhere */
    struct audit_signed head;
    EVP_PKEY *key;
    struct audit_points points;
    struct audit_head at[2 * AUDIT_POINTS_MAX + 1];
    struct audit_anchored anchored; /* of the server's chain */
    struct audit_verify op;
};

static void checking_free(struct checking *k) {
    free(k->anchored.at);
    EVP_PKEY_free(k->key);
    http_exchange_unref(k->x);
    free(k);
}

static void check_fail(struct checking *k, const struct err *err) {
    http_reply_err(k->x, err);
    checking_free(k);
}

static void report(struct checking *k) {
    json_t *o = json_object(), *head = json_object();
    json_set_str(o, "id", k->chain.name[0] ? k->chain.name : "server");
    json_set_bool(o, "ok", k->op.first_bad == 0);
    json_set_int(o, "entries", k->op.seq);
    json_set(o, "first_bad", k->op.first_bad ? json_integer(k->op.first_bad) : json_null());
    json_set_str(o, "reason", k->op.first_bad ? k->op.reason : NULL);
    json_set_int(o, "signed_heads", (int64_t)k->op.n_points);
    json_set_int(head, "seq", k->op.seq);
    json_set_hex(head, "hash", hash_span(&k->op.hash));
    json_set(o, "head", head);
    reply_json(k->x, 200, o);
    checking_free(k);
}

static void walked(void *arg, int rc, const struct err *err);

static void walk(struct checking *k) {
    struct err err = ERR_INIT;
    if (store_read(k->server ? k->c->store : k->c->registry, k->c->loop, audit_verify_run, walked, &k->op, &err))
        check_fail(k, &err);
}

/* The server's log is whole: does it still say the same of the accounts' logs as they do themselves? */
static void anchors_checked(void *arg, int rc, const struct err *err) {
    struct checking *k = (struct checking *)((char *)arg - offsetof(struct checking, anchored));
    if (rc) {
        check_fail(k, err);
        return;
    }
    k->op.first_bad = k->anchored.first_bad;
    if (k->anchored.first_bad)
        memcpy(k->op.reason, k->anchored.reason, sizeof k->op.reason);
    report(k);
}

static void anchors_read(void *arg, int rc, const struct err *err) {
    struct checking *k = (struct checking *)((char *)arg - offsetof(struct checking, anchored));
    struct err why = ERR_INIT;
    if (!rc && !(rc = store_read(k->c->registry, k->c->loop, audit_anchors_check_run, anchors_checked, &k->anchored, &why)))
        return;
    check_fail(k, why.code ? &why : err);
}

static void check_anchors(struct checking *k) {
    struct err err = ERR_INIT;
    if (store_read(k->c->store, k->c->loop, audit_anchors_run, anchors_read, &k->anchored, &err))
        check_fail(k, &err);
}

static void walked(void *arg, int rc, const struct err *err) {
    struct checking *k = (struct checking *)((char *)arg - offsetof(struct checking, op));
    if (rc)
        check_fail(k, err);
    else if (k->op.more)
        walk(k);
    else if (k->server && !k->op.first_bad)
        check_anchors(k);
    else
        report(k);
}

static bool signature_holds(const struct checking *k, const struct audit_signed *s) {
    CLEANUP(buf_fini) struct buf message = BUF_INIT(4096);
    const struct vault_head h = {.chain = span_str(s->chain), .seq = (uint64_t)s->head.seq, .hash = s->head.hash};
    vault_heads_message(s->at, &h, 1, &message);
    return buf_ok(&message) && key_verify(k->key, buf_span(&message), span_of(s->signature, sizeof s->signature), NULL) == 0;
}

static int by_seq(const void *a, const void *b) {
    const struct audit_head *x = a, *y = b;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* Heads whose signature does not hold prove nothing; in our own store that is a fault in itself. */
static void start_walk(struct checking *k) {
    size_t n = 0;
    for (size_t i = 0; i < k->points.n; i++) {
        memcpy(k->points.at[i].chain, k->chain.name, sizeof k->points.at[i].chain);
        if (!signature_holds(k, &k->points.at[i])) {
            k->op.first_bad = k->points.at[i].head.seq;
            snprintf(k->op.reason, sizeof k->op.reason, "A head that is kept as signed by the vault does not have its signature.");
            report(k);
            return;
        }
        k->at[n++] = k->points.at[i].head;
    }
    for (size_t i = 0; i < k->points.n_anchored; i++)
        k->at[n++] = k->points.anchored[i];
    if (k->outside)
        k->at[n++] = k->head.head;
    qsort(k->at, n, sizeof *k->at, by_seq);
    k->op = (struct audit_verify){.chain = k->chain.number, .more = true, .points = k->at, .n_points = n};
    walk(k);
}

static void points_read(void *arg, int rc, const struct err *err) {
    struct checking *k = (struct checking *)((char *)arg - offsetof(struct checking, points));
    if (rc)
        check_fail(k, err);
    else
        start_walk(k);
}

static void key_known(void *arg, int rc, const struct err *err, struct span der) {
    struct checking *k = arg;
    struct err why = ERR_INIT;
    if (!rc && (rc = key_from_public_der(der, &k->key, &why)))
        err = &why;
    if (!rc && k->outside && !signature_holds(k, &k->head)) {
        rc = err_set(&why, MUSTER_EINVALID, "The head that was given does not have this vault's signature.");
        err = &why;
    }
    if (!rc) {
        memcpy(k->points.chain, k->chain.name, sizeof k->points.chain);
        rc = store_read(k->c->store, k->c->loop, audit_points_run, points_read, &k->points, &why);
        err = &why;
    }
    if (rc)
        check_fail(k, err);
}

static int take_head(struct checking *k, json_t *body, struct err *err) {
    json_t *head = json_object_get(body, "head");
    const char *chain = json_string_value(json_object_get(head, "chain")), *hash = json_string_value(json_object_get(head, "hash")),
               *signature = json_string_value(json_object_get(head, "signature"));
    CLEANUP(buf_fini) struct buf bytes = BUF_INIT(256);
    if (!head)
        return json_object_size(body) ? err_set(err, MUSTER_EJSON, "The body is {\"head\": …} or empty.") : 0;
    k->head.head.seq = json_integer_value(json_object_get(head, "seq"));
    k->head.at = json_integer_value(json_object_get(head, "signed_at"));
    if (!chain || !hash || !signature || k->head.head.seq < 1 || hex_decode(span_str(hash), k->head.head.hash.b, PKI_HASH_LEN) || base64_decode(span_str(signature), &bytes) ||
        bytes.n != sizeof k->head.signature)
        return err_set(err, MUSTER_EJSON, "The head is not one that `audit head` printed.");
    if (strcmp(chain, k->chain.name[0] ? k->chain.name : "server") != 0)
        return err_set(err, MUSTER_EINVALID, "The head is of the log \"%.40s\", not of this one.", chain);
    memcpy(k->head.signature, bytes.p, bytes.n);
    memcpy(k->head.chain, k->chain.name, sizeof k->head.chain);
    k->outside = true;
    return 0;
}

static void check(struct http_exchange *x, const struct chain *chain, bool server) {
    CLEANUP_JSON json_t *body = body_object(x);
    struct err err = ERR_INIT;
    struct checking *k = body ? calloc(1, sizeof *k) : NULL;
    if (!k) {
        if (body)
            reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    *k = (struct checking){.x = x, .c = http_exchange_arg(x), .server = server, .chain = *chain};
    http_exchange_ref(x);
    int rc = take_head(k, body, &err);
    if (rc || (rc = vault_audit_key(k->c->vault, key_known, k, &err)))
        check_fail(k, &err);
}

static void chain_to_check(struct http_exchange *x, int rc, const struct err *err, void *op) {
    if (rc)
        http_reply_err(x, err);
    else
        check(x, op, false);
}

void admin_AUDIT_VERIFY(struct http_exchange *x, void *arg) {
    const struct chain c = chain_of(x, false);
    job_start(x, JOB_READ, chain_run, &c, sizeof c, chain_to_check);
}

void admin_AUDIT_SERVER_VERIFY(struct http_exchange *x, void *arg) {
    const struct chain c = chain_of(x, true);
    check(x, &c, true);
}
