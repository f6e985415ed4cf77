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
    {"CA_ISSUING", "the CAs of one account, which are a few"},
    {"CA_ISSUING_NEWEST", "the CAs of one account, which are a few"},
    {"STATE_CERTS_END", "the end of the table alone"},
    {"SERVER_CA_ALL", "server CAs are made by hand, and there is a limit"},
    {"SERVER_CA_SEEN", "`server-ca show` and `retire`, by hand, in a reading transaction"},
    {"SERVER_CA_DEPEND", "likewise"},
    {"SERVER_CA_SEEN_PAGE", "likewise"},
    {"SERVER_CA_LEARN_PAGE", "likewise"},
    {"SERVER_CA_LOSE_PAGE", "likewise"},
    {"CHAINS_SEEN_PAGE", "`root show` and `retire`, by hand, in a reading transaction"},
    {"CHAINS_IN_USE_PAGE", "likewise"},
    {"CHAINS_ASLEEP_PAGE", "likewise"},
    {"DEVICE_PAGE_ANCHOR", "at most ANCHORED_MAX entries of an index, which is asked before"},
    {"SERVER_CA_STOPS", "a forecast, which walks over the devices as it is; only while a former server CA is near its end"},
    {"KEY_OPEN", "ending a recovery, by hand"},
    {"INVITATION_OPEN", "ending a recovery, by hand"},
    {"TOKEN_REVOKE_OWNERS", "tokens are made by hand, and this is done by hand"},
    {"TOKEN_REVOKE_ACCOUNT", "tokens are made by hand; once a deleted account"},
    {"ROOT_ENDING", "at most ROOTS_MAX roots of one account, by their ends"},
    {"KEY_LIVE", "the keys of one account that live, named in a warning"},
    {"LISTED_SWEEP", "so many at a time, once a recovery is over"},
    {"HELD_SWEEP", "so many at a time, once a recovery is over"},
    {"REFUSAL_AGE_OUT", "refusals are bounded; what ages out, in the background"},
    {"EVENT_FROM", "the first rows in their order, so many as asked for"},
    {"EVENT_WANTS", "a row an account at most"},
    {"DEAD_PAGE", "dead letters of one webhook, which are bounded"},
    {"WEBHOOK_COUNT", "webhooks are made by hand, and bounded"},
    {"WEBHOOK_LOAD", "webhooks are made by hand, and bounded; at the start"},
    {"SCHEMA", "the schema, once a verification"},
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
    {"INVITATION_DROP_ALL", "deleting an account, by hand: all of its invitations go"},
    {"ASK_DROP_ALL", "deleting an account, by hand: at most HOOK_ASKS_MAX rows"},
    {"CSR_DROP_ALL", "deleting an account, by hand: all of its devices' requests go"},
    {"ROOT_COUNT", "at most ROOTS_MAX roots of one account"},
    {"ROOT_TALLY", "at most ROOTS_MAX roots of one account"},
    {"ROOT_ENDING", "at most ROOTS_MAX roots of one account"},
    {"KEY_TALLY", "an index of active keys alone, with a limit"},
    {"CA_ENDS", "a few CAs"},
    {"CHAIN_COUNT", "at most DEVICE_CHAINS_MAX rows of one account"},
    {"CHAIN_DROP_UNUSED", "whether there is one device at all"},
    {"ROOT_BESIDE", "at most ROOTS_MAX roots of one account"},
    {"CHAINS_DEVICES", "the devices under one root, by hand, in a reading transaction"},
    {"CHAINS_SEEN", "likewise"},
    {"CHAINS_SEEN_PAGE", "likewise"},
    {"CHAINS_ASLEEP", "likewise"},
    {"CHAINS_IN_USE", "likewise"},
    {"CHAINS_IN_USE_PAGE", "likewise"},
    {"CHAINS_ASLEEP_PAGE", "likewise"},
    {"LINE_TO_COME", "lines are made by hand"},
    {"LINE_REVOKED_ALL", "the verification of an account walks over all of it; operators revoke them one by one"},
    {"CRL_ROOTS", "at most ROOTS_MAX roots of one account"},
    {"ROOT_CRL_NEWEST", "the last one of an index"},
    {"ROOT_CRL_DEAD", "lists of one account: at most ROOT_CRLS_MAX"},
    {"ROOT_CRL_END_ALL", "lists of one account: at most ROOT_CRLS_MAX"},
    {"STATE_LISTS", "lists of one account: at most ROOT_CRLS_MAX"},
    {"STATE_LISTED", "all of an account's, once a verification"},
    {"STATE_CAS", "a few CAs"},
    {"STATE_DEVICES_N", "counts that triggers keep: a row for a state, method and root"},
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
    {"SERVER_CA_SEEN", "server_ca state line reason", "all devices, by hand"},
    {"SERVER_CA_DEPEND", "server_ca state id late_renewal not_after renews certificate_not_after line root reason", "all devices, by hand; the certificates of one device"},
    {"SERVER_CA_SEEN_PAGE", "server_ca id root state line reason", "all devices, by hand"},
    {"SERVER_CA_LEARN_PAGE", "server_ca seen_hour certificate_not_after renews id root method state line reason late_renewal not_after", "all devices, by hand"},
    {"SERVER_CA_LOSE_PAGE", "server_ca seen_hour certificate_not_after renews late_renewal id not_after line root method state reason", "all devices, by hand; the certificates of one device"},
    {"CHAINS_DEVICES", "anchor state line reason", "the devices under one root, by hand, in a reading transaction"},
    {"CHAINS_SEEN", "anchor state seen_hour line reason", "likewise"},
    {"CHAINS_SEEN_PAGE", "anchor state seen_hour id root line reason", "likewise"},
    {"CHAINS_ASLEEP", "anchor state seen_hour certificate_not_after renews id not_after line issuer root method reason", "likewise; the certificates of one device"},
    {"CHAINS_ASLEEP_PAGE", "anchor state seen_hour certificate_not_after renews id not_after line issuer root method reason", "likewise"},
    {"CHAINS_IN_USE", "anchor state seen_hour certificate_not_after renews id not_after line issuer root method reason", "likewise"},
    {"CHAINS_IN_USE_PAGE", "anchor state seen_hour certificate_not_after renews id not_after line issuer root method reason", "likewise"},
    {"ANCHOR_IN_USE", "state chain certificate_not_after renews id not_after line issuer root method reason", "the devices under one root that were seen, by hand; the certificates of one device"},
    {"ANCHOR_IN_USE_PAGE", "state chain certificate_not_after renews id not_after line issuer root method reason", "likewise"},
    {"ANCHOR_ASLEEP", "state seen_hour chain certificate_not_after renews id not_after line issuer root method reason", "the devices under one root, by hand, in a reading transaction; the certificates of one device"},
    {"ANCHOR_ASLEEP_PAGE", "state seen_hour chain certificate_not_after renews id not_after line issuer root method reason", "likewise"},
    {"SERVER_CA_STOPS", "server_ca state line reason", "all devices, once a forecast"},
    {"AUDIT_HAS", "action object", "once an account that is deleted, by hand"},
    {"AUDIT_ANCHORS", "action", "from the newest; anchors are most of the server's log"},
    {"ACCOUNT_METHOD", "state method", "counts that triggers keep: a row for a state, method and root"},
    {"ACCOUNT_PAGE", "state", "deleted accounts; accounts are made by hand"},
    {"ACCOUNT_GONE", "state", "accounts are made by hand"},
    {"CA_ALL", "state", "the snapshot of all anchors, once an epoch"},
    {"ROOT_ALL", "state origin", "the snapshot of all anchors, once an epoch"},
    {"ROOT_NAMESAKES", "account", "roots of one name"},
    {"ROOT_OF_SUBJECT", "account", "roots of one name"},
    {"LINE_TO_COME", "root state expires", "lines are made by hand"},
    {"ROOT_SHARED", "account state", "one root in the accounts that have it"},
    {"ROOT_OWN_SPKI", "origin", "one root in the accounts that have it"},
    {"ROOT_ENDING", "state not_after id", "at most ROOTS_MAX roots of one account"},
    {"KEY_HAS", "state", "is what the index is of"},
    {"ASK_WAITING", "state", "is what the index is of"},
    {"ASK_WAITING", "trial", "likewise"},
    {"ASK_WAITING_TRIAL", "state", "likewise"},
    {"ASK_WAITING_TRIAL", "trial", "likewise"},
    {"KEY_ENROLLED", "state", "is what the index is of; then rows by their number"},
    {"KEY_LIVE", "state certificate_not_after max_devices spent", "state is what the index is of; the keys of one account that live, named in a warning"},
    {"KEY_TALLY", "state", "is what the index is of"},
    {"ROOT_BESIDE", "id", "at most ROOTS_MAX roots of one account"},
    {"STATE_DEVICES", "anchor account", "the root that a device stands under, by its number"},
    {"STATE_DEVICE", "anchor account", "likewise"},
    {"ANCHOR_DEVICES", "state chain line reason", "stands in the index; counted by hand, for one root"},
    {"ANCHOR_SEEN", "state chain line reason", "stands in the index; counted by hand, for one root"},
    {"ANCHOR_SEEN_PAGE", "state id chain root line reason", "stands in the index; the certificates of one device; revoked and deleted devices are seen no more"},
    {"FORECAST_END", "state", "state is what the index is of"},
    {"FORECAST_SAME_END", "id", "is what the index leads by behind the state"},
    {"FORECAST_WAITING_END", "state not_after id", "state is what the index is of; the certificates of one device"},
    {"FORECAST_WAITING_SAME_END", "state not_after id", "state is what the index is of; the certificates of one device"},
    {"FORECAST_CURRENT", "certificate fingerprint revoked", "the certificates of one device"},
    {"KEY_ENDING", "state id", "state is what the index is of; keys of one end"},
    {"KEY_REACH", "enrolled state", "one count, by hand: what a command would do to the devices of a key"},
    {"KEY_REACH_DEVICES", "enrolled state", "a command on the devices of a key, by hand; state is what the index is of, and a number of them apart"},
    {"DEVICE_PAGE_KEY", "state", "is what the index is of"},
    {"DEVICE_ENDS", "state", "is in the index, and counted no further than its limit"},
    {"DEVICE_ENDING", "state id", "state is what the index is of; devices of one end, in the background"},
    {"CERT_SAME", "spki prov_key state enrolled used", "the certificates of one device"},
    {"CERT_SAME_WAITING", "spki state", "the certificates of one device"},
    {"CERT_OF_PRINT", "fingerprint", "the certificates of one device"},
    {"CERT_REPLACED_AT", "state used spki reason", "one certificate, and the certificates of one device"},
    {"DKEY_REPLACED_AT", "state used held spki reason created", "one key, and the certificates of one device"},
    {"CERT_LINEAGE", "state", "the certificates of one device"},
    {"CERT_LIVE_SINCE", "state used not_before", "the certificates of one device"},
    {"CERT_WAITING", "state", "the certificates of one device"},
    {"CERT_WAITING_END", "state", "the certificates of one device"},
    {"DEVICE_LATE", "state root anchor origin", "is what the index is of, and looked at no further than its limit"},
    {"CA_BY_KEY_ID", "key_id", "the CAs of one account, which are a few"},
    {"CERT_NO_ISSUER", "issuer", "is what the index is of"},
    {"STATE_CERTS", "account kind", "one CA, by its row"},
    {"ROOT_CRL_LIVE", "live", "is what the index is of"},
    {"ROOT_CRL_END_ALL", "live", "lists of one account: at most ROOT_CRLS_MAX"},
    {"ROOT_CRL_DEAD", "live imported", "lists of one account: at most ROOT_CRLS_MAX"},
    {"ROOT_CRL_PAGE", "live", "lists of one account: at most ROOT_CRLS_MAX"},
    {"ROOT_CRL_DUE", "live", "is what the index is of"},
    {"ROOT_CRL_ENDING", "live root", "live is what the index is of; lists of one next update"},
    {"ROOT_CRL_ENTRIES_DROP", "serial", "is in the primary key, and so many at a time"},
    {"ROOT_CRL_LISTED", "live", "lists of one account: at most ROOT_CRLS_MAX"},
    {"STATE_LISTS", "live", "lists of one account: at most ROOT_CRLS_MAX"},
    {"STATE_LISTED", "live", "lists of one account: at most ROOT_CRLS_MAX"},
    {"CRL_REVISIONS", "account", "is the primary key"},
    {"CRL_ROOTS", "origin", "at most ROOTS_MAX roots of one account"},
    {"CRL_REVOKED", "revoked not_after", "revoked is what the index is of; what has ended, which goes with the years"},
    {"CRL_LEFT", "revoked issuer not_after", "revoked is what the index is of; the certificates of one device"},
    {"CRL_HELD", "revoked issuer not_after", "the certificates of one device"},
    {"CERT_END_OTHERS", "id state", "the certificates of one device"},
    {"CERT_REVOKE", "state", "the certificates of one device"},
    {"CERT_PAGE_REVOKED", "revoked", "is what the index is of"},
    {"CERT_SAME_KEY", "spki revoked id", "the certificates of one device"},
    {"CERT_PAGE_SPKI", "spki", "the certificates of one device"},
    {"CERT_PAGE_SPKI_GONE", "device", "is what the index is of"},
    {"CERT_USABLE", "state", "the certificates of one device"},
    {"STATE_ACCEPTED", "accepted", "at most OFFERS_MAX rows of one device"},
    {"KEY_WAITS", "device state accepted last_seen", "the devices that wait for one key: a few"},
    {"DKEY_HELD", "held", "one key in the accounts that know it"},
    {"DKEY_BAR_OTHERS", "spki", "the keys of one device"},
    {"DKEY_BAR", "spki", "the keys of one device"},
    {"DKEY_FREE", "spki", "the keys of one device"},
    {"LISTED_SWEEP", "serial", "of so many rows as the subquery takes"},
    {"REFUSAL_AGE_OUT", "last", "of so many rows as the subquery takes"},
    {"TOKEN_PAGE_ACCOUNT", "account", "tokens are made by hand"},
    {"TOKEN_REVOKE_UNTIL", "revoked", "the end of a recovery, by hand"},
    {"KEY_OPEN", "state expires max_devices spent", "the end of a recovery, by hand"},
    {"INVITATION_OPEN", "spent expires", "the end of a recovery, by hand"},
    {"TOKEN_REVOKE_OWNERS", "account role revoked", "tokens are made by hand, and this is done by hand"},
    {"TOKEN_REVOKE_ACCOUNT", "account revoked", "tokens are made by hand; once a deleted account"},
    {"DELIVERY_FIRST_OF", "state", "is what the index is of"},
    {"DELIVERY_BEHIND", "state next_at", "state is what the index is of; what waits of one subject"},
    {"DELIVERY_GIVE_UP_OLD", "created", "a webhook's queue, which is bounded; with an attempt of a receiver that fails since a day"},
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

