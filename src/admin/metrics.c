/* metrics: GET /metrics: the counters of all processes, and what is found out now. */
#include "metrics/metrics.h"

#include "admin/facts.h"
#include "verifier/forecast.h"

#define PAGE_BYTES (64u << 20)

static void one(struct buf *out, enum metric g, double value) {
    metrics_family(out, g);
    metrics_sample(out, g, NULL, value);
}

static void two(struct buf *out, enum metric g, const char *a, const char *b, double value) {
    const char *const labels[] = {a, b};
    metrics_sample(out, g, labels, value);
}

/* --- the server ------------------------------------------------------------------------------------------------------------------------ */

static void add_store(struct buf *out, const struct facts *f) {
    metrics_family(out, METRIC_STORE_UP);
    two(out, METRIC_STORE_UP, "registry", NULL, !f->registry_db.code);
    two(out, METRIC_STORE_UP, "control", NULL, !f->control_db.code);
    metrics_family(out, METRIC_STORE_BYTES);
    two(out, METRIC_STORE_BYTES, "registry", "database", (double)f->registry_db.bytes);
    two(out, METRIC_STORE_BYTES, "registry", "wal", (double)f->registry_db.wal_bytes);
    two(out, METRIC_STORE_BYTES, "control", "database", (double)f->control_db.bytes);
    two(out, METRIC_STORE_BYTES, "control", "wal", (double)f->control_db.wal_bytes);
    metrics_family(out, METRIC_DISK_FREE);
    if (f->disk_free >= 0)
        metrics_sample(out, METRIC_DISK_FREE, NULL, (double)f->disk_free);
}

static void add_server(struct buf *out, const struct facts *f) {
    metrics_family(out, METRIC_BUILD);
    two(out, METRIC_BUILD, MUSTER_VERSION, NULL, 1);
    one(out, METRIC_VAULT_UP, f->vault == PULSE_ALIVE);
    if (f->token_configured)
        one(out, METRIC_TOKEN_UP, f->token_answers);
    else
        metrics_family(out, METRIC_TOKEN_UP); /* without a value */
    add_store(out, f);
    one(out, METRIC_CLOCK_BEHIND, (double)f->registry.clock_behind);
    one(out, METRIC_CLOCK_SET, (double)f->registry.clock_set.net);
    metrics_family(out, METRIC_HEAD_AGE);
    if (f->head_age >= 0)
        metrics_sample(out, METRIC_HEAD_AGE, NULL, (double)f->head_age);
}

/* --- accounts: a family at a time, as the format wants it ------------------------------------------------------------------------------------ */

typedef void (*account_fn)(struct buf *out, const struct overview_account *a);

static void devices(struct buf *out, const struct overview_account *a) {
    for (int s = 1; s <= DEVICE_DELETED; s++)
        two(out, METRIC_DEVICES, a->name, word_of(&WORDS_DEVICE_STATE, s), (double)a->devices[s]);
}

static void devices_end(struct buf *out, const struct overview_account *a) {
    for (int i = 0; i < WITHIN_COUNT; i++) {
        char within[16];
        snprintf(within, sizeof within, "%dd", OVERVIEW_DAYS[i]);
        two(out, METRIC_DEVICES_END, a->name, within, (double)a->ends[i]);
    }
}

static void keys(struct buf *out, const struct overview_account *a) {
    two(out, METRIC_KEYS, a->name, "active", (double)a->keys[KEY_ACTIVE]);
    two(out, METRIC_KEYS, a->name, "expired", (double)a->keys[KEY_EXPIRED]);
    two(out, METRIC_KEYS, a->name, "exhausted", (double)a->keys[KEY_EXHAUSTED]);
    two(out, METRIC_KEYS, a->name, "ending", (double)a->keys_ending);
    two(out, METRIC_KEYS, a->name, "nearly_exhausted", (double)a->keys_nearly);
}

static void roots(struct buf *out, const struct overview_account *a) {
    for (int s = 1; s <= ROOT_REVOKED; s++)
        two(out, METRIC_ROOTS, a->name, word_of(&WORDS_ROOT_STATE, s), (double)a->roots[s]);
}

static void end_of(struct buf *out, const char *kind, const char *account, int64_t at) {
    if (at)
        two(out, METRIC_NOT_AFTER, kind, account, (double)at);
}

static void ends(struct buf *out, const struct overview_account *a) {
    end_of(out, "fleet_root", a->name, a->root_end);
    end_of(out, "issuing_ca", a->name, a->ca_end[CA_ISSUING]);
    end_of(out, "provisioning_ca", a->name, a->ca_end[CA_PROVISIONING]);
    end_of(out, "provisioning_key", a->name, a->key_end);
}

static void each(struct buf *out, const struct facts *f, enum metric g, account_fn fn) {
    for (size_t i = 0; i < f->registry.n; i++)
        fn(out, &f->registry.at[i]);
}

