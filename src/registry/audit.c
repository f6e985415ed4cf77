/* audit: see audit.h.  Checking a chain is audit_verify.c's. */
#include "registry/audit_seal.h"

#include "registry/row.h"

static void add_field(struct buf *b, struct span s) {
    buf_add_u32(b, (uint32_t)s.n);
    buf_add(b, s);
}

int audit_hash(const struct hash *before, int64_t seq, int64_t at, struct span actor, struct span action, struct span object, struct span detail, struct hash *out) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(64 * 1024);
    buf_add(&b, hash_span(before));
    buf_add_u64(&b, (uint64_t)seq);
    buf_add_u64(&b, (uint64_t)at);
    add_field(&b, actor);
    add_field(&b, action);
    add_field(&b, object);
    add_field(&b, detail);
    int rc = buf_check(&b, NULL);
    if (!rc)
        hash_of(buf_span(&b), out);
    return rc;
}

int audit_head_get(struct store_tx *tx, int64_t chain, struct audit_head *out, struct err *err) {
    struct store_row *row;
    *out = (struct audit_head){0};
    int rc = first_row(tx, &row, err, SQL_AUDIT_HEAD, "i", chain);
    if (rc <= 0)
        return rc;
    out->seq = store_int(row, 0);
    rc = row_hash(row, 1, &out->hash);
    store_row_end(row);
    return rc ? err_set(err, rc, "The head of an audit chain is damaged.") : 0;
}

int audit_add(struct store_tx *tx, int64_t chain, const struct actor *actor, const char *action, struct span object, json_t *detail, struct err *err) {
    CLEANUP_JSON json_t *owned = detail;
    CLEANUP(buf_fini) struct buf text = BUF_INIT(32 * 1024);
    struct audit_head head;
    struct hash hash;
    int64_t now = clock_now();
    int rc = detail ? json_write_sorted(&text, detail) : 0;
    if (rc)
        return err_set(err, rc, "An audit entry cannot be written.");
    if ((rc = audit_head_get(tx, chain, &head, err)))
        return rc;
    int64_t seq = head.seq + 1;
    struct span by = span_str(actor->text), what = span_str(action), more = span_str(buf_str(&text));
    if ((rc = audit_hash(&head.hash, seq, now, by, what, object, more, &hash)))
        return err_set(err, rc, "An audit entry is too long.");
    struct span object_text = object.n ? object : SPAN_LIT("");
    uint8_t seal[AUDIT_SEAL_LEN];
    struct span sealed = chain != AUDIT_SERVER && audit_seal_entry(chain, seq, &hash, seal) ? span_of(seal, sizeof seal) : SPAN_NONE;
    if ((rc = store_exec(tx, NULL, err, SQL_AUDIT_ADD, "iiitttsbb", chain, seq, now, by, what, object_text, buf_str(&text), hash_span(&hash), sealed)))
        return rc;
    rc = store_exec(tx, NULL, err, head.seq ? SQL_AUDIT_HEAD_NEXT : SQL_AUDIT_HEAD_FIRST, "iib", chain, seq, hash_span(&hash));
    return rc ? rc : store_exec(tx, NULL, err, SQL_META_RAISE, "si", "newest", now);
}

static json_t *entry_json(struct store_row *row, const char *name) {
    json_t *e = json_object();
    char id[ACCOUNT_NAME_MAX + 32];
    snprintf(id, sizeof id, "%s/%lld", *name ? name : "server", (long long)store_int(row, 0));
    json_set_str(e, "id", id);
    json_set_str(e, "chain", *name ? name : "server");
    json_set_int(e, "seq", store_int(row, 0));
    json_set_time(e, "at", store_int(row, 1));
    json_set_span(e, "actor", store_text(row, 2));
    json_set_span(e, "action", store_text(row, 3));
    json_set_span(e, "object", store_text(row, 4));
    struct span detail = store_text(row, 5);
    json_set(e, "detail", detail.n ? json_parse(detail, NULL) : json_object());
    json_set_hex(e, "hash", store_blob(row, 6));
    return e;
}

