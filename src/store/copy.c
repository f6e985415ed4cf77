/* copy: see copy.h.  SQLite's own backup, of a read transaction that is held: each page as the transaction sees it.
 *
 * It goes into a file beside the databases first and not to whoever takes the copy: he may be slow, and while he reads no frame of the WAL
 * could be used again.  The file has lost its name before anything is in it: who is killed in that moment leaves an empty file, and the next copy takes it away. */
#include "store/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/clock.h"

#define WAIT_MS 30000
#define PAUSE_MS 250 /* longer than SQLite's own waiting sleeps (100 ms), so that whoever waits for a lock that was let go gets it */
#define PAGES_A_STEP 2048
#define NAME ".copy-"
#define LEFT_S 60 /* a name lasts for milliseconds */

struct copies {
    sqlite3 *lock[COPY_MAX], *read[COPY_MAX];
    size_t n;
};

DEFINE_CLEANUP(sqlite3_close, sqlite3 *)
DEFINE_CLEANUP(closedir, DIR *)

static int fail(sqlite3 *db, struct err *err, const char *doing) {
    int code = db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM;
    if ((code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB)
        return err_set(err, MUSTER_ECORRUPT, "The database is damaged (%s).", sqlite3_errmsg(db));
    return err_set(err, code == SQLITE_NOMEM ? MUSTER_ENOMEM : MUSTER_EIO, "SQLite cannot %s: %s.", doing, db ? sqlite3_errmsg(db) : "out of memory");
}

static int run(sqlite3 *db, const char *sql) { return sqlite3_exec(db, sql, NULL, NULL, NULL); }

/* The files -wal and -shm stay, as the server wants them. */
static int open_one(const char *path, sqlite3 **out, struct err *err) {
    CLEANUP(sqlite3_close) sqlite3 *db = NULL;
    int keep = 1;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL) != SQLITE_OK)
        return fail(db, err, "open the database");
    sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
    if (run(db, "PRAGMA trusted_schema=OFF") != SQLITE_OK) /* that of a restored file is whoever's made the file */
        return fail(db, err, "set up the database");
    *out = TAKE(db);
    return 0;
}

void copies_end(struct copies *c) {
    if (!c)
        return;
    for (size_t i = 0; i < c->n; i++) {
        sqlite3_close(c->lock[i]);
        sqlite3_close(c->read[i]);
    }
    free(c);
}

static void unlock(struct copies *c) {
    for (size_t i = 0; i < c->n; i++)
        if (!sqlite3_get_autocommit(c->lock[i]))
            run(c->lock[i], "ROLLBACK");
}

static void forget(struct copies *c) {
    for (size_t i = 0; i < c->n; i++)
        if (!sqlite3_get_autocommit(c->read[i]))
            run(c->read[i], "ROLLBACK");
}

/* All write locks, and under them a read of each.  The first lock is waited for as long as it takes: nobody waits for us then.  SQLITE_BUSY. */
static int moment(struct copies *c) {
    int rc = SQLITE_OK;
    for (size_t i = 0; i < c->n && rc == SQLITE_OK; i++) {
        sqlite3_busy_timeout(c->lock[i], i ? COPY_HOLD_MS / (int)c->n : WAIT_MS / 4);
        rc = run(c->lock[i], "BEGIN IMMEDIATE");
    }
    for (size_t i = 0; i < c->n && rc == SQLITE_OK; i++)
        if ((rc = run(c->read[i], "BEGIN")) == SQLITE_OK)
            rc = run(c->read[i], "SELECT COUNT(*) FROM sqlite_master");
    unlock(c);
    if (rc != SQLITE_OK)
        forget(c);
    return rc;
}

int copies_begin(const char *const *paths, size_t n, struct copies **out, struct err *err) {
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    CLEANUP(copies_end) struct copies *c = n && n <= COPY_MAX ? calloc(1, sizeof *c) : NULL;
    if (!c)
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (size_t i = 0; i < n; i++) {
        c->n = i + 1;
        int rc = open_one(paths[i], &c->lock[i], err);
        if (rc || (rc = open_one(paths[i], &c->read[i], err)))
            return rc;
    }
    for (int64_t until = clock_mono_ms() + WAIT_MS;;) {
        int rc = moment(c);
        if (rc == SQLITE_OK)
            break;
        if ((rc & 0xff) != SQLITE_BUSY)
            return err_set(err, MUSTER_EIO, "The databases cannot be read: %s.", sqlite3_errstr(rc));
        if (clock_mono_ms() >= until)
            return err_retry(err, MUSTER_EBUSY, 1, "The databases are written without a pause, and the moment for a copy did not come in %d seconds.", WAIT_MS / 1000);
        nanosleep(&pause, NULL);
    }
    *out = TAKE(c);
    return 0;
}

