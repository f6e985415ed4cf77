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

/* --- conditions that no index serves --------------------------------------------------------------------------------------------------- */

/* What of a statement that may read many rows is held against each of them by itself, and why that is bounded.  An index leads to the others:
 * a filter beside it makes a page read as much as the filter throws away. */
static const struct {
    const char *statement, *columns, *why;
} may_filter[] = {
    {"AUDIT_HEADS", "chain", "is the primary key"},
    {"AUDIT_HAS", "action object", "once an account that is deleted, by hand"},
    {"AUDIT_ANCHORS", "action", "from the newest; anchors are most of the server's log"},
    {"ACCOUNT_PAGE", "state", "deleted accounts; accounts are made by hand"},
    {"ACCOUNT_GONE", "state", "accounts are made by hand"},
    {"CA_ALL", "state", "the snapshot of all anchors, once an epoch"},
    {"ROOT_ALL", "state origin", "the snapshot of all anchors, once an epoch"},
    {"ROOT_NAMESAKES", "account", "roots of one name"},
    {"ROOT_OF_SUBJECT", "account", "roots of one name"},
    {"ROOT_SHARED", "account state", "one root in the accounts that have it"},
    {"ROOT_OWN_SPKI", "origin", "one root in the accounts that have it"},
    {"ROOT_ENDING", "state not_after id", "at most ROOTS_MAX roots of one account"},
    {"KEY_HAS", "state", "is what the index is of"},
    {"KEY_ENROLLED", "state", "is what the index is of; then rows by their number"},
    {"KEY_LIVE", "state certificate_not_after max_devices spent", "state is what the index is of; the keys of one account that live, named in a warning"},
    {"KEY_TALLY", "state", "is what the index is of"},
    {"KEY_ENDING", "state id", "state is what the index is of; keys of one end"},
    {"KEY_REACH", "created state", "one count, by hand: what a command would do to the devices of a key"},
    {"KEY_REACH_DEVICES", "created state", "a command on the devices of a key, by hand; state is what the index is of, and a number of them apart"},
    {"DEVICE_PAGE_KEY", "state", "is what the index is of"},
    {"DEVICE_ENDS", "state", "is in the index, and counted no further than its limit"},
    {"DEVICE_ENDING", "state id", "state is what the index is of; devices of one end, in the background"},
    {"CERT_WAITING", "state", "the certificates of one device"},
    {"REFUSAL_AGE_OUT", "last", "of so many rows as the subquery takes"},
    {"TOKEN_PAGE_ACCOUNT", "account", "tokens are made by hand"},
    {"WEBHOOK_ACTIVE", "state", "webhooks are made by hand, and bounded"},
    {"DEAD_HAS", "state", "one event of one webhook"},
    {"DEAD_PAGE", "id", "dead letters of one webhook, which are bounded"},
};

static bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; }

static bool has_word(const char *words, const char *word, size_t n) {
    for (const char *at = words; (at = strstr(at, word)); at++)
        if (!is_word(at[n]) && (at == words || !is_word(at[-1])))
            return true;
    return false;
}

/* Whether a plan's steps say that an index, a primary key or an automatic order leads by this column: it stands in their brackets. */
static bool is_led_by(const char *steps, const char *column, size_t n) {
    if (!strcmp(column, "id") && (strstr(steps, "(rowid") || strstr(steps, "SCAN"))) /* what scans, fault_of() judges */
        return true;
    for (const char *at = strchr(steps, '('), *end; at && (end = strstr(at, ")\n")); at = strchr(end, '(')) {
        char brackets[512];
        snprintf(brackets, sizeof brackets, "%.*s", (int)(end - at), at);
        if (has_word(brackets, column, n))
            return true;
    }
    return false;
}

/* The next column that a condition compares with something, from *at on; its length, 0: there is none.  "(a, b) > (?1, ?2)" has two, which the
 * plan writes "(a,b)>(?,?)". */
static size_t next_condition(const char **at, char column[64]) {
    static const char *const operators[] = {" = ", " <> ", " < ", " > ", " <= ", " >= ", " IN ", " IS ", " LIKE ", ", ", ") > (", ") < (", ") >= (", ") <= (", ") IN ("};
    while (**at) {
        const char *from = *at;
        size_t n = 0;
        while (is_word(from[n]))
            n++;
        *at = from + (n ? n : 1);
        if (!n || n >= 64 || (from[0] >= '0' && from[0] <= '9') || from[-1] == '?')
            continue;
        for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
            if (!strncmp(*at, operators[i], strlen(operators[i]))) {
                memcpy(column, from, n);
                column[n] = '\0';
                return n;
            }
    }
    return 0;
}

