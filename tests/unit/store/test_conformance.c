/* What every backend of the store has to keep: the promises of store.h, and nothing of SQLite. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "store/store.h"

enum { PUT, GET, COUNT, CHILD, ALL, TOUCH };
static const struct store_statement STATEMENTS[] = {
    [PUT] = {"INSERT INTO item (k, v, b, u) VALUES (?1, ?2, ?3, ?4)"},
    [GET] = {"SELECT v, b, u FROM item WHERE k = ?1"},
    [COUNT] = {"SELECT count(*) FROM item"},
    [CHILD] = {"INSERT INTO child (k) VALUES (?1)"},
    [ALL] = {"SELECT k FROM item ORDER BY k"},
    [TOUCH] = {"UPDATE item SET v = v + 1 WHERE k = ?1"},
};
static const struct store_migration MIGRATIONS[] = {
    {1, "CREATE TABLE item (k TEXT PRIMARY KEY, v INTEGER NOT NULL, b BLOB, u BLOB)"},
    {2, "CREATE TABLE child (k TEXT NOT NULL REFERENCES item(k))"},
};
static char dir[64], path[80];
static struct store_options options = {.path = path, .migrations = MIGRATIONS, .n_migrations = 2, .statements = STATEMENTS, .n_statements = 6,
                                       .readers = 2, .queue_max = 1000, .migrate = true};
static struct store *s;

struct put { const char *k; int64_t v; int fail_with; int runs; int rc; };

static int put(struct store_tx *tx, void *arg, struct err *err) {
    struct put *p = arg;
    struct uuid u = {{1, 2, 3}};
    p->runs++;
    int rc = store_exec(tx, NULL, err, PUT, "sibu", p->k, p->v, SPAN_LIT("\0\xff"), &u);
    return rc ? rc : p->fail_with ? err_set(err, p->fail_with, NULL) : 0;
}

static int get(struct store_tx *tx, void *arg, struct err *err) {
    struct put *p = arg;
    struct store_row *row;
    struct uuid u;
    int rc = store_query(tx, &row, err, GET, "s", p->k);
    if (rc || (rc = store_next(row, err)) < 0)
        return rc;
    if (rc == 0)
        return err_set(err, MUSTER_ENOTFOUND, NULL); /* the row stays open: the engine ends it */
    p->v = store_int(row, 0);
    assert_true(span_eq(store_blob(row, 1), SPAN_LIT("\0\xff")));
    assert_int_equal(store_uuid(row, 2, &u), 0);
    assert_int_equal(u.b[1], 2);
    store_row_end(row);
    return 0;
}

static int count(struct store_tx *tx, void *arg, struct err *err) {
    struct store_row *row;
    int rc = store_query(tx, &row, err, COUNT, "");
    if (rc || (rc = store_next(row, err)) < 0)
        return rc;
    *(int64_t *)arg = store_int(row, 0);
    store_row_end(row);
    return 0;
}

static void a_row_comes_back(void **state) {
    struct put p = {"a", INT64_MIN, 0, 0, 0}, q = {"a", 0, 0, 0, 0}, none = {"nix", 0, 0, 0, 0};
    struct err e = ERR_INIT;
    assert_int_equal(store_write_now(s, put, &p, &e), 0);
    assert_int_equal(store_read_now(s, get, &q, &e), 0);
    assert_true(q.v == INT64_MIN);
    assert_int_equal(store_read_now(s, get, &none, &e), MUSTER_ENOTFOUND);
    assert_int_equal(e.code, MUSTER_ENOTFOUND);
    assert_int_equal(store_read_now(s, get, &none, &e), MUSTER_ENOTFOUND); /* though the row was left open */
}

static int orphan(struct store_tx *tx, void *arg, struct err *err) { return store_exec(tx, NULL, err, CHILD, "s", "nobody"); }

static void constraints_have_codes(void **state) {
    struct put p = {"a", 1, 0, 0, 0};
    assert_int_equal(store_write_now(s, put, &p, NULL), MUSTER_EEXISTS);
    assert_int_equal(store_write_now(s, orphan, NULL, NULL), MUSTER_ENOTFOUND);
}

static void readers_do_not_write(void **state) {
    struct put p = {"r", 1, 0, 0, 0};
    int64_t n;
    assert_int_equal(store_read_now(s, put, &p, NULL), MUSTER_EINTERNAL);
    assert_int_equal(store_read_now(s, count, &n, NULL), 0);
    assert_true(n == 1);
}

static int nested(struct store_tx *tx, void *arg, struct err *err) {
    struct store_row *all;
    int rc = store_query(tx, &all, err, ALL, ""), n = 0;
    if (rc)
        return rc;
    while ((rc = store_next(all, err)) == 1) {
        struct store_row *again;
        struct put p = {"a", 0, 0, 0, 0};
        assert_int_equal(store_query(tx, &again, err, ALL, ""), MUSTER_EINTERNAL); /* the same statement twice */
        if ((rc = get(tx, &p, err)))
            return rc;
        n++;
    }
    *(int *)arg = n;
    return rc;
}

