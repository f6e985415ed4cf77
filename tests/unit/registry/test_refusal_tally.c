/* What is said of the last day's refusals: which records count, in what order, and what is said where there are too many. */
#include "on_disk.h"
#include "registry/refusal_tally.h"

#define SINCE 1000000

/* A record behind all others. */
static void add(sqlite3 *db, int64_t account, int64_t last, const char *code, const char *device_id) {
    char *sql = sqlite3_mprintf("INSERT INTO refusal (uuid, account, known, first, last, count, code, reason, device, device_id, address, source, host, method, path, tls, agent, serial, "
                                "subject, issuer, top_issuer, not_before, not_after) VALUES (randomblob(16), %lld, 1, 0, %lld, 2, %Q, '', 0, %Q, '', %Q, '', '', '', '', '', '', '', '', '', 0, 0)",
                                (long long)account, (long long)last, code, device_id, code);
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s", why);
    sqlite3_free(sql);
}

static sqlite3 *emptied(void) {
    sqlite3 *db;
    on_disk_anew();
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF; BEGIN", NULL, NULL, NULL), SQLITE_OK);
    return db;
}

static struct {
    int64_t account;
    struct refusal_tally tally;
} asked;

static int read_run(struct store_tx *tx, void *arg, struct err *err) { return refusal_tally_read(tx, asked.account, &asked.tally, err); }

/* What was added, for one account or all. */
static const struct refusal_tally *tally(sqlite3 *db, int64_t account) {
    struct err err = ERR_INIT;
    assert_int_equal(sqlite3_exec(db, "COMMIT; BEGIN", NULL, NULL, NULL), SQLITE_OK);
    struct store *s = on_disk_open();
    memset(&asked, 0, sizeof asked);
    asked.account = account;
    asked.tally.since = SINCE;
    if (store_read_now(s, read_run, NULL, &err))
        fail_msg("%s", err_text(&err));
    store_close(s);
    return &asked.tally;
}

static void close_db(sqlite3 *db) {
    assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* Rows stand in the order in which they were written, and a loop writes a second or more behind another. */
static void what_is_older_does_not_count_and_hides_nothing_behind_it(void **state) {
    sqlite3 *db = emptied();
    add(db, 1, SINCE - REFUSAL_ORDER_SLACK - 1, "ends_the_walk", "a");
    add(db, 1, SINCE - 1, "too_old", "b");
    add(db, 1, SINCE, "counts", "c");
    add(db, 1, SINCE - REFUSAL_ORDER_SLACK, "too_old", "d");
    add(db, 1, SINCE + 5, "counts", "e");
    const struct refusal_tally *t = tally(db, 1);
    assert_int_equal(t->n, 1);
    assert_string_equal(t->at[0].code, "counts");
    assert_int_equal(t->at[0].count, 4);
    assert_int_equal(t->at[0].records, 2);
    assert_int_equal(t->at[0].last, SINCE + 5);
    assert_string_equal(t->at[0].device_id, "e");
    assert_int_equal(t->total, 4);
    assert_true(t->all);
    add(db, 1, SINCE - REFUSAL_ORDER_SLACK - 1, "ends_the_walk", "f");
    assert_int_equal(tally(db, 1)->total, 0); /* nothing is read behind it */
    close_db(db);
}

static void the_most_frequent_comes_first(void **state) {
    sqlite3 *db = emptied();
    for (int i = 0; i < 6; i++)
        add(db, 1, SINCE + i, i < 1 ? "once" : i < 3 ? "twice" : "often", "");
    add(db, 1, SINCE + 1, "also_once", "has one");
    add(db, 1, SINCE + 9, "also_once", "");
    const struct refusal_tally *t = tally(db, 1);
    static const char *const order[] = {"often", "also_once", "twice", "once"};
    assert_int_equal(t->n, 4);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(t->at[i].code, order[i]);
    assert_string_equal(t->at[1].device_id, "has one");
    assert_int_equal(t->at[1].last, SINCE + 9);
    close_db(db);
}

static void an_account_s_are_its_own_and_the_server_s_everybody_s(void **state) {
    sqlite3 *db = emptied();
    add(db, 0, SINCE, "stranger", "");
    add(db, 1, SINCE, "mine", "");
    add(db, 2, SINCE, "theirs", "");
    assert_int_equal(tally(db, 1)->total, 2);
    assert_string_equal(asked.tally.at[0].code, "mine");
    assert_int_equal(tally(db, 0)->total, 2);
    assert_int_equal(tally(db, REFUSAL_TALLY_SERVER)->total, 6);
    close_db(db);
}

static void rare_codes_beyond_the_table_are_in_the_sum(void **state) {
    sqlite3 *db = emptied();
    char code[32];
    for (int i = 0; i < REFUSAL_TALLY_CODES + 8; i++) {
        snprintf(code, sizeof code, "code_%02d", i);
        add(db, 1, SINCE, code, "");
    }
    const struct refusal_tally *t = tally(db, 1);
    assert_int_equal(t->n, REFUSAL_TALLY_CODES);
    assert_int_equal(t->total, 2 * (REFUSAL_TALLY_CODES + 8));
    close_db(db);
}

static void so_many_are_looked_at_and_it_is_said_when_there_are_more(void **state) {
    sqlite3 *db = emptied();
    for (int i = 0; i < REFUSAL_TALLY_LOOK; i++)
        add(db, 1, SINCE, "many", "");
    assert_int_equal(tally(db, 1)->total, 2 * REFUSAL_TALLY_LOOK);
    assert_true(asked.tally.all);
    add(db, 1, SINCE, "many", "");
    assert_int_equal(tally(db, 1)->total, 2 * REFUSAL_TALLY_LOOK);
    assert_false(asked.tally.all);
    close_db(db);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_older_does_not_count_and_hides_nothing_behind_it),
        cmocka_unit_test(the_most_frequent_comes_first),
        cmocka_unit_test(an_account_s_are_its_own_and_the_server_s_everybody_s),
        cmocka_unit_test(rare_codes_beyond_the_table_are_in_the_sum),
        cmocka_unit_test(so_many_are_looked_at_and_it_is_said_when_there_are_more),
    };
    return cmocka_run_group_tests(tests, on_disk_make, on_disk_drop);
}
