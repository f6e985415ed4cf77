/* What stands on a list, row by row; and certificates of before their issuer was written down. */
#include "on_disk.h"
#include "registry/account.h"
#include "registry/crl.h"
#include "registry/device_identity.h"
#include "../pki_fixture.h"

#define NOW 1790000000LL

static void sql(const char *text) {
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", why, text);
    sqlite3_close(db);
}

static int64_t number_of(const char *query) {
    sqlite3 *db;
    sqlite3_stmt *s;
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, query, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int64_t n = sqlite3_column_type(s, 0) == SQLITE_NULL ? -1 : sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return n;
}

#define ACCOUNT "INSERT INTO account (id, name, kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling) " \
                "VALUES (1, 'a', 1, 1, 2, 0, 1, 0, 0, 1, 1, 1, 1);"
#define CA(n) "INSERT INTO ca (id, account, kind, spki, der, not_after, created, key_id) VALUES (" #n ", 1, 1, x'0" #n "', x'', 9, 0, zeroblob(20));"

/* A device of that state with a certificate of that number, state and revocation under CA 1. */
static void device(int n, int state) {
    char text[600];
    snprintf(text, sizeof text,
             "INSERT INTO device (id, uuid, account, device_id, state, state_before, method, created, last_seen, last_address, again, refused, expected, reason, certificate_not_after, "
             "issue_first, issue_last_ms, issue_count) VALUES (%d, x'%032d', 1, 'd%d', %d, 1, 1, 0, 0, '', 0, 0, 0, '', 0, 0, 0, 0);",
             n, n, n, state);
    sql(text);
}
static void cert_of_device(int n, int device, int state, int64_t revoked, int reason, int64_t not_after, int issuer) {
    char text[600], of[16] = "NULL";
    if (device)
        snprintf(of, sizeof of, "%d", device);
    snprintf(text, sizeof text,
             "INSERT INTO cert (id, serial, fingerprint, account, device, spki, state, der, not_before, not_after, created, used, revoked, reason, issuer) VALUES "
             "(%d, x'01%030d', x'%064d', 1, %s, x'%064d', %d, x'', 0, %lld, %lld, 0, %lld, %d, %d);",
             n, n, n, of, n, state, (long long)not_after, 1000LL + n, (long long)revoked, reason, issuer);
    sql(text);
}

static struct crl_load loaded;

static void load(int64_t ca, int64_t since) {
    struct err err = ERR_INIT;
    struct store *s = on_disk_open();
    free(loaded.entries);
    loaded = (struct crl_load){.account = 1, .row = ca, .kind = CRL_ISSUING, .since = since};
    do {
        if (store_read_now(s, crl_load_run, &loaded, &err))
            fail_msg("%s", err_text(&err));
    } while (loaded.more);
    store_close(s);
    assert_int_equal(loaded.counts.entries, loaded.n);
}

/* The entry of certificate n, or NULL. */
static const struct crl_entry *on_it(int n) {
    char digits[33], text[33];
    const struct crl_entry *found = NULL;
    snprintf(digits, sizeof digits, "01%030d", n);
    for (size_t i = 0; i < loaded.n; i++) {
        for (int k = 0; k < 16; k++)
            snprintf(text + 2 * k, 3, "%02x", loaded.entries[i].serial[k]);
        if (strcmp(text, digits) == 0) {
            assert_null(found); /* never twice */
            found = &loaded.entries[i];
        }
    }
    return found;
}

static void assert_entry(int n, int64_t revoked, int reason) {
    const struct crl_entry *e = on_it(n);
    if (!e)
        fail_msg("%d is not on the list", n);
    assert_int_equal(e->revoked, revoked);
    assert_int_equal(e->reason, reason);
}

