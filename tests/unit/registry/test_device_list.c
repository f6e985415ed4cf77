/* Pages of devices in an account where what is asked for is rare: a page is short then, has a cursor, and nothing is left out. */
#include "on_disk.h"
#include "registry/device.h"

#define DEVICES 43000

static struct store *registry;

/* Roots 1 and 2, the second of the last device alone; root 3 of Muster's own, under which every 1,000th device stands; one key, whose certificate of every 10,000th device is newer. */
static int make(void **state) {
    static const char rows[] =
        "INSERT INTO account (id, name, kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling) "
        "VALUES (1, 'a', 1, 3, 2, 0, 1, 0, 0, 1, 1, 1, 1);"
        "INSERT INTO root (id, uuid, account, origin, state, state_before, fingerprint, spki, subject, der, not_after, id_rule, key_rule, challenge_expires, created) VALUES "
        "(1, x'00000000000070008000000000000001', 1, 1, 2, 0, randomblob(32), randomblob(32), 'CN=x', x'00', 9, 1, 1, 0, 0), "
        "(2, x'00000000000070008000000000000002', 1, 1, 2, 0, randomblob(32), randomblob(32), 'CN=x', x'00', 9, 1, 1, 0, 0), "
        "(3, x'00000000000070008000000000000003', 1, 2, 2, 0, randomblob(32), randomblob(32), 'CN=x', x'00', 9, 1, 1, 0, 0);"
        "INSERT INTO prov_key (id, uuid, account, name, state, created, expires, certificate_not_after, max_devices, spent, per_hour, id_pattern, sources, build, spki, fingerprint, last_used) "
        "VALUES (1, randomblob(16), 1, 'k', 1, 0, 9, 9, 0, 0, 0, '', '', '', randomblob(32), randomblob(32), 0);"
        "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %d) "
        "INSERT INTO device (id, uuid, account, device_id, state, state_before, method, root, created, last_seen, last_address, again, refused, expected, reason, certificate_not_after, "
        "issue_first, issue_last_ms, issue_count, seen_hour, anchor) SELECT i, randomblob(16), 1, 'd' || i, 1, 0, 1, 1 + (i = %d), 50, 3600 * (10 + i %% 4), '', 0, 0, 0, '', 0, 0, 0, 0, 10 + i %% 4, 3 * (i %% 1000 = 0) "
        "FROM c;"
        "INSERT INTO cert (serial, fingerprint, account, device, prov_key, spki, state, der, not_before, not_after, created, used, enrolled) "
        "SELECT randomblob(16), randomblob(32), 1, id, 1, randomblob(32), 2, x'00', 0, 9, 100 + 100 * (id %% 10000 = 0), 0, 100 + 100 * (id %% 10000 = 0) FROM device;"
        "INSERT INTO cert (serial, fingerprint, account, device, prov_key, spki, state, der, not_before, not_after, created, used, enrolled) "
        "SELECT randomblob(16), randomblob(32), 1, id, 1, randomblob(32), CASE id WHEN 10 THEN 4 ELSE 1 END, x'00', 0, 9, 210, 0, 210 FROM device WHERE id IN (10, 10000);";
    sqlite3 *db;
    char *why = NULL, *text = sqlite3_mprintf(rows, DEVICES, DEVICES);
    if (on_disk_make(state))
        return -1;
    on_disk_anew();
    if (sqlite3_open(on_disk_path, &db) || sqlite3_exec(db, "PRAGMA synchronous = OFF", NULL, NULL, NULL) || sqlite3_exec(db, text, NULL, NULL, &why)) {
        fprintf(stderr, "%s\n", why ? why : "?");
        return -1;
    }
    sqlite3_free(text);
    sqlite3_close(db);
    registry = on_disk_open();
    return 0;
}

static int drop(void **state) {
    store_close(registry);
    return on_disk_drop(state);
}

/* The devices' IDs, blank behind each, over all pages; *pages: how many. */
static const char *list(struct device_list l, int *pages) {
    static struct buf all;
    CLEANUP(buf_fini) struct buf cursor = BUF_INIT(256);
    struct err err = ERR_INIT;
    buf_fini(&all);
    all = BUF_INIT(1 << 20);
    l.account = SPAN_LIT("a");
    l.page.limit = 1000;
    *pages = 0;
    for (bool more = true; more; ++*pages) {
        l.cursor = buf_span(&cursor);
        l.page.out = NULL;
        if (store_read_now(registry, device_list_run, &l, &err))
            fail_msg("%s", err_text(&err));
        size_t i;
        json_t *one;
        json_array_foreach(json_object_get(l.page.out, "items"), i, one)
            buf_addf(&all, "%s ", json_string_value(json_object_get(one, "device_id")));
        const char *next = json_string_value(json_object_get(l.page.out, "next"));
        more = next != NULL;
        buf_clear(&cursor);
        buf_adds(&cursor, next ? next : "");
        json_decref(l.page.out);
        assert_true(*pages < 1000); /* it goes in a circle */
    }
    return buf_str(&all);
}

