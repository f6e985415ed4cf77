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

static struct forecast *run_with(int days, struct forecast_server server, int *steps) {
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

static struct forecast *run(int days, int *steps) { return run_with(days, (struct forecast_server){0}, steps); }

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

/* n devices with certificates of Muster's own that they have not used: two each, the newer one of which counts. */
static void waiting(int n, int64_t end, int state) {
    sql("UPDATE account SET method = 3");
    sql("WITH RECURSIVE c (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i + 1 < %d) "
        "INSERT INTO device (uuid, account, device_id, state, state_before, method, created, last_seen, last_address, again, refused, expected, reason, certificate_not_after, "
        "issue_first, issue_last_ms, issue_count) SELECT randomblob(16), 1, 'new-' || hex(randomblob(8)), %d, %d, 1, 0, 0, '', 0, 0, 0, '', 0, 0, 0, 0 FROM c",
        n, state, state);
    for (int i = 0; i < 2; i++)
        sql("INSERT INTO cert (serial, fingerprint, account, device, spki, state, der, not_before, not_after, created, used) "
            "SELECT randomblob(16), randomblob(32), 1, id, zeroblob(32), 1, x'', 0, %lld, 0, 0 FROM device WHERE method = 1 AND state = %d AND "
            "(SELECT COUNT(*) FROM cert WHERE device = device.id) = %d",
            (long long)end - (i ? 0 : DAY), state, i);
}

static void who_has_not_come_is_counted_once(void **state) {
    int steps;
    begin(400);
    devices(10, now + 10 * DAY, 1, DEVICE_ACTIVE);
    waiting(AT_ONCE, now + 20 * DAY, DEVICE_ACTIVE);
    waiting(100, now + 20 * DAY, DEVICE_QUARANTINED);
    sql("UPDATE device SET certificate = zeroblob(32), certificate_not_after = %lld WHERE id IN (SELECT id FROM device WHERE method = 1 AND state = %d LIMIT 5)", /* a renewal in hand */
        (long long)(now + 200 * DAY), DEVICE_ACTIVE);
    struct forecast *f = run(90, &steps);
    assert_int_equal(forecast_stops(f, "cars", FORECAST_DEVICE, now + 15 * DAY), 10);
    assert_int_equal(forecast_stops(f, "cars", FORECAST_DEVICE, now + 21 * DAY), 10 + AT_ONCE - 5);
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

static json_t *shown(const struct forecast *f) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(1 << 20);
    struct err err = ERR_INIT;
    assert_int_equal(forecast_write(f, &text, &err), 0);
    json_t *o = json_parse(buf_span(&text), &err);
    if (!o)
        fail_msg("%s", err_text(&err));
    return o;
}

/* Very far ahead the days are put together, so that an answer stays bounded. */
static void days_far_ahead_are_bounded(void **state) {
    int steps;
    begin(24000);
    devices(20000, now + DAY, DAY, DEVICE_ACTIVE);
    struct forecast *f = run(FORECAST_DAYS_MAX, &steps);
    assert_int_equal(forecast_at(f, 0)->stops, 20000);
    assert_in_range(forecast_at(f, 0)->n_days, 1000, FORECAST_BINS_MAX);
    json_t *o = shown(f);
    assert_int_equal(json_integer_value(json_object_get(o, "day_length")), FORECAST_DAYS_MAX / FORECAST_BINS_MAX + 1);
    json_decref(o);
    forecast_free(f);
}

/* However many causes have however many days, an answer has no more than it may, and every device is in it. */
static void days_of_all_causes_are_bounded(void **state) {
    const struct forecast_server server = {0};
    struct forecast *f = NULL;
    struct err err = ERR_INIT;
    size_t n = 0;
    int64_t stops = 0;
    begin(4000);
    devices(3000, now + DAY, DAY, DEVICE_ACTIVE);
    sqlite3_close(db);
    struct store *s = on_disk_open();
    assert_int_equal(forecast_new("", now, 3600, &server, &f, &err), 0);
    forecast_bound_days(f, 500);
    while (forecast_more(f))
        assert_int_equal(store_read_now(s, forecast_run, f, &err), 0);
    store_close(s);
    for (size_t i = 0; i < forecast_count(f); i++)
        for (size_t k = 0; k < forecast_at(f, i)->n_days; k++, n++) {
            stops += forecast_at(f, i)->days[k].stops;
            assert_int_equal(forecast_at(f, i)->days[k].at % (8 * DAY), 0);
        }
    assert_in_range(n, 250, 500);
    assert_int_equal(stops, 3000);
    json_t *o = shown(f);
    assert_int_equal(json_integer_value(json_object_get(o, "day_length")), 8);
    json_decref(o);
    forecast_free(f);
}

/* --- a damaged row ------------------------------------------------------------------------------------------------------------------- */

/* Writes a row of the table chain: so many times the CA, and what follows. */
static void put_chain(int64_t id, int64_t account, const struct cert *ca, int n, struct span behind, const struct cert *leaf, struct span behind_leaf) {
    CLEANUP(buf_fini) struct buf cas = BUF_INIT(65536), end = BUF_INIT(65536);
    for (int i = 0; i < n; i++)
        assert_int_equal(cert_der(ca, &cas), 0);
    buf_add(&cas, behind);
    assert_int_equal(cert_der(leaf, &end), 0);
    buf_add(&end, behind_leaf);
    sql("INSERT INTO chain (id, account, root, hash, cas, leaf, leaf_not_after) VALUES (%lld, %lld, 1, randomblob(32), x'', x'', %lld)", (long long)id, (long long)account, (long long)leaf->not_after);
    sql("CREATE TEMP TABLE here AS SELECT %lld AS id", (long long)id);
    put_blob("UPDATE chain SET cas = ?1 WHERE id = (SELECT id FROM here)", buf_span(&cas));
    put_blob("UPDATE chain SET leaf = ?1 WHERE id = (SELECT id FROM here)", buf_span(&end));
    sql("DROP TABLE here");
}

/* What cannot be judged is left out and said; everything else is forecast as ever, in this account and in others. */
static void a_damaged_row_silences_nobody_else(void **state) {
    enum { MANY_CAS, BYTES_BEHIND, BYTES_BEHIND_LEAF, NO_CERT, LARGE, DEVICE_NAME, KEY, CASES };
    for (int which = 0; which < CASES; which++) {
        int steps;
        struct made large = make_it((struct recipe){.cn = "x", .ext = CA_EXT, .to = 40 * DAY});
        begin(400);
        sql("INSERT INTO account (id, name, kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling) "
            "SELECT 2, 'vans', kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling FROM account WHERE id = 1");
        sql("INSERT INTO root (id, uuid, account, origin, state, state_before, fingerprint, spki, subject, der, not_after, id_rule, key_rule, challenge_expires, created) "
            "SELECT 2, randomblob(16), 2, origin, state, state_before, fingerprint, randomblob(32), subject, der, not_after, id_rule, key_rule, challenge_expires, created FROM root WHERE id = 1");
        devices(500, now + 10 * DAY, 0, DEVICE_ACTIVE);
        sql("UPDATE device SET account = 2, root = 2");
        devices(1, now + 20 * DAY, 0, DEVICE_ACTIVE);
        switch (which) {
        case MANY_CAS:
            put_chain(1, 1, large.cert, CHAIN_MAX_CERTS, SPAN_NONE, large.cert, SPAN_NONE);
            break;
        case BYTES_BEHIND:
            put_chain(1, 1, large.cert, 1, SPAN_LIT("x"), large.cert, SPAN_NONE);
            break;
        case BYTES_BEHIND_LEAF:
            put_chain(1, 1, large.cert, 1, SPAN_NONE, large.cert, SPAN_LIT("x"));
            break;
        case NO_CERT:
            sql("INSERT INTO chain (id, account, root, hash, cas, leaf, leaf_not_after) VALUES (1, 1, 1, zeroblob(32), x'', x'00', 1)");
            break;
        case LARGE: { /* each can be read, and nobody could have shown them together */
            static char name[5000];
            memset(name, 'x', sizeof name - 1);
            struct made big = make_it((struct recipe){.cn = "x", .ext = EXT("basicConstraints", "critical,CA:TRUE", "nsComment", name), .to = 40 * DAY});
            put_chain(1, 1, big.cert, 4, SPAN_NONE, large.cert, SPAN_NONE);
            cert_free(big.cert);
            EVP_PKEY_free(big.key);
            break;
        }
        case DEVICE_NAME:
            sql("UPDATE device SET uuid = x'00' WHERE account = 1");
            break;
        case KEY:
            sql("INSERT INTO prov_key (uuid, account, name, state, created, expires, certificate_not_after, max_devices, spent, per_hour, id_pattern, sources, build, spki, fingerprint, last_used) "
                "VALUES (x'00', 1, 'ci', 1, 0, %lld, %lld, 0, 0, 0, '*', '', '', randomblob(32), randomblob(32), 0)", (long long)(now + 20 * DAY), (long long)(now + 20 * DAY));
            break;
        }
        struct forecast *f = run(90, &steps);
        assert_int_equal(forecast_stops(f, "vans", FORECAST_DEVICE, now + 90 * DAY), 500);
        assert_int_equal(forecast_stops(f, "cars", FORECAST_DEVICE, now + 90 * DAY), 1);
        assert_int_equal(forecast_damaged(f), 1);
        assert_int_equal(forecast_damage(f)->code, MUSTER_ECORRUPT);
        assert_false(forecast_complete(f));
        forecast_free(f);
        cert_free(large.cert);
        EVP_PKEY_free(large.key);
    }
}

/* --- many causes ----------------------------------------------------------------------------------------------------------------------- */

static void keys(int n, int64_t end) {
    sql("WITH RECURSIVE c (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i + 1 < %d) "
        "INSERT INTO prov_key (uuid, account, name, state, created, expires, certificate_not_after, max_devices, spent, per_hour, id_pattern, sources, build, spki, fingerprint, last_used) "
        "SELECT randomblob(16), 1, 'ci-' || i, 1, 0, %lld, %lld, 0, 0, 0, '*', '', '', randomblob(32), randomblob(32), 0 FROM c", n, (long long)end, (long long)end);
}

static int64_t keys_of(const struct forecast *f) {
    int64_t n = 0;
    for (size_t i = 0; i < forecast_count(f); i++)
        n += forecast_at(f, i)->keys;
    return n;
}

/* However much ends in one account, the others' ends and the server's are there; and nothing of the many is lost but names. */
static void no_account_crowds_out_another(void **state) {
    int steps;
    begin(400);
    sql("UPDATE account SET method = 3");
    keys(1000, now + 20 * DAY);
    sql("WITH RECURSIVE c (i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM c WHERE i + 1 < 150) "
        "INSERT INTO root (id, uuid, account, origin, state, state_before, fingerprint, spki, subject, der, not_after, id_rule, key_rule, challenge_expires, created) "
        "SELECT c.i, randomblob(16), 1, origin, state, state_before, fingerprint, randomblob(32), subject, der, %lld, id_rule, key_rule, challenge_expires, created FROM root, c WHERE root.id = 1",
        (long long)(now + 15 * DAY));
    devices(50, now + 300 * DAY, 0, DEVICE_ACTIVE);
    sql("UPDATE device SET root = 99 + id");
    sql("INSERT INTO account (id, name, kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling) "
        "VALUES (2, 'vans', 1, 2, 2, 0, 1, 0, 0, 1, 1, 1, 1)");
    sql("INSERT INTO root (id, uuid, account, origin, state, state_before, fingerprint, spki, subject, der, not_after, id_rule, key_rule, challenge_expires, created) "
        "SELECT 2, randomblob(16), 2, origin, state, state_before, fingerprint, randomblob(32), subject, der, not_after, id_rule, key_rule, challenge_expires, created FROM root WHERE id = 1");
    devices(500, now + 10 * DAY, 0, DEVICE_ACTIVE);
    sql("UPDATE device SET account = 2, root = 2 WHERE root = 1");
    struct forecast *f = run_with(90, (struct forecast_server){.certificate_end = now + 5 * DAY}, &steps);
    assert_int_equal(forecast_stops(f, "vans", FORECAST_DEVICE, now + 90 * DAY), 500);
    assert_int_equal(forecast_stops(f, "", FORECAST_SERVER, now + 90 * DAY), 550);
    assert_int_equal(forecast_stops(f, "cars", FORECAST_ROOT, now + 90 * DAY), 50);
    assert_int_equal(keys_of(f), 1000);
    assert_int_equal(forecast_count(f), FORECAST_CAUSES_ACCOUNT + 1 + FORECAST_KEYS_ACCOUNT + 1 + 2);
    assert_true(forecast_complete(f));
    json_t *o = shown(f);
    assert_int_equal(json_integer_value(json_object_get(o, "keys")), 1000);
    assert_int_equal(json_array_size(json_object_get(o, "causes")), forecast_count(f));
    json_decref(o);
    forecast_free(f);
}

/* More causes than an answer shows: it says so, and keys give way. */
static void an_answer_is_bounded(void **state) {
    int steps;
    size_t i, server = 0, devices_shown = 0;
    json_t *one;
    begin(400);
    sql("WITH RECURSIVE c (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM c WHERE i < 600) INSERT INTO account (id, name, kind, method, state, created, reprovision, approval, expected_only, device_key, "
        "device_life, lost_answer_window, issue_ceiling) SELECT i, 'acc-' || i, 1, 3, 2, 0, 1, 0, 0, 1, 1, 1, 1 FROM c");
    sql("WITH RECURSIVE c (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM c WHERE i < 600) "
        "INSERT INTO root (id, uuid, account, origin, state, state_before, fingerprint, spki, subject, der, not_after, id_rule, key_rule, challenge_expires, created) "
        "SELECT c.i, randomblob(16), c.i, origin, state, state_before, fingerprint, randomblob(32), subject, der, not_after, id_rule, key_rule, challenge_expires, created FROM root, c WHERE root.id = 1");
    devices(599, now + 30 * DAY, 0, DEVICE_ACTIVE);
    sql("UPDATE device SET account = 1 + id, root = 1 + id");
    keys(1198, now + 20 * DAY);
    sql("UPDATE prov_key SET account = 2 + id %% 599");
    struct forecast *f = run_with(90, (struct forecast_server){.certificate_end = now + 50 * DAY}, &steps);
    assert_false(forecast_complete(f));
    json_t *o = shown(f), *causes = json_object_get(o, "causes");
    assert_int_equal(json_array_size(causes), FORECAST_CAUSES_MAX);
    json_array_foreach(causes, i, one) {
        server += !strcmp(json_string_value(json_object_get(one, "cause")), "server-certificate");
        devices_shown += !strcmp(json_string_value(json_object_get(one, "cause")), "device-certificate");
    }
    assert_int_equal(server, 1);
    assert_int_equal(devices_shown, 599);
    assert_int_equal(json_integer_value(json_object_get(o, "keys")), 1198);
    json_decref(o);
    forecast_free(f);
}

/* A key that has reached what it may do in an hour ends all the same. */
static void a_busy_key_ends_too(void **state) {
    int steps;
    begin(400);
    sql("UPDATE account SET method = 3");
    keys(1, now + 20 * DAY);
    sql("UPDATE prov_key SET per_hour = 1, in_hour = 1");
    sql("INSERT INTO key_hour (prov_key, at, n) SELECT id, %lld, 1 FROM prov_key", (long long)now - 10);
    struct forecast *f = run(90, &steps);
    assert_int_equal(keys_of(f), 1);
    assert_int_equal(forecast_at(f, 0)->code, MUSTER_EKEYEXPIRED);
    forecast_free(f);
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    sql("UPDATE prov_key SET state = 2");
    f = run(90, &steps);
    assert_int_equal(keys_of(f), 0);
    forecast_free(f);
}

/* --- who renews ---------------------------------------------------------------------------------------------------------------------------- */

#define LEAF_EXT EXT("keyUsage", "critical,digitalSignature", "extendedKeyUsage", "clientAuth")

/* An account with a root of Muster's own, and a device that enrolled by EST, under it, with such a key. */
static void begin_own(EVP_PKEY *key) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(8192), leaf = BUF_INIT(8192);
    begin(4000);
    struct made root = make_it((struct recipe){.cn = "Own", .ext = CA_EXT, .to = 4000 * DAY});
    struct made est = make_it((struct recipe){.cn = "est-1", .ext = LEAF_EXT, .key = key, .issuer = &root, .to = 200 * DAY});
    sql("UPDATE account SET method = 3");
    sql("INSERT INTO root (id, uuid, account, origin, state, state_before, fingerprint, spki, subject, der, not_after, id_rule, key_rule, challenge_expires, created) "
        "VALUES (9, randomblob(16), 1, 2, 2, 2, zeroblob(32), randomblob(32), 'CN=Own', x'', %lld, 0, 1, 0, 0)", (long long)root.cert->not_after);
    assert_int_equal(cert_der(root.cert, &der), 0);
    assert_int_equal(cert_der(est.cert, &leaf), 0);
    put_blob("UPDATE root SET der = ?1 WHERE id = 9", buf_span(&der));
    put_blob("UPDATE root SET fingerprint = ?1 WHERE id = 9", hash_span(&root.cert->fingerprint));
    devices(1, est.cert->not_after, 0, DEVICE_ACTIVE);
    sql("UPDATE device SET id = 77, method = 1, root = NULL, renews = 1");
    put_blob("UPDATE device SET certificate = ?1", hash_span(&est.cert->fingerprint));
    const ASN1_INTEGER *serial = X509_get0_serialNumber(est.cert->x);
    sql("INSERT INTO cert (id, serial, fingerprint, account, device, spki, state, der, not_before, not_after, created, used, enrolled, renews) "
        "VALUES (1, x'00', zeroblob(32), 1, 77, zeroblob(32), 2, x'', 0, %lld, 0, 1, 0, 1)", (long long)est.cert->not_after);
    put_blob("UPDATE cert SET serial = ?1", span_of(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial)));
    put_blob("UPDATE cert SET fingerprint = ?1", hash_span(&est.cert->fingerprint));
    put_blob("UPDATE cert SET der = ?1", buf_span(&leaf));
    cert_free(root.cert);
    EVP_PKEY_free(root.key);
    cert_free(est.cert);
    EVP_PKEY_free(est.key);
}

