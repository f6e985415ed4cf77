/* Every statement of statements.def by SQLite's own plan: what reads must be led by an index to what it wants, in the order in which it
 * wants it.  A new list without an index fails here, not at a customer's millionth device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "registry/registry.h"

static const struct {
    const char *name, *sql;
} statements[] = {
#define S(NAME, text) {#NAME, text},
#include "registry/statements.def"
#undef S
};

/* What may read a whole table or sort by itself, because it cannot become much. */
static const struct {
    const char *statement, *why;
} may[] = {
    {"CA_ALL", "the snapshot of all anchors, once an epoch"},
    {"ROOT_ALL", "the snapshot of all anchors, once an epoch"},
    {"ACCOUNT_GONE", "accounts are made by hand; the sweep behind deleted ones, once an hour"},
    {"ROOT_PRINT_ANY", "one root in the accounts that have it"},
    {"OFFER_LIST", "at most OFFERS_MAX rows of one device"},
    {"STATE_CERTS_END", "the end of the table alone"},
    {"TOKEN_REVOKE_OWNERS", "tokens are made by hand, and this is done by hand"},
    {"TOKEN_REVOKE_ACCOUNT", "tokens are made by hand; once a deleted account"},
    {"ROOT_ENDING", "at most ROOTS_MAX roots of one account, by their ends"},
    {"KEY_LIVE", "the keys of one account that live, named in a warning"},
    {"REFUSAL_AGE_OUT", "refusals are bounded; what ages out, in the background"},
    {"EVENT_FROM", "the first rows in their order, so many as asked for"},
    {"EVENT_WANTS", "a row an account at most"},
    {"DEAD_PAGE", "dead letters of one webhook, which are bounded"},
    {"WEBHOOK_COUNT", "webhooks are made by hand, and bounded"},
    {"WEBHOOK_LOAD", "webhooks are made by hand, and bounded; at the start"},
    {"WEBHOOK_ACTIVE", "webhooks are made by hand, and bounded"},
};

/* What an index leads to everything of an account, a chain or a webhook by, and no further: an index is used, and all of a million devices may
 * be read nevertheless.  The first so many of them are fine, where nothing else is asked of them; all else has to say why it is bounded. */
static const struct {
    const char *statement, *why;
} may_read_all_of_one[] = {
    {"AUDIT_HAS", "once an account that is deleted, by hand"},
    {"AUDIT_ANCHORS", "from the newest; anchors are most of the server's log"},
    {"ACCOUNT_METHOD", "counts that triggers keep: a row for a state, method and root"},
    {"ACCOUNT_DEVICES", "counts that triggers keep: a row for a state, method and root"},
    {"ACCOUNT_KEYS_FREE", "deleting an account, by hand: all of its keys go"},
    {"ROOT_COUNT", "at most ROOTS_MAX roots of one account"},
    {"ROOT_TALLY", "at most ROOTS_MAX roots of one account"},
    {"ROOT_ENDING", "at most ROOTS_MAX roots of one account"},
    {"KEY_TALLY", "an index of active keys alone, with a limit"},
    {"CA_ENDS", "a few CAs"},
    {"STATE_CAS", "a few CAs"},
    {"UNSEALED_GET", "one row of an account"},
    {"STATE_EXPECTED", "all of an account's, once a verification, in their order"},
    {"EVENT_SWEPT_DROP", "a row for each number of days"},
    {"REPORT_SWEEP", "so many at a time"},
    {"SAID_SWEEP", "so many at a time"},
    {"WEBHOOK_COUNT_ACCOUNT", "webhooks are made by hand, and bounded"},
    {"WEBHOOK_DROP_ACCOUNT", "webhooks are made by hand, and bounded"},
    {"DELIVERY_COUNT_ALL", "a webhook's queue is bounded; by hand"},
};

/* "SEARCH t USING INDEX i (account=?)", and a condition that the index does not serve, or no limit. */
static bool reads_all_of_one(const char *statement, const char *sql, const char *step) {
    static const char *const wholes[] = {" (account=?)", " (chain=?)", " (webhook=?)"};
    bool whole = false;
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) {
        size_t n = strlen(step), w = strlen(wholes[i]);
        whole = whole || (n > w && !strcmp(step + n - w, wholes[i]));
    }
    if (!whole || (strstr(sql, " LIMIT ") && !strstr(sql, " AND ")))
        return false;
    for (size_t i = 0; i < sizeof may_read_all_of_one / sizeof *may_read_all_of_one; i++)
        if (!strcmp(may_read_all_of_one[i].statement, statement))
            return false;
    return true;
}

