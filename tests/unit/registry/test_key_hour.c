/* The enrolments of a key within an hour, as the statements count them, against all of them in a list; and what the migration makes of rows
 * that an earlier version left. */
#include "on_disk.h"
#include "base/clock.h"
#include "registry/registry.h"
#include "registry/row.h"

#define KEYS 2
#define SPENT_MAX 5000

struct step {
    int64_t key, now;
    int64_t count, oldest; /* before it is spent */
};

static int spend(struct store_tx *tx, void *arg, struct err *err) {
    struct step *s = arg;
    struct store_row *row;
    if (first_row(tx, &row, err, SQL_KEY_HOUR, "iii", s->key, s->now - CLOCK_HOUR, s->now + CLOCK_AHEAD) != 1)
        return MUSTER_EINTERNAL;
    const int64_t ahead = store_int(row, 2);
    s->count = store_int(row, 0) - ahead;
    s->oldest = store_int(row, 1);
    store_row_end(row);
    int rc = 0;
    if (ahead && !(rc = store_exec(tx, NULL, err, SQL_KEY_HOUR_AHEAD, "ii", s->key, s->now + CLOCK_AHEAD)))
        rc = store_exec(tx, NULL, err, SQL_KEY_HOUR_AHEAD_DROP, "ii", s->key, s->now + CLOCK_AHEAD);
    if (!rc)
        rc = store_exec(tx, NULL, err, SQL_KEY_SPEND, "iii", s->key, s->now, s->now - CLOCK_HOUR);
    if (!rc)
        rc = store_exec(tx, NULL, err, SQL_KEY_HOUR_DROP, "ii", s->key, s->now - CLOCK_HOUR);
    return rc ? rc : store_exec(tx, NULL, err, SQL_KEY_HOUR_ADD, "ii", s->key, s->now);
}

static void sql(const char *text) {
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s", why);
    sqlite3_close(db);
}

#define ACCOUNT "INSERT INTO account (id, name, kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling) " \
                "VALUES (1, 'a', 1, 1, 2, 0, 1, 0, 0, 1, 1, 1, 1);"
#define KEY(n) "INSERT INTO prov_key (id, uuid, account, name, state, created, expires, certificate_not_after, max_devices, spent, per_hour, id_pattern, sources, build, spki, " \
               "fingerprint, last_used) VALUES (" #n ", x'0" #n "', 1, 'k" #n "', 1, 0, 9, 9, 0, 0, 0, '', '', '', x'0" #n "', x'', 0);"

/* What migrations 10 to 37 brought. */
#define WITHOUT_10 "ALTER TABLE account DROP COLUMN renewal_window; ALTER TABLE account DROP COLUMN late_renewal; ALTER TABLE account DROP COLUMN superseded_renewal;"
#define WITHOUT_11 \
    "DROP INDEX cert_end; DROP INDEX cert_prov_key; DROP INDEX cert_fingerprint; DROP INDEX cert_revoked; DROP INDEX cert_was; " \
    "ALTER TABLE cert DROP COLUMN revoked; ALTER TABLE cert DROP COLUMN reason; ALTER TABLE cert DROP COLUMN was;"
#define WITHOUT_31 "DROP TABLE line_told; ALTER TABLE account DROP COLUMN tried; ALTER TABLE prov_key DROP COLUMN tried; ALTER TABLE root DROP COLUMN tried; DROP INDEX csr_key; DROP INDEX offer_key; DROP INDEX cert_key_gone; DROP TABLE line_revoked; DROP INDEX device_line_certificate; DROP INDEX device_line_serial; ALTER TABLE device DROP COLUMN line_certificate; ALTER TABLE device DROP COLUMN line_serial; " \
    "ALTER TABLE prov_key DROP COLUMN shadow; ALTER TABLE device DROP COLUMN line_key;" /* to 37 */