static void who_is_on_it(void **state) {
    on_disk_anew();
    sql(ACCOUNT CA(1) CA(2));
    for (int s = DEVICE_ACTIVE; s <= DEVICE_DELETED; s++)
        device(s, s);
    for (int s = DEVICE_ACTIVE; s <= DEVICE_DELETED; s++) {
        bool gone = s >= DEVICE_REVOKED;
        cert_of_device(10 * s + 1, s, CERT_SUPERSEDED, 0, 0, NOW, 1);
        cert_of_device(10 * s + 2, s, gone ? CERT_REVOKED : CERT_CURRENT, gone ? 5000 + s : 0, 0, NOW, 1);
        cert_of_device(10 * s + 3, s, CERT_VOID, 4000, REASON_KEY_COMPROMISE, NOW, 1);
        cert_of_device(10 * s + 4, s, gone ? CERT_REVOKED : CERT_CURRENT, gone ? 5000 + s : 0, 0, NOW, 2); /* another CA's */
    }
    cert_of_device(90, 0, CERT_REVOKED, 6000, 0, NOW, 1);  /* its device was released */
    cert_of_device(91, 0, CERT_REVOKED, 1, 0, NOW, 1);     /* nobody wrote down when */
    load(1, 0);
    assert_null(on_it(11));
    assert_null(on_it(12));
    for (int s = DEVICE_ACTIVE; s <= DEVICE_DELETED; s++) {
        assert_entry(10 * s + 3, 4000, REASON_KEY_COMPROMISE);
        assert_null(on_it(10 * s + 4));
    }
    for (int s = DEVICE_PENDING; s <= DEVICE_QUARANTINED; s++) {
        assert_entry(10 * s + 1, 0, CRL_REASON_HOLD);
        assert_entry(10 * s + 2, 0, CRL_REASON_HOLD);
    }
    for (int s = DEVICE_REVOKED; s <= DEVICE_DELETED; s++) {
        assert_entry(10 * s + 1, 5000 + s, 0);
        assert_entry(10 * s + 2, 5000 + s, 0);
    }
    assert_entry(90, 6000, 0);
    assert_entry(91, 1000 + 91, 0);
    assert_int_equal(loaded.n, 5 + 4 + 4 + 2);
    load(2, 0);
    assert_int_equal(loaded.n, 4);
    assert_entry(10 * DEVICE_QUARANTINED + 4, 0, CRL_REASON_HOLD);
    assert_entry(10 * DEVICE_DELETED + 4, 5000 + DEVICE_DELETED, 0);
}

/* RFC 5280, 3.3: what has expired was on a list that was made later, before it leaves. */
static void what_has_expired_leaves_once_it_was_on_one(void **state) {
    on_disk_anew();
    sql(ACCOUNT CA(1));
    device(1, DEVICE_QUARANTINED);
    device(2, DEVICE_REVOKED);
    cert_of_device(1, 1, CERT_CURRENT, 0, 0, 100, 1);
    cert_of_device(2, 2, CERT_REVOKED, 50, 0, 100, 1);
    cert_of_device(3, 2, CERT_SUPERSEDED, 0, 0, 100, 1);
    cert_of_device(4, 2, CERT_SUPERSEDED, 0, 0, 101, 1);
    load(1, 100); /* they ended at that very moment */
    assert_int_equal(loaded.n, 4);
    load(1, 101);
    assert_int_equal(loaded.n, 1);
    assert_entry(4, 50, 0);
}

static void many_come_in_steps_and_none_twice(void **state) {
    on_disk_anew();
    sql(ACCOUNT CA(1)
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000) INSERT INTO device (id, uuid, account, device_id, state, state_before, method, created, last_seen, "
        "last_address, again, refused, expected, reason, certificate_not_after, issue_first, issue_last_ms, issue_count) SELECT i, randomblob(16), 1, 'd' || i, 3 + i % 2, 1, 1, 0, 0, '', 0, 0, 0, "
        "'', 0, 0, 0, 0 FROM n;"
        "INSERT INTO cert (serial, fingerprint, account, device, spki, state, der, not_before, not_after, created, used, revoked, issuer) SELECT x'01' || randomblob(15), randomblob(32), 1, id, "
        "randomblob(32), CASE state WHEN 4 THEN 5 ELSE 2 END, x'', 0, 2000000000, 9, 0, CASE state WHEN 4 THEN 7 ELSE 0 END, 1 FROM device;"
        "INSERT INTO cert (serial, fingerprint, account, device, spki, state, der, not_before, not_after, created, used, revoked, issuer) SELECT x'01' || randomblob(15), randomblob(32), 1, id, "
        "randomblob(32), 4, x'', 0, 2000000000, 9, 0, 0, 1 FROM device;"
        "INSERT INTO cert (serial, fingerprint, account, device, spki, state, der, not_before, not_after, created, used, revoked, issuer) SELECT x'01' || randomblob(15), randomblob(32), 1, id, "
        "randomblob(32), 3, x'', 0, 2000000000, 9, 0, 0, 1 FROM device;"); /* three each: no step ends between two devices by chance */
    load(1, 0);
    assert_int_equal(loaded.n, 75000);
    assert_int_equal(loaded.counts.reasons, 3 * 12500);
    assert_int_equal(loaded.counts.undated, 3 * 12500);
    for (size_t i = 0; i < loaded.n; i++)
        for (size_t k = i + 1; k < loaded.n && k < i + 3; k++)
            assert_memory_not_equal(loaded.entries[i].serial, loaded.entries[k].serial, MAKE_SERIAL_LEN);
}

