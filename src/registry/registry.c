/* registry: see registry.h.  Opens the databases; what every operation uses. */
#include "registry/registry.h"

#include "registry/trust.h"

static const struct store_statement statements[] = {
#define S(NAME, text) [SQL_##NAME] = {text},
#include "registry/statements.def"
#undef S
};

#define M(database, number, sql) M_##database(number, sql)
static const struct store_migration registry_migrations[] = {
#define M_registry(number, sql) {number, sql},
#define M_control(number, sql)
#include "registry_migrations.inc"
#undef M_registry
#undef M_control
};
static const struct store_migration control_migrations[] = {
#define M_registry(number, sql)
#define M_control(number, sql) {number, sql},
#include "registry_migrations.inc"
#undef M_registry
#undef M_control
};

/* Control alone reads and writes its database, seldom and a few pages at a time; each anchor, one a minute, touches others of them. */
#define CONTROL_CACHE_KIB 256

static int open_store(const struct registry_open *o, const struct store_migration *migrations, size_t n, int cache_kib, void (*committed)(void), struct store **out, struct err *err) {
    const struct store_options so = {.path = o->path, .vfs = o->vfs, .migrations = migrations, .n_migrations = n, .statements = statements, .n_statements = SQL_COUNT,
                                     .reruns = o->reruns, .readers = o->readers, .queue_max = o->queue_max, .cache_kib = cache_kib, .migrate = o->migrate, .unsafe_no_sync = o->unsafe_no_sync, .committed = committed};
    return store_open(&so, out, err);
}

int registry_open(const struct registry_open *o, struct store **out, struct err *err) {
    return open_store(o, registry_migrations, sizeof registry_migrations / sizeof *registry_migrations, 0, trust_committed, out, err);
}

int control_open(const struct registry_open *o, struct store **out, struct err *err) {
    return open_store(o, control_migrations, sizeof control_migrations / sizeof *control_migrations, CONTROL_CACHE_KIB, NULL, out, err);
}

/* The engine keeps the text of what was made as it was written. */
static bool is_made(struct span sql) {
    for (size_t i = 0; i < sizeof registry_migrations / sizeof *registry_migrations; i++)
        if (span_find(span_str(registry_migrations[i].sql), sql) >= 0)
            return true;
    return false;
}

#define CREATE_TRIGGER "CREATE TRIGGER "

/* Whether the trigger whose text begins at `at`, in migration m, stays: no later line drops it. */
static bool stays(size_t m, const char *at) {
    char drop[100];
    const char *name = at + strlen(CREATE_TRIGGER);
    snprintf(drop, sizeof drop, "DROP TRIGGER %.*s;", (int)strcspn(name, " \n"), name);
    for (; m < sizeof registry_migrations / sizeof *registry_migrations; at = registry_migrations[m].sql)
        if (strstr(at, drop))
            return false;
        else if (++m == sizeof registry_migrations / sizeof *registry_migrations)
            return true;
    return true;
}

/* How many triggers of that text the migrations leave; NULL: of any. */
static size_t triggers(const struct span *sql) {
    size_t n = 0;
    for (size_t m = 0; m < sizeof registry_migrations / sizeof *registry_migrations; m++)
        for (const char *at = registry_migrations[m].sql; (at = strstr(at, CREATE_TRIGGER)); at++)
            n += (!sql || (strlen(at) >= sql->n && memcmp(at, sql->p, sql->n) == 0)) && stays(m, at);
    return n;
}

int registry_schema_odd(struct store_tx *tx, char *out, size_t size, struct err *err) {
    size_t there = 0;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_SCHEMA, "");
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        struct span sql = store_text(row, 2);
        if (!is_made(sql)) {
            snprintf(out, size, "has a %.20s %.64s that is none of Muster's", (const char *)store_text(row, 0).p, (const char *)store_text(row, 1).p);
            return 1;
        }
        there += span_eq_str(store_text(row, 0), "trigger") ? triggers(&sql) : 0;
    }
    if (rc || there == triggers(NULL))
        return rc;
    snprintf(out, size, "lacks a trigger of Muster's");
    return 1;
}

int first_row(struct store_tx *tx, struct store_row **row, struct err *err, int number, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int rc = store_vquery(tx, row, err, number, fmt, ap);
    va_end(ap);
    if (rc)
        return rc;
    rc = store_next(*row, err);
    if (rc <= 0) {
        store_row_end(*row);
        *row = NULL;
    }
    return rc;
}

int one_int(struct store_tx *tx, int64_t *out, int64_t fallback, struct err *err, int number, const char *fmt, ...) {
    struct store_row *row;
    va_list ap;
    va_start(ap, fmt);
    int rc = store_vquery(tx, &row, err, number, fmt, ap);
    va_end(ap);
    if (rc)
        return rc;
    rc = store_next(row, err);
    *out = rc > 0 && !store_is_null(row, 0) ? store_int(row, 0) : fallback;
    store_row_end(row);
    return rc < 0 ? rc : 0;
}

int meta_get(struct store_tx *tx, const char *name, int64_t *value, struct err *err) { return one_int(tx, value, 0, err, SQL_META_GET, "s", name); }
int meta_set(struct store_tx *tx, const char *name, int64_t value, struct err *err) { return store_exec(tx, NULL, err, SQL_META_SET, "si", name, value); }
int meta_put(struct store_tx *tx, const char *name, int64_t value, struct err *err) { return store_exec(tx, NULL, err, SQL_META_PUT, "si", name, value); }
int meta_raise(struct store_tx *tx, const char *name, int64_t value, struct err *err) { return store_exec(tx, NULL, err, SQL_META_RAISE, "si", name, value); }
int epoch_raise(struct store_tx *tx, struct err *err) {
    trust_change();
    return store_exec(tx, NULL, err, SQL_EPOCH_RAISE, "");
}

int clock_check(struct store_tx *tx, int64_t now, struct err *err) {
    int64_t newest;
    int rc = meta_get(tx, "newest", &newest, err);
    if (rc || now >= newest - CLOCK_TOLERANCE)
        return rc;
    char at[CLOCK_RFC3339_LEN + 1];
    clock_rfc3339(newest, at);
    return err_retry(err, MUSTER_ECLOCK, 60, "The server's clock is %lld seconds behind the newest entry of its audit log (%s), so nothing is issued.",
                     (long long)(newest - now), at);
}

int page_finish(struct page *p, json_t *items, int64_t last, bool more) {
    json_t *page = json_object();
    if (!page || !items) {
        json_decref(page);
        json_decref(items);
        return MUSTER_ENOMEM;
    }
    json_set(page, "items", items);
    char next[24];
    snprintf(next, sizeof next, "%lld", (long long)last);
    json_set_str(page, "next", more ? next : NULL);
    json_decref(p->out);
    p->out = page;
    return 0;
}
