/* The walk of a forecast: every device is counted once, however many end at once and wherever a page ends; steps are bounded. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../pki_fixture.h"
#include "../registry/on_disk.h"
#include "verifier/forecast.h"

#define DAY CLOCK_DAY
#define AT_ONCE 6001 /* more than two steps */

static int64_t now;
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

static void put_blob(const char *statement, struct span blob) {
    sqlite3_stmt *s;
    assert_int_equal(sqlite3_prepare_v2(db, statement, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_bind_blob(s, 1, blob.p, (int)blob.n, SQLITE_TRANSIENT), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_DONE);
    sqlite3_finalize(s);
}

/* An account with an uploaded root that ends in so many days. */
static void begin(int root_days) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(8192);
    struct made root = make_it((struct recipe){.cn = "Root", .ext = CA_EXT, .to = root_days * DAY});
    on_disk_anew();
    now = clock_now();
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    sql("INSERT INTO account (id, name, kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling) "
        "VALUES (1, 'cars', 1, 2, 2, 0, 1, 0, 0, 1, 1, 1, 1)");
    sql("INSERT INTO root (id, uuid, account, origin, state, state_before, fingerprint, spki, subject, der, not_after, id_rule, key_rule, challenge_expires, created) "
        "VALUES (1, zeroblob(16), 1, 1, 2, 2, zeroblob(32), zeroblob(32), 'CN=Root', x'', %lld, 0, 1, 0, 0)", (long long)root.cert->not_after);
    assert_int_equal(cert_der(root.cert, &der), 0);
    put_blob("UPDATE root SET der = ?1", buf_span(&der));
    cert_free(root.cert);
    EVP_PKEY_free(root.key);
}

/* n devices that end one after the other, `apart` seconds between. */
static void devices(int n, int64_t end, int64_t apart, int state) {
    sql("WITH RECURSIVE c (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i + 1 < %d) "
        "INSERT INTO device (uuid, account, device_id, state, state_before, method, root, created, last_seen, last_address, again, refused, expected, reason, certificate, "
        "certificate_not_after, spki, issue_first, issue_last_ms, issue_count) "
        "SELECT randomblob(16), 1, 'dev-' || hex(randomblob(8)), %d, %d, 2, 1, 0, 0, '', 0, 0, 0, '', zeroblob(32), %lld + i * %lld, zeroblob(32), 0, 0, 0 FROM c",
        n, state, state, (long long)end, (long long)apart);
}

static struct forecast *run(int days, int *steps) {
    const struct forecast_server server = {0};
    struct forecast *f = NULL;
    struct err err = ERR_INIT;
    sqlite3_close(db);
    struct store *s = on_disk_open();
    assert_int_equal(forecast_new("", now, days, &server, &f, &err), 0);
    for (*steps = 0; forecast_more(f); ++*steps)
        if (store_read_now(s, forecast_run, f, &err))
            fail_msg("%s", err_text(&err));
    store_close(s);
    return f;
}

static void each_is_counted_once(void **state) {
    int steps;
    begin(400);
    devices(AT_ONCE, now + 10 * DAY, 0, DEVICE_ACTIVE);  /* at once */
    devices(AT_ONCE, now + 10 * DAY + 1, 7, DEVICE_ACTIVE); /* one after the other */
    devices(3000, now + 10 * DAY, 0, DEVICE_PENDING);    /* are not let in */
    devices(2000, now + 11 * DAY, 0, DEVICE_QUARANTINED);
    devices(100, now - DAY, 1, DEVICE_ACTIVE);           /* have stopped */
    devices(AT_ONCE, now + 200 * DAY, 1, DEVICE_ACTIVE); /* later */
    struct forecast *f = run(90, &steps);
    assert_int_equal(forecast_count(f), 1);
    const struct forecast_cause *c = forecast_at(f, 0);
    assert_int_equal(c->kind, FORECAST_DEVICE);
    assert_int_equal(c->code, MUSTER_ECERTEXPIRED);
    assert_int_equal(c->stops, 2 * AT_ONCE);
    assert_int_equal(c->renews, 0);
    assert_int_equal(c->first, now + 10 * DAY);
    assert_int_equal(c->last, now + 10 * DAY + 1 + 7 * (AT_ONCE - 1));
    assert_int_equal(c->n_devices, FORECAST_NAMES);
    int64_t days = 0;
    for (size_t i = 0; i < c->n_days; i++) {
        assert_int_equal(c->days[i].at % DAY, 0);
        assert_true(i == 0 || c->days[i].at > c->days[i - 1].at);
        days += c->days[i].stops;
    }
    assert_int_equal(days, c->stops);
    assert_int_equal(forecast_stops(f, "cars", FORECAST_DEVICE, now + 9 * DAY), 0);
    assert_int_equal(forecast_stops(f, "", FORECAST_DEVICE, now + 12 * DAY), c->stops);
    assert_int_equal(forecast_stops(f, "bikes", FORECAST_DEVICE, now + 12 * DAY), 0);
    assert_in_range(steps, 6, 14);
    forecast_free(f);
}

/* Those that would live longer stop with the root; and all of them are walked, though they end behind the horizon. */
static void a_root_takes_all_along(void **state) {
    int steps;
    begin(20);
    devices(AT_ONCE, now + 10000 * DAY, 0, DEVICE_ACTIVE);
    devices(10, now + 5 * DAY, 1, DEVICE_ACTIVE);
    struct forecast *f = run(90, &steps);
    assert_int_equal(forecast_count(f), 2);
    assert_int_equal(forecast_at(f, 0)->kind, FORECAST_DEVICE);
    assert_int_equal(forecast_at(f, 0)->stops, 10);
    assert_int_equal(forecast_at(f, 1)->kind, FORECAST_ROOT);
    assert_int_equal(forecast_at(f, 1)->stops, AT_ONCE);
    assert_int_equal(forecast_at(f, 1)->n_days, 1);
    assert_string_equal(forecast_at(f, 1)->subject, "CN=Root");
    forecast_free(f);
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    sql("UPDATE root SET state = 4");
    f = run(90, &steps);
    assert_int_equal(forecast_count(f), 0);
    forecast_free(f);
}

/* Very far ahead the days are put together, so that an answer stays bounded. */
static void days_far_ahead_are_bounded(void **state) {
    int steps;
    begin(24000);
    devices(20000, now + DAY, DAY, DEVICE_ACTIVE);
    struct forecast *f = run(FORECAST_DAYS_MAX, &steps);
    assert_int_equal(forecast_at(f, 0)->stops, 20000);
    assert_in_range(forecast_at(f, 0)->n_days, 1000, FORECAST_BINS_MAX);
    json_t *o = forecast_json(f);
    assert_int_equal(json_integer_value(json_object_get(o, "day_length")), FORECAST_DAYS_MAX / FORECAST_BINS_MAX + 1);
    json_decref(o);
    forecast_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_counted_once),
        cmocka_unit_test(a_root_takes_all_along),
        cmocka_unit_test(days_far_ahead_are_bounded),
    };
    return cmocka_run_group_tests(tests, on_disk_make, on_disk_drop);
}
