/* audit_check: `audit verify` of one log: an account's with its rows (registry/audit_state.h), or the server's with what it anchors.  See
 * audit_check.h. */
#include "admin/audit_check.h"
#include "base/hex.h"
#include "registry/account.h"

#define CHECKS_MAX 8 /* at once: each may need a table of AUDIT_DEVICES_MAX places */

static struct audit_verify *verdict(struct checking *k) { return k->server ? &k->op : &k->state.verify; }

void audit_check_free(struct checking *k) {
    for (struct checking **at = &k->c->checks; *at; at = &(*at)->next)
        if (*at == k) {
            *at = k->next;
            break;
        }
    json_decref(k->own);
    json_decref(k->reports);
    audit_state_fini(&k->state);
    free(k->anchored.at);
    EVP_PKEY_free(k->key);
    if (k->x)
        http_exchange_unref(k->x);
    free(k);
}

void audit_check_fail(struct checking *k, const struct err *err) {
    struct checking *whole = k->whole ? k->whole : k;
    http_reply_err(whole->x, err);
    if (k != whole)
        audit_check_free(k);
    audit_check_free(whole);
}

static void report(struct checking *k) {
    const struct audit_verify *v = verdict(k);
    json_t *o = json_object(), *head = json_object();
    json_set_str(o, "id", k->chain.name[0] ? k->chain.name : "server");
    json_set_bool(o, "ok", !v->bad);
    json_set_int(o, "entries", v->seq);
    json_set(o, "first_bad", v->first_bad ? json_integer(v->first_bad) : json_null());
    json_set_str(o, "reason", v->bad ? v->reason : NULL);
    json_set_int(o, "signed_heads", k->n_points);
    json_set(o, "devices", k->server ? json_null() : json_integer(k->state.devices));
    json_set(o, "certificates", k->server ? json_null() : json_integer(k->state.certificates));
    json_set_int(head, "seq", v->seq);
    json_set_hex(head, "hash", hash_span(&v->hash));
    json_set(o, "head", head);
    if (k->whole) {
        struct checking *whole = k->whole;
        audit_check_free(k);
        audit_all_verified(whole, o);
        return;
    }
    if (k->all) {
        audit_all_begin(k, o);
        return;
    }
    if (k->server)
        json_set(o, "accounts", json_null());
    reply_json(k->x, 200, o);
    audit_check_free(k);
}

/* --- signed heads ---------------------------------------------------------------------------------------------------------------------- */

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

/* Heads that are known from elsewhere than the list of signatures. */
static size_t fix_points(struct checking *k) {
    size_t n = 0;
    for (size_t i = 0; i < k->points.n_anchored; i++)
        k->fixed[n++] = k->points.anchored[i];
    if (k->points.unsealed.seq)
        k->fixed[n++] = k->points.unsealed;
    if (k->outside)
        k->fixed[n++] = k->head.head;
    qsort(k->fixed, n, sizeof *k->fixed, by_seq);
    return n;
}

/* Heads whose signature does not hold prove nothing; in our own store that is a fault in itself. */
static bool take_points(struct checking *k) {
    struct audit_verify *v = verdict(k);
    for (size_t i = 0; i < k->points.n; i++) {
        memcpy(k->points.at[i].chain, k->chain.name, sizeof k->points.at[i].chain);
        k->at[i] = k->points.at[i].head;
        if (!signature_holds(k, &k->points.at[i])) {
            audit_verify_bad(v, k->points.at[i].head.seq, "A head that is kept as signed by the vault does not have its signature.");
            return false;
        }
    }
    v->points = k->at;
    v->n_points = k->points.n;
    v->met = 0;
    v->until = k->points.n == AUDIT_POINTS_MAX ? k->at[k->points.n - 1].seq : 0;
    k->n_points += (int64_t)k->points.n;
    return true;
}

static void points_read(void *arg, int rc, const struct err *err);

static void read_points(struct checking *k) {
    struct err err = ERR_INIT;
    if (store_read(k->c->store, k->c->loop, audit_points_run, points_read, &k->points, &err))
        audit_check_fail(k, &err);
}