/* The columns of all tables of a database: whatever a condition does with one, it is held against it. */
struct columns {
    char names[256][40];
    size_t n;
};

static void columns_of(sqlite3 *db, struct columns *out) {
    sqlite3_stmt *s = NULL;
    out->n = 0;
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT DISTINCT c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'", -1, &s, NULL), SQLITE_OK);
    while (sqlite3_step(s) == SQLITE_ROW) {
        assert_true(out->n < sizeof out->names / sizeof *out->names);
        snprintf(out->names[out->n++], sizeof *out->names, "%s", (const char *)sqlite3_column_text(s, 0));
    }
    sqlite3_finalize(s);
    assert_true(out->n > 0);
}

/* Behind the text or the parenthesis that begins here. */
static const char *behind(const char *at) {
    if (*at == '\'') {
        at = strchr(at + 1, '\'');
        assert_non_null(at);
        return at + 1;
    }
    for (int depth = 0; *at; at++) {
        depth += (*at == '(') - (*at == ')');
        if (!depth)
            return at + 1;
    }
    return at;
}

/* The length of what stands behind WHERE or ON: up to the next clause, or the end of the subquery that it is in. */
static size_t conditions_length(const char *from) {
    static const char *const ends[] = {" WHERE ", " JOIN ", " CROSS JOIN ", " LEFT JOIN ", " ORDER BY ", " GROUP BY ", " LIMIT ", " ON CONFLICT ", " RETURNING ", " UNION "};
    const char *at = from;
    while (*at && *at != ')') {
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
            if (!strncmp(at, ends[i], strlen(ends[i])))
                return (size_t)(at - from);
        at = *at == '(' || *at == '\'' ? behind(at) : at + 1;
    }
    return (size_t)(at - from);
}

