/* What is held for the WAL: it is on the disk where a commit has returned, and never where a transaction was rolled back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/gather.h"

#define ROWS 400 /* of nearly a page each; the cache has 100 pages */

static char dir[64], path[80];

static void sql(sqlite3 *db, const char *text) {
    char *why = NULL;
    if (sqlite3_exec(db, text, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", text, why);
}

static sqlite3 *open_one(bool gathers) {
    sqlite3 *db = NULL;
    const char *vfs = gathers ? gather_over(NULL) : NULL;
    assert_true(!gathers || vfs);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, vfs), SQLITE_OK);
    sql(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=100;");
    return db;
}

static int number(sqlite3 *db, const char *text) {
    sqlite3_stmt *s = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int n = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return n;
}

static void fill(sqlite3 *db) {
    char text[200];
    sql(db, "CREATE TABLE t (k INTEGER PRIMARY KEY, v INTEGER, b BLOB); CREATE TABLE u (k INTEGER PRIMARY KEY, v TEXT); BEGIN");
    for (int i = 0; i < ROWS; i++) {
        snprintf(text, sizeof text, "INSERT INTO t VALUES (%d, 0, zeroblob(3500))", i);
        sql(db, text);
    }
    sql(db, "COMMIT");
}

static void a_commit_is_there_for_everybody(void **state) {
    sqlite3 *a = open_one(true), *plain = open_one(false);
    fill(a);
    assert_int_equal(number(plain, "SELECT count(*) FROM t"), ROWS);
    sql(a, "UPDATE t SET v = 1");
    assert_int_equal(number(plain, "SELECT sum(v) FROM t"), ROWS);
    sqlite3_close(a);
    sqlite3_close(plain);
}

/* Spilled, rolled back, and then somebody else's commit at the same place of the WAL. */
static void what_is_rolled_back_overwrites_nobody(void **state) {
    sqlite3 *a = open_one(true), *b = open_one(true);
    char text[200];
    for (int many = 80; many < 140; many++) {
        sql(a, "PRAGMA wal_checkpoint(TRUNCATE)"); /* so that rows are read from the database, and nothing from the WAL */
        snprintf(text, sizeof text, "BEGIN IMMEDIATE; UPDATE t SET v = 2 WHERE k < %d; ROLLBACK", many);
        sql(a, text);
        gather_forget(a);
        snprintf(text, sizeof text, "INSERT INTO u VALUES (%d, 'theirs')", 2 * many);
        sql(b, text);
        snprintf(text, sizeof text, "INSERT INTO u VALUES (%d, 'ours')", 2 * many + 1);
        sql(a, text);
        assert_int_equal(number(b, "SELECT count(*) FROM u"), 2 * (many - 79));
        assert_int_equal(number(b, "SELECT count(*) FROM t WHERE v = 2"), 0);
        assert_int_equal(number(b, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
    }
    sqlite3_close(a);
    sqlite3_close(b);
}

static int begin(void **state) {
    snprintf(dir, sizeof dir, "/tmp/muster-gather-XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    snprintf(path, sizeof path, "%s/t.db", dir);
    return 0;
}

static int end(void **state) {
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        unlink(name);
    }
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_commit_is_there_for_everybody), cmocka_unit_test(what_is_rolled_back_overwrites_nobody)};
    return cmocka_run_group_tests(tests, begin, end);
}