static void cursors_nest(void **state) {
    int n = 0;
    assert_int_equal(store_read_now(s, nested, &n, NULL), 0);
    assert_int_equal(n, 1);
}

/* Sixteen requests that are sure to meet in batches: one is refused, fifteen stay, each is answered once on the loop that asked. */
static struct loop *l;
static int answers;
static struct put many[16];
static void answered(void *arg, int rc, const struct err *err) {
    struct put *p = arg;
    assert_ptr_equal(loop_current(), l);
    p->rc = rc;
    assert_int_equal(err->code, rc);
    if (++answers == 16)
        loop_stop(l);
}

static void a_refused_request_harms_no_other(void **state) {
    static const char *const keys[] = {"m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9", "m10", "m11", "m12", "m13", "m14", "m15"};
    int64_t before, after;
    l = loop_new(NULL);
    assert_int_equal(store_read_now(s, count, &before, NULL), 0);
    for (int i = 0; i < 16; i++) {
        many[i] = (struct put){keys[i], i, i == 7 ? MUSTER_EREVOKED : 0, 0, 1};
        assert_int_equal(store_write(s, l, put, answered, &many[i], NULL), 0);
    }
    loop_run(l);
    loop_free(l);
    int again = 0;
    for (int i = 0; i < 16; i++) {
        assert_int_equal(many[i].rc, i == 7 ? MUSTER_EREVOKED : 0);
        again += many[i].runs > 1;
    }
    assert_true(options.reruns || !again); /* only where it was said that they may */
    assert_int_equal(store_read_now(s, count, &after, NULL), 0);
    assert_true(after == before + 15);
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static int held(struct store_tx *tx, void *arg, struct err *err) {
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return 0;
}

static void a_full_queue_says_busy(void **state) {
    struct err e = ERR_INIT;
    int accepted = 0;
    pthread_mutex_lock(&gate);
    l = loop_new(NULL);
    while (accepted < 5000 && store_write(s, l, held, NULL, NULL, &e) == 0)
        accepted++;
    assert_in_range(accepted, 1000, 1000 + 256);
    assert_int_equal(e.code, MUSTER_EBUSY);
    assert_true(e.retry_after >= 1);
    pthread_mutex_unlock(&gate);
    while (store_write_now(s, held, NULL, NULL) == MUSTER_EBUSY)
        usleep(1000);
    loop_free(l);
}

/* What is asked of the writer's thread: in the order of the answers. */
struct asked { int64_t found; int rc, place; };
static int places;
static void placed(void *arg, int rc, const struct err *err) {
    struct asked *a = arg;
    assert_ptr_equal(loop_current(), l);
    a->rc = rc;
    a->place = ++places;
    if (places == 4)
        loop_stop(l);
}
static int look_count(struct store_tx *tx, void *arg, struct err *err) {
    assert_false(store_writable(tx));
    return count(tx, &((struct asked *)arg)->found, err);
}
static int put_looked(struct store_tx *tx, void *arg, struct err *err) {
    struct put p = {"looked", 1, 0, 0, 0};
    return put(tx, &p, err);
}

static void looks_go_before_the_batch_and_write_nothing(void **state) {
    struct asked write = {0}, first = {0}, forbidden = {0}, second = {0};
    int64_t before, after;
    assert_int_equal(store_read_now(s, count, &before, NULL), 0);
    places = 0;
    l = loop_new(NULL);
    pthread_mutex_lock(&gate);
    assert_int_equal(store_write(s, l, held, NULL, NULL, NULL), 0); /* what follows is taken together, or behind a write that was taken */
    assert_int_equal(store_write(s, l, put_looked, placed, &write, NULL), 0);
    assert_int_equal(store_look(s, l, look_count, placed, &first, NULL), 0);
    assert_int_equal(store_look(s, l, put_looked, placed, &forbidden, NULL), 0);
    assert_int_equal(store_look(s, l, look_count, placed, &second, NULL), 0);
    pthread_mutex_unlock(&gate);
    loop_run(l);
    loop_free(l);
    assert_int_equal(write.rc, 0);
    assert_int_equal(forbidden.rc, MUSTER_EINTERNAL);
    assert_int_equal(first.rc | second.rc, 0);
    assert_true(first.place < forbidden.place && forbidden.place < second.place); /* in the order in which they came */
    assert_true(first.found == before + (write.place < first.place)); /* of what is committed, all; of what is not, nothing */
    assert_int_equal(store_read_now(s, count, &after, NULL), 0);
    assert_true(after == before + 1);
}

static void the_version_tells_of_commits(void **state) {
    int64_t a, b, c;
    struct put p = {"version", 1, 0, 0, 0};
    assert_int_equal(store_version(s, &a, NULL), 0);
    assert_int_equal(store_version(s, &b, NULL), 0);
    assert_true(a == b);
    assert_int_equal(store_write_now(s, put, &p, NULL), 0);
    assert_int_equal(store_version(s, &c, NULL), 0);
    assert_true(c != b);
}

static void what_was_written_is_there_after_reopening(void **state) {
    struct put q = {"a", 0, 0, 0, 0};
    struct store_options child = options;
    store_close(s);
    child.migrate = false;
    assert_int_equal(store_open(&child, &s, NULL), 0);
    assert_int_equal(store_read_now(s, get, &q, NULL), 0);
    store_close(s);
    s = NULL;
    assert_int_equal(store_open(&options, &s, NULL), 0);
}

static void migrations_are_checked(void **state) {
    static const struct store_migration changed[] = {{1, "CREATE TABLE item (k TEXT)"}, {2, "CREATE TABLE child (k TEXT)"}};
    const struct store_migration newer[] = {MIGRATIONS[0], MIGRATIONS[1], {3, "CREATE TABLE third (k TEXT)"}};
    const struct store_migration broken[] = {MIGRATIONS[0], MIGRATIONS[1], {3, "CREATE TABLE third (k TEXT); NONSENSE"}};
    struct store_options o = options;
    struct store *t = NULL;
    struct err e = ERR_INIT;
    o.migrations = changed;
    assert_int_equal(store_open(&o, &t, &e), MUSTER_EVERSION);
    o.n_migrations = 1;
    o.migrations = MIGRATIONS; /* the database is newer than the program */
    assert_int_equal(store_open(&o, &t, &e), MUSTER_EVERSION);
    o.n_migrations = 3;
    o.migrations = newer;
    o.migrate = false;
    assert_int_equal(store_open(&o, &t, &e), MUSTER_EVERSION);
    o.migrate = true;
    o.migrations = broken;
    assert_int_not_equal(store_open(&o, &t, &e), 0);
    o.migrations = newer; /* nothing of the broken one is left */
    assert_int_equal(store_open(&o, &t, &e), 0);
    store_close(t);
}

/* One whose refusal comes in front of all it would have written. */
static int refused(struct store_tx *tx, void *arg, struct err *err) {
    ++*(int *)arg;
    return err_set(err, MUSTER_EREVOKED, NULL);
}

static void who_wrote_nothing_has_nobody_run_again(void **state) {
    struct put first = {"before", 1, 0, 0, 1}, second = {"behind", 2, 0, 0, 1};
    int runs = 0;
    answers = 14;
    l = loop_new(NULL);
    pthread_mutex_lock(&gate);
    assert_int_equal(store_write(s, l, held, NULL, NULL, NULL), 0);
    assert_int_equal(store_write(s, l, put, answered, &first, NULL), 0);
    assert_int_equal(store_write(s, l, refused, NULL, &runs, NULL), 0);
    assert_int_equal(store_write(s, l, put, answered, &second, NULL), 0);
    pthread_mutex_unlock(&gate);
    loop_run(l);
    loop_free(l);
    assert_int_equal(first.rc | second.rc, 0);
    assert_int_equal(first.runs, 1);
    assert_int_equal(second.runs, 1);
    assert_int_equal(runs, 1);
}

static void alone_it_is_rolled_back(void **state) {
    struct put p = {"alone", 1, MUSTER_EREVOKED, 0, 0};
    int64_t before, after;
    assert_int_equal(store_read_now(s, count, &before, NULL), 0);
    assert_int_equal(store_write_now(s, put, &p, NULL), MUSTER_EREVOKED);
    assert_int_equal(p.runs, 1);
    assert_int_equal(store_read_now(s, count, &after, NULL), 0);
    assert_true(after == before);
}

static int set_up(void **state) {
    snprintf(dir, sizeof dir, "/tmp/muster-store-XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    snprintf(path, sizeof path, "%s/t.db", dir);
    return store_open(&options, &s, NULL);
}

static int tear_down(void **state) {
    static const char *const ends[] = {"", "-wal", "-shm"};
    store_close(s);
    for (int i = 0; i < 3; i++) {
        char name[80];
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        if (unlink(name))
            return 1; /* the files stay after closing: confined processes cannot make them again */
    }
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_comes_back),   cmocka_unit_test(constraints_have_codes),           cmocka_unit_test(readers_do_not_write),
        cmocka_unit_test(cursors_nest),       cmocka_unit_test(a_refused_request_harms_no_other), cmocka_unit_test(a_full_queue_says_busy),
        cmocka_unit_test(who_wrote_nothing_has_nobody_run_again), cmocka_unit_test(alone_it_is_rolled_back),
        cmocka_unit_test(looks_go_before_the_batch_and_write_nothing), cmocka_unit_test(the_version_tells_of_commits),
        cmocka_unit_test(what_was_written_is_there_after_reopening), cmocka_unit_test(migrations_are_checked),
    };
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    options.reruns = true;
    answers = 0;
    return failed ? failed : cmocka_run_group_tests(tests, set_up, tear_down);
}