/* --- the walk --------------------------------------------------------------------------------------------------------------------------- */

static void server_walked(void *arg, int rc, const struct err *err);
static void account_walked(void *arg, int rc, const struct err *err);

static void walk(struct checking *k) {
    struct err err = ERR_INIT;
    if (k->server ? store_read(k->c->store, k->c->loop, audit_verify_run, server_walked, &k->op, &err)
                  : store_read(k->c->registry, k->c->loop, audit_state_run, account_walked, &k->state, &err))
        audit_check_fail(k, &err);
}

/* The server's log is whole: does it still say the same of the accounts' logs as they do themselves? */
static void anchors_checked(void *arg, int rc, const struct err *err) {
    struct checking *k = (struct checking *)((char *)arg - offsetof(struct checking, anchored));
    if (rc) {
        audit_check_fail(k, err);
        return;
    }
    if (k->anchored.first_bad || k->anchored.bad)
        audit_verify_bad(&k->op, k->anchored.first_bad, "%s", k->anchored.reason);
    report(k);
}

static void anchors_read(void *arg, int rc, const struct err *err) {
    struct checking *k = (struct checking *)((char *)arg - offsetof(struct checking, anchored));
    struct err why = ERR_INIT;
    if (!rc && !(rc = store_read(k->c->registry, k->c->loop, audit_anchors_check_run, anchors_checked, &k->anchored, &why)))
        return;
    audit_check_fail(k, why.code ? &why : err);
}

static void check_anchors(struct checking *k) {
    struct err err = ERR_INIT;
    if (store_read(k->c->store, k->c->loop, audit_anchors_run, anchors_read, &k->anchored, &err))
        audit_check_fail(k, &err);
}

static void next_points(struct checking *k) {
    k->points.after = verdict(k)->until;
    read_points(k);
}

static void server_walked(void *arg, int rc, const struct err *err) {
    struct checking *k = (struct checking *)((char *)arg - offsetof(struct checking, op));
    k->progress.entries = k->op.seq;
    if (rc)
        audit_check_fail(k, err);
    else if (k->op.bad)
        report(k);
    else if (k->op.more && k->op.until && k->op.seq == k->op.until)
        next_points(k);
    else if (k->op.more)
        walk(k);
    else
        check_anchors(k);
}

static void vault_said(void *arg, int rc, const struct err *err, const struct vault_account_view *view);

/* The account may have got its first CAs, or have been deleted, after the vault was asked. */
static void begin_again(struct checking *k) {
    struct err err = ERR_INIT;
    audit_state_fini(&k->state);
    k->state = (struct audit_state){.more = false};
    k->points.after = 0;
    k->again = true;
    if (vault_account_show(k->c->vault, span_str(k->chain.name), vault_said, k, &err))
        audit_check_fail(k, &err);
}

static void account_walked(void *arg, int rc, const struct err *err) {
    struct checking *k = (struct checking *)((char *)arg - offsetof(struct checking, state));
    const struct audit_state *s = &k->state;
    k->progress = (struct progress){s->verify.seq, s->entries_all, s->devices, s->devices_all, s->certs_seen, s->certs_all};
    if (rc)
        audit_check_fail(k, err);
    else if (!k->state.verify.bad && k->state.wants_points)
        next_points(k);
    else if (k->state.more)
        walk(k);
    else if (k->state.verify.bad && !k->has_cas && !k->again)
        begin_again(k);
    else
        report(k);
}

static void points_read(void *arg, int rc, const struct err *err) {
    struct checking *k = (struct checking *)((char *)arg - offsetof(struct checking, points));
    if (rc) {
        audit_check_fail(k, err);
        return;
    }
    if (!k->points.after) {
        k->n_points = 0;
        verdict(k)->fixed = k->fixed;
        verdict(k)->n_fixed = fix_points(k);
        audit_state_sealed_from(&k->state, k->points.unsealed.seq);
    }
    if (take_points(k))
        walk(k);
    else
        report(k);
}

/* --- what has to be known first ------------------------------------------------------------------------------------------------------------ */

