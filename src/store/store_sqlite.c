/* store_sqlite: the embedded backend (SQLite 3.40).  WAL, synchronous=FULL, foreign keys on.  Called by store.c alone.
 *
 * The files -wal and -shm are never removed: the processes that use them may not create files (Landlock), so whoever opens the
 * database first makes them for all. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>

#include "store/backend.h"
#include "store/gather.h"

#define BUSY_MS 10000
/* Pages of the WAL before they are written into the database: the hot ones of each index are in it many times, and go once. */
#define CHECKPOINT_PAGES "4000"

/* What every transaction runs, prepared once: parsing costs more than running. */
enum frame { FRAME_READ, FRAME_WRITE, FRAME_COMMIT, FRAME_ROLLBACK, FRAME_SAVEPOINT, FRAME_RELEASE, FRAMES };
static const char *const FRAME_SQL[FRAMES] = {"BEGIN", "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK", "SAVEPOINT request", "RELEASE request"};

struct backend_conn {
    sqlite3 *db;
    sqlite3_stmt *frames[FRAMES];
};
struct backend_stmt;

static sqlite3_stmt *raw(struct backend_stmt *s) { return (sqlite3_stmt *)s; }

/* Our code for SQLite's, with its text.  Text of SQLite names tables and columns, never values. */
static int fail(sqlite3 *db, struct err *err, const char *doing) {
    int code = sqlite3_extended_errcode(db);
    switch (code) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID:
        return err_set(err, MUSTER_EEXISTS, "A row like this exists (%s).", sqlite3_errmsg(db));
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        return err_set(err, MUSTER_ENOTFOUND, "What the row refers to does not exist.");
    case SQLITE_CONSTRAINT_CHECK:
    case SQLITE_CONSTRAINT_NOTNULL:
        return err_set(err, MUSTER_EINTERNAL, "A row breaks a rule of the schema (%s).", sqlite3_errmsg(db));
    }
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_retry(err, MUSTER_EBUSY, 1, "The database is busy.");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return err_set(err, MUSTER_ECORRUPT, "The database is damaged (%s).", sqlite3_errmsg(db));
    case SQLITE_NOMEM:
        return err_set(err, MUSTER_ENOMEM, NULL);
    case SQLITE_ERROR:
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
        return err_set(err, MUSTER_EINTERNAL, "SQLite cannot %s: %s.", doing, sqlite3_errmsg(db));
    default:
        return err_set(err, MUSTER_EIO, "SQLite cannot %s: %s (%d).", doing, sqlite3_errmsg(db), code);
    }
}

static int script(struct backend_conn *c, const char *sql, struct err *err) {
    return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(c->db, err, "run a statement");
}

static int run_frame(struct backend_conn *c, enum frame f, struct err *err) {
    if (!c->frames[f] && sqlite3_prepare_v3(c->db, FRAME_SQL[f], -1, SQLITE_PREPARE_PERSISTENT, &c->frames[f], NULL) != SQLITE_OK)
        return fail(c->db, err, "prepare a statement");
    int rc = sqlite3_step(c->frames[f]) == SQLITE_DONE ? 0 : fail(c->db, err, "run a statement");
    sqlite3_reset(c->frames[f]);
    return rc;
}

static void close_conn(struct backend_conn *c) {
    if (!c)
        return;
    for (int f = 0; f < FRAMES; f++)
        sqlite3_finalize(c->frames[f]);
    sqlite3_close(c->db);
    free(c);
}
DEFINE_CLEANUP(close_conn, struct backend_conn *)

/* Made here with its mode, so that -wal and -shm, which take the mode of the database, have it too. */
static int make_file(const char *path, struct err *err) {
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660);
    if (fd < 0)
        return err_set(err, MUSTER_EIO, "%s cannot be opened: %s.", path, strerror(errno));
    return 0;
}

/* The counts of memory that SQLite would keep take a lock at each allocation, and nobody asks for them. */
static void count_no_memory(void) { sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); }

static int open_conn(const struct store_options *o, bool create, bool readonly, struct backend_conn **out, struct err *err) {
    static const char settings[] = "PRAGMA trusted_schema=OFF; PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint=" CHECKPOINT_PAGES ";";
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, count_no_memory);
    CLEANUP(close_conn) struct backend_conn *c = calloc(1, sizeof *c);
    char cache[40];
    int rc, keep = 1;
    if (!c)
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (create && !o->vfs && (rc = make_file(o->path, err)))
        return rc;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | (create && o->vfs ? SQLITE_OPEN_CREATE : 0);
    /* Only where transactions are small: see cache_spill below. */
    const char *over = o->reruns && !readonly && !o->unsafe_no_sync ? gather_over(o->vfs) : NULL, *vfs = over ? over : o->vfs;
    if (sqlite3_open_v2(o->path, &c->db, flags, vfs) != SQLITE_OK)
        return c->db ? fail(c->db, err, "open the database") : err_set(err, MUSTER_ENOMEM, NULL);
    sqlite3_busy_timeout(c->db, BUSY_MS);
    sqlite3_file_control(c->db, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
    if (create && (rc = script(c, "PRAGMA journal_mode=WAL;", err)))
        return rc;
    snprintf(cache, sizeof cache, "PRAGMA cache_size=-%d;", o->cache_kib ? o->cache_kib : 4096);
    if ((rc = script(c, settings, err)) || (rc = script(c, cache, err)) || (rc = script(c, o->unsafe_no_sync ? "PRAGMA synchronous=OFF;" : "PRAGMA synchronous=FULL;", err)))
        return rc;
    /* Frames are held within a commit alone, which ends in a sync or in nothing: those of a transaction that is rolled back must never reach the WAL,
     * where another process may have written its own meanwhile. */
    if (over && (rc = script(c, "PRAGMA cache_spill=OFF;", err)))
        return rc;
    if (readonly && (rc = script(c, "PRAGMA query_only=ON;", err)))
        return rc;
    *out = TAKE(c);
    return 0;
}

