/* What ends is announced once for each number of days: beyond one transaction's worth, for whoever comes later, and for nobody who is gone. */
#include "on_disk.h"
#include "registry/event_sweep.h"

#define NOW 2000000000LL
#define DAY CLOCK_DAY
#define CERTIFICATES (INT64_C(1) << EVENT_CERTIFICATE_EXPIRING)
#define KEYS (INT64_C(1) << EVENT_KEY_EXPIRING)
#define LISTS event_bit(EVENT_ROOT_CRL_DUE)

static struct store *registry;

static void run(store_run_fn fn, void *arg) {
    struct err err = ERR_INIT;
    if (store_write_now(registry, fn, arg, &err))
        fail_msg("%s", err_text(&err));
}

__attribute__((format(printf, 1, 2))) static void sql(const char *fmt, ...) {
    va_list ap;
    sqlite3 *db;
    char *why = NULL;
    va_start(ap, fmt);
    char *text = sqlite3_vmprintf(fmt, ap);
    va_end(ap);
    store_close(registry);
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", text, why);
    sqlite3_free(text);
    sqlite3_close(db);
    registry = on_disk_open();
}

static void wanted(const char *account, int64_t events) {
    static struct event_wants w;
    w = (struct event_wants){.n = 1};
    snprintf(w.at[0].account, sizeof w.at[0].account, "%s", account);
    w.at[0].events = events;
    run(event_wants_run, &w);
}

/* How many events that says; of one type, for one number of days. */
static int64_t swept(int64_t now, int64_t server_end, const char *type, int days) {
    struct event_sweep s = {.now = now, .server_end = server_end, .after = -1, .more = true};
    int64_t n = 0;
    while (s.more)
        run(event_sweep_run, &s);
    for (bool more = true; more;) {
        struct event_take t = {.n = 0};
        run(event_take_run, &t);
        for (size_t i = 0; i < t.n; i++) {
            json_t *o = json_parse(buf_span(&t.at[i].payload), NULL);
            assert_string_equal(json_string_value(json_object_get(o, "type")), type);
            assert_int_equal(json_integer_value(json_object_get(o, "days")), days);
            json_decref(o);
        }
        n += (int64_t)t.n;
        int64_t upto = (more = t.n > 0) ? t.at[t.n - 1].row : 0;
        event_take_fini(&t);
        run(event_forget_run, &upto);
    }
    return n;
}

static void begin(void) {
    on_disk_anew();
    registry = on_disk_open();
    for (int i = 1; i <= 2; i++)
        sql("INSERT INTO account (id, name, kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling) "
            "VALUES (%d, 'a%d', 1, 3, 2, 0, 1, 0, 0, 1, 1, 1, 1)", i, i);
}

static void devices(int account, int n, int64_t end) {
    sql("WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %d) "
        "INSERT INTO device (uuid, account, device_id, state, state_before, method, created, last_seen, last_address, again, refused, expected, reason, certificate_not_after, issue_first, "
        "issue_last_ms, issue_count) SELECT randomblob(16), %d, hex(randomblob(8)), 1, 0, 1, 0, 0, '', 0, 0, 0, '', %lld, 0, 0, 0 FROM c", n, account, (long long)end);
}

/* A line of production has certificates of one date. */
static void a_whole_fleet_that_ends_at_once(void **state) {
    begin();
    wanted("a1", CERTIFICATES);
    devices(1, 450, NOW + 20 * DAY);
    devices(1, 50, NOW + 21 * DAY);
    assert_int_equal(swept(NOW, 0, "certificate.expiring", 30), 500);
    assert_int_equal(swept(NOW, 0, "certificate.expiring", 30), 0);
    assert_int_equal(swept(NOW + 13 * DAY, 0, "certificate.expiring", 7), 450);
    assert_int_equal(swept(NOW + 14 * DAY, 0, "certificate.expiring", 7), 50);
    assert_int_equal(swept(NOW + 19 * DAY, 0, "certificate.expiring", 1), 450);
    assert_int_equal(swept(NOW + 22 * DAY, 0, "certificate.expiring", 0), 0); /* 50 ended meanwhile, and nobody looked */
    store_close(registry);
}

static void who_asks_later_hears_what_was_not_said(void **state) {
    begin();
    wanted("a1", KEYS);
    devices(1, 3, NOW + 5 * DAY);
    assert_int_equal(swept(NOW, 0, "", 0), 0);
    wanted("a1", CERTIFICATES);
    assert_int_equal(swept(NOW + 1, 0, "certificate.expiring", 7), 3);
    store_close(registry);
}