static void vault_said(void *arg, int rc, const struct err *err, const struct vault_account_view *view) {
    struct checking *k = arg;
    struct err why = ERR_INIT;
    if (!rc || rc == MUSTER_ENOTFOUND) {
        const struct audit_state_cas cas = {.fleet_root = view ? view->fleet_root : SPAN_NONE, .former = view ? view->former : SPAN_NONE, .issuing_ca = view ? view->issuing_ca : SPAN_NONE,
                                            .provisioning_ca = view ? view->provisioning_ca : SPAN_NONE, .former_provisioning = view ? view->former_provisioning : SPAN_NONE, .unknown = !view};
        k->has_cas = cas.fleet_root.n > 0;
        rc = audit_state_init(&k->state, k->chain.number, k->chain.name, &cas, &why);
        err = &why;
    }
    if (rc)
        audit_check_fail(k, err);
    else
        read_points(k);
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
    memcpy(k->points.chain, k->chain.name, sizeof k->points.chain);
    if (!rc && !k->server && (rc = vault_account_show(k->c->vault, span_str(k->chain.name), vault_said, k, &why)))
        err = &why;
    if (rc)
        audit_check_fail(k, err);
    else if (k->server)
        read_points(k);
}

void audit_check_begin(struct checking *k) {
    struct err err = ERR_INIT;
    k->next = k->c->checks;
    k->c->checks = k;
    if (vault_audit_key(k->c->vault, key_known, k, &err))
        audit_check_fail(k, &err);
}

static int take_body(struct checking *k, json_t *body, struct err *err) {
    json_t *head = json_object_get(body, "head"), *accounts = k->server ? json_object_get(body, "accounts") : NULL;
    const char *chain = json_string_value(json_object_get(head, "chain")), *hash = json_string_value(json_object_get(head, "hash")),
               *signature = json_string_value(json_object_get(head, "signature"));
    CLEANUP(buf_fini) struct buf bytes = BUF_INIT(256);
    k->all = json_is_true(accounts);
    if (json_object_size(body) > (size_t)(head != NULL) + (accounts != NULL) || (accounts && !json_is_boolean(accounts)))
        return err_set(err, MUSTER_EJSON, k->server ? "The body is {\"head\": …, \"accounts\": true}, both of which may be left out." : "The body is {\"head\": …} or empty.");
    if (!head)
        return 0;
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

static void check(struct http_exchange *x, const struct audit_chain *chain, bool server) {
    CLEANUP_JSON json_t *body = body_object(x);
    struct err err = ERR_INIT;
    struct checking *k = body ? calloc(1, sizeof *k) : NULL;
    if (!k) {
        if (body)
            reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    *k = (struct checking){.x = x, .c = http_exchange_arg(x), .server = server, .chain = *chain, .op = {.chain = AUDIT_SERVER, .more = true}};
    http_exchange_ref(x);
    int rc = take_body(k, body, &err), running = 0;
    for (const struct checking *other = k->c->checks; other; other = other->next)
        running++;
    if (!rc && running >= CHECKS_MAX)
        rc = err_retry(&err, MUSTER_EBUSY, 10, "%d logs are being verified already.", running);
    if (rc)
        audit_check_fail(k, &err);
    else
        audit_check_begin(k);
}

/* Of an account that was deleted too: whether an operator did that is a part of the question. */
static int any_chain_run(struct store_tx *tx, void *arg, struct err *err) {
    struct audit_chain *c = arg;
    struct account a;
    int found = account_find(tx, span_str(c->name), &a, err);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ENOTFOUND, "There is no account \"%s\".", c->name);
    c->number = a.row;
    return 0;
}

static void chain_to_check(struct http_exchange *x, int rc, const struct err *err, void *op) {
    if (rc)
        http_reply_err(x, err);
    else
        check(x, op, false);
}

void admin_AUDIT_VERIFY(struct http_exchange *x, void *arg) {
    const struct audit_chain c = audit_chain_of(x, false);
    job_start(x, JOB_READ, any_chain_run, &c, sizeof c, chain_to_check);
}

void admin_AUDIT_SERVER_VERIFY(struct http_exchange *x, void *arg) {
    const struct audit_chain c = audit_chain_of(x, true);
    check(x, &c, true);
}
