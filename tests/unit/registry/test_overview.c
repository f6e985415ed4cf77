/* The numbers of `muster status` and /metrics, each against rows that are told apart by it alone. */
#include "on_disk.h"
#include "registry/event.h"
#include "registry/overview.h"

#define NOW 2000000000LL
#define DAY CLOCK_DAY

static sqlite3 *db;

__attribute__((format(printf, 1, 2))) static void sql(const char *fmt, ...) {
    va_list ap;
    char *why = NULL;
    va_start(ap, fmt);
    char *text = sqlite3_vmprintf(fmt, ap);
    va_end(ap);
    if (sqlite3_exec(db, text, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", text, why);
    sqlite3_free(text);
}

static void account(int id, const char *name, int kind, int state) {
    sql("INSERT INTO account (id, name, kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling) "
        "VALUES (%d, '%s', %d, 3, %d, 0, 1, 0, 0, 1, 1, 1, 1)", id, name, kind, state);
}

static void device(int account_row, int state, int64_t created, int64_t end) {
    sql("INSERT INTO device (uuid, account, device_id, state, state_before, method, created, last_seen, last_address, again, refused, expected, reason, certificate_not_after, issue_first, "
        "issue_last_ms, issue_count) VALUES (randomblob(16), %d, hex(randomblob(8)), %d, 0, 1, %lld, 0, '', 0, 0, 0, '', %lld, 0, 0, 0)", account_row, state, (long long)created, (long long)end);
}

static void key(int account_row, const char *name, int state, int64_t expires, int most, int spent) {
    sql("INSERT INTO prov_key (uuid, account, name, state, created, expires, certificate_not_after, max_devices, spent, per_hour, id_pattern, sources, build, spki, fingerprint, last_used) "
        "VALUES (randomblob(16), %d, '%s', %d, 0, %lld, 0, %d, %d, 0, '', '', '', randomblob(32), randomblob(32), 0)", account_row, name, state, (long long)expires, most, spent);
}

static struct uuid root(int account_row, int state, int64_t end) {
    struct uuid id = uuid_new();
    char text[UUID_TEXT_LEN + 1];
    uuid_text(&id, text);
    sql("INSERT INTO root (uuid, account, origin, state, state_before, fingerprint, spki, subject, der, not_after, id_rule, key_rule, challenge_expires, created) "
        "VALUES (unhex_of('%s'), %d, 1, %d, 0, randomblob(32), randomblob(32), 'CN=x', x'00', %lld, 1, 1, 0, 0)", text, account_row, state, (long long)end);
    return id;
}

static void unhex_of(sqlite3_context *c, int n, sqlite3_value **v) {
    struct uuid id;
    if (uuid_parse(span_str((const char *)sqlite3_value_text(v[0])), &id))
        sqlite3_result_error(c, "no UUID", -1);
    else
        sqlite3_result_blob(c, id.b, sizeof id.b, SQLITE_TRANSIENT);
}

static void begin(void) {
    on_disk_anew();
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_create_function(db, "unhex_of", 1, SQLITE_UTF8, NULL, unhex_of, NULL, NULL), SQLITE_OK);
    sql("PRAGMA synchronous = OFF; BEGIN");
}

static struct overview seen;

/* What is there so far, as the token of one account sees it, or "" the whole server's. */
static const struct overview_account *look(const char *only) {
    struct err err = ERR_INIT;
    sql("COMMIT; BEGIN");
    struct store *s = on_disk_open();
    free(seen.at);
    seen = (struct overview){.only = only, .now = NOW, .with_refused = true};
    if (store_read_now(s, overview_run, &seen, &err))
        fail_msg("%s", err_text(&err));
    store_close(s);
    return seen.n ? &seen.at[0] : NULL;
}

static void end(void) {
    sql("COMMIT");
    sqlite3_close(db);
    free(seen.at);
    seen.at = NULL;
}

static void devices_by_state_age_and_end(void **state) {
    begin();
    account(1, "a", 1, 2);
    for (int s = 1; s <= DEVICE_DELETED; s++)
        for (int i = 0; i < s; i++)
            device(1, s, NOW - 2 * CLOCK_HOUR, 0);
    device(1, DEVICE_ACTIVE, NOW - CLOCK_HOUR - 1, NOW - 1);
    device(1, DEVICE_ACTIVE, NOW - CLOCK_HOUR, NOW + 6 * DAY);
    device(1, DEVICE_PENDING, NOW - 1, NOW + 29 * DAY);
    device(1, DEVICE_QUARANTINED, NOW, NOW + 89 * DAY);
    device(1, DEVICE_REVOKED, NOW, NOW + DAY);
    device(1, DEVICE_DELETED, NOW, NOW + DAY);
    device(1, DEVICE_ACTIVE, NOW, NOW + 91 * DAY);
    const struct overview_account *a = look("");
    assert_int_equal(a->devices[DEVICE_ACTIVE], 1 + 3);
    assert_int_equal(a->devices[DEVICE_PENDING], 2 + 1);
    assert_int_equal(a->devices[DEVICE_QUARANTINED], 3 + 1);
    assert_int_equal(a->devices[DEVICE_REVOKED], 4 + 1);
    assert_int_equal(a->devices[DEVICE_DELETED], 5 + 1);
    assert_int_equal(a->registered_hour, 6);
    static const int64_t ends[WITHIN_COUNT] = {1, 2, 3, 4};
    for (int i = 0; i < WITHIN_COUNT; i++)
        assert_int_equal(a->ends[i], ends[i]);
    end();
}

static void keys_by_what_they_may_still_do(void **state) {
    begin();
    account(1, "a", 1, 2);
    key(1, "blacklisted", 2, NOW + DAY, 1, 1);
    key(1, "expired", 1, NOW, 0, 0);
    key(1, "expired-and-spent", 1, NOW - 1, 1, 1);
    key(1, "later", 1, NOW + 8 * DAY, 0, 500);
    key(1, "soon", 1, NOW + 7 * DAY, 0, 0);
    key(1, "spent", 1, NOW + DAY, 3, 3);
    key(1, "spent-too", 1, NOW + DAY, 3, 3);
    key(1, "hardly", 1, NOW + 9 * DAY, 20, 17);
    key(1, "nearly", 1, NOW + 9 * DAY, 20, 18);
    const struct overview_account *a = look("");
    assert_int_equal(a->keys[KEY_ACTIVE], 4);
    assert_int_equal(a->keys[KEY_EXPIRED], 2);
    assert_int_equal(a->keys[KEY_EXHAUSTED], 2);
    assert_int_equal(a->keys[KEY_BLACKLISTED], 0);
    assert_int_equal(a->keys_ending, 1);
    assert_int_equal(a->keys_nearly, 1);
    assert_int_equal(a->key_end, NOW + 7 * DAY);
    assert_string_equal(a->key_ending, "soon");
    assert_string_equal(a->key_nearly, "nearly");
    assert_string_equal(a->key_exhausted, "spent");
    end();
}

static void roots_and_cas(void **state) {
    begin();
    account(1, "a", 1, 2);
    root(1, ROOT_ACTIVE, NOW + 300 * DAY);
    struct uuid unproved = root(1, ROOT_UNPROVED, NOW + DAY), first = root(1, ROOT_KNOWN_ONLY, NOW + 200 * DAY);
    root(1, ROOT_UNPROVED, NOW + DAY);
    root(1, ROOT_ACTIVE, NOW + 250 * DAY);
    struct uuid own = root(1, ROOT_DISABLED, NOW + DAY);
    root(1, ROOT_RETIRED, NOW + DAY);
    root(1, ROOT_REVOKED, NOW + DAY);
    for (int i = 0; i < 2; i++)
        sql("INSERT INTO ca (account, kind, spki, der, not_after, created) VALUES (1, %d, randomblob(32), x'00', %lld, 0), (1, %d, randomblob(32), x'00', %lld, 0)", i + 1,
            (long long)(NOW + i), i + 1, (long long)(NOW + 10 + i));
    const struct overview_account *a = look("");
    static const int64_t n[] = {[ROOT_ACTIVE] = 2, [ROOT_UNPROVED] = 2, [ROOT_KNOWN_ONLY] = 1, [ROOT_DISABLED] = 1, [ROOT_RETIRED] = 1, [ROOT_REVOKED] = 1};
    for (int s = 1; s <= ROOT_REVOKED; s++)
        assert_int_equal(a->roots[s], n[s]);
    assert_int_equal(a->root_end, NOW + 200 * DAY);
    assert_true(uuid_eq(&a->root_ending, &first) && uuid_eq(&a->root_unproved, &unproved));
    assert_int_equal(a->own_root, 0);
    assert_int_equal(a->ca_end[1], NOW + 10);
    assert_int_equal(a->ca_end[2], NOW + 11);
    sql("UPDATE account SET own_root = (SELECT id FROM root WHERE state = %d)", ROOT_DISABLED);
    a = look("");
    assert_true(a->own_root == ROOT_DISABLED && uuid_eq(&a->own_root_id, &own));
    end();
}

static void whose_they_are(void **state) {
    begin();
    account(1, "being-made", 1, 1);
    account(2, "first", 1, 2);
    account(3, "deleted", 1, 3);
    account(4, "second", 2, 2);
    device(4, DEVICE_ACTIVE, NOW, 0);
    device(1, DEVICE_ACTIVE, NOW, 0);
    key(4, "k", 1, NOW + DAY, 0, 0);
    for (int i = 0; i < 5; i++)
        sql("INSERT INTO refusal (uuid, account, known, first, last, count, code, reason, device, device_id, address, source, host, method, path, tls, agent, serial, subject, issuer, top_issuer, "
            "not_before, not_after) VALUES (randomblob(16), %d, 1, 0, %lld, 1, 'x', '', 0, '', '', '', '', '', '', '', '', '', '', '', '', 0, 0)", i, (long long)NOW);
    look("");
    assert_int_equal(seen.n, 2);
    assert_int_equal(seen.total, 2);
    assert_int_equal(seen.kinds[ACCOUNT_TEST], 1);
    assert_int_equal(seen.kinds[ACCOUNT_PRODUCTION], 1);
    assert_string_equal(seen.at[0].name, "first");
    assert_int_equal(seen.at[0].devices[DEVICE_ACTIVE] + seen.at[0].registered_hour + seen.at[0].keys[KEY_ACTIVE], 0);
    assert_int_equal(seen.at[1].devices[DEVICE_ACTIVE] + seen.at[1].registered_hour + seen.at[1].keys[KEY_ACTIVE], 3);
    assert_int_equal(seen.refused.total, 5);
    const struct overview_account *a = look("second");
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.total, 1);
    assert_string_equal(a->name, "second");
    assert_int_equal(seen.refused.total, 1);
    static const char *const none[] = {"being-made", "deleted", "never-was"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_null(look(none[i]));
        assert_int_equal(seen.total, 0);
        assert_int_equal(seen.refused.total, 0);
    }
    end();
}