static sqlite3 *open_migrated(int (*open_fn)(const struct registry_open *o, struct store **out, struct err *err), const char *path) {
    struct store *store = NULL;
    struct err err = ERR_INIT;
    sqlite3 *db = NULL;
    unlink(path);
    assert_int_equal(open_fn(&(struct registry_open){.path = path, .queue_max = 10, .migrate = true, .unsafe_no_sync = true}, &store, &err), 0);
    store_close(store);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    return db;
}

/* What is wrong with one step of a plan, or NULL. */
static const char *fault_of(const char *statement, const char *sql, const char *step) {
    if (reads_all_of_one(statement, sql, step))
        return "is led to no less than all of an account";
    for (size_t i = 0; i < sizeof may / sizeof *may; i++)
        if (!strcmp(may[i].statement, statement))
            return NULL;
    if (strstr(step, "TEMP B-TREE"))
        return "sorts by itself";
    const char *scan = strstr(step, "SCAN ");
    if (!scan || !strncmp(scan, "SCAN CONSTANT ROW", 17) || !strncmp(scan, "SCAN (subquery", 14) || !strcmp(scan, "SCAN found"))
        return NULL;
    return "reads a whole table or index";
}

/* The number of faults; *known: the statement is one of this database's. */
static int look(sqlite3 *db, const char *name, const char *sql, bool *known) {
    char text[4096];
    sqlite3_stmt *plan = NULL;
    int faults = 0;
    assert_true(snprintf(text, sizeof text, "EXPLAIN QUERY PLAN %s", sql) < (int)sizeof text);
    *known = sqlite3_prepare_v2(db, text, -1, &plan, NULL) == SQLITE_OK;
    while (*known && sqlite3_step(plan) == SQLITE_ROW) {
        const char *step = (const char *)sqlite3_column_text(plan, 3), *fault = fault_of(name, sql, step);
        if (fault) {
            fprintf(stderr, "%s %s: %s\n", name, fault, step);
            faults++;
        }
    }
    sqlite3_finalize(plan);
    return faults;
}

static void every_statement_is_led_by_an_index(void **state) {
    char registry_path[64], control_path[64];
    snprintf(registry_path, sizeof registry_path, "/tmp/muster-plans-%d.db", (int)getpid());
    snprintf(control_path, sizeof control_path, "/tmp/muster-plans-%d-control.db", (int)getpid());
    sqlite3 *registry = open_migrated(registry_open, registry_path), *control = open_migrated(control_open, control_path);
    int faults = 0;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        bool in_registry, in_control;
        faults += look(registry, statements[i].name, statements[i].sql, &in_registry);
        if (!in_registry)
            faults += look(control, statements[i].name, statements[i].sql, &in_control);
        if (!in_registry && !in_control) {
            fprintf(stderr, "%s cannot be prepared on either database\n", statements[i].name);
            faults++;
        }
    }
    sqlite3_close(registry);
    sqlite3_close(control);
    unlink(registry_path);
    unlink(control_path);
    assert_int_equal(faults, 0);
}

/* The test itself can fail. */
static void a_statement_without_an_index_is_found(void **state) {
    char path[64];
    bool known;
    snprintf(path, sizeof path, "/tmp/muster-plans-%d-faults.db", (int)getpid());
    sqlite3 *db = open_migrated(registry_open, path);
    assert_int_equal(look(db, "X", "SELECT id FROM device WHERE last_address = ?1", &known), 1);
    assert_int_equal(look(db, "X", "SELECT id FROM device WHERE account = ?1 ORDER BY created", &known), 2); /* and sorts */
    assert_int_equal(look(db, "X", "SELECT id FROM device", &known), 1);
    assert_int_equal(look(db, "X", "SELECT state, COUNT(*) FROM device WHERE account = ?1 GROUP BY method", &known), 2);
    assert_int_equal(look(db, "X", "SELECT id FROM device WHERE account = ?1 AND id > ?2 ORDER BY id LIMIT ?3", &known), 0);
    /* An index, and yet all of an account. */
    assert_int_equal(look(db, "X", "SELECT id FROM device WHERE account = ?1 AND last_address = ?2 LIMIT ?3", &known), 1);
    assert_int_equal(look(db, "X", "SELECT COUNT(*) FROM expected WHERE account = ?1", &known), 1);
    assert_int_equal(look(db, "X", "SELECT device_id FROM expected WHERE account = ?1 ORDER BY device_id LIMIT ?2", &known), 0);
    sqlite3_close(db);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_statement_is_led_by_an_index), cmocka_unit_test(a_statement_without_an_index_is_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
