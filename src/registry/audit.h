/* audit: hash chains of what was done, one an account (the account's number) and, in DIR/control.db, one for the server (0).
 *
 * An entry stands in the transaction of what it records.  Its hash is SHA-256 over the hash before it and its own fields
 * (audit_hash), so that a change to an old entry shows in every later one; the vault signs heads, and control keeps what it signed. */
#ifndef MUSTER_REGISTRY_AUDIT_H
#define MUSTER_REGISTRY_AUDIT_H

#include "registry/registry.h"

#define AUDIT_SERVER 0 /* the server's chain */

/* detail: an object, or NULL; taken over.  Never holds a secret. */
int audit_add(struct store_tx *tx, int64_t chain, const struct actor *actor, const char *action, struct span object, json_t *detail, struct err *err) MUSTER_MUST_CHECK;

struct audit_head {
    int64_t seq; /* 0: no entry yet */
    struct hash hash;
};
int audit_head_get(struct store_tx *tx, int64_t chain, struct audit_head *out, struct err *err) MUSTER_MUST_CHECK;

struct audit_list {
    int64_t chain;
    const char *name; /* of the chain, for ids; "" the server's */
    struct page page; /* after: seq */
};
int audit_list_run(struct store_tx *tx, void *arg /* struct audit_list */, struct err *err);

/* The heads of all accounts, in pages: again with after = next while n is AUDIT_HEADS_PAGE. */
#define AUDIT_HEADS_PAGE 256
#define AUDIT_HEADS_MAX 65536 /* accounts that one check of the anchors looks at */
struct audit_heads {
    int64_t after; /* chain; start with -1 */
    int64_t next;  /* out: `after` of the next page */
    struct {
        int64_t chain;
        char name[ACCOUNT_NAME_MAX + 1];
        struct audit_head head;
    } at[AUDIT_HEADS_PAGE];
    size_t n;
};
int audit_heads_run(struct store_tx *tx, void *arg /* struct audit_heads */, struct err *err);

/* One head with the vault's signature; kept in control.db. */
struct audit_signed {
    char chain[ACCOUNT_NAME_MAX + 1]; /* "" the server's */
    struct audit_head head;
    int64_t at;
    uint8_t signature[64];
};
/* Stores them and, for accounts' chains, an entry "audit.anchor" in the server's chain. */
struct audit_anchor {
    const struct audit_signed *at;
    size_t n;
};
int audit_anchor_run(struct store_tx *control, void *arg /* struct audit_anchor */, struct err *err);
/* at->chain in; the newest one out; head.seq 0: none. */
int audit_signed_run(struct store_tx *control, void *arg /* struct audit_signed */, struct err *err);

/* An entry whose hash fits.  Spans live until the next one. */
struct audit_entry {
    int64_t seq, at;
    struct span actor, action, object, detail, seal;
    struct hash hash;
};

/* Walks a chain from its beginning and holds it against heads that the vault signed.  Runs in steps so that no transaction is long: call
 * again while more is true; it may be called again later, to go on to what was added. */
#define AUDIT_POINTS_MAX 1024
struct audit_verify {
    int64_t chain;
    bool more;             /* start with true */
    int64_t seq;           /* walked so far; start with 0 */
    struct hash hash;      /* start with zeros */
    struct audit_head head; /* the stored head, at the end */
    bool bad;
    int64_t first_bad;     /* the entry; 0: none is at fault */
    char reason[300];
    /* Heads that have to be met, ascending: a page of those that are kept, and, in fixed, those that are known from elsewhere.  until: it
     * stops there, with more true, for the next page; 0: to the end. */
    const struct audit_head *points, *fixed;
    size_t n_points, met, n_fixed, met_fixed;
    int64_t until;
    void (*each)(void *arg, const struct audit_entry *e); /* NULL: nobody asks; may call audit_verify_bad() */
    void *each_arg;
};
int audit_verify_run(struct store_tx *tx, void *arg /* struct audit_verify */, struct err *err);
/* Ends the walk with that verdict. */
void audit_verify_bad(struct audit_verify *v, int64_t seq, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

struct audit_points {
    char chain[ACCOUNT_NAME_MAX + 1];
    int64_t after;                            /* start with 0; then the last one's seq, until n is less than AUDIT_POINTS_MAX */
    struct audit_signed at[AUDIT_POINTS_MAX]; /* signed heads that are kept, ascending */
    size_t n;
    struct audit_head anchored[AUDIT_POINTS_MAX]; /* those that the server's chain has anchored, newest first; with the first page alone */
    size_t n_anchored;
    struct audit_head unsealed;               /* where the log stood when its entries began to be sealed; seq 0: from its beginning.  With the first page */
};
int audit_points_run(struct store_tx *control, void *arg /* struct audit_points */, struct err *err);

/* Every account that there is or was, in pages: again with `after` as it is while n is AUDIT_HEADS_PAGE. */
struct audit_accounts {
    int64_t after; /* start with 0 */
    struct {
        int64_t chain;
        char name[ACCOUNT_NAME_MAX + 1];
    } at[AUDIT_HEADS_PAGE];
    size_t n;
};
int audit_accounts_run(struct store_tx *tx, void *arg /* struct audit_accounts */, struct err *err);

/* The newest anchor of each account in the server's chain, and whether the accounts' logs still have those entries. */
struct audit_anchored {
    struct audit_anchor_entry {
        char name[ACCOUNT_NAME_MAX + 1];
        struct audit_head head;
        int64_t entry; /* of the server's chain */
    } *at;             /* the caller frees it */
    size_t n;
    int64_t first_bad; /* entry whose anchor does not hold; 0: all do */
    bool bad;          /* or the registry's schema is not ours */
    char reason[200];
};
int audit_anchors_run(struct store_tx *control, void *arg /* struct audit_anchored */, struct err *err);
int audit_anchors_check_run(struct store_tx *registry, void *arg /* struct audit_anchored */, struct err *err);

#endif
