/* What devices send after provisioning, through the gateway's own handlers: ECUs, hardware, network, packages, configuration, events.  The
 * first byte, a digit, chooses the row of KEEPS; any other goes through all of them. */
#include "exchange.h"
#include "fuzz.h"

#include "gateway/config.c"
#include "gateway/ecus.c"
#include "gateway/events.c"
#include "gateway/keep.c"
#include "gateway/telemetry.c"
#include "gateway/toml.c"

int device_ecus_run(struct store_tx *tx, void *arg, struct err *err) {
    ((struct device_ecus *)arg)->unchanged = true;
    return 0;
}
int report_put_run(struct store_tx *tx, void *arg, struct err *err) { return 0; }
int said_put_run(struct store_tx *tx, void *arg, struct err *err) { return 0; }
void http_reply_empty(struct http_exchange *x, int status) { exchange_answer(x, status); }


/* JSON in the one sorted spelling. */
static json_t *canonical(struct span text) {
    json_t *doc = json_parse(text, NULL);
    CLEANUP(buf_fini) struct buf same = BUF_INIT(text.n + 1);
    MUST(doc && json_write_sorted(&same, doc) == 0 && span_eq(buf_span(&same), text));
    return doc;
}

/* As many ECUs as may be, the primary among them. */
static void hold_ecus(const struct device_ecus *op) {
    CLEANUP_JSON json_t *doc = canonical(op->ecus);
    size_t i, primaries = 0;
    json_t *one, *list = json_object_get(doc, "ecus"), *primary = json_object_get(doc, "primary_ecu_serial");
    MUST(json_object_size(doc) == 2 && json_is_string(primary) && json_array_size(list) >= 1 && json_array_size(list) <= ECUS_MAX);
    json_array_foreach(list, i, one) {
        MUST(json_object_size(one) == 4 && json_string_length(json_object_get(one, "ecu_serial")) <= SERIAL_MAX);
        primaries += json_equal(json_object_get(one, "ecu_serial"), primary);
    }
    MUST(primaries == 1);
}

/* Nothing but what the list names, each in its form. */
static void hold_config(json_t *doc) {
    const char *section, *key;
    json_t *in, *v;
    json_object_foreach(doc, section, in) {
        MUST(json_object_size(in) > 0);
        json_object_foreach(in, key, v) {
            bool listed = false;
            for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
                listed = listed || (!strcmp(section, allowed[i].section) && !strcmp(key, allowed[i].key) &&
                                    json_is_string(v) == (allowed[i].kind == WORD || allowed[i].kind == TEXT || allowed[i].kind == URL));
            MUST(listed);
            MUST(!json_is_string(v) || (json_string_length(v) <= URL_MAX && !strchr(json_string_value(v), '"')));
        }
    }
}

static void hold_report(const struct report_put *op) {
    CLEANUP_JSON json_t *summary = canonical(op->summary);
    CLEANUP_JSON json_t *body = canonical(op->body);
    MUST(json_is_object(summary) && !span_has_control(op->name) && op->name.n <= 255);
    MUST(op->body.n <= (op->kind == REPORT_SYSTEM ? SYSTEM_KEPT : op->kind == REPORT_INSTALLED ? INSTALLED_KEPT : 64 * KIB));
    if (op->kind == REPORT_CONFIG)
        hold_config(body);
}

static void hold_events(const struct said_put *op) {
    MUST(op->n <= EVENTS_MAX);
    for (size_t i = 0; i < op->n; i++) {
        CLEANUP_JSON json_t *doc = canonical(op->at[i].body);
        json_t *id = json_object_get(doc, "id");
        MUST(op->at[i].body.n <= EVENT_MAX && op->at[i].id.n <= EVENT_ID_MAX);
        MUST(json_is_string(id) && span_eq(span_of(json_string_value(id), json_string_length(id)), op->at[i].id));
    }
}

static void fuzz_row(const struct keep *row, struct span body) {
    static struct cert leaf;
    static struct identity peer = {.leaf = &leaf, .admit = {.account_row = 1, .device_row = 2}};
    static struct gateway gateway;
    static struct worker worker = {.gateway = &gateway};
    struct http_exchange x = {.body = body, .peer = &peer, .arg = &worker};
    gateway.store = (struct store *)&x;
    keep_start(row, &x, &worker, keep_answer);
    if (x.job.run) {
        const struct keeping *k = x.job.arg;
        if (row->run == ecus_run)
            hold_ecus(&k->op.ecus);
        else if (row->run == said_put_run)
            hold_events(&k->op.events);
        else
            hold_report(&k->op.report);
    }
    exchange_settle(&x, body.n % 2 ? MUSTER_EIO : 0);
}

static size_t depth_of(json_t *v) {
    const char *key;
    json_t *item;
    size_t i, most = 0, one;
    json_object_foreach(v, key, item) most = (one = depth_of(item)) > most ? one : most;
    json_array_foreach(v, i, item) most = (one = depth_of(item)) > most ? one : most;
    return most + (json_is_object(v) || json_is_array(v));
}

/* What is pruned is no deeper than asked for, is what it was where that is deep enough, and never grows. */
static void fuzz_prune(struct span body) {
    CLEANUP_JSON json_t *doc = json_parse(body, NULL);
    for (int depth = 0; doc && depth < 4; depth++) {
        CLEANUP_JSON json_t *less = prune(doc, depth);
        CLEANUP(buf_fini) struct buf before = BUF_INIT(1u << 20), after = BUF_INIT(1u << 20);
        MUST(depth_of(less) <= (size_t)depth + 1 && json_typeof(less) == json_typeof(doc));
        MUST(depth_of(doc) > (size_t)depth + 1 || json_equal(doc, less));
        MUST(json_write_sorted(&before, doc) == 0 && json_write_sorted(&after, less) == 0 && after.n <= before.n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n == 0)
        return 0;
    const struct span body = span_of(data + 1, n - 1);
    const struct keep *named = keep_of(SPAN_LIT("POST"), body);
    MUST(!named || span_eq_str(body, named->path));
    if (n < 2000)
        fuzz_prune(body);
    size_t one = data[0] - (size_t)'0';
    for (size_t i = 0; i < KEEPS_N; i++)
        if (one >= KEEPS_N || one == i)
            fuzz_row(&KEEPS[i], body);
    return 0;
}