static void what_a_key_gave_since(void **state) {
    int pages;
    assert_string_equal(list((struct device_list){.key = SPAN_LIT("k"), .since = 200}, &pages), "d10000 d20000 d30000 d40000 ");
    assert_int_equal(pages, 3); /* 20,000 passed over by each */
    assert_string_equal(list((struct device_list){.key = SPAN_LIT("k"), .since = 201}, &pages), "d10000 ");
    assert_string_equal(list((struct device_list){.key = SPAN_LIT("k"), .since = 211}, &pages), "");
    assert_string_equal(list((struct device_list){.key = SPAN_LIT("k"), .since = 200, .root = SPAN_LIT("00000000-0000-7000-8000-000000000001")}, &pages), "d10000 d20000 d30000 d40000 ");
    const char *all = list((struct device_list){.key = SPAN_LIT("k"), .since = 100}, &pages);
    size_t n = 0;
    for (const char *p = all; (p = strchr(p, ' ')); p++)
        n++;
    assert_int_equal(n, DEVICES);
}

/* Hours of many thousands, over which a page ends in the middle. */
static void each_that_was_seen_comes_once(void **state) {
    static bool came[DEVICES + 1];
    int pages;
    size_t n = 0;
    memset(came, 0, sizeof came);
    for (const char *p = list((struct device_list){.seen_since = 11 * CLOCK_HOUR, .not_seen_since = 13 * CLOCK_HOUR}, &pages); *p; p = strchr(p, ' ') + 1, n++) {
        long id = strtol(p + 1, NULL, 10);
        assert_in_range(id, 1, DEVICES);
        assert_false(came[id]);
        assert_true(id % 4 == 1 || id % 4 == 2);
        came[id] = true;
    }
    assert_int_equal(n, DEVICES / 2);
    assert_in_range(pages, DEVICES / 2000, DEVICES / 2000 + 2);
}

static void a_root_of_few(void **state) {
    char last[32];
    int pages;
    snprintf(last, sizeof last, "d%d ", DEVICES);
    assert_string_equal(list((struct device_list){.root = SPAN_LIT("00000000-0000-7000-8000-000000000002")}, &pages), last);
    assert_int_equal(pages, 1);
}

/* A root of Muster's own, under which devices stand by whichever way they came: by their anchor, in the order of their rows, and each once. */
static void few_under_a_root_of_muster_s_own(void **state) {
    const struct device_list under = {.root = SPAN_LIT("00000000-0000-7000-8000-000000000003")};
    CLEANUP(buf_fini) struct buf all = BUF_INIT(1024);
    struct device_list l = under;
    int pages;
    for (int i = 1000; i <= DEVICES; i += 1000)
        buf_addf(&all, "d%d ", i);
    assert_string_equal(list(under, &pages), buf_str(&all));
    assert_int_equal(pages, 1); /* and not all devices in pages of LOOKED_AT_MAX */
    l.by_row = true;
    assert_string_equal(list(l, &pages), buf_str(&all));
    assert_int_equal(pages, 1);
    l.key = SPAN_LIT("k");
    l.since = 200;
    assert_string_equal(list(l, &pages), "d10000 d20000 d30000 d40000 ");
    assert_int_equal(pages, 1);
    l = under;
    l.prefix = SPAN_LIT("d4");
    assert_string_equal(list(l, &pages), "d4000 d40000 d41000 d42000 d43000 ");
    l = under;
    l.not_seen_since = 11 * CLOCK_HOUR;
    assert_string_equal(list(l, &pages), buf_str(&all));
    l = under;
    l.state = DEVICE_REVOKED;
    assert_string_equal(list(l, &pages), "");
    assert_int_equal(pages, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_a_key_gave_since), cmocka_unit_test(each_that_was_seen_comes_once), cmocka_unit_test(a_root_of_few), cmocka_unit_test(few_under_a_root_of_muster_s_own)};
    return cmocka_run_group_tests(tests, make, drop);
}
