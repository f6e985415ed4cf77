/* registry: accounts, roots, provisioning keys, devices and the audit log: their tables and the rules over them.
 *
 * Operations are functions `x_run(struct store_tx *, void *arg, struct err *)` for store_read and store_write (store/store.h); their
 * argument structs hold what goes in, first, and what comes out, behind.  An operation that refuses after writing something down (a
 * key that was offered, a wish to come again) returns 0 with the refusal in `verdict`, because an error would roll the writing back. */
#ifndef MUSTER_REGISTRY_REGISTRY_H
#define MUSTER_REGISTRY_REGISTRY_H

#include "json/json.h"
#include "registry/model.h"
#include "store/store.h"

enum sql {
#define S(NAME, text) SQL_##NAME,
#include "registry/statements.def"
#undef S
    SQL_COUNT
};

/* DIR/registry.db and DIR/control.db. migrate: bring the schema up to date (otherwise an older one is refused). */
struct registry_open {
    const char *path;
    const char *vfs;
    int readers;
    size_t queue_max;
    bool migrate;
    bool reruns;         /* store.h */
    bool unsafe_no_sync; /* tests only */
};
int registry_open(const struct registry_open *o, struct store **out, struct err *err) MUSTER_MUST_CHECK;
int control_open(const struct registry_open *o, struct store **out, struct err *err) MUSTER_MUST_CHECK;

/* 1: there is a trigger, a view or an index that no migration made, or one of their triggers is not there: what is odd is in out; 0: nothing is.  Triggers run in whichever process
 * writes: who can write the file could have control do something besides what an operator wants. */
int registry_schema_odd(struct store_tx *tx, char *out, size_t size, struct err *err) MUSTER_MUST_CHECK;

/* One number of the table meta: "epoch", "newest", "vault". */
int meta_get(struct store_tx *tx, const char *name, int64_t *value, struct err *err) MUSTER_MUST_CHECK;
int meta_set(struct store_tx *tx, const char *name, int64_t value, struct err *err) MUSTER_MUST_CHECK;
int meta_put(struct store_tx *tx, const char *name, int64_t value, struct err *err) MUSTER_MUST_CHECK;   /* one that no migration made */
int meta_raise(struct store_tx *tx, const char *name, int64_t value, struct err *err) MUSTER_MUST_CHECK; /* never lowers it */
/* The next judgement of anybody must not rest on what was judged before. */
int epoch_raise(struct store_tx *tx, struct err *err) MUSTER_MUST_CHECK;
/* MUSTER_ECLOCK where the clock is more than CLOCK_TOLERANCE behind the log. */
int clock_check(struct store_tx *tx, int64_t now, struct err *err) MUSTER_MUST_CHECK;

/* store_query + the first row: 1 there is one, 0 none, <0 error.  The row is the caller's to end. */
int first_row(struct store_tx *tx, struct store_row **row, struct err *err, int number, const char *fmt, ...) MUSTER_MUST_CHECK;
/* One integer, or `fallback` where there is no row. */
int one_int(struct store_tx *tx, int64_t *out, int64_t fallback, struct err *err, int number, const char *fmt, ...) MUSTER_MUST_CHECK;

/* A page of a list: cursor and limit in, JSON {"items":[…],"next":…} out. */
#define PAGE_MAX 1000
struct page {
    int64_t after; /* id of the last one of the page before */
    int64_t limit; /* 1..PAGE_MAX */
    json_t *out;   /* new reference */
};
/* Sets out to {"items": items, "next": cursor or null}; takes items. */
int page_finish(struct page *p, json_t *items, int64_t last, bool more);

#endif