int audit_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct audit_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int64_t last = l->page.after, n = 0;
    int rc = store_query(tx, &row, err, SQL_AUDIT_FROM, "iii", l->chain, l->page.after, l->page.limit + 1);
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < l->page.limit) {
        json_array_append_new(items, entry_json(row, l->name));
        last = store_int(row, 0);
        n++;
    }
    return rc < 0 ? rc : page_finish(&l->page, TAKE(items), last, rc > 0);
}

int audit_heads_run(struct store_tx *tx, void *arg, struct err *err) {
    struct audit_heads *h = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    h->n = 0;
    int rc = store_query(tx, &row, err, SQL_AUDIT_HEADS, "ii", h->after, I(AUDIT_HEADS_PAGE));
    if (rc)
        return rc;
    for (; (rc = store_next(row, err)) > 0 && h->n < AUDIT_HEADS_PAGE; h->n++) {
        h->at[h->n].chain = store_int(row, 0);
        h->at[h->n].head.seq = store_int(row, 1);
        /* A damaged one is signed as it is, so that it is found out, and keeps no other from being signed. */
        if (row_hash(row, 2, &h->at[h->n].head.hash))
            h->at[h->n].head.hash = (struct hash){{0}};
        row_text(row, 3, h->at[h->n].name, sizeof h->at[h->n].name);
    }
    if (rc >= 0 && h->n)
        h->next = h->at[h->n - 1].chain;
    return rc < 0 ? rc : 0;
}

int audit_accounts_run(struct store_tx *tx, void *arg, struct err *err) {
    struct audit_accounts *l = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    l->n = 0;
    int rc = store_query(tx, &row, err, SQL_ACCOUNT_ALL, "ii", l->after, I(AUDIT_HEADS_PAGE));
    if (rc)
        return rc;
    for (; l->n < AUDIT_HEADS_PAGE && (rc = store_next(row, err)) > 0; l->n++) {
        struct account a;
        if ((rc = row_account(row, &a, err)))
            return rc;
        l->after = l->at[l->n].chain = a.row;
        memcpy(l->at[l->n].name, a.name, sizeof l->at[l->n].name);
    }
    return rc < 0 ? rc : 0;
}

int audit_anchor_run(struct store_tx *control, void *arg, struct err *err) {
    const struct audit_anchor *a = arg;
    json_t *heads = json_object();
    for (size_t i = 0; i < a->n; i++) {
        const struct audit_signed *s = &a->at[i];
        int rc = store_exec(control, NULL, err, SQL_SIGNED_ADD, "sibib", s->chain, s->head.seq, hash_span(&s->head.hash), s->at, span_of(s->signature, sizeof s->signature));
        if (rc) {
            json_decref(heads);
            return rc;
        }
        if (!s->chain[0])
            continue;
        json_t *one = json_object();
        json_set_int(one, "seq", s->head.seq);
        json_set_hex(one, "hash", hash_span(&s->head.hash));
        json_set(heads, s->chain, one);
    }
    if (json_object_size(heads) == 0) {
        json_decref(heads);
        return 0;
    }
    const struct actor muster = {"muster"};
    return audit_add(control, AUDIT_SERVER, &muster, "audit.anchor", SPAN_NONE, heads, err);
}

int audit_read_signed(struct store_row *row, struct audit_signed *out) {
    struct span signature = store_blob(row, 3);
    out->head.seq = store_int(row, 0);
    out->at = store_int(row, 2);
    if (row_hash(row, 1, &out->head.hash) || signature.n != sizeof out->signature)
        return MUSTER_ECORRUPT;
    memcpy(out->signature, signature.p, signature.n);
    return 0;
}

int audit_signed_run(struct store_tx *control, void *arg, struct err *err) {
    struct audit_signed *s = arg;
    struct store_row *row;
    s->head = (struct audit_head){0};
    int rc = first_row(control, &row, err, SQL_SIGNED_NEWEST, "s", s->chain);
    if (rc <= 0)
        return rc;
    rc = audit_read_signed(row, s);
    store_row_end(row);
    return rc ? err_set(err, rc, "A signed head of the audit log is damaged.") : 0;
}