/* A device whose revocation comes between two steps: its first certificate is behind what was read, and it is on hold no more. */
static void who_is_revoked_between_the_steps_is_on_it(void **state) {
    struct err err = ERR_INIT;
    int steps = 0;
    on_disk_anew();
    sql(ACCOUNT CA(1)
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000) INSERT INTO device (id, uuid, account, device_id, state, state_before, method, created, last_seen, "
        "last_address, again, refused, expected, reason, certificate_not_after, issue_first, issue_last_ms, issue_count) SELECT i, randomblob(16), 1, 'd' || i, CASE i WHEN 1 THEN 3 ELSE 4 END, 1, 1, 0, 0, '', "
        "0, 0, 0, '', 0, 0, 0, 0 FROM n;"
        "INSERT INTO cert (serial, fingerprint, account, device, spki, state, der, not_before, not_after, created, used, revoked, issuer) SELECT x'01' || randomblob(15), randomblob(32), 1, id, "
        "randomblob(32), CASE state WHEN 4 THEN 5 ELSE 2 END, x'', 0, 2000000000, 9, 0, CASE state WHEN 4 THEN 7 ELSE 0 END, 1 FROM device;");
    struct store *s = on_disk_open();
    free(loaded.entries);
    loaded = (struct crl_load){.account = 1, .row = 1, .kind = CRL_ISSUING};
    do {
        if (store_read_now(s, crl_load_run, &loaded, &err))
            fail_msg("%s", err_text(&err));
        if (steps++ == 0) {
            assert_true(loaded.more);
            sql("UPDATE device SET state = 4 WHERE id = 1; UPDATE cert SET state = 5, revoked = 8 WHERE device = 1");
        }
    } while (loaded.more);
    store_close(s);
    assert_int_equal(loaded.n, 12000);
    assert_int_equal(loaded.counts.entries, 12000);
    assert_int_equal(loaded.counts.reasons, 0);
    assert_int_equal(loaded.entries[0].revoked, 8);
}

/* A verifier may take a revocation of the future for none; and one damaged row leaves the others on the list. */
static void dates_lie_behind_and_damage_takes_nobody_off(void **state) {
    on_disk_anew();
    sql(ACCOUNT CA(1));
    const int64_t now = clock_now();
    cert_of_device(1, 0, CERT_REVOKED, now, REASON_KEY_COMPROMISE, NOW + CLOCK_YEAR, 1);
    cert_of_device(2, 0, CERT_REVOKED, now - CRL_BACKDATE - 5, 0, NOW + CLOCK_YEAR, 1);
    cert_of_device(3, 0, CERT_REVOKED, 9000000000LL, 7, NOW + CLOCK_YEAR, 1);
    cert_of_device(4, 0, CERT_REVOKED, 5000, 0, NOW + CLOCK_YEAR, 1);
    cert_of_device(5, 0, CERT_REVOKED, 5000, 0, NOW + CLOCK_YEAR, 1);
    sql("UPDATE cert SET serial = x'01' WHERE id = 4; UPDATE cert SET serial = zeroblob(16) WHERE id = 5; UPDATE cert SET not_after = 9000000000");
    load(1, 0);
    assert_int_equal(loaded.left_out, 2);
    assert_int_equal(loaded.n, 3);
    assert_entry(1, 0, REASON_KEY_COMPROMISE);
    assert_entry(2, now - CRL_BACKDATE - 5, 0);
    assert_entry(3, 0, 0);
}