static void expect_own(int stops, int renews) {
    int steps;
    struct forecast *f = run(300, &steps);
    int64_t n[2] = {0};
    for (size_t i = 0; i < forecast_count(f); i++) {
        n[0] += forecast_at(f, i)->stops;
        n[1] += forecast_at(f, i)->renews;
    }
    assert_int_equal(n[0], stops);
    assert_int_equal(n[1], renews);
    forecast_free(f);
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
}

static void who_renews_is_judged_by_one_that_does(void **state) {
    EVP_PKEY *rsa = NULL;
    begin_own(NULL);
    expect_own(0, 1);
    sql("WITH RECURSIVE c (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i + 1 < 1000) "
        "INSERT INTO cert (serial, fingerprint, account, device, spki, state, der, not_before, not_after, created, used, enrolled, renews) "
        "SELECT randomblob(16), randomblob(32), 1, NULL, randomblob(32), 1, x'00', 0, %lld, 0, 0, 0, 0 FROM c", (long long)(now + 365 * DAY));
    expect_own(0, 1); /* issued, and not used yet */
    sql("INSERT OR REPLACE INTO meta (name, value) VALUES ('recovery', 1)");
    expect_own(1, 0); /* nothing is issued */
    sql("DELETE FROM meta WHERE name = 'recovery'");
    sql("UPDATE device SET renews = 0");
    expect_own(1, 0);
    sql("DELETE FROM cert");
    sql("UPDATE account SET method = 2");
    expect_own(0, 0); /* it does not come in now, though nothing is there to judge it by */
    sqlite3_close(db);
    assert_int_equal(key_generate(KEY_RSA, 2048, &rsa, NULL), 0);
    begin_own(rsa); /* enrolled while the account took RSA keys: its next key may be another */
    expect_own(0, 1);
    sqlite3_close(db);
}

