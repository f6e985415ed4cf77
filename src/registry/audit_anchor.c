/* audit_anchor: what control.db knows of the accounts' chains: heads that the vault signed, and heads that stand as entries in the
 * server's own chain; see audit.h. */
#include "base/hex.h"
#include "registry/audit.h"
#include "registry/row.h"

#define ANCHORS_READ 100000 /* newest entries that are looked at */

/* The head of one account in the detail of an entry "audit.anchor". */
static bool read_anchor(json_t *detail, const char *name, struct audit_head *out) {
    json_t *one = json_object_get(detail, name);
    const char *hash = json_string_value(json_object_get(one, "hash"));
    out->seq = json_integer_value(json_object_get(one, "seq"));
    return hash && out->seq > 0 && hex_decode(span_str(hash), out->hash.b, sizeof out->hash.b) == 0;
}

static int read_anchored(struct store_tx *control, struct audit_points *p, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    p->n_anchored = 0;
    int rc = p->chain[0] ? store_query(control, &row, err, SQL_AUDIT_ANCHORS, "i", I(ANCHORS_READ)) : 0;
    if (rc || !row)
        return rc;
    while ((rc = store_next(row, err)) > 0 && p->n_anchored < AUDIT_POINTS_MAX) {
        CLEANUP_JSON json_t *detail = json_parse(store_text(row, 1), NULL);
        if (detail && read_anchor(detail, p->chain, &p->anchored[p->n_anchored]))
            p->n_anchored++;
    }
    return rc < 0 ? rc : 0;
}

static int read_unsealed(struct store_tx *control, struct audit_points *p, struct err *err) {
    struct store_row *row;
    p->unsealed = (struct audit_head){0};
    int rc = first_row(control, &row, err, SQL_UNSEALED_GET, "s", p->chain);
    if (rc <= 0)
        return rc;
    p->unsealed.seq = store_int(row, 0);
    rc = row_hash(row, 1, &p->unsealed.hash);
    store_row_end(row);
    return rc ? err_set(err, rc, "What control knows of a log from before seals is damaged.") : 0;
}

int audit_points_run(struct store_tx *control, void *arg, struct err *err) {
    struct audit_points *p = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    p->n = 0;
    int rc = store_query(control, &row, err, SQL_SIGNED_FROM, "sii", p->chain, p->after, I(AUDIT_POINTS_MAX));
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0 && p->n < AUDIT_POINTS_MAX)
        if ((rc = audit_read_signed(row, &p->at[p->n++])))
            return err_set(err, rc, "A signed head of the audit log is damaged.");
    if (rc < 0 || p->after)
        return rc;
    rc = read_unsealed(control, p, err);
    return rc ? rc : read_anchored(control, p, err);
}

static bool is_known(const struct audit_anchored *a, const char *name) {
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->at[i].name, name) == 0)
            return true;
    return false;
}

static int add_anchor(struct audit_anchored *a, const struct audit_anchor_entry *one) {
    if ((a->n & (a->n - 1)) == 0) { /* room doubles at each power of two */
        void *more = realloc(a->at, (a->n ? a->n * 2 : 1) * sizeof *a->at);
        if (!more)
            return MUSTER_ENOMEM;
        a->at = more;
    }
    a->at[a->n++] = *one;
    return 0;
}

int audit_anchors_run(struct store_tx *control, void *arg, struct err *err) {
    struct audit_anchored *a = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    free(a->at);
    a->at = NULL;
    a->n = 0;
    int rc = store_query(control, &row, err, SQL_AUDIT_ANCHORS, "i", I(ANCHORS_READ));
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        CLEANUP_JSON json_t *detail = json_parse(store_text(row, 1), NULL);
        const char *name;
        json_t *one;
        json_object_foreach(detail, name, one) {
            struct audit_anchor_entry e = {.entry = store_int(row, 0)};
            if (a->n == AUDIT_HEADS_MAX || is_known(a, name) || strlen(name) > ACCOUNT_NAME_MAX || !read_anchor(detail, name, &e.head))
                continue;
            snprintf(e.name, sizeof e.name, "%s", name);
            if (add_anchor(a, &e))
                return err_set(err, MUSTER_ENOMEM, NULL);
        }
    }
    return rc;
}

int audit_anchors_check_run(struct store_tx *registry, void *arg, struct err *err) {
    struct audit_anchored *a = arg;
    char odd[160];
    a->first_bad = 0;
    int rc = registry_schema_odd(registry, odd, sizeof odd, err);
    if (rc < 0)
        return rc;
    if (rc > 0) {
        a->bad = true;
        snprintf(a->reason, sizeof a->reason, "The registry %s.", odd);
    }
    for (size_t i = 0; i < a->n && !a->first_bad; i++) {
        struct account account;
        struct store_row *row = NULL;
        struct hash hash = {{0}};
        int found = account_find(registry, span_str(a->at[i].name), &account, err);
        if (found > 0)
            found = first_row(registry, &row, err, SQL_AUDIT_AT, "ii", account.row, a->at[i].head.seq);
        if (found < 0)
            return found;
        bool holds = found && row_hash(row, 0, &hash) == 0 && hash_eq(&hash, &a->at[i].head.hash);
        store_row_end(row);
        if (holds)
            continue;
        a->first_bad = a->at[i].entry;
        snprintf(a->reason, sizeof a->reason, "The log of the account %s is not the one that was anchored: its entry %lld is another, or missing.", a->at[i].name,
                 (long long)a->at[i].head.seq);
    }
    return 0;
}