#define WITHOUT_WAITING "DROP INDEX cert_waiting;"
#define WITHOUT_27 "DROP TABLE line; DROP INDEX device_line; ALTER TABLE device DROP COLUMN line; DROP INDEX device_chain; DROP INDEX chain_end;" /* and 28 */
#define WITHOUT_25 "ALTER TABLE account DROP COLUMN backend; DROP TABLE ask; ALTER TABLE account DROP COLUMN hook;" /* and 26 */
#define WITHOUT_28 "DROP TABLE server_ca; ALTER TABLE device DROP COLUMN server_ca; ALTER TABLE cert DROP COLUMN server_ca;"
#define WITHOUT_24 "DROP TABLE root_crl; DROP TABLE root_crl_entry;"
#define WITHOUT_23 "ALTER TABLE account DROP COLUMN profile; ALTER TABLE account DROP COLUMN shadow; ALTER TABLE prov_key DROP COLUMN profile;"
#define WITHOUT_22 "ALTER TABLE root DROP COLUMN expired;"
#define WITHOUT_21 "DROP TABLE root_cross; DROP INDEX device_anchor; ALTER TABLE device DROP COLUMN anchor; ALTER TABLE account DROP COLUMN own_root;"
#define WITHOUT_12 "DROP TABLE invitation;"
#define WITHOUT_13 "ALTER TABLE account DROP COLUMN server_keygen;"
#define WITHOUT_14 "DROP TABLE chain; ALTER TABLE device DROP COLUMN chain; ALTER TABLE device DROP COLUMN renews; ALTER TABLE cert DROP COLUMN renews;"
#define WITHOUT_17 "DROP TABLE held;"
#define WITHOUT_18 "DROP TABLE csr; ALTER TABLE account DROP COLUMN csr_queue;"
#define WITHOUT_19 "DROP TABLE listed;"
#define WITHOUT_20 "DROP INDEX cert_no_issuer;"
#define WITHOUT_15 "DELETE FROM meta WHERE name LIKE 'recovery%';"
#define WITHOUT_16                                                                                                             \
    "DROP TRIGGER crl_ca; DROP TRIGGER crl_root; DROP TRIGGER crl_root_new; DROP TRIGGER crl_cert; DROP TRIGGER crl_device; DROP TRIGGER crl_device_new; "      \
    "DROP TABLE crl_revision; DROP INDEX cert_crl; DROP INDEX cert_left; ALTER TABLE cert DROP COLUMN issuer; ALTER TABLE ca DROP COLUMN key_id;"

static void counts_as_a_list_does(void **state) {
    static int64_t at[KEYS + 1][SPENT_MAX];
    size_t n[KEYS + 1] = {0};
    uint64_t random = 1;
    int64_t now = 1000000;
    on_disk_anew();
    sql(ACCOUNT KEY(1) KEY(2));
    struct store *s = on_disk_open();
    for (int i = 0; i < SPENT_MAX; i++) {
        struct step step = {.key = 1 + (int64_t)(random >> 40) % KEYS};
        struct err err = ERR_INIT;
        random = random * 6364136223846793005u + 1442695040888963407u;
        /* Many within a second, seconds and minutes between, now and then hours, and a clock that goes back, or runs ahead for a while. */
        now += i % 703 == 300 ? CLOCK_YEAR : i % 703 == 320 ? -CLOCK_YEAR : i % 501 == 500 ? 2 * CLOCK_HOUR : i % 97 == 96 ? -900 : (random >> 33) % 3 ? 0 : (int64_t)(random >> 35) % 40;
        step.now = now;
        int64_t count = 0, oldest = 0;
        size_t kept = 0;
        for (size_t k = 0; k < n[step.key]; k++) {
            if (at[step.key][k] <= now - CLOCK_HOUR || at[step.key][k] > now + CLOCK_AHEAD)
                continue; /* dropped below, and does not come back when the clock does */
            oldest = count++ == 0 || at[step.key][k] < oldest ? at[step.key][k] : oldest;
            at[step.key][kept++] = at[step.key][k];
        }
        if (store_write_now(s, spend, &step, &err))
            fail_msg("%s", err_text(&err));
        assert_int_equal(step.count, count);
        if (count) /* one of a clock that ran ahead is nobody's */
            assert_int_equal(step.oldest, oldest);
        at[step.key][kept++] = now;
        n[step.key] = kept;
    }
    store_close(s);
}