static void add_accounts(struct buf *out, const struct facts *f) {
    static const struct {
        enum metric g;
        account_fn fn;
    } FAMILIES[] = {{METRIC_DEVICES, devices}, {METRIC_DEVICES_END, devices_end}, {METRIC_KEYS, keys}, {METRIC_ROOTS, roots}};
    metrics_family(out, METRIC_ACCOUNTS);
    for (int k = ACCOUNT_TEST; k <= ACCOUNT_PRODUCTION; k++)
        two(out, METRIC_ACCOUNTS, word_of(&WORDS_ACCOUNT_KIND, k), NULL, (double)f->registry.kinds[k]);
    one(out, METRIC_ACCOUNTS_LEFT_OUT, (double)(f->registry.total - (int64_t)f->registry.n));
    for (size_t i = 0; i < sizeof FAMILIES / sizeof *FAMILIES; i++) {
        metrics_family(out, FAMILIES[i].g);
        each(out, f, FAMILIES[i].g, FAMILIES[i].fn);
    }
    metrics_family(out, METRIC_NOT_AFTER);
    end_of(out, "server", "", f->server_end);
    end_of(out, "server_ca", "", f->server_ca_end);
    if (f->former_server_cas) /* the oldest ends first, and who knows that one alone stops */
        end_of(out, "former_server_ca", "", f->former_server_ca[0].end);
    each(out, f, METRIC_NOT_AFTER, ends);
}

static const int FORECAST_WITHIN[] = {7, 30, 90};
#define FORECAST_WITHIN_N (sizeof FORECAST_WITHIN / sizeof *FORECAST_WITHIN)

static int64_t stops_of_account(const struct forecast *p, const char *account, int64_t until) {
    int64_t n = 0;
    for (int kind = 0; kind < FORECAST_KINDS; kind++)
        n += forecast_stops(p, account, (enum forecast_kind)kind, until);
    return n;
}

static void add_forecast(struct buf *out, const struct control *c, const struct facts *f) {
    const struct forecast *p = forecast_newest(c);
    if (!p)
        return;
    char within[16];
    metrics_family(out, METRIC_FORECAST);
    for (int kind = 0; kind < FORECAST_KEY; kind++)
        for (size_t i = 0; i < FORECAST_WITHIN_N; i++) {
            snprintf(within, sizeof within, "%dd", FORECAST_WITHIN[i]);
            two(out, METRIC_FORECAST, FORECAST_WORDS[kind], within, (double)forecast_stops(p, "", (enum forecast_kind)kind, f->now + FORECAST_WITHIN[i] * CLOCK_DAY));
        }
    metrics_family(out, METRIC_FORECAST_ACCOUNT);
    for (size_t k = 0; k < f->registry.n; k++)
        for (size_t i = 0; i < FORECAST_WITHIN_N; i++) {
            snprintf(within, sizeof within, "%dd", FORECAST_WITHIN[i]);
            two(out, METRIC_FORECAST_ACCOUNT, f->registry.at[k].name, within, (double)stops_of_account(p, f->registry.at[k].name, f->now + FORECAST_WITHIN[i] * CLOCK_DAY));
        }
    one(out, METRIC_FORECAST_COMPLETE, forecast_complete(p) ? 1 : 0);
    one(out, METRIC_FORECAST_AGE, f->now > forecast_from(p) ? (double)(f->now - forecast_from(p)) : 0);
}

static void add_root_crls(struct buf *out, const struct facts *f) {
    metrics_family(out, METRIC_ROOT_CRL_DUE);
    for (size_t i = 0; i < f->registry.n; i++)
        if (f->registry.at[i].root_crl_due)
            two(out, METRIC_ROOT_CRL_DUE, f->registry.at[i].name, NULL, (double)f->registry.at[i].root_crl_due);
}

static void add_crls(struct buf *out, const struct facts *f) {
    metrics_family(out, METRIC_CRL_NEXT_UPDATE);
    for (size_t i = 0; f->crls && i < f->registry.n; i++)
        if (f->crls[i].next_update)
            two(out, METRIC_CRL_NEXT_UPDATE, f->registry.at[i].name, NULL, (double)f->crls[i].next_update);
    metrics_family(out, METRIC_CRL_ENTRIES);
    for (size_t i = 0; f->crls && i < f->registry.n; i++)
        if (f->crls[i].n)
            two(out, METRIC_CRL_ENTRIES, f->registry.at[i].name, NULL, (double)f->crls[i].entries);
    metrics_family(out, METRIC_CRL_BEHIND);
    for (size_t i = 0; f->crls && i < f->registry.n; i++)
        if (f->crls[i].n || f->crls[i].behind)
            two(out, METRIC_CRL_BEHIND, f->registry.at[i].name, NULL, f->crls[i].behind || f->crls[i].left_out ? 1 : 0);
}

static void collected(struct http_exchange *x, const struct facts *f) {
    const struct control *c = http_exchange_arg(x);
    struct buf out = BUF_INIT(PAGE_BYTES);
    metrics_expose(c->o->metrics, &out);
    add_server(&out, f);
    if (!f->registry_db.code) { /* better no number than a wrong one */
        add_accounts(&out, f);
        add_crls(&out, f);
        add_root_crls(&out, f);
    }
    add_forecast(&out, c, f);
    if (buf_ok(&out))
        http_reply_buf(x, 200, METRICS_CONTENT_TYPE, &out, false);
    else
        reply_code(x, MUSTER_ENOMEM, NULL);
    buf_fini(&out);
}

void admin_METRICS(struct http_exchange *x, void *arg) { facts_collect(x, "", false, collected); }
