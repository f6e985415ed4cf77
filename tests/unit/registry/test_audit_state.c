/* The steps of a verification: signed heads are met however often the log is walked, and what changes between two steps is no forgery. */
#include "on_disk.h"
#include "registry/account.h"
#include "registry/audit_state.h"

#define DEVICES 2100 /* more than a step */
#define LOG 6000     /* more entries than a step */
#define OLD 1000000  /* older than seals */

static struct store *registry;

static int make(void **state) {
    on_disk_anew();
    registry = on_disk_open();
    return 0;
}

static int drop(void **state) {
    store_close(registry);
    return 0;
}

static void sql(const char *text) {
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(on_disk_path, &db), 0);
    if (sqlite3_exec(db, text, NULL, NULL, &why))
        fail_msg("%s", why);
    sqlite3_close(db);
}

/* --- entries ------------------------------------------------------------------------------------------------------------------------ */

struct entries {
    const char *action, *state;
    int first, n;
};

static int add_entries(struct store_tx *tx, void *arg, struct err *err) {
    const struct entries *e = arg;
    const struct actor by = {"device:x"};
    char id[32];
    int rc = 0;
    for (int i = e->first; !rc && i < e->first + e->n; i++) {
        json_t *detail = json_object();
        if (e->state)
            json_set_str(detail, "state", e->state);
        snprintf(id, sizeof id, "d%d", i);
        rc = audit_add(tx, 1, &by, e->action, span_str(id), detail, err);
    }
    return rc;
}

static void entries(const char *action, const char *state, int first, int n) {
    struct entries e = {action, state, first, n};
    assert_int_equal(store_write_now(registry, add_entries, &e, NULL), 0);
}

static void account_of(enum account_method method) {
    struct err err = ERR_INIT;
    struct account_create c = {.actor = {"x"}, .name = SPAN_LIT("a"), .kind = ACCOUNT_TEST, .method = method};
    account_settings_default(&c.settings);
    assert_int_equal(store_write_now(registry, account_create_run, &c, &err), 0);
    json_decref(c.out);
}

static void account(void) { account_of(METHOD_DEVICE); }

/* --- tests -------------------------------------------------------------------------------------------------------------------------- */

static void heads_are_met_where_the_table_was_too_small(void **state) {
    struct err err = ERR_INIT;
    const struct audit_head wrong = {.seq = LOG, .hash = {{1}}};
    const struct audit_state_cas cas = {.fleet_root = SPAN_NONE};
    struct audit_state s = {.places = 1024};
    int asked = 0;
    account();
    entries("device.first_contact", "active", 1, LOG);
    assert_int_equal(audit_state_init(&s, 1, "a", &cas, &err), 0);
    audit_state_sealed_from(&s, OLD);
    s.verify.points = &wrong;
    s.verify.n_points = 1;
    while (s.more) {
        assert_int_equal(store_read_now(registry, audit_state_run, &s, &err), 0);
        if (s.wants_points) {
            assert_int_equal(s.verify.until, 0);
            s.verify.n_points = 1;
            asked++;
        }
    }
    assert_true(asked > 0);
    assert_true(s.verify.bad);
    assert_int_equal(s.verify.first_bad, LOG);
    audit_state_fini(&s);
}

