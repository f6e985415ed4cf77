/* store: one database: its writer thread with group commit, its reader threads, and transactions.
 *
 * An operation is a function `run(tx, arg, err)` on a store thread.  It loads facts, lets a pure function of registry/ decide, and
 * applies the verdict, all in one transaction; it may run again (a batch that failed is rolled back whole), so it must write its
 * results to *arg afresh each time and touch nothing else.  Its `done` is posted back to the loop that asked, exactly once, and for
 * a write only after the commit is durable (WAL, synchronous=FULL).
 *
 * Group commit: whatever queued while the last sync ran, or within a few milliseconds of the batch before, is committed together.  What a run
 * wrote that returns an error is rolled back, and the others go on.  On a storage error the whole batch failed, and every request in it is
 * answered with it, none as done. */
#ifndef MUSTER_STORE_STORE_H
#define MUSTER_STORE_STORE_H

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/uuid.h"
#include "loop/loop.h"

struct store;
struct store_tx;

typedef int (*store_run_fn)(struct store_tx *tx, void *arg, struct err *err);
typedef void (*store_done_fn)(void *arg, int rc, const struct err *err);

struct store_migration { int number; const char *sql; }; /* 1, 2, 3 …, applied in order at open, each in a transaction */
struct store_statement { const char *sql; };             /* SQL that SQLite and PostgreSQL both read; parameters ?1 ?2 … */

struct store_options {
    const char *path;
    const char *vfs;                     /* NULL: the default one (tests of power cuts use their own) */
    const struct store_migration *migrations;
    size_t n_migrations;
    const struct store_statement *statements; /* prepared on first use by each connection; index = the number given to store_query */
    size_t n_statements;
    int readers;                         /* reader threads; 0: reads run on the writer's thread */
    size_t queue_max;                    /* jobs waiting; above: MUSTER_EBUSY */
    int cache_kib;                       /* pages that each connection keeps in memory, at most; 0: 4096 */
    bool reruns;                         /* every write may be run twice: batches do without savepoints, and are run again with them where one was refused */
    bool unsafe_no_sync;                 /* tests only: shows that the promises rest on the syncs */
    void (*committed)(void);             /* on the writer's thread behind each commit, before its answers; NULL: nothing */
    bool migrate;                        /* false: a schema older than the newest migration is MUSTER_EVERSION (children); a newer one always is */
};

int store_open(const struct store_options *o, struct store **out, struct err *err) MUSTER_MUST_CHECK;
/* Runs what is queued and ends the threads; what is asked for from then on is refused (MUSTER_EUNAVAILABLE).  The answers of what ran
 * are posts on their loops: loop_flush() them before store_close(). */
void store_stop(struct store *s);
/* store_stop, and closes. */
void store_close(struct store *s);
/* Queues a job.  `arg` must live until done; done may be NULL (then arg is done with when run has been committed: fire and forget, arg must be static or NULL).
 * From any thread. */
int store_write(struct store *s, struct loop *reply, store_run_fn run, store_done_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;
int store_read(struct store *s, struct loop *reply, store_run_fn run, store_done_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;
/* A read that a write of the same caller is to follow, as an enrolment's first look: on the writer's thread, before its next batch, in a
 * transaction that cannot write.  It waits for a commit that is under way and costs less than store_read(): the writer has in memory the
 * pages that these operations go to, and every commit makes all readers forget theirs. */
int store_look(struct store *s, struct loop *reply, store_run_fn run, store_done_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;
/* store_write and store_read, waiting for the result on the calling thread (start-up, command line, tests). */
int store_write_now(struct store *s, store_run_fn run, void *arg, struct err *err) MUSTER_MUST_CHECK;
int store_read_now(struct store *s, store_run_fn run, void *arg, struct err *err) MUSTER_MUST_CHECK;
/* Whether the last write reached the disk, for health: 0 or the code of the last storage error since.  While it did not, one is tried each
 * second by itself. */
int store_health(struct store *s);
/* A number that changes when any process has committed to the database (PRAGMA data_version and own commits); cheap; called from any thread. */
int store_version(struct store *s, int64_t *version, struct err *err) MUSTER_MUST_CHECK;

/* Inside run(): one statement at a time per row cursor; nested cursors of different statements are fine. */
struct store_row;
/* Starts statement `number` and binds by fmt: i int64_t, s const char * (NULL: SQL NULL), b struct span (blob; .p NULL: SQL NULL),
 * t struct span (text), u const struct uuid * (blob; NULL: SQL NULL), r int64_t (the number of a row that is referred to; 0: SQL NULL),
 * n (nothing: SQL NULL). */
int store_query(struct store_tx *tx, struct store_row **row, struct err *err, int number, const char *fmt, ...) MUSTER_MUST_CHECK;
int store_vquery(struct store_tx *tx, struct store_row **row, struct err *err, int number, const char *fmt, va_list ap) MUSTER_MUST_CHECK;
/* 1: a row is there, 0: no more, <0: error. */
int store_next(struct store_row *row, struct err *err) MUSTER_MUST_CHECK;
int64_t store_int(struct store_row *row, int col);
struct span store_text(struct store_row *row, int col); /* valid until the next store_next or the row's end */
struct span store_blob(struct store_row *row, int col);
bool store_is_null(struct store_row *row, int col);
int store_uuid(struct store_row *row, int col, struct uuid *out); /* MUSTER_ECORRUPT unless 16 bytes; NULL gives nil */
void store_row_end(struct store_row *row); /* NULL accepted */
/* A statement without rows; *changed (NULL accepted): rows changed.  MUSTER_EEXISTS on a uniqueness violation, MUSTER_ENOTFOUND on a foreign key's. */
int store_exec(struct store_tx *tx, int64_t *changed, struct err *err, int number, const char *fmt, ...) MUSTER_MUST_CHECK;
/* Whether this transaction may write. */
bool store_writable(const struct store_tx *tx);

DEFINE_CLEANUP(store_row_end, struct store_row *)

#endif
