/* The table of events, the outbox, and the queue of a webhook. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <sys/stat.h>

#include "registry/account.h"
#include "registry/delivery.h"

static const struct delivery_policy POLICY = {.first = 10, .most = 3600, .lasts = 86400, .queue_max = 5};
static char dir[] = "/tmp/muster-webhook-XXXXXX";
static char path[2][64];
static struct store *registry, *control;

static void run(struct store *s, store_run_fn fn, void *arg) {
    struct err err = ERR_INIT;
    int rc = store_write_now(s, fn, arg, &err);
    if (rc)
        fail_msg("%s: %s", err_code(rc), err_text(&err));
}

/* --- the table ----------------------------------------------------------------------------------------------------------------------- */

static void the_table_is_sound(void **state) {
    int64_t seen = 0;
    for (size_t i = 0; i < EVENT_TYPES_N; i++) {
        const struct event_type *t = &EVENT_TYPES[i];
        assert_in_range(t->kind, 1, 62);
        assert_false(seen & event_bit(t->kind));
        seen |= event_bit(t->kind);
        assert_int_equal(event_parse(t->type), t->kind);
        assert_string_equal(event_name((int64_t)t->kind), t->type);
        assert_non_null(strchr("dkrn", t->about));
        assert_true(t->when[0] && t->when[strlen(t->when) - 1] == '.');
    }
    assert_int_equal(event_parse("device.invented"), 0);
    assert_string_equal(event_name(63), "?");
}

/* --- waiting ------------------------------------------------------------------------------------------------------------------------------- */