static void when_a_list_is_made_and_what_left_the_last_one(void **state) {
    const struct crl_row none = {0}, last = {.number = 1, .this_update = NOW - CRL_BACKDATE, .next_update = NOW + 7 * CLOCK_DAY, .revision = 5},
                         ahead = {.number = 1, .this_update = NOW + CLOCK_YEAR, .next_update = NOW + 2 * CLOCK_YEAR, .revision = 5};
    assert_int_equal(crl_since(&none, NOW), 0);
    assert_int_equal(crl_since(&last, NOW), NOW - CRL_BACKDATE - CLOCK_DAY);
    assert_int_equal(crl_since(&ahead, NOW), NOW - CLOCK_DAY); /* it was made while the clock was ahead */
    assert_true(crl_is_due(&none, 0, 240, NOW));
    assert_false(crl_is_due(&last, 5, 240, NOW));
    assert_false(crl_is_due(&last, 5, 240, NOW + 239)); /* from when it was made, which its thisUpdate is not */
    assert_true(crl_is_due(&last, 5, 240, NOW + 240));
    assert_true(crl_is_due(&last, 6, 240, NOW));
    assert_true(crl_is_due(&ahead, 5, 240, NOW));
}

/* Whatever may change a list raises the account's revision, and nothing else does. */
static void revisions(void **state) {
    static const struct {
        const char *text;
        bool raises;
    } steps[] = {
        {"UPDATE cert SET state = 2, used = 5 WHERE id = 1", false},
        {"UPDATE cert SET revoked = 7 WHERE id = 1", true},
        {"UPDATE cert SET reason = 1 WHERE id = 1", true},
        {"UPDATE device SET last_seen = 5", false},
        {"UPDATE device SET state = 3 WHERE id = 1", true},
        {"UPDATE device SET issue_count = 2 WHERE id = 1", true},
        {"UPDATE device SET state = 1 WHERE id = 1", true},
        {"UPDATE device SET issue_count = 3 WHERE id = 1", false},
        {"UPDATE device SET state = 1 WHERE id = 1", false},
        {"INSERT INTO device (id, uuid, account, device_id, state, state_before, method, created, last_seen, last_address, again, refused, expected, reason, certificate_not_after, issue_first, "
         "issue_last_ms, issue_count) VALUES (7, x'07', 1, 'd7', 1, 1, 1, 0, 0, '', 0, 0, 0, '', 0, 0, 0, 0)", false},
        {"INSERT INTO device (id, uuid, account, device_id, state, state_before, method, created, last_seen, last_address, again, refused, expected, reason, certificate_not_after, issue_first, "
         "issue_last_ms, issue_count) VALUES (8, x'08', 1, 'd8', 2, 1, 1, 0, 0, '', 0, 0, 0, '', 0, 0, 0, 0)", true},
        {"INSERT INTO root (id, uuid, account, origin, state, state_before, fingerprint, spki, subject, der, not_after, id_rule, key_rule, challenge_expires, created) VALUES "
         "(1, x'01', 1, 2, 2, 2, x'', x'01', '', x'', 9, 0, 1, 0, 0)", true},
        {"UPDATE root SET state = 4 WHERE id = 1", true},
        {"INSERT INTO root (id, uuid, account, origin, state, state_before, fingerprint, spki, subject, der, not_after, id_rule, key_rule, challenge_expires, created) VALUES "
         "(2, x'02', 1, 1, 2, 2, x'', x'02', '', x'', 9, 0, 1, 0, 0)", false},
        {"UPDATE root SET state = 4 WHERE id = 2", false},
        {CA(2), true},
    };
    on_disk_anew();
    sql(ACCOUNT CA(1));
    device(1, DEVICE_ACTIVE);
    cert_of_device(1, 1, CERT_ISSUED, 0, 0, NOW, 1);
    int64_t before = number_of("SELECT n FROM crl_revision WHERE account = 1");
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        sql(steps[i].text);
        int64_t after = number_of("SELECT n FROM crl_revision WHERE account = 1");
        if ((after > before) != steps[i].raises)
            fail_msg("%s: %lld, then %lld", steps[i].text, (long long)before, (long long)after);
        before = after;
    }
}

/* --- whose certificates are ------------------------------------------------------------------------------------------------------------- */