static int read_hour(struct store_tx *tx, void *arg, struct err *err) {
    struct step *s = arg;
    struct store_row *row;
    if (first_row(tx, &row, err, SQL_KEY_HOUR, "iii", s->key, s->now - CLOCK_HOUR, s->now + CLOCK_AHEAD) != 1)
        return MUSTER_EINTERNAL;
    s->count = store_int(row, 0);
    s->oldest = store_int(row, 1);
    store_row_end(row);
    return 0;
}

/* The table as migration 001 made it, and its rows, behind the back of a registry that is new. */
static void rows_of_an_earlier_version_count(void **state) {
    on_disk_anew();
    sql(ACCOUNT KEY(1) KEY(2) "DROP TABLE key_hour; ALTER TABLE prov_key DROP COLUMN in_hour;"
        "CREATE TABLE key_hour (id INTEGER PRIMARY KEY, prov_key INTEGER NOT NULL REFERENCES prov_key (id), at INTEGER NOT NULL);"
        "CREATE INDEX key_hour_key ON key_hour (prov_key, at);"
        "INSERT INTO key_hour (prov_key, at) VALUES (1, 5000), (1, 5000), (1, 5007), (1, 100), (2, 5001);"
        "ALTER TABLE audit DROP COLUMN seal;"
        WITHOUT_31 WITHOUT_WAITING WITHOUT_28 WITHOUT_27 WITHOUT_25 WITHOUT_24 WITHOUT_23 WITHOUT_22 WITHOUT_21 WITHOUT_20 WITHOUT_19 WITHOUT_18 WITHOUT_17 WITHOUT_16 WITHOUT_15 WITHOUT_14 WITHOUT_13 WITHOUT_12 WITHOUT_11 WITHOUT_10 "DROP INDEX cert_key; ALTER TABLE cert DROP COLUMN enrolled; CREATE INDEX cert_key ON cert (prov_key, device, created) WHERE state IN (1, 2, 5);"
        "DELETE FROM schema_version WHERE number >= 7;");
    struct store *s = on_disk_open();
    struct step one = {.key = 1, .now = 5000 + CLOCK_HOUR - 1}, two = {.key = 2, .now = 5000};
    assert_int_equal(store_read_now(s, read_hour, &one, NULL) || store_read_now(s, read_hour, &two, NULL), 0);
    assert_int_equal(one.count, 3);
    assert_int_equal(one.oldest, 5000);
    assert_int_equal(two.count, 1);
    one.now += 1;
    assert_int_equal(store_read_now(s, read_hour, &one, NULL), 0);
    assert_int_equal(one.count, 1);
    store_close(s);
}

/* Certificates of before renewals: what a key has done since some time goes by when they were made. */
static void certificates_of_an_earlier_version_keep_their_time(void **state) {
    sqlite3 *db;
    sqlite3_stmt *s;
    on_disk_anew();
    sql(ACCOUNT KEY(1) "INSERT INTO cert (serial, fingerprint, account, prov_key, spki, state, der, not_before, not_after, created, used) VALUES (x'01', x'02', 1, 1, x'03', 2, x'04', 0, 9, 4711, 0);"
        WITHOUT_31 WITHOUT_WAITING WITHOUT_28 WITHOUT_27 WITHOUT_25 WITHOUT_24 WITHOUT_23 WITHOUT_22 WITHOUT_21 WITHOUT_20 WITHOUT_19 WITHOUT_18 WITHOUT_17 WITHOUT_16 WITHOUT_15 WITHOUT_14 WITHOUT_13 WITHOUT_12 WITHOUT_11 WITHOUT_10 "DROP INDEX cert_key; ALTER TABLE cert DROP COLUMN enrolled; CREATE INDEX cert_key ON cert (prov_key, device, created) WHERE state IN (1, 2, 5);"
        "DELETE FROM schema_version WHERE number >= 9;");
    store_close(on_disk_open());
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT enrolled FROM cert", -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int64(s, 0), 4711);
    sqlite3_finalize(s);
    sqlite3_close(db);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts_as_a_list_does), cmocka_unit_test(rows_of_an_earlier_version_count), cmocka_unit_test(certificates_of_an_earlier_version_keep_their_time)};
    return cmocka_run_group_tests(tests, on_disk_make, on_disk_drop);
}