static void waits_double_up_to_the_most(void **state) {
    static const int64_t plain[] = {10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        for (uint32_t random = 0; random < 5000; random += 7) {
            int64_t wait = delivery_backoff(&POLICY, (int64_t)i + 1, random);
            assert_in_range(wait, plain[i] * 8 / 10, plain[i] * 12 / 10 + 1);
        }
    assert_in_range(delivery_backoff(&POLICY, INT64_MAX, 1), 2880, 4321);
    const struct delivery_policy shortest = {.first = 1, .most = 1};
    for (uint32_t random = 0; random < 100; random++)
        assert_in_range(delivery_backoff(&shortest, 1, random), 1, 2);
}

static void waits_are_spread(void **state) {
    assert_true(delivery_backoff(&POLICY, 10, 0) < delivery_backoff(&POLICY, 10, 14400));
}

/* --- the outbox -------------------------------------------------------------------------------------------------------------------------------- */

struct plain {
    const char *account;
    enum event_kind kind;
};

static int plain_run(struct store_tx *tx, void *arg, struct err *err) {
    const struct plain *p = arg;
    struct account a;
    int found = p->account ? account_find(tx, span_str(p->account), &a, err) : 0;
    return found < 0 ? found : event_plain(tx, found ? &a : NULL, p->kind, json_pack("{s:s}", "x", "y"), err);
}

static size_t outbox(void) {
    struct event_take t = {.n = 0};
    run(registry, event_take_run, &t);
    size_t n = t.n;
    event_take_fini(&t);
    return n;
}

static void only_what_is_wanted_is_written(void **state) {
    struct plain one = {"alpha", EVENT_KEY_CREATED}, other = {"beta", EVENT_KEY_CREATED}, second = {"alpha", EVENT_ROOT_STATE};
    run(registry, plain_run, &one);
    assert_int_equal(outbox(), 0);
    static struct event_wants w;
    w = (struct event_wants){.at = {{"alpha", INT64_C(1) << EVENT_KEY_CREATED}, {"never-made", -1}}, .n = 2};
    run(registry, event_wants_run, &w);
    run(registry, plain_run, &one);
    run(registry, plain_run, &other);
    run(registry, plain_run, &second);
    assert_int_equal(outbox(), 1);
    w = (struct event_wants){.at = {{"", INT64_C(1) << EVENT_ROOT_STATE}}, .n = 1};
    run(registry, event_wants_run, &w);
    run(registry, plain_run, &one);
    run(registry, plain_run, &second);
    assert_int_equal(outbox(), 2);
    struct event_take t = {.n = 0};
    run(registry, event_take_run, &t);
    assert_string_equal(t.at[0].account, "alpha");
    assert_int_equal(t.at[0].kind, EVENT_KEY_CREATED);
    json_t *payload = json_parse(buf_span(&t.at[0].payload), NULL);
    assert_string_equal(json_string_value(json_object_get(payload, "type")), "key.created");
    assert_string_equal(json_string_value(json_object_get(payload, "account")), "alpha");
    assert_string_equal(json_string_value(json_object_get(payload, "x")), "y");
    json_decref(payload);
    int64_t upto = t.at[0].row;
    event_take_fini(&t);
    run(registry, event_forget_run, &upto);
    assert_int_equal(outbox(), 1);
    w.n = 0;
    run(registry, event_wants_run, &w);
    run(registry, plain_run, &second);
    assert_int_equal(outbox(), 1);
    upto = INT64_MAX;
    run(registry, event_forget_run, &upto);
}

/* --- the queue ----------------------------------------------------------------------------------------------------------------------------------- */

static int64_t made(const char *account, int64_t events, struct uuid *id) {
    struct webhook_create c = {.actor = {"test"}, .url = "https://example.com/", .events = events};
    struct webhook_load l = {.n = 0};
    snprintf(c.account, sizeof c.account, "%s", account);
    webhook_secret_make(c.secret);
    run(control, webhook_create_run, &c);
    assert_null(json_object_get(c.out, "secret"));
    assert_int_equal(uuid_parse(span_str(json_string_value(json_object_get(c.out, "id"))), id), 0);
    json_decref(c.out);
    run(control, webhook_load_run, &l);
    int64_t row = l.at[l.n - 1].w.row;
    assert_string_equal(l.at[l.n - 1].secret, c.secret);
    webhook_load_fini(&l);
    return row;
}

static void gone(const struct uuid *id) {
    struct webhook_delete d = {.actor = {"test"}, .id = *id, .account = "", .confirm = -1};
    struct err err = ERR_INIT;
    if (store_write_now(control, webhook_delete_run, &d, &err)) {
        assert_int_equal(err.code, MUSTER_ECONFIRM);
        d.confirm = d.count;
        run(control, webhook_delete_run, &d);
    }
    json_decref(d.out);
}

static struct event_row event_of(const char *account, enum event_kind kind, const struct uuid *subject) {
    struct event_row e = {.id = uuid_new(), .kind = kind, .payload = BUF_INIT(64)};
    snprintf(e.account, sizeof e.account, "%s", account);
    if (subject)
        e.subject = *subject;
    buf_adds(&e.payload, "{}");
    return e;
}

static void put(struct event_row *e, size_t n) {
    struct delivery_put p = {.at = e, .n = n, .policy = &POLICY};
    run(control, delivery_put_run, &p);
}

static void take(struct delivery_take *t, int64_t webhook, int64_t now) {
    t->webhook = webhook;
    t->now = now;
    t->longest = delivery_longest(&POLICY);
    run(control, delivery_take_run, t);
}

static void settle_after(struct delivery_take *t, struct delivery_settle *s, int64_t failed_before) {
    *s = (struct delivery_settle){.webhook = t->webhook, .now = t->now, .at = t->at, .n = t->n, .policy = &POLICY, .failed_before = failed_before};
    run(control, delivery_settle_run, s);
}

static void settle(struct delivery_take *t, struct delivery_settle *s) { settle_after(t, s, 100); }

static void a_queue_keeps_the_order_of_a_device_and_forgets_nothing(void **state) {
    struct uuid id, other_id, device = uuid_new(), second = uuid_new();
    int64_t hook = made("alpha", 0, &id), other = made("beta", 0, &other_id), now = clock_now();
    struct event_row e[] = {event_of("alpha", EVENT_DEVICE_REGISTERED, &device), event_of("alpha", EVENT_DEVICE_FIRST_USED, &device),
                            event_of("alpha", EVENT_DEVICE_REGISTERED, &second)};
    static struct delivery_take t;
    struct delivery_settle s;
    put(e, 3);
    put(e, 3); /* as after a crash */
    take(&t, other, now);
    assert_int_equal(t.n, 0);
    take(&t, hook, now);
    assert_int_equal(t.n, 2);
    assert_true(uuid_eq(&t.at[0].event, &e[0].id) && uuid_eq(&t.at[1].event, &e[2].id));
    /* One fails: what is behind it waits too, the other device's is through, and the webhook does not count as failing. */
    t.at[0].result = DELIVERY_FAILED;
    snprintf(t.at[0].error, sizeof t.at[0].error, "500");
    t.at[1].result = DELIVERY_DONE;
    settle(&t, &s);
    take(&t, hook, now);
    assert_int_equal(t.n, 0);
    assert_false(t.failing);
    assert_in_range(t.next_at, now + 8, now + 13);
    take(&t, hook, t.next_at);
    assert_int_equal(t.n, 1);
    assert_int_equal(t.at[0].attempts, 1);
    /* All fail: one at a time from here on. */
    t.at[0].result = DELIVERY_FAILED;
    t.at[0].retry_after = 100;
    settle(&t, &s);
    take(&t, hook, now + 50);
    assert_int_equal(t.n, 0);
    take(&t, hook, now + 200);
    assert_true(t.failing);
    assert_int_equal(t.n, 1);
    assert_true(uuid_eq(&t.at[0].event, &e[0].id));
    /* Too old: a dead letter; the one behind it comes. */
    t.now = now + 86400;
    t.at[0].attempts = DELIVERY_ATTEMPTS_MIN - 1;
    t.at[0].result = DELIVERY_FAILED;
    settle(&t, &s);
    assert_int_equal(s.given_up, 1);
    struct webhook_dead d = {.actor = {"test"}, .id = id, .account = "", .page = {.limit = 10}, .confirm = -1};
    run(control, webhook_dead_list_run, &d);
    json_t *items = json_object_get(d.page.out, "items");
    assert_string_equal(json_string_value(json_object_get(json_array_get(items, 0), "type")), "device.registered");
    json_decref(d.page.out);
    d.event = e[0].id;
    run(control, webhook_dead_retry_run, &d);
    assert_int_equal(d.count, 1);
    take(&t, hook, now + 200000);
    assert_int_equal(t.n, 1);
    assert_true(uuid_eq(&t.at[0].event, &e[0].id));
    delivery_take_fini(&t);
    for (size_t i = 0; i < 3; i++)
        buf_fini(&e[i].payload);
    json_decref(d.out);
    gone(&id);
    gone(&other_id);
}

/* Nobody waits until then once it is right again, also not what came since behind it. */
static void what_a_clock_put_off_that_ran_ahead_is_due(void **state) {
    struct uuid id, device = uuid_new();
    int64_t hook = made("alpha", 0, &id), now = clock_now();
    struct event_row e[] = {event_of("alpha", EVENT_DEVICE_REGISTERED, &device), event_of("alpha", EVENT_DEVICE_FIRST_USED, &device)};
    static struct delivery_take t;
    struct delivery_settle s;
    put(e, 1);
    take(&t, hook, now + 86400);
    assert_int_equal(t.n, 1);
    t.at[0].result = DELIVERY_FAILED;
    settle(&t, &s);
    put(e + 1, 1);
    for (int i = 0; i < 2; i++) {
        take(&t, hook, clock_now()); /* not `now`: what was put came when it did, a second later perhaps */
        assert_int_equal(t.n, 1);
        assert_true(uuid_eq(&t.at[0].event, &e[i].id));
        t.at[0].result = DELIVERY_DONE;
        settle(&t, &s);
    }
    delivery_take_fini(&t);
    for (size_t i = 0; i < 2; i++)
        buf_fini(&e[i].payload);
    gone(&id);
}

static int64_t dead_of(const struct uuid *id) {
    struct webhook_show s = {.id = *id, .account = ""};
    run(control, webhook_show_run, &s);
    int64_t dead = json_integer_value(json_object_get(s.out, "dead"));
    json_decref(s.out);
    return dead;
}

static int64_t failed_at(struct delivery_take *t, int64_t hook, int64_t now, int64_t failed_before, struct delivery_settle *s) {
    take(t, hook, now);
    assert_true(t->n > 0);
    for (size_t i = 0; i < t->n; i++)
        t->at[i].result = DELIVERY_FAILED;
    settle_after(t, s, failed_before);
    assert_true(s->failed);
    return s->given_up;
}

/* The server stood still for a month, with a queue: time alone gives nothing up. */
static void nothing_is_given_up_without_its_attempts(void **state) {
    struct uuid id, one = uuid_new();
    int64_t hook = made("alpha", 0, &id), now = clock_now(), month = 30 * CLOCK_DAY;
    struct event_row e[] = {event_of("alpha", EVENT_DEVICE_REGISTERED, &one), event_of("alpha", EVENT_KEY_CREATED, NULL), event_of("alpha", EVENT_ROOT_STATE, NULL)};
    static struct delivery_take t;
    struct delivery_settle s;
    put(e, 3);
    /* It failed already when the server went; each event was tried often. */
    for (int64_t i = 0, at = now; i < 40; i++, at = s.next_at > t.next_at ? s.next_at : at + 3600) {
        take(&t, hook, at);
        for (size_t k = 0; k < t.n; k++)
            t.at[k].result = DELIVERY_FAILED;
        if (t.n)
            settle_after(&t, &s, 0);
        assert_int_equal(s.given_up, 0);
    }
    for (int64_t i = 0; i + 1 < DELIVERY_ATTEMPTS_MIN; i++) {
        assert_int_equal(failed_at(&t, hook, now + month + i * 7200, i, &s), 0);
        assert_int_equal(dead_of(&id), 0);
    }
    /* The attempt that makes the number full ends all three, who had their time. */
    assert_int_equal(failed_at(&t, hook, now + month + 5 * 7200, DELIVERY_ATTEMPTS_MIN - 1, &s), 3);
    assert_int_equal(dead_of(&id), 3);
    delivery_take_fini(&t);
    gone(&id);
    /* And one event that alone fails, with the webhook long tried for others: by its own number. */
    hook = made("alpha", 0, &id);
    put(e, 1);
    for (int64_t i = 0; i < DELIVERY_ATTEMPTS_MIN; i++) {
        e[2].id = uuid_new(); /* gets through, so that the webhook as a whole does not fail */
        put(&e[2], 1);
        take(&t, hook, now + month + i * 7200);
        assert_int_equal(t.n, 2);
        for (size_t k = 0; k < t.n; k++)
            t.at[k].result = uuid_eq(&t.at[k].event, &e[0].id) ? DELIVERY_FAILED : DELIVERY_DONE;
        settle(&t, &s);
        assert_int_equal(s.given_up, i + 1 == DELIVERY_ATTEMPTS_MIN);
        assert_true(s.failed && !s.next_at);
    }
    assert_int_equal(dead_of(&id), 1);
    delivery_take_fini(&t);
    for (size_t i = 0; i < 3; i++)
        buf_fini(&e[i].payload);
    gone(&id);
}

static void a_full_queue_gives_up_the_oldest(void **state) {
    struct uuid id;
    int64_t hook = made("", INT64_C(1) << EVENT_KEY_CREATED, &id);
    struct event_row e[8], other = event_of("alpha", EVENT_ROOT_STATE, NULL);
    static struct delivery_take t;
    put(&other, 1); /* is not what this one asked for */
    take(&t, hook, clock_now());
    assert_int_equal(t.n, 0);
    buf_fini(&other.payload);
    for (size_t i = 0; i < 8; i++)
        e[i] = event_of(i % 2 ? "alpha" : "beta", EVENT_KEY_CREATED, NULL);
    put(e, 8);
    take(&t, hook, clock_now());
    assert_int_equal(t.n, 5);
    assert_true(uuid_eq(&t.at[0].event, &e[3].id));
    struct webhook_dead d = {.actor = {"test"}, .id = id, .account = "", .confirm = -1};
    struct err err = ERR_INIT;
    assert_int_equal(store_write_now(control, webhook_dead_drop_run, &d, &err), MUSTER_ECONFIRM);
    assert_int_equal(d.count, 3);
    d.confirm = 3;
    run(control, webhook_dead_drop_run, &d);
    json_decref(d.out);
    /* Another account's operator sees nothing of it. */
    struct webhook_show s = {.id = id, .account = "alpha"};
    assert_int_equal(store_read_now(control, webhook_show_run, &s, &err), MUSTER_ENOTFOUND);
    /* 410 */
    struct delivery_settle settled;
    for (size_t i = 0; i < t.n; i++)
        t.at[i].result = DELIVERY_GONE;
    settle(&t, &settled);
    assert_true(settled.disabled);
    s.account = "";
    run(control, webhook_show_run, &s);
    assert_string_equal(json_string_value(json_object_get(s.out, "state")), "disabled");
    assert_int_equal(json_integer_value(json_object_get(s.out, "waiting")), 5);
    json_decref(s.out);
    put(e, 1);
    delivery_take_fini(&t);
    for (size_t i = 0; i < 8; i++)
        buf_fini(&e[i].payload);
    gone(&id);
}

/* Beyond what is kept of them the oldest dead letters go, and are counted. */
static void dead_letters_are_bounded(void **state) {
    enum { A_TIME = 500, BEYOND = 7 };
    struct uuid id;
    static struct event_row e[A_TIME];
    made("", INT64_C(1) << EVENT_KEY_CREATED, &id);
    for (int64_t left = WEBHOOK_DEAD_MAX + POLICY.queue_max + BEYOND; left > 0; left -= A_TIME) {
        size_t n = (size_t)(left < A_TIME ? left : A_TIME);
        for (size_t i = 0; i < n; i++)
            e[i] = event_of("alpha", EVENT_KEY_CREATED, NULL);
        put(e, n);
        for (size_t i = 0; i < n; i++)
            buf_fini(&e[i].payload);
    }
    struct webhook_show s = {.id = id, .account = ""};
    run(control, webhook_show_run, &s);
    assert_int_equal(json_integer_value(json_object_get(s.out, "waiting")), POLICY.queue_max);
    assert_int_equal(json_integer_value(json_object_get(s.out, "dead")), WEBHOOK_DEAD_MAX);
    assert_int_equal(json_integer_value(json_object_get(s.out, "dropped")), BEYOND);
    json_decref(s.out);
    gone(&id);
}

/* --- the databases ---------------------------------------------------------------------------------------------------------------------------------- */

static int begin(void **state) {
    struct err err = ERR_INIT;
    if (!mkdtemp(dir))
        return -1;
    for (int i = 0; i < 2; i++)
        snprintf(path[i], sizeof path[i], "%s/%d.db", dir, i);
    const struct registry_open r = {.path = path[0], .readers = 1, .queue_max = 100, .migrate = true}, c = {.path = path[1], .readers = 1, .queue_max = 100, .migrate = true};
    if (registry_open(&r, &registry, &err) || control_open(&c, &control, &err))
        return -1;
    for (int i = 0; i < 2; i++) {
        struct account_create a = {.actor = {"test"}, .name = i ? SPAN_LIT("beta") : SPAN_LIT("alpha"), .kind = ACCOUNT_TEST, .method = METHOD_DEVICE};
        account_settings_default(&a.settings);
        if (store_write_now(registry, account_create_run, &a, &err))
            return -1;
        json_decref(a.out);
    }
    return 0;
}

static int end(void **state) {
    static const char *const tails[] = {"", "-wal", "-shm"};
    store_close(registry);
    store_close(control);
    for (int i = 0; i < 2; i++)
        for (int t = 0; t < 3; t++) {
            char file[160];
            snprintf(file, sizeof file, "%s%s", path[i], tails[t]);
            unlink(file);
        }
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_sound), cmocka_unit_test(waits_double_up_to_the_most), cmocka_unit_test(waits_are_spread), cmocka_unit_test(only_what_is_wanted_is_written),
        cmocka_unit_test(a_queue_keeps_the_order_of_a_device_and_forgets_nothing), cmocka_unit_test(nothing_is_given_up_without_its_attempts),
        cmocka_unit_test(what_a_clock_put_off_that_ran_ahead_is_due), cmocka_unit_test(a_full_queue_gives_up_the_oldest), cmocka_unit_test(dead_letters_are_bounded),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