static void the_number_of_a_device_that_went_may_be_another_s(void **state) {
    struct err err = ERR_INIT;
    const struct audit_state_cas cas = {.fleet_root = SPAN_NONE};
    struct audit_state s = {.places = 0};
    static const char rows[] =
        "INSERT INTO account (id, name, kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling) "
        "VALUES (2, 'b', 1, 3, 2, 0, 1, 0, 0, 1, 1, 1, 1);"
        "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 2100) "
        "INSERT INTO device (id, uuid, account, device_id, state, state_before, method, created, last_seen, last_address, again, refused, expected, reason, certificate_not_after, "
        "issue_first, issue_last_ms, issue_count, seen_hour) SELECT i, randomblob(16), 1, 'd' || i, 1, 1, 1, 50, 0, '', 0, 0, 0, '', 0, 0, 0, 0, 0 FROM c;"
        "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 1200) "
        "INSERT INTO cert (serial, fingerprint, account, spki, state, der, not_before, not_after, created, used) "
        "SELECT randomblob(16), randomblob(32), 2, randomblob(32), 5, x'00', 0, 9, 100, 0 FROM c;";
    account();
    entries("device.first_contact", "active", 1, DEVICES);
    sql(rows);
    assert_int_equal(audit_state_init(&s, 1, "a", &cas, &err), 0);
    audit_state_sealed_from(&s, OLD);
    for (int step = 0; step < 2; step++)
        assert_int_equal(store_read_now(registry, audit_state_run, &s, &err), 0);
    assert_int_equal(s.devices, DEVICES); /* all were seen, and certificates are left */
    assert_true(s.more);
    entries("device.revoke", NULL, DEVICES, 1);
    entries("device.release", "revoked", DEVICES, 1);
    entries("device.first_contact", "active", DEVICES + 1, 1);
    sql("UPDATE device SET uuid = randomblob(16), device_id = 'd2101' WHERE id = 2100");
    while (s.more)
        assert_int_equal(store_read_now(registry, audit_state_run, &s, &err), 0);
    if (s.verify.bad)
        fail_msg("%s", s.verify.reason);
    assert_int_equal(s.verify.seq, s.entries_all); /* the progress comes to its end */
    assert_int_equal(s.entries_all, 1 + DEVICES + 3);
    assert_int_equal(s.devices_all, DEVICES);
    assert_int_equal(s.certs_seen, s.certs_all);
    assert_int_equal(s.certs_all, 1200);
    audit_state_fini(&s);
}

/* --- invitations ----------------------------------------------------------------------------------------------------------------------- */

static const struct uuid invitation = {{7}}, another = {{8}};

struct said {
    const char *action;
    const struct uuid *invitation;
    const char *how;  /* of an enrolment */
    int64_t expires;  /* of an invitation, from now */
};

static int say(struct store_tx *tx, void *arg, struct err *err) {
    const struct said *e = arg;
    const struct actor by = {"x"};
    static const struct hash key = {{9}};
    json_t *detail = json_object();
    bool enrols = strcmp(e->action, "device.enrol") == 0;
    json_set_uuid(detail, enrols ? "invitation" : "id", e->invitation);
    if (e->expires)
        json_set_time(detail, "expires", clock_now() + e->expires);
    if (enrols) {
        json_set_str(detail, "how", e->how);
        json_set_hex(detail, "spki", hash_span(&key));
        json_set_hex(detail, "fingerprint", hash_span(&key));
    }
    return audit_add(tx, 1, &by, e->action, SPAN_LIT("guest"), detail, err);
}

static void what_invitations_cannot_have_brought_in(void **state) {
    static const struct {
        struct said said[4];
        const char *why;
        enum account_method method; /* 0: both */
    } rows[] = {
        {{{"device.enrol", &invitation, "new"}}, "was not invited"},
        {{{"device.invite", &another, NULL, 1000}, {"device.enrol", &invitation, "new"}}, "was not invited"},
        {{{"device.invite", &invitation, NULL, 1000}, {"device.invite", &another, NULL, 1000}, {"device.enrol", &invitation, "new"}}, "was not invited"},
        {{{"device.invite", &invitation, NULL, 1000}, {"device.uninvite", &invitation}, {"device.enrol", &invitation, "new"}}, "was not invited"},
        {{{"device.invite", &invitation, NULL, -302}, {"device.enrol", &invitation, "new"}}, "had expired"},
        {{{"device.invite", &invitation, NULL, -290}, {"device.enrol", &invitation, "new"}}, "does not have the fleet root"}, /* close enough; what is wrong is something else */
        {{{"device.invite", &invitation, NULL, 1000}, {"device.enrol", &invitation, "new"}, {"device.enrol", &invitation, "re-provisioned"}}, "had been spent"},
        {{{"device.invite", &invitation, NULL, 1000}, {"device.enrol", &invitation, "new"}}, "did not take shared credentials", METHOD_DEVICE},
        {{{"device.invite", &invitation, NULL, 1000}}, "invitation of the entry is not there", METHOD_DEVICE},
        {{{"device.invite", &invitation, NULL, 1000}, {"device.uninvite", &invitation}}, NULL, METHOD_DEVICE},
    };
    const struct audit_state_cas cas = {.fleet_root = SPAN_NONE};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = ERR_INIT;
        struct audit_state s = {.places = 1024};
        store_close(registry);
        on_disk_anew();
        registry = on_disk_open();
        account_of(rows[i].method ? rows[i].method : METHOD_BOTH);
        for (size_t k = 0; k < 4 && rows[i].said[k].action; k++)
            assert_int_equal(store_write_now(registry, say, (void *)&rows[i].said[k], &err), 0);
        assert_int_equal(audit_state_init(&s, 1, "a", &cas, &err), 0);
        audit_state_sealed_from(&s, OLD);
        while (s.more)
            assert_int_equal(store_read_now(registry, audit_state_run, &s, &err), 0);
        if (s.verify.bad != (rows[i].why != NULL) || (rows[i].why && !strstr(s.verify.reason, rows[i].why)))
            fail_msg("%zu: %s", i, s.verify.bad ? s.verify.reason : "whole");
        audit_state_fini(&s);
    }
}