/* The next column in conditions, from *at on; false: there is none.  What stands in a subquery is not asked here: it has a WHERE of its own. */
static bool next_column(const struct columns *known, const char **at, char column[40]) {
    while (**at) {
        const char *from = *at;
        size_t n = 0;
        if (*from == '\'' || !strncmp(from, "(SELECT ", 8)) {
            *at = behind(from);
            continue;
        }
        while (is_word(from[n]))
            n++;
        *at = from + (n ? n : 1);
        if (!n || n >= 40 || from[n] == '.' || from[n] == '(') /* a table, a function */
            continue;
        snprintf(column, 40, "%.*s", (int)n, from);
        for (size_t i = 0; i < known->n; i++)
            if (!strcmp(known->names[i], column))
                return true;
    }
    return false;
}

/* "a.b = c.d": a join by what an index leads to, or fault_of() says so. */
static bool joins(const char *term, size_t n) {
    const char *equals = strstr(term, " = ");
    return equals && equals < term + n && memchr(term, '.', (size_t)(equals - term)) && memchr(equals, '.', n - (size_t)(equals - term)) && !memchr(term, '?', n) && !memchr(term, '\'', n);
}

/* The number of conditions of one WHERE or ON that are held against each row; unless may_filter says why. */
static int filters_of(const struct columns *known, const char *statement, const char *where, const char *steps, bool on) {
    char conditions[2048], column[40];
    int faults = 0;
    size_t n = conditions_length(where);
    assert_true(n < sizeof conditions);
    snprintf(conditions, sizeof conditions, "%.*s", (int)n, where);
    if (on) {
        const char *and = strstr(conditions, " AND ");
        size_t first = and ? (size_t)(and - conditions) : n;
        if (joins(conditions, first))
            memset(conditions, ' ', first);
    }
    for (const char *at = conditions; next_column(known, &at, column);) {
        bool fine = is_led_by(steps, column, strlen(column));
        for (size_t i = 0; !fine && i < sizeof may_filter / sizeof *may_filter; i++)
            fine = !strcmp(may_filter[i].statement, statement) && has_word(may_filter[i].columns, column, strlen(column));
        if (!fine) {
            fprintf(stderr, "%s holds every row that it reads against %s:\n%s", statement, column, steps);
            faults++;
        }
    }
    return faults;
}