/* The number of conditions of one WHERE that are held against each row; unless may_filter says why. */
static int filters_of(const char *statement, const char *where, const char *steps) {
    static const char *const ends[] = {" ORDER BY ", " GROUP BY ", " LIMIT ", " ON CONFLICT ", " RETURNING ", " UNION "};
    char conditions[2048], column[64];
    int faults = 0;
    snprintf(conditions, sizeof conditions, " %s", where); /* what stands before a column is looked at */
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char *end = strstr(conditions, ends[i]);
        if (end)
            *end = '\0';
    }
    size_t n;
    for (const char *at = conditions + 1; (n = next_condition(&at, column));) {
        bool fine = is_led_by(steps, column, n);
        for (size_t i = 0; !fine && i < sizeof may_filter / sizeof *may_filter; i++)
            fine = !strcmp(may_filter[i].statement, statement) && has_word(may_filter[i].columns, column, n);
        if (!fine) {
            fprintf(stderr, "%s holds every row that it reads against %s:\n%s", statement, column, steps);
            faults++;
        }
    }
    return faults;
}

/* Of what may read many rows: a list, a count, a change of more than one.  A row that a whole key leads to is one row. */
static int filters(const char *statement, const char *sql, const char *steps) {
    int faults = 0;
    if (!strstr(sql, " LIMIT ") && !strstr(sql, "COUNT(") && !strstr(sql, " ORDER BY "))
        return 0;
    for (const char *where = strstr(sql, " WHERE "); where; where = strstr(where + 7, " WHERE "))
        faults += filters_of(statement, where + 7, steps);
    return faults;
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
    char text[4096], steps[4096] = "";
    sqlite3_stmt *plan = NULL;
    int faults = 0;
    assert_true(snprintf(text, sizeof text, "EXPLAIN QUERY PLAN %s", sql) < (int)sizeof text);
    *known = sqlite3_prepare_v2(db, text, -1, &plan, NULL) == SQLITE_OK;
    while (*known && sqlite3_step(plan) == SQLITE_ROW) {
        const char *step = (const char *)sqlite3_column_text(plan, 3), *fault = fault_of(name, sql, step);
        size_t n = strlen(steps);
        assert_true(snprintf(steps + n, sizeof steps - n, "%s\n", step) < (int)(sizeof steps - n));
        if (fault) {
            fprintf(stderr, "%s %s: %s\n", name, fault, step);
            faults++;
        }
    }
    sqlite3_finalize(plan);
    return faults + (*known ? filters(name, sql, steps) : 0);
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
    assert_int_equal(look(db, "X", "SELECT id FROM device WHERE account = ?1 AND last_address = ?2 LIMIT ?3", &known), 2);
    assert_int_equal(look(db, "X", "SELECT COUNT(*) FROM expected WHERE account = ?1", &known), 1);
    assert_int_equal(look(db, "X", "SELECT device_id FROM expected WHERE account = ?1 ORDER BY device_id LIMIT ?2", &known), 0);
    /* An index, and a filter beside it; led by the account, one root's few devices are looked for in all of it. */
    assert_int_equal(look(db, "X", "SELECT id FROM device WHERE account = ?1 AND last_address = ?2 AND id > ?3 ORDER BY id LIMIT ?4", &known), 1);
    assert_int_equal(look(db, "X", "SELECT id FROM device WHERE account = ?1 AND root = ?2 AND id > ?3 ORDER BY id LIMIT ?4", &known), 1);
    assert_int_equal(look(db, "X", "SELECT id FROM device WHERE root = ?1 AND id > ?2 ORDER BY id LIMIT ?3", &known), 0);
    assert_int_equal(look(db, "X", "SELECT COUNT(*) FROM device WHERE account = ?1 AND state = ?2 AND method = ?3", &known), 1);
    assert_int_equal(look(db, "KEY_HAS", "SELECT COUNT(*) FROM cert WHERE prov_key = ?1 AND device = ?2 AND state IN (1, 2, 5) AND not_after > ?3", &known), 1);
    /* Of a pair the index serves the first alone. */
    assert_int_equal(look(db, "X", "SELECT id FROM device WHERE account = ?1 AND (seen_hour, id) > (?2, ?3) ORDER BY seen_hour, id LIMIT ?4", &known), 1);
    assert_int_equal(look(db, "X", "SELECT id FROM device WHERE account = ?1 AND seen_hour = ?2 AND id > ?3 ORDER BY id LIMIT ?4", &known), 0);
    sqlite3_close(db);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_statement_is_led_by_an_index), cmocka_unit_test(a_statement_without_an_index_is_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