static void insert_der(sqlite3 *db, const char *text, const struct buf *der, int id) {
    sqlite3_stmt *s;
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &s, NULL), SQLITE_OK);
    sqlite3_bind_blob(s, 1, der->p, (int)der->n, SQLITE_STATIC);
    sqlite3_bind_int(s, 2, id);
    assert_int_equal(sqlite3_step(s), SQLITE_DONE);
    sqlite3_finalize(s);
}

static void make(const struct cert *ca, EVP_PKEY *ca_key, enum cert_profile profile, const char *id, enum key_kind kind, EVP_PKEY **key, struct buf *der) {
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    EVP_PKEY *own = NULL;
    assert_int_equal(key_generate(kind, 2048, &own, NULL) || key_public_der(own, &spki, NULL), 0);
    struct make_request rq = {.profile = profile, .subject.common_name = SPAN_LIT("a issuing CA 00000000"), .device_id = profile == PROFILE_DEVICE ? span_str(id) : SPAN_NONE, .public_key = buf_span(&spki),
                              .not_before = clock_now(), .not_after = clock_now() + CLOCK_YEAR};
    make_serial(rq.serial);
    buf_clear(der);
    assert_int_equal(make_cert(&rq, ca, ca ? ca_key : own, der, NULL), 0);
    if (key)
        *key = own;
    else
        EVP_PKEY_free(own);
}

static void certificates_of_before_know_their_issuer(void **state) {
    struct cert *cas[2];
    EVP_PKEY *keys[2];
    sqlite3 *db;
    CLEANUP(buf_fini) struct buf der = BUF_INIT(8192);
    on_disk_anew();
    sql(ACCOUNT);
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    for (int i = 0; i < 2; i++) {
        make(NULL, NULL, PROFILE_ISSUING_CA, NULL, KEY_P256, &keys[i], &der);
        assert_int_equal(cert_from_der(buf_span(&der), &cas[i], NULL), 0);
        insert_der(db, "INSERT INTO ca (id, account, kind, spki, der, not_after, created) VALUES (?2, 1, 1, randomblob(32), ?1, 9, 0)", &der, 1 + i);
    }
    static const char *const ids[] = {"short", "a device ID of more than sixty-four characters, which stands in a subjectAltName behind", "another"};
    static const enum key_kind kinds[] = {KEY_P256, KEY_RSA, KEY_ED25519};
    int n = 0;
    for (int ca = 0; ca < 2; ca++)
        for (size_t i = 0; i < 3; i++)
            for (size_t k = 0; k < 3; k++) {
                make(cas[ca], keys[ca], PROFILE_DEVICE, ids[i], kinds[k], NULL, &der);
                insert_der(db, "INSERT INTO cert (serial, fingerprint, account, spki, state, der, not_before, not_after, created, used, revoked) VALUES (randomblob(16), x'', 1, x'', 2, ?1, 0, 9, 0, 0, 0)",
                           &der, 0);
                n++;
            }
    sqlite3_close(db);
    sql("DROP TABLE line_told; ALTER TABLE account DROP COLUMN tried; ALTER TABLE prov_key DROP COLUMN tried; ALTER TABLE root DROP COLUMN tried; DROP INDEX csr_key; DROP INDEX offer_key; DROP INDEX cert_key_gone; DROP TABLE line_revoked; DROP INDEX device_line_certificate; DROP INDEX device_line_serial; ALTER TABLE device DROP COLUMN line_certificate; ALTER TABLE device DROP COLUMN line_serial; ALTER TABLE prov_key DROP COLUMN shadow; ALTER TABLE device DROP COLUMN line_key; DROP INDEX cert_waiting; DROP TABLE server_ca; ALTER TABLE device DROP COLUMN server_ca; ALTER TABLE cert DROP COLUMN server_ca; DROP TABLE line; DROP INDEX device_line; ALTER TABLE device DROP COLUMN line; DROP INDEX device_chain; DROP INDEX chain_end; ALTER TABLE account DROP COLUMN backend; DROP INDEX cert_no_issuer; DROP TABLE listed; DROP TABLE held; DROP TABLE csr; ALTER TABLE account DROP COLUMN csr_queue; DROP TABLE root_cross; DROP INDEX device_anchor; ALTER TABLE device DROP COLUMN anchor; ALTER TABLE account DROP COLUMN own_root; ALTER TABLE root DROP COLUMN expired; DROP TABLE ask; ALTER TABLE account DROP COLUMN hook; ALTER TABLE account DROP COLUMN profile; ALTER TABLE account DROP COLUMN shadow; ALTER TABLE prov_key DROP COLUMN profile; DROP TABLE root_crl; DROP TABLE root_crl_entry;" /* of later migrations */
        "DROP TRIGGER crl_ca; DROP TRIGGER crl_root; DROP TRIGGER crl_root_new; DROP TRIGGER crl_cert; DROP TRIGGER crl_device; DROP TRIGGER crl_device_new; DROP TABLE crl_revision; "
        "DROP INDEX cert_crl; DROP INDEX cert_left; ALTER TABLE cert DROP COLUMN issuer; ALTER TABLE ca DROP COLUMN key_id; DELETE FROM schema_version WHERE number >= 16;");
    store_close(on_disk_open());
    assert_int_equal(number_of("SELECT COUNT(*) FROM cert WHERE id <= 9 AND issuer = 1"), 9);
    assert_int_equal(number_of("SELECT COUNT(*) FROM cert WHERE id > 9 AND issuer = 2"), n - 9);
    assert_int_equal(number_of("SELECT COUNT(*) FROM ca WHERE length(key_id) = 20"), 2);
    assert_int_equal(number_of("SELECT n FROM crl_revision WHERE account = 1"), 2);
    for (int i = 0; i < 2; i++) {
        cert_free(cas[i]);
        EVP_PKEY_free(keys[i]);
    }
}