/* A step of a plan that finds one row at most: all of a key that is unique, each part of it by "=?". */
static bool finds_one(sqlite3 *db, const char *step) {
    const char *open = strstr(step, " (");
    char table[64], index[64];
    sqlite3_stmt *s = NULL;
    int parts = 0;
    if (!open || strncmp(step, "SEARCH ", 7) || strpbrk(open, "<>"))
        return false;
    for (const char *at = open; (at = strstr(at, "=?")); at++)
        parts++;
    if (strstr(step, "INTEGER PRIMARY KEY (rowid=?)"))
        return true;
    const char *sql = "SELECT COUNT(*) = ?2 FROM pragma_table_info(?1) WHERE pk > 0";
    if (sscanf(step, "SEARCH %63s USING INDEX %63s", table, index) == 2 || sscanf(step, "SEARCH %63s USING COVERING INDEX %63s", table, index) == 2)
        sql = "SELECT l.\"unique\" AND NOT l.partial AND (SELECT COUNT(*) FROM pragma_index_info(l.name)) = ?2 FROM sqlite_master AS m, pragma_index_list(m.tbl_name) AS l WHERE l.name = ?1 AND m.name = ?1";
    else if (sscanf(step, "SEARCH %63s USING PRIMARY KEY", index) != 1)
        return false;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    sqlite3_bind_text(s, 1, index, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 2, parts);
    bool one = sqlite3_step(s) == SQLITE_ROW && sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return one;
}