/* --- what was recovered ------------------------------------------------------------------------------------------------------------ */

struct recovered {
    const char *action, *state;
    bool known;
};

static int say_recovered(struct store_tx *tx, void *arg, struct err *err) {
    const struct recovered *e = arg;
    const struct actor by = {"x"};
    static const struct hash print = {{5}};
    json_t *detail = json_object();
    json_set_bool(detail, "known", e->known);
    json_set_hex(detail, "fingerprint", hash_span(&print));
    if (e->state)
        json_set_str(detail, "state", e->state);
    return audit_add(tx, 1, &by, e->action, SPAN_LIT("guest"), detail, err);
}

static void what_cannot_have_been_recovered(void **state) {
    static const struct {
        struct recovered said[3];
        enum account_method method;
        bool sealed; /* entries have to be control's, and these are nobody's */
        const char *why;
    } rows[] = {
        {{{"device.recover", "active", false}}, METHOD_BOTH, false, "does not have the fleet root"}, /* good as it is; what is wrong is something else */
        {{{"device.recover", "active", false}}, METHOD_BOTH, true, "control did not write it"},
        {{{"device.recover", "active", true}}, METHOD_BOTH, false, "There was no such device"},
        {{{"device.recover", "active", false}, {"device.recover", "active", false}}, METHOD_BOTH, false, "was there already"},
        {{{"device.recover", "active", false}, {"device.revoke", NULL, false}, {"device.recover", "active", true}}, METHOD_BOTH, false, "was cut off"},
        {{{"device.recover", "active", false}}, METHOD_DEVICE, false, "did not take shared credentials"},
    };
    const struct audit_state_cas cas = {.fleet_root = SPAN_NONE};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = ERR_INIT;
        struct audit_state s = {.places = 1024};
        store_close(registry);
        on_disk_anew();
        registry = on_disk_open();
        account_of(rows[i].method);
        for (size_t k = 0; k < 3 && rows[i].said[k].action; k++)
            assert_int_equal(store_write_now(registry, say_recovered, (void *)&rows[i].said[k], &err), 0);
        assert_int_equal(audit_state_init(&s, 1, "a", &cas, &err), 0);
        audit_state_sealed_from(&s, rows[i].sealed ? 1 : OLD);
        while (s.more)
            assert_int_equal(store_read_now(registry, audit_state_run, &s, &err), 0);
        if (!s.verify.bad || !strstr(s.verify.reason, rows[i].why))
            fail_msg("%zu: %s", i, s.verify.bad ? s.verify.reason : "whole");
        audit_state_fini(&s);
    }
}

static void more_invitations_than_the_table_takes(void **state) {
    struct err err = ERR_INIT;
    const struct audit_state_cas cas = {.fleet_root = SPAN_NONE};
    struct audit_state s = {.places = 1024};
    account();
    entries("device.invite", NULL, 1, DEVICES);
    entries("device.uninvite", NULL, 1, DEVICES);
    assert_int_equal(audit_state_init(&s, 1, "a", &cas, &err), 0);
    audit_state_sealed_from(&s, OLD);
    int anew = 0;
    while (s.more) {
        assert_int_equal(store_read_now(registry, audit_state_run, &s, &err), 0);
        anew += s.wants_points;
    }
    assert_true(anew > 0); /* in several parts */
    if (s.verify.bad)
        fail_msg("%s", s.verify.reason);
    audit_state_fini(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_invitations_cannot_have_brought_in, make, drop),
cmocka_unit_test_setup_teardown(what_cannot_have_been_recovered, make, drop),
        cmocka_unit_test_setup_teardown(more_invitations_than_the_table_takes, make, drop),
        cmocka_unit_test_setup_teardown(heads_are_met_where_the_table_was_too_small, make, drop),
        cmocka_unit_test_setup_teardown(the_number_of_a_device_that_went_may_be_another_s, make, drop),
    };
    return cmocka_run_group_tests(tests, on_disk_make, on_disk_drop);
}