/* Those that renew neither make an end look near, nor take the names. */
static void renewals_are_no_stops(void **state) {
    int steps;
    begin_own(NULL);
    sql("UPDATE device SET certificate_not_after = %lld WHERE id = 77", (long long)(now + DAY));
    devices(50, now + 2 * DAY, 60, DEVICE_ACTIVE);
    sql("UPDATE device SET method = 1, root = NULL, renews = 1");
    devices(1, now + 80 * DAY, 0, DEVICE_ACTIVE);
    sql("UPDATE device SET method = 1, root = NULL");
    struct forecast *f = run(90, &steps);
    assert_int_equal(forecast_count(f), 1);
    const struct forecast_cause *c = forecast_at(f, 0);
    assert_int_equal(c->stops, 1);
    assert_int_equal(c->renews, 51);
    assert_int_equal(c->first, now + DAY);
    assert_int_equal(c->first_stop, now + 80 * DAY);
    assert_int_equal(c->last_stop, now + 80 * DAY);
    assert_int_equal(c->n_devices, FORECAST_NAMES);
    assert_false(c->devices[0].renews);
    assert_int_equal(c->devices[0].at, now + 80 * DAY);
    assert_true(c->devices[1].renews);
    assert_int_equal(c->devices[1].at, now + DAY);
    forecast_free(f);
}