static void a_clock_that_is_behind(void **state) {
    begin();
    sql("UPDATE meta SET value = %lld WHERE name = 'newest'", NOW + 40);
    look("");
    assert_int_equal(seen.clock_behind, 40);
    sql("UPDATE meta SET value = %lld WHERE name = 'newest'", NOW - 40);
    look("");
    assert_int_equal(seen.clock_behind, 0);
    end();
}

/* One look by a process that is told nothing but which start of the machine it is. */
static int64_t was_set(int64_t boot, int64_t ahead, int64_t now) {
    struct err err = ERR_INIT;
    struct clock_look l = {.boot = boot, .now = now, .ahead_ms = ahead * 1000};
    sql("COMMIT");
    struct store *s = on_disk_open();
    if (store_write_now(s, clock_look_run, &l, &err))
        fail_msg("%s", err_text(&err));
    store_close(s);
    sql("BEGIN");
    look("");
    return l.by;
}

static void is(int64_t net, int64_t last, int64_t at) {
    assert_int_equal(seen.clock_set.net, net);
    assert_int_equal(seen.clock_set.last, last);
    assert_int_equal(seen.clock_set.at, at);
}

static void a_clock_that_was_set(void **state) {
    begin();
    sql("INSERT INTO event_wanted (account, events) VALUES (0, %lld)", (long long)event_bit(EVENT_CLOCK_WAS_SET));
    assert_int_equal(was_set(7, 1000, NOW), 0); /* the first look of this start */
    assert_int_equal(was_set(7, 1000, NOW), 0);
    is(0, 0, 0);
    assert_int_equal(was_set(7, 1000 + 59, NOW), 0); /* kept right */
    assert_int_equal(was_set(7, 1000 + 60, NOW + 60), 60); /* in two steps */
    is(60, 60, NOW + 60);
    assert_int_equal(was_set(7, 1000 + 60, NOW + 60), 0); /* once, also for a process that comes after it */
    is(60, 60, NOW + 60);
    assert_int_equal(was_set(7, 1000 + 5000, NOW + 5000), 4940);
    is(5000, 4940, NOW + 5000);
    assert_int_equal(was_set(7, 1000 + 1, NOW + 1), -4999); /* and back again, nearly */
    is(1, -4999, NOW + 1);
    assert_int_equal(was_set(8, -3, NOW), 0); /* the machine was started anew: nothing to hold it against */
    is(1, -4999, NOW + 1);

    sql("UPDATE meta SET value = 0 WHERE name LIKE 'clock_set_%%'"); /* as `musterd clock accept` does */
    sql("UPDATE meta SET value = %lld WHERE name = 'newest'", NOW + 40000);
    assert_int_equal(was_set(8, -3 + 40000, NOW + 40000), 40000); /* it was behind the log: nothing was issued by it */
    is(0, 0, 0);
    assert_int_equal(was_set(8, -3, NOW), -40000); /* a clock that goes back is another matter */
    is(-40000, -40000, NOW);

    sqlite3_stmt *told;
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*), min(json_extract(CAST(payload AS TEXT), '$.seconds')), max(json_extract(CAST(payload AS TEXT), '$.before')) FROM event WHERE kind = 60", -1, &told, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(told), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(told, 0), 5);
    assert_int_equal(sqlite3_column_int(told, 1), -40000);
    assert_string_equal((const char *)sqlite3_column_text(told, 2), "2033-05-18T14:40:00Z"); /* NOW + 40000 */
    sqlite3_finalize(told);
    end();
}

static void more_accounts_than_are_shown(void **state) {
    begin();
    for (int i = 1; i <= OVERVIEW_ACCOUNTS_MAX + 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "a-%d", i);
        account(i, name, 1 + i % 2, 2);
    }
    look("");
    assert_int_equal(seen.n, OVERVIEW_ACCOUNTS_MAX);
    assert_int_equal(seen.total, OVERVIEW_ACCOUNTS_MAX + 5);
    assert_int_equal(seen.kinds[ACCOUNT_TEST] + seen.kinds[ACCOUNT_PRODUCTION], OVERVIEW_ACCOUNTS_MAX + 5);
    assert_string_equal(seen.at[OVERVIEW_ACCOUNTS_MAX - 1].name, "a-1000");
    assert_string_equal(look("a-1005")->name, "a-1005");
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(devices_by_state_age_and_end), cmocka_unit_test(keys_by_what_they_may_still_do), cmocka_unit_test(roots_and_cas),
                                       cmocka_unit_test(whose_they_are), cmocka_unit_test(a_clock_that_is_behind), cmocka_unit_test(a_clock_that_was_set), cmocka_unit_test(more_accounts_than_are_shown)};
    return cmocka_run_group_tests(tests, on_disk_make, on_disk_drop);
}