/* Of what may read many rows: a list, a count, a change of more than one.  A row that a whole key leads to is one row, and so is the one of a
 * table that holds no more; a plan without a SEARCH reads nothing, or fault_of() judges it. */
static int filters(sqlite3 *db, const char *statement, const char *sql, const char *steps) {
    static const char *const clauses[] = {" WHERE ", " ON "};
    struct columns known;
    bool one = true;
    int faults = 0;
    for (const char *at = steps; at && *at; at = strchr(at, '\n'), at = at ? at + 1 : NULL) {
        char step[512];
        snprintf(step, sizeof step, "%.*s", (int)strcspn(at, "\n"), at);
        one = one && (!strstr(step, " USING ") || finds_one(db, step));
    }
    if (one && !strstr(steps, "SCAN "))
        return 0;
    columns_of(db, &known);
    for (size_t i = 0; i < 2; i++)
        for (const char *at = strstr(sql, clauses[i]); at; at = strstr(at + 1, clauses[i]))
            if (strncmp(at, " ON CONFLICT ", 13))
                faults += filters_of(&known, statement, at + strlen(clauses[i]), steps, i == 1);
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
    if (!scan || !strncmp(scan, "SCAN CONSTANT ROW", 17) || !strncmp(scan, "SCAN (subquery", 14) || !strcmp(scan, "SCAN found") || !strncmp(scan, "SCAN json_each ", 15)) /* a list that the caller brings */
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
    return faults + (*known ? filters(db, name, sql, steps) : 0);
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
    assert_int_equal(look(db, "X", "SELECT id FROM device WHERE last_address = ?1", &known), 2); /* and by the scan itself */
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
    /* Whatever the condition is, wherever it stands, and whether or not there is a limit. */
    static const char *const conditions[] = {"last_address NOT IN (?2, ?3)", "last_address BETWEEN ?2 AND ?3", "last_address GLOB ?2",    "last_address != ?2",       "last_address IS NOT NULL",
                                             "last_address LIKE ?2",         "?2 = last_address",               "LENGTH(last_address) > ?2", "(last_address = ?2 OR root = ?3)", "device.last_address == ?2"};
    for (size_t i = 0; i < sizeof conditions / sizeof *conditions; i++) {
        static const char *const forms[][2] = {{"SELECT id FROM device WHERE root = ?1 AND ", ""},
                                               {"UPDATE device SET reason = NULL WHERE root = ?1 AND ", ""},
                                               {"DELETE FROM device WHERE ", " AND root = ?1"},
                                               {"SELECT id FROM device WHERE root = ?1 AND id IN (SELECT device FROM cert WHERE prov_key = ?4 AND state IN (1, 2, 5) ORDER BY device LIMIT ?5) AND ", ""}};
        for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
            char sql[512];
            snprintf(sql, sizeof sql, "%s%s%s", forms[k][0], conditions[i], forms[k][1]);
            assert_int_equal(look(db, "CERT_WAITING", sql, &known), 1); /* which may look at "state" alone */
            assert_true(known);
        }
    }
    assert_int_equal(look(db, "CERT_WAITING", "SELECT uuid FROM device WHERE root = ?1 AND id IN (SELECT device FROM cert WHERE prov_key = ?2 AND state IN (1, 2, 5) AND not_after > ?3)", &known), 1);
    assert_int_equal(look(db, "X", "SELECT device.uuid FROM device JOIN root ON root.id = device.root AND root.challenge = ?2 WHERE device.account = ?1 AND device.id > ?3", &known), 1);
    assert_int_equal(look(db, "X", "SELECT device.uuid FROM device JOIN root ON root.id = device.root WHERE device.account = ?1 AND device.id > ?3", &known), 0);
    assert_true(known);
    assert_int_equal(look(db, "X", "SELECT id FROM device WHERE root = ?1 AND 'last_address' <> ?2", &known), 0); /* a text */
    /* A row that a whole key leads to is one row; a part of a key leads to more. */
    assert_int_equal(look(db, "X", "SELECT state FROM device WHERE uuid = ?1 AND last_address = ?2", &known), 0);
    assert_int_equal(look(db, "X", "UPDATE device SET reason = NULL WHERE id = ?1 AND last_address <> ?2", &known), 0);
    assert_int_equal(look(db, "X", "DELETE FROM device WHERE account = ?1 AND device_id = ?2 AND last_address = ?3", &known), 0);
    assert_int_equal(look(db, "X", "DELETE FROM device WHERE account = ?1 AND device_id > ?2 AND last_address = ?3", &known), 1);
    assert_int_equal(look(db, "X", "DELETE FROM offer WHERE device = ?1 AND accepted = ?2", &known), 1);
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