/* What is said of a device of another account, which holds the key of the certificate that a chain is judged by, is not said of the chain. */
static void a_key_that_another_account_holds(void **state) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(8192);
    int steps;
    struct made root = make_it((struct recipe){.cn = "Root", .ext = CA_EXT, .to = 400 * DAY});
    struct made line = make_it((struct recipe){.cn = "Line", .ext = CA_EXT, .issuer = &root, .to = 20 * DAY});
    struct made leaf = make_it((struct recipe){.cn = "dev", .ext = LEAF_EXT, .issuer = &line, .to = 200 * DAY});
    begin(400);
    assert_int_equal(cert_der(root.cert, &der), 0);
    put_blob("UPDATE root SET der = ?1", buf_span(&der));
    put_blob("UPDATE root SET fingerprint = ?1", hash_span(&root.cert->fingerprint));
    put_chain(1, 1, line.cert, 1, SPAN_NONE, leaf.cert, SPAN_NONE);
    devices(5, now + 200 * DAY, 0, DEVICE_ACTIVE);
    sql("UPDATE device SET chain = 1");
    sql("INSERT INTO account (id, name, kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling) "
        "VALUES (2, 'vans', 1, 2, 2, 0, 1, 0, 0, 1, 1, 1, 1)");
    sql("INSERT INTO device_key (account, spki, device, held, barred, created) VALUES (2, x'', NULL, 1, 0, 0)");
    put_blob("UPDATE device_key SET spki = ?1", hash_span(&leaf.cert->key.spki));
    struct forecast *f = run(90, &steps);
    assert_int_equal(forecast_stops(f, "cars", FORECAST_INTERMEDIATE, now + 90 * DAY), 5);
    assert_int_equal(forecast_at(f, 0)->first, line.cert->not_after);
    forecast_free(f);
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    sql("UPDATE root SET state = 4");
    f = run(90, &steps);
    assert_int_equal(forecast_count(f), 0);
    forecast_free(f);
    for (struct made *m[] = {&root, &line, &leaf}, **i = m; i < m + 3; i++) {
        cert_free((*i)->cert);
        EVP_PKEY_free((*i)->key);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_counted_once), cmocka_unit_test(who_has_not_come_is_counted_once),
        cmocka_unit_test(a_root_takes_all_along),
        cmocka_unit_test(days_far_ahead_are_bounded), cmocka_unit_test(days_of_all_causes_are_bounded), cmocka_unit_test(a_damaged_row_silences_nobody_else),
                                       cmocka_unit_test(no_account_crowds_out_another), cmocka_unit_test(an_answer_is_bounded), cmocka_unit_test(a_busy_key_ends_too),
                                       cmocka_unit_test(who_renews_is_judged_by_one_that_does), cmocka_unit_test(renewals_are_no_stops), cmocka_unit_test(a_key_that_another_account_holds),
    };
    return cmocka_run_group_tests(tests, on_disk_make, on_disk_drop);
}