/* The vault signs under a CA that it has just made, and the registry learns of it afterwards. */
static void what_was_signed_before_the_ca_was_known_is_its_own(void **state) {
    struct cert *ca[2];
    EVP_PKEY *key[2];
    sqlite3 *db;
    struct err err = ERR_INIT;
    struct buf ca_der[2] = {BUF_INIT(8192), BUF_INIT(8192)};
    CLEANUP(buf_fini) struct buf der = BUF_INIT(8192);
    on_disk_anew();
    sql(ACCOUNT);
    assert_int_equal(sqlite3_open(on_disk_path, &db), SQLITE_OK);
    for (int i = 0; i < 2; i++) {
        make(NULL, NULL, PROFILE_ISSUING_CA, NULL, KEY_P256, &key[i], &ca_der[i]);
        assert_int_equal(cert_from_der(buf_span(&ca_der[i]), &ca[i], NULL), 0);
        make(ca[i], key[i], PROFILE_DEVICE, "early", KEY_P256, NULL, &der);
        insert_der(db, "INSERT INTO cert (id, serial, fingerprint, account, spki, state, der, not_before, not_after, created, used, revoked) VALUES (?2, randomblob(16), x'', 1, x'', 5, ?1, 0, 9, "
                       "CAST(strftime('%s', 'now') AS INTEGER), 0, 7)", &der, i + 1);
    }
    sqlite3_close(db);
    struct store *s = on_disk_open();
    struct account_cas_add add = {.actor = {"muster"}, .name = SPAN_LIT("a"), .cas.issuing_ca = buf_span(&ca_der[0])};
    if (store_write_now(s, account_cas_add_run, &add, &err))
        fail_msg("%s", err_text(&err));
    store_close(s);
    assert_int_equal(number_of("SELECT issuer FROM cert WHERE id = 1"), number_of("SELECT id FROM ca WHERE kind = 1"));
    assert_int_equal(number_of("SELECT issuer FROM cert WHERE id = 2"), -1); /* another's */
    for (int i = 0; i < 2; i++) {
        cert_free(ca[i]);
        EVP_PKEY_free(key[i]);
        buf_fini(&ca_der[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_on_it),
        cmocka_unit_test(what_has_expired_leaves_once_it_was_on_one),
        cmocka_unit_test(many_come_in_steps_and_none_twice),
        cmocka_unit_test(who_is_revoked_between_the_steps_is_on_it),
        cmocka_unit_test(dates_lie_behind_and_damage_takes_nobody_off),
        cmocka_unit_test(when_a_list_is_made_and_what_left_the_last_one),
        cmocka_unit_test(revisions),
        cmocka_unit_test(certificates_of_before_know_their_issuer),
        cmocka_unit_test(what_was_signed_before_the_ca_was_known_is_its_own),
    };
    int rc = cmocka_run_group_tests(tests, on_disk_make, on_disk_drop);
    free(loaded.entries);
    return rc;
}
