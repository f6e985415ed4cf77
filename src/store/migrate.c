/* migrate: numbered migrations, checked at every open.  A migration's text is remembered by its hash: one that was changed after it
 * had been applied is refused. */
#include <sodium.h>
#include <stdio.h>

#include "base/hex.h"
#include "store/internal.h"

#define SCHEMA "CREATE TABLE IF NOT EXISTS schema_version (number INTEGER PRIMARY KEY, hash TEXT NOT NULL)"

static void hash_of_sql(const char *sql, char out[65]) {
    uint8_t hash[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(hash, (const unsigned char *)sql, strlen(sql));
    hex_encode(span_of(hash, sizeof hash), out);
}

/* Statements outside the table, for this file alone. */
static int query(struct store_conn *c, struct backend_stmt **s, const char *sql, struct err *err) { return c->backend->prepare(c->conn, sql, s, err); }

static int has_schema(struct store_conn *c, bool *out, struct err *err) {
    struct backend_stmt *s;
    int rc = query(c, &s, "SELECT 1 FROM sqlite_master WHERE name = 'schema_version'", err);
    if (rc)
        return rc;
    rc = c->backend->step(c->conn, s, err);
    *out = rc == 1;
    c->backend->finalize(s);
    return rc < 0 ? rc : 0;
}

/* The newest applied number, after checking the hash of each. */
static int check_applied(struct store_conn *c, const struct store_options *o, int *newest, struct err *err) {
    struct backend_stmt *s;
    char hash[65];
    int rc = query(c, &s, "SELECT number, hash FROM schema_version ORDER BY number", err), bad = 0;
    if (rc)
        return rc;
    while (!bad && (rc = c->backend->step(c->conn, s, err)) == 1) {
        int number = (int)c->backend->column_int(s, 0);
        if (number > (int)o->n_migrations)
            bad = err_set(err, MUSTER_EVERSION, "%s has schema %d; this version of Muster knows up to %zu.", o->path, number, o->n_migrations);
        else {
            hash_of_sql(o->migrations[number - 1].sql, hash);
            if (number != *newest + 1 || !span_eq_str(c->backend->column_bytes(s, 1), hash))
                bad = err_set(err, MUSTER_EVERSION, "%s was made by another migration %d than this version's.", o->path, number);
        }
        *newest = number;
    }
    c->backend->finalize(s);
    return bad ? bad : rc < 0 ? rc : 0;
}

static int apply(struct store_conn *c, const struct store_migration *m, struct err *err) {
    char hash[65], mark[200];
    hash_of_sql(m->sql, hash);
    snprintf(mark, sizeof mark, "INSERT INTO schema_version (number, hash) VALUES (%d, '%s')", m->number, hash);
    int rc = c->backend->begin(c->conn, true, err);
    if (!rc && !(rc = c->backend->script(c->conn, m->sql, err)) && !(rc = c->backend->script(c->conn, mark, err)))
        rc = c->backend->commit(c->conn, err);
    if (rc) {
        c->backend->rollback(c->conn);
        err_prefix(err, "Migration %d", m->number);
    }
    return rc;
}

int store_migrate(struct store_conn *c, const struct store_options *o, struct err *err) {
    bool there = false;
    int newest = 0, rc;
    if ((rc = has_schema(c, &there, err)))
        return rc;
    if (!there && o->migrate && (rc = c->backend->script(c->conn, SCHEMA, err)))
        return rc;
    if ((there || o->migrate) && (rc = check_applied(c, o, &newest, err)))
        return rc;
    if (!o->migrate && newest < (int)o->n_migrations)
        return err_set(err, MUSTER_EVERSION, "%s has schema %d and needs %zu.", o->path, newest, o->n_migrations);
    for (size_t i = (size_t)newest; i < o->n_migrations && !rc; i++)
        rc = o->migrations[i].number == (int)i + 1 ? apply(c, &o->migrations[i], err) : err_set(err, MUSTER_EINTERNAL, "Migrations are not numbered in order.");
    return rc;
}