/* Names of copies whose makers were killed. */
static void sweep(const char *dir) {
    CLEANUP(closedir) DIR *d = opendir(dir);
    struct stat st;
    for (struct dirent *e; d && (e = readdir(d));)
        if (strncmp(e->d_name, NAME, sizeof NAME - 1) == 0 && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && time(NULL) - st.st_mtime > LEFT_S)
            unlinkat(dirfd(d), e->d_name, 0);
}

/* A file that SQLite has open under a name that is gone. */
static int open_nameless(const char *dir, int *fd, sqlite3 **db, struct err *err) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/" NAME "XXXXXX", dir) >= (int)sizeof path)
        return err_set(err, MUSTER_EINVALID, "The path of the data directory is too long.");
    sweep(dir);
    CLEANUP(fd_close) int made = mkostemp(path, O_CLOEXEC);
    if (made < 0)
        return err_set(err, MUSTER_EIO, "No file can be made in %s: %s.", dir, strerror(errno));
    CLEANUP(sqlite3_close) sqlite3 *to = NULL;
    int rc = sqlite3_open_v2(path, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (rc == SQLITE_OK) /* opens the file, which SQLite would do at its first use */
        rc = run(to, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN IMMEDIATE; COMMIT");
    unlink(path);
    if (rc != SQLITE_OK)
        return fail(to, err, "make a copy");
    *fd = TAKE_FD(made);
    *db = TAKE(to);
    return 0;
}

static int copy_pages(sqlite3 *to, sqlite3 *from, copy_progress_fn progress, void *arg) {
    sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
    int rc = SQLITE_OK;
    while (b && rc == SQLITE_OK) {
        rc = sqlite3_backup_step(b, PAGES_A_STEP);
        if (progress)
            progress(arg, sqlite3_backup_pagecount(b) - sqlite3_backup_remaining(b), sqlite3_backup_pagecount(b));
    }
    int end = b ? sqlite3_backup_finish(b) : sqlite3_extended_errcode(to);
    return rc == SQLITE_DONE ? end : rc != SQLITE_OK ? rc : end;
}

static int number(sqlite3 *db, const char *sql, uint64_t *out) {
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW)
        *out = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return rc;
}

/* A server whose disk is full admits nobody for the first time: that must not come of a backup. */
static int look_for_room(sqlite3 *db, const char *dir, uint64_t spare, struct err *err) {
    uint64_t pages, page;
    struct statvfs fs;
    if (number(db, "PRAGMA page_count", &pages) != SQLITE_ROW || number(db, "PRAGMA page_size", &page) != SQLITE_ROW)
        return fail(db, err, "say how long the database is");
    if (statvfs(dir, &fs))
        return err_set(err, MUSTER_EIO, "How much room there is in %s cannot be found out: %s.", dir, strerror(errno));
    uint64_t have = (uint64_t)fs.f_bavail * fs.f_frsize, need = pages * page + spare;
    if (have >= need)
        return 0;
    return err_set(err, MUSTER_EIO, "A copy of the database needs %llu bytes in %s, %llu of them so that the server can go on, and %llu are free.", (unsigned long long)need, dir,
                   (unsigned long long)spare, (unsigned long long)have);
}

int copies_take(struct copies *c, size_t i, const char *dir, uint64_t spare, int *fd, int64_t *size, copy_progress_fn progress, void *arg, struct err *err) {
    CLEANUP(fd_close) int copy = -1;
    CLEANUP(sqlite3_close) sqlite3 *to = NULL;
    struct stat st;
    int rc = look_for_room(c->read[i], dir, spare, err);
    if (rc || (rc = open_nameless(dir, &copy, &to, err)))
        return rc;
    if ((rc = copy_pages(to, c->read[i], progress, arg)) != SQLITE_OK)
        return err_set(err, rc == SQLITE_NOMEM ? MUSTER_ENOMEM : MUSTER_EIO, "The database cannot be copied: %s.", sqlite3_errstr(rc));
    if (fstat(copy, &st) || lseek(copy, 0, SEEK_SET))
        return err_set(err, MUSTER_EIO, "The copy of a database cannot be read: %s.", strerror(errno));
    run(c->read[i], "ROLLBACK"); /* or no frame of the WAL is used again, for as long as the copy is read */
    *size = (int64_t)st.st_size;
    *fd = TAKE_FD(copy);
    return 0;
}

int copy_check(const char *path, struct err *err) {
    CLEANUP(sqlite3_close) sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    int rc = open_one(path, &db, err);
    if (rc)
        return rc;
    if (sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &s, NULL) != SQLITE_OK || sqlite3_step(s) != SQLITE_ROW)
        rc = fail(db, err, "check the database");
    else if (strcmp((const char *)sqlite3_column_text(s, 0), "ok") != 0)
        rc = err_set(err, MUSTER_ECORRUPT, "The database is damaged: %s", sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    return rc;
}
