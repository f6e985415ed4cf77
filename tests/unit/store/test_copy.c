/* Copies of databases while others write them: of one moment, whole, and nobody waits for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/copy.h"

static char dir[64], paths[2][96];
static const char *const both[2] = {paths[0], paths[1]};

static void sql(sqlite3 *db, const char *text) {
    char *why = NULL;
    if (sqlite3_exec(db, text, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", text, why);
}

static sqlite3 *open_one(const char *path) {
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    sql(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;");
    return db;
}

static long long number(sqlite3 *db, const char *text) {
    sqlite3_stmt *s = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    long long n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return n;
}

static int make_dir(void **state) {
    snprintf(dir, sizeof dir, "/tmp/test_copy.XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    for (int i = 0; i < 2; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%d.db", dir, i);
        sqlite3 *db = open_one(paths[i]);
        sql(db, "CREATE TABLE t (k INTEGER PRIMARY KEY, v INTEGER, b BLOB); INSERT INTO t VALUES (1, 0, zeroblob(3000));"
                "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO t SELECT i, 0, zeroblob(3000) FROM n");
        sqlite3_close(db);
    }
    return 0;
}

static size_t files(void) {
    size_t n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
    closedir(d);
    return n;
}

static int remove_dir(void **state) {
    char path[400];
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        unlink(path);
    }
    closedir(d);
    return rmdir(dir);
}

/* The copy as a database. */
static sqlite3 *taken(struct copies *c, size_t i) {
    char path[128];
    int fd = -1;
    int64_t size = 0;
    snprintf(path, sizeof path, "%s/copy%zu.db", dir, i);
    unlink(path);
    assert_int_equal(copies_take(c, i, dir, 0, &fd, &size, NULL, NULL, NULL), 0);
    assert_true(size > 0);
    FILE *out = fopen(path, "w");
    char piece[65536];
    int64_t all = 0;
    for (ssize_t n; (n = read(fd, piece, sizeof piece)) > 0; all += n)
        assert_int_equal(fwrite(piece, 1, (size_t)n, out), n);
    assert_int_equal(all, size);
    fclose(out);
    close(fd);
    assert_int_equal(copy_check(path, NULL), 0);
    return open_one(path);
}

static void a_copy_is_what_was_there_when_it_began(void **state) {
    struct copies *c = NULL;
    assert_int_equal(copies_begin(both, 2, &c, NULL), 0);
    sqlite3 *db = open_one(paths[1]);
    sql(db, "UPDATE t SET v = 7; INSERT INTO t VALUES (9999, 1, zeroblob(100)); PRAGMA wal_checkpoint(PASSIVE)");
    size_t before = files();
    sqlite3 *copy = taken(c, 1);
    assert_int_equal(number(copy, "SELECT count(*) FROM t"), 3000);
    assert_int_equal(number(copy, "SELECT sum(v) FROM t"), 0);
    assert_true(files() > before); /* the one that the test made */
    sqlite3_close(copy);
    copies_end(c);
    assert_int_equal(copies_begin(both, 2, &c, NULL), 0);
    copy = taken(c, 1);
    assert_int_equal(number(copy, "SELECT sum(v) FROM t"), 7 * 3000 + 1);
    sqlite3_close(copy);
    copies_end(c);
    sqlite3_close(db);
}

static void nothing_is_left_of_a_copy(void **state) {
    struct copies *c = NULL;
    int fd = -1;
    int64_t size;
    assert_int_equal(copies_begin(both, 2, &c, NULL), 0);
    size_t before = files();
    assert_int_equal(copies_take(c, 0, dir, 0, &fd, &size, NULL, NULL, NULL), 0);
    assert_int_equal(files(), before);
    close(fd);
    copies_end(c);
}

static int frames_that_stay(sqlite3 *db) {
    int log = -1, done = -1;
    for (int k = 0; k < 20; k++)
        sql(db, "UPDATE t SET v = v + 1");
    int rc = sqlite3_wal_checkpoint_v2(db, "main", SQLITE_CHECKPOINT_TRUNCATE, &log, &done);
    return rc == SQLITE_OK ? log : -1;
}

/* What is left to be done with a copy may take hours: the server's log must not grow by all that is written meanwhile. */
static void a_copy_that_was_taken_holds_no_log(void **state) {
    struct copies *c = NULL;
    int fd[2] = {-1, -1};
    int64_t size;
    sqlite3 *db[2] = {open_one(paths[0]), open_one(paths[1])};
    assert_int_equal(copies_begin(both, 2, &c, NULL), 0);
    sqlite3_busy_timeout(db[1], 200);
    assert_int_equal(copies_take(c, 0, dir, 0, &fd[0], &size, NULL, NULL, NULL), 0);
    assert_int_equal(frames_that_stay(db[0]), 0);
    assert_int_equal(frames_that_stay(db[1]), -1); /* it is held, or the above would say nothing */
    assert_int_equal(copies_take(c, 1, dir, 0, &fd[1], &size, NULL, NULL, NULL), 0);
    assert_int_equal(frames_that_stay(db[1]), 0);
    for (int i = 0; i < 2; i++) {
        close(fd[i]);
        sqlite3_close(db[i]);
    }
    copies_end(c);
}