/* By that clock they had ended, or were said with a smaller number: nobody has been told. */
static void a_clock_that_ran_ahead_has_said_nothing(void **state) {
    begin();
    wanted("", CERTIFICATES);
    devices(1, 3, NOW + 20 * DAY);
    assert_int_equal(swept(NOW + 300 * DAY, NOW + 100 * DAY, "", 0), 0);
    assert_int_equal(swept(NOW, NOW + 100 * DAY, "certificate.expiring", 30), 3);
    assert_int_equal(swept(NOW, NOW + 100 * DAY, "", 0), 0);
    assert_int_equal(swept(NOW + 71 * DAY, NOW + 100 * DAY, "certificate.expiring", 30), 1);
    assert_int_equal(swept(NOW + 71 * DAY - 7200, NOW + 100 * DAY, "", 0), 0); /* so little back nobody is told twice */
    store_close(registry);
}

static void an_account_that_is_gone_says_nothing(void **state) {
    begin();
    wanted("", CERTIFICATES);
    devices(1, 3, NOW + 5 * DAY);
    devices(2, 4, NOW + 5 * DAY);
    sql("UPDATE account SET state = 3 WHERE id = 1");
    assert_int_equal(swept(NOW, 0, "certificate.expiring", 7), 4);
    store_close(registry);
}

/* Control may look before a gateway has said what it shows. */
static void the_server_s_own_once_it_is_known(void **state) {
    begin();
    wanted("", CERTIFICATES);
    assert_int_equal(swept(NOW, 0, "", 0), 0);
    assert_int_equal(swept(NOW + 1, NOW + 5 * DAY, "certificate.expiring", 7), 1);
    assert_int_equal(swept(NOW + 2, NOW + 5 * DAY, "certificate.expiring", 7), 0);
    wanted("a1", CERTIFICATES);
    assert_int_equal(swept(NOW + 4 * DAY, NOW + 5 * DAY, "", 0), 0); /* is no account's */
    wanted("", CERTIFICATES);
    assert_int_equal(swept(NOW + 4 * DAY + 1, NOW + 5 * DAY, "certificate.expiring", 1), 1);
    store_close(registry);
}

static void list_of(int64_t next_update) {
    sql("UPDATE root_crl SET live = 2; INSERT INTO root_crl (account, root, issuer, signer, subject, this_update, next_update, hash, sum, entries, imported, live) "
        "VALUES (1, 1, x'01', x'', 'CN=Line', 1, %lld, x'', x'', 0, 1, 1)", (long long)next_update);
}

static void a_list_that_is_due_is_said_once_a_day_ahead(void **state) {
    begin();
    wanted("a1", LISTS);
    sql("INSERT INTO root (id, uuid, account, origin, state, state_before, fingerprint, spki, subject, der, not_after, id_rule, key_rule, challenge_expires, created) "
        "VALUES (1, randomblob(16), 1, 1, 2, 2, randomblob(32), randomblob(32), 'CN=Fleet', x'', 9999999999, 0, 1, 0, 0)");
    list_of(NOW + 3 * DAY);
    assert_int_equal(swept(NOW, 0, "", 0), 0);
    assert_int_equal(swept(NOW + 2 * DAY + 1, 0, "root.crl_due", 1), 1);
    assert_int_equal(swept(NOW + 2 * DAY + 2, 0, "", 0), 0);
    list_of(NOW + 9 * DAY); /* another took its place */
    assert_int_equal(swept(NOW + 3 * DAY, 0, "", 0), 0);
    assert_int_equal(swept(NOW + 8 * DAY + 1, 0, "root.crl_due", 1), 1);
    list_of(NOW + 20 * DAY);
    wanted("a1", CERTIFICATES); /* nobody asks for it */
    assert_int_equal(swept(NOW + 19 * DAY + 1, 0, "", 0), 0);
    store_close(registry);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_whole_fleet_that_ends_at_once), cmocka_unit_test(who_asks_later_hears_what_was_not_said), cmocka_unit_test(a_clock_that_ran_ahead_has_said_nothing),
                                       cmocka_unit_test(an_account_that_is_gone_says_nothing), cmocka_unit_test(the_server_s_own_once_it_is_known), cmocka_unit_test(a_list_that_is_due_is_said_once_a_day_ahead)};
    return cmocka_run_group_tests(tests, on_disk_make, on_disk_drop);
}