static int begin(struct backend_conn *c, bool write, struct err *err) { return run_frame(c, write ? FRAME_WRITE : FRAME_READ, err); }
static int commit(struct backend_conn *c, struct err *err) { return run_frame(c, FRAME_COMMIT, err); }
static void rollback(struct backend_conn *c) {
    struct err ignored = ERR_INIT;
    if (!sqlite3_get_autocommit(c->db) && run_frame(c, FRAME_ROLLBACK, &ignored))
        sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL); /* without what memory may have lacked for */
    gather_forget(c->db);
}
static int savepoint(struct backend_conn *c, struct err *err) { return run_frame(c, FRAME_SAVEPOINT, err); }
static int release(struct backend_conn *c, struct err *err) { return run_frame(c, FRAME_RELEASE, err); }
static int rollback_to(struct backend_conn *c, struct err *err) { return script(c, "ROLLBACK TO request; RELEASE request", err); }
static bool in_transaction(struct backend_conn *c) { return !sqlite3_get_autocommit(c->db); }

static int prepare(struct backend_conn *c, const char *sql, struct backend_stmt **out, struct err *err) {
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL) != SQLITE_OK)
        return fail(c->db, err, "prepare a statement");
    *out = (struct backend_stmt *)s;
    return 0;
}
static void finalize(struct backend_stmt *s) { sqlite3_finalize(raw(s)); }

static int bind(struct backend_stmt *s, int index, enum backend_type type, int64_t number, struct span bytes) {
    int rc = SQLITE_MISUSE;
    const char *p = bytes.n ? (const char *)bytes.p : "";
    switch (type) {
    case BACKEND_NULL:
        rc = sqlite3_bind_null(raw(s), index);
        break;
    case BACKEND_INT:
        rc = sqlite3_bind_int64(raw(s), index, number);
        break;
    case BACKEND_TEXT:
        rc = sqlite3_bind_text64(raw(s), index, p, bytes.n, SQLITE_TRANSIENT, SQLITE_UTF8);
        break;
    case BACKEND_BLOB:
        rc = sqlite3_bind_blob64(raw(s), index, p, bytes.n, SQLITE_TRANSIENT);
        break;
    }
    return rc == SQLITE_OK ? 0 : rc == SQLITE_NOMEM ? MUSTER_ENOMEM : MUSTER_EINTERNAL;
}

static int step(struct backend_conn *c, struct backend_stmt *s, struct err *err) {
    int rc = sqlite3_step(raw(s));
    return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : fail(c->db, err, "run a statement");
}
static void reset(struct backend_stmt *s) {
    sqlite3_reset(raw(s));
    sqlite3_clear_bindings(raw(s)); /* a bound secret is not kept */
}
static enum backend_type column_type(struct backend_stmt *s, int col) {
    switch (sqlite3_column_type(raw(s), col)) {
    case SQLITE_INTEGER:
        return BACKEND_INT;
    case SQLITE_TEXT:
        return BACKEND_TEXT;
    case SQLITE_BLOB:
        return BACKEND_BLOB;
    default:
        return BACKEND_NULL;
    }
}
static int64_t column_int(struct backend_stmt *s, int col) { return sqlite3_column_int64(raw(s), col); }
static struct span column_bytes(struct backend_stmt *s, int col) {
    const void *p = sqlite3_column_blob(raw(s), col);
    return span_of(p, (size_t)sqlite3_column_bytes(raw(s), col));
}
static int64_t changes(struct backend_conn *c) { return sqlite3_changes64(c->db); }
static int64_t written(struct backend_conn *c) { return sqlite3_total_changes64(c->db); }

static int version(struct backend_conn *c, int64_t *out, struct err *err) {
    sqlite3_stmt *s = NULL;
    int rc = 0;
    if (sqlite3_prepare_v2(c->db, "PRAGMA data_version", -1, &s, NULL) != SQLITE_OK || sqlite3_step(s) != SQLITE_ROW)
        rc = fail(c->db, err, "read the version");
    else
        *out = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return rc;
}

const struct store_backend STORE_SQLITE = {
    "sqlite", open_conn, close_conn, script, begin, commit, rollback, savepoint, release, rollback_to, in_transaction,
    prepare, finalize, bind, step, reset, column_type, column_int, column_bytes, changes, written, version,
};