static void a_copy_leaves_room_to_the_server(void **state) {
    struct copies *c = NULL;
    struct err err = ERR_INIT;
    int fd = -1;
    int64_t size;
    assert_int_equal(copies_begin(both, 2, &c, NULL), 0);
    size_t before = files();
    assert_int_equal(copies_take(c, 0, dir, UINT64_MAX / 2, &fd, &size, NULL, NULL, &err), MUSTER_EIO);
    assert_non_null(strstr(err.text, "are free"));
    assert_int_equal(fd, -1);
    assert_int_equal(files(), before);
    copies_end(c);
}

/* First the one, then the other, as a deed that takes both: the second is never ahead. */
static atomic_bool stop;
static _Atomic int64_t longest;

static void *writer(void *arg) {
    sqlite3 *a = open_one(paths[0]), *b = open_one(paths[1]);
    while (!atomic_load(&stop)) {
        int64_t from = clock_mono_ms();
        sql(a, "UPDATE t SET v = v + 1 WHERE k = 1");
        sql(b, "UPDATE t SET v = v + 1 WHERE k = 1");
        int64_t took = clock_mono_ms() - from;
        if (took > atomic_load(&longest))
            atomic_store(&longest, took);
    }
    sqlite3_close(a);
    sqlite3_close(b);
    return NULL;
}

static void databases_are_copied_of_one_moment_under_their_writers(void **state) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, writer, NULL), 0);
    for (int i = 0; i < 10; i++) {
        struct copies *c = NULL;
        assert_int_equal(copies_begin(both, 2, &c, NULL), 0);
        sqlite3 *first = taken(c, 0), *second = taken(c, 1);
        long long ahead = number(first, "SELECT v FROM t WHERE k = 1") - number(second, "SELECT v FROM t WHERE k = 1");
        assert_true(ahead == 0 || ahead == 1);
        sqlite3_close(first);
        sqlite3_close(second);
        copies_end(c);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    assert_true(atomic_load(&longest) < 5000); /* no writer ran into its own deadline */
}

/* The second lock is not to be had for a while: whoever writes the first database goes on meanwhile. */
static void *holder(void *arg) {
    sqlite3 *b = open_one(paths[1]);
    sql(b, "BEGIN IMMEDIATE");
    atomic_store(&stop, false);
    sqlite3_sleep(2000);
    sql(b, "ROLLBACK");
    atomic_store(&stop, true);
    sqlite3_close(b);
    return NULL;
}

static void *one_writer(void *arg) {
    sqlite3 *a = open_one(paths[0]);
    sqlite3_busy_timeout(a, 4 * COPY_HOLD_MS);
    int *written = arg;
    while (!atomic_load(&stop)) {
        sql(a, "UPDATE t SET v = v + 1 WHERE k = 1");
        ++*written;
        sqlite3_sleep(5);
    }
    sqlite3_close(a);
    return NULL;
}

static void nobody_waits_long_for_a_moment_that_does_not_come(void **state) {
    struct copies *c = NULL;
    pthread_t holds, writes;
    int written = 0;
    atomic_store(&stop, true);
    assert_int_equal(pthread_create(&holds, NULL, holder, NULL), 0);
    while (atomic_load(&stop))
        sqlite3_sleep(1);
    assert_int_equal(pthread_create(&writes, NULL, one_writer, &written), 0);
    int64_t from = clock_mono_ms();
    assert_int_equal(copies_begin(both, 2, &c, NULL), 0);
    assert_true(clock_mono_ms() - from > 500); /* it did have to wait */
    pthread_join(holds, NULL);
    pthread_join(writes, NULL);
    assert_true(written > 5);
    copies_end(c);
}

static void a_damaged_database_is_found(void **state) {
    char path[128];
    struct copies *c = NULL;
    assert_int_equal(copies_begin(both, 2, &c, NULL), 0);
    sqlite3_close(taken(c, 0));
    copies_end(c);
    snprintf(path, sizeof path, "%s/copy0.db", dir);
    int fd = open(path, O_RDWR);
    char junk[4096];
    memset(junk, 0x5a, sizeof junk);
    assert_int_equal(pwrite(fd, junk, sizeof junk, 4096), sizeof junk);
    close(fd);
    assert_int_equal(copy_check(path, NULL), MUSTER_ECORRUPT);
    unlink(path);
    assert_true(copy_check(path, NULL) < 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_copy_is_what_was_there_when_it_began, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(nothing_is_left_of_a_copy, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_copy_that_was_taken_holds_no_log, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_copy_leaves_room_to_the_server, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(databases_are_copied_of_one_moment_under_their_writers, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(nobody_waits_long_for_a_moment_that_does_not_come, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_damaged_database_is_found, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
