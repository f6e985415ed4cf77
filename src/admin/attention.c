/* attention: what an operator should look at; see facts.h.  One rule a line of code, and each says what to type. */
#include "admin/facts.h"
#include "verifier/forecast.h"

#define SOON_SERVER (30 * CLOCK_DAY)  /* renewed long before, unless something is wrong or it is the operator's own */
#define SOON_CA (365 * CLOCK_DAY)
#define HEAD_OLD 3600                 /* signed once a minute where the log has grown, and an hour without one is no minute */
#define SOON_STOPS (30 * CLOCK_DAY)
#define FORECAST_OLD (3 * CLOCK_HOUR)  /* made every hour */
#define DISK_LOW (1LL << 30)
#define REFUSED_MANY 100              /* in an hour, of one code */
#define ATTENTION_MAX 500

enum level { CRITICAL, WARNING, NOTICE, LEVELS };
static const char *const LEVEL_WORDS[LEVELS] = {"critical", "warning", "notice"};

struct items {
    json_t *of[LEVELS];
    int warnings;
};

__attribute__((format(printf, 7, 8))) static void add(struct items *i, enum level level, const char *what, const char *account, const char *object, const char *command,
                                                      const char *fmt, ...) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(1024);
    va_list ap;
    i->warnings += level != NOTICE;
    if (!i->of[level] || json_array_size(i->of[level]) >= ATTENTION_MAX)
        return;
    va_start(ap, fmt);
    buf_vaddf(&text, fmt, ap);
    va_end(ap);
    json_t *o = json_object();
    json_set_str(o, "level", LEVEL_WORDS[level]);
    json_set_str(o, "what", what);
    json_set_str(o, "account", account);
    json_set_str(o, "object", object && *object ? object : NULL);
    json_set_str(o, "text", buf_str(&text));
    json_set_str(o, "command", command);
    json_array_append_new(i->of[level], o);
}

static const char *date_of(int64_t t) {
    static char text[CLOCK_RFC3339_LEN + 1]; /* control has one thread */
    clock_rfc3339(t, text);
    return text;
}

static void look_at_end(struct items *i, const struct facts *f, const char *what, const char *account, const char *object, int64_t end, int64_t soon, const char *whose) {
    if (!end || end >= f->now + soon)
        return;
    bool over = end <= f->now;
    add(i, over ? CRITICAL : WARNING, what, account, object, NULL, "%s %s %s.", whose, over ? "ended at" : "ends at", date_of(end));
}

/* --- the server ------------------------------------------------------------------------------------------------------------------------ */

static void look_at_store(struct items *i, const char *name, const struct facts_store *s) {
    if (s->code)
        add(i, CRITICAL, "store_failing", NULL, name, NULL, "%s fails: %s %s", name, err_what(s->code), err_fix(s->code));
}

static void look_at_forecast(struct items *i, const struct facts *f) {
    if (f->forecast_age > FORECAST_OLD)
        add(i, WARNING, "forecast_old", NULL, NULL, "muster forecast", "No forecast of what ends was made for %lld hours: the log says why (forecast_failed).", (long long)(f->forecast_age / CLOCK_HOUR));
    if (f->forecast && !forecast_damaged(f->forecast) && !forecast_complete(f->forecast))
        add(i, NOTICE, "forecast_incomplete", NULL, NULL, "muster forecast", "More ends than an answer of `muster forecast` shows: ask for one account at a time.");
    if (f->forecast && forecast_damaged(f->forecast))
        add(i, WARNING, "forecast_incomplete", NULL, NULL, "muster forecast", "%lld row(s) of the registry are damaged and are not in the forecast of what ends. The first: %s",
            (long long)forecast_damaged(f->forecast), err_text(forecast_damage(f->forecast)));
}

/* Long before: devices that cannot renew have to be brought the next one by hand. */
static void look_at_server_cas(struct items *i, const struct facts *f) {
    if (f->server_ca_end && f->server_ca_end < f->now + SOON_CA)
        add(i, f->server_ca_end <= f->now ? CRITICAL : WARNING, "server_ca_ends", NULL, NULL, "muster server-ca rotate", "The server CA, which devices trust, %s %s.",
            f->server_ca_end <= f->now ? "ended at" : "ends at", date_of(f->server_ca_end));
    for (size_t k = 0; k < f->former_server_cas; k++) {
        const struct facts_server_ca *ca = &f->former_server_ca[k];
        char number[24], command[64];
        snprintf(number, sizeof number, "%lld", (long long)ca->number);
        snprintf(command, sizeof command, "muster server-ca show %s", number);
        if (ca->end < f->now + SOON_CA)
            add(i, WARNING, "former_server_ca_ends", NULL, number, command, "The former server CA %s %s %s: devices that have no newer one %s.", number, ca->end <= f->now ? "ended at" : "ends at",
                date_of(ca->end), ca->end <= f->now ? "refuse the gateway" : "will refuse the gateway from then on");
    }
}

/* Whether it was right before or is now nobody knows but an operator; what was set back is known to have been wrong in between. */
static void look_at_clock(struct items *i, const struct facts *f) {
    const struct clock_set *s = &f->registry.clock_set;
    const long long by = llabs(s->net), last = llabs(s->last);
    if (f->registry.clock_behind > CLOCK_TOLERANCE)
        add(i, CRITICAL, "clock_behind", NULL, NULL, NULL, "The clock is %lld s behind the server's own log: nothing is issued. Set it; or `musterd clock accept` where the log ran ahead.",
            (long long)f->registry.clock_behind);
    if (by >= CLOCK_SET_LEAST)
        add(i, WARNING, "clock_was_set", NULL, NULL, NULL,
            "The clock was set %s by %lld s (noticed at %s). Where it was right before, certificates, lists and times made since bear a wrong time: set it right. Where it is right now, say so: `musterd clock accept`.",
            s->net > 0 ? "ahead" : "back", by, date_of(s->at));
    else if (s->last)
        add(i, NOTICE, "clock_was_set", NULL, NULL, NULL, "The clock was set %s by %lld s and is as before since %s: what was issued or signed meanwhile bears a wrong time. `musterd clock accept` ends this notice.",
            s->last > 0 ? "back" : "ahead", last, date_of(s->at));
}

static void look_at_server(struct items *i, const struct facts *f) {
    if (f->vault == PULSE_AWAY)
        add(i, CRITICAL, "vault_down", NULL, NULL, NULL, "The vault is not there: nothing is issued. Enrolled devices go on. Its log says why.");
    if (f->vault == PULSE_SILENT)
        add(i, CRITICAL, "vault_silent", NULL, NULL, NULL, "The vault does not answer: nothing is issued. Enrolled devices go on. Look at its process.");
    if (f->token_configured && !f->token_answers && f->vault == PULSE_ALIVE)
        add(i, CRITICAL, "token_away", NULL, NULL, "musterd vault status", "The security module does not answer: accounts whose keys it has issue nothing, and their revocation lists are not made. Enrolled devices and other accounts go on. The log says why (token_away).");
    look_at_store(i, "registry.db", &f->registry_db);
    look_at_store(i, "control.db", &f->control_db);
    look_at_clock(i, f);
    if (f->registry.recovery.since)
        add(i, CRITICAL, "recovery", NULL, NULL, "muster recovery show", "The server was put back from a backup of %s and is in recovery: nothing is issued, and no revocation list is made. Enrolled devices go on.",
            date_of(f->registry.recovery.made));
    if (f->disk_free >= 0 && f->disk_free < DISK_LOW)
        add(i, WARNING, "disk_low", NULL, NULL, NULL, "The disk of the data directory has %lld MB left.", (long long)(f->disk_free >> 20));
    for (size_t p = 0; p < f->processes; p++)
        if (!f->confined[p])
            add(i, WARNING, "sandbox_off", NULL, FACTS_PROCESS[p], NULL, "The process %s is not confined%s.", FACTS_PROCESS[p],
                f->landlock[p] ? " in its system calls" : ": sandbox = off, or it is not running");
    look_at_end(i, f, "server_certificate_ends", NULL, NULL, f->server_end, SOON_SERVER, "The gateway's certificate");
    look_at_server_cas(i, f);
    look_at_forecast(i, f);
    if (f->head_age > HEAD_OLD && f->vault != PULSE_ALIVE)
        add(i, NOTICE, "audit_head_old", NULL, NULL, "muster audit verify", "The newest signed head of the audit log is %lld minutes old.", (long long)(f->head_age / 60));
    for (size_t k = 0; k < RECENT_TOP && f->recent.top[k].n >= REFUSED_MANY; k++)
        add(i, NOTICE, "refused_often", NULL, err_code(f->recent.top[k].code), NULL, "%lld requests were refused in the last hour with %s. %s", (long long)f->recent.top[k].n,
            err_code(f->recent.top[k].code), err_fix(f->recent.top[k].code));
}

/* --- an account --------------------------------------------------------------------------------------------------------------------------- */

static const char *plural(int64_t n) { return n == 1 ? "" : "s"; }

static void look_at_devices(struct items *i, const struct overview_account *a) {
    long long ended = a->ends[WITHIN_ENDED], month = a->ends[WITHIN_MONTH] - a->ends[WITHIN_ENDED], pending = a->devices[DEVICE_PENDING];
    if (ended && a->late.n)
        add(i, WARNING, "devices_ended", a->name, NULL, "muster forecast", "The certificates of %lld device%s have ended: they are refused. %lld of them may renew still, the first until %s.", ended,
            plural(ended), (long long)a->late.n, date_of(a->late.first));
    else if (ended)
        add(i, WARNING, "devices_ended", a->name, NULL, "muster device release", "The certificates of %lld device%s have ended: they are refused, and none of them renews.", ended, plural(ended));
    if (month)
        add(i, WARNING, "devices_end", a->name, NULL, NULL, "The certificates of %lld device%s end within 30 days.", month, plural(month));
    if (pending)
        add(i, NOTICE, "devices_pending", a->name, NULL, "muster device list --state pending", "%lld device%s wait%s for a decision.", pending, plural(pending),
            pending == 1 ? "s" : "");
}

static void look_at_keys(struct items *i, const struct overview_account *a) {
    long long exhausted = a->keys[KEY_EXHAUSTED];
    if (a->keys_ending)
        add(i, WARNING, "key_ends", a->name, a->key_ending, "muster key set", "The provisioning key %s ends at %s%s.", a->key_ending, date_of(a->key_end),
            a->keys_ending > 1 ? ", and others within a week" : "");
    if (exhausted)
        add(i, WARNING, "key_exhausted", a->name, a->key_exhausted, "muster key set", "The provisioning key %s has enrolled as many devices as it may%s.", a->key_exhausted,
            exhausted > 1 ? ", and so have others" : "");
    if (a->keys_nearly)
        add(i, WARNING, "key_nearly_exhausted", a->name, a->key_nearly, "muster key set", "The provisioning key %s has spent nine tenths of its devices or more%s.", a->key_nearly,
            a->keys_nearly > 1 ? ", and so have others" : "");
}

/* Devices' own certificates are counted above; here is what takes many along, and what none of them can renew. */
static void look_ahead(struct items *i, const struct facts *f, const char *account) {
    static const char *const whats[FORECAST_KINDS] = {
        [FORECAST_DEVICE] = "The certificates", [FORECAST_INTERMEDIATE] = "The intermediate CA", [FORECAST_ISSUING] = "The issuing CA", [FORECAST_ROOT] = "The fleet root",
        [FORECAST_SERVER] = "The gateway's certificate", [FORECAST_SERVER_CA] = "The server CA",
    };
    for (size_t k = 0; f->forecast && k < forecast_count(f->forecast); k++) {
        const struct forecast_cause *c = forecast_at(f->forecast, k);
        char object[UUID_TEXT_LEN + 1];
        if (!c->stops || strcmp(c->account, account) != 0)
            continue;
        uuid_text(&c->id, object);
        add(i, c->first_stop <= f->now + SOON_STOPS ? WARNING : NOTICE, "devices_will_stop", *account ? account : NULL, uuid_is_nil(&c->id) ? NULL : object, "muster forecast",
            "%lld device%s stop%s connecting from %.10s on. %s end%s%s%s.", (long long)c->stops, plural(c->stops), c->stops == 1 ? "s" : "", date_of(c->first_stop), whats[c->kind],
            c->kind == FORECAST_DEVICE ? "" : "s", c->subject[0] ? ": " : "", c->subject);
    }
}

/* Somebody has done it on purpose, and may not have thought of those that come new; or it was made while the clock ran ahead.  Where that is behind, nobody knows which. */
static void look_at_own_root(struct items *i, const struct facts *f, const struct overview_account *a) {
    char id[UUID_TEXT_LEN + 1];
    uuid_text(&a->own_root_id, id);
    if (a->method & METHOD_SHARED && a->own_root && a->own_root_begin > f->now && f->registry.clock_behind <= CLOCK_TOLERANCE)
        add(i, WARNING, "issuing_root_begins_later", a->name, id, "muster root rotate",
            "The fleet root that the account issues under begins at %s: the clock ran ahead when it was made. Until then no device is enrolled and none renews; another one is good at once.", date_of(a->own_root_begin));
    if (a->method & METHOD_SHARED && (a->own_root == ROOT_DISABLED || a->own_root == ROOT_REVOKED))
        add(i, WARNING, "issuing_root_shut", a->name, id, a->own_root == ROOT_DISABLED ? "muster root enable" : "muster root rotate",
            "The fleet root that the account issues under is %s: no device is enrolled and none renews, they are told to come again.", word_of(&WORDS_ROOT_STATE, a->own_root));
}

static void look_at_account(struct items *i, const struct facts *f, const struct overview_account *a) {
    char ending[UUID_TEXT_LEN + 1], unproved[UUID_TEXT_LEN + 1], overdue[UUID_TEXT_LEN + 1];
    uuid_text(&a->root_crl_root, overdue);
    uuid_text(&a->root_ending, ending);
    uuid_text(&a->root_unproved, unproved);
    look_at_end(i, f, "root_ends", a->name, ending, a->root_end, SOON_CA, "A fleet root");
    if (a->method & METHOD_SHARED) {
        look_at_end(i, f, "issuing_ca_ends", a->name, NULL, a->ca_end[CA_ISSUING], SOON_CA, "The issuing CA");
        look_at_end(i, f, "provisioning_ca_ends", a->name, NULL, a->ca_end[CA_PROVISIONING], SOON_CA, "The provisioning CA");
    }
    look_at_own_root(i, f, a);
    look_at_devices(i, a);
    look_ahead(i, f, a->name);
    look_at_keys(i, a);
    if (a->root_crl_due && a->root_crl_due <= f->now)
        add(i, WARNING, "root_crl_overdue", a->name, overdue, "muster crl import", "The revocation list of a fleet CA was due for its next update at %s: who stands on it stays out, and who was revoked since comes in.", date_of(a->root_crl_due));
    if (a->roots[ROOT_UNPROVED])
        add(i, NOTICE, "root_unproved", a->name, unproved, "muster root prove", "An uploaded fleet root waits for its proof: its devices are refused.");
    if (a->roots[ROOT_DISABLED])
        add(i, NOTICE, "root_disabled", a->name, NULL, "muster root enable", "%lld fleet root%s disabled: nobody gets in under it.", (long long)a->roots[ROOT_DISABLED],
            a->roots[ROOT_DISABLED] == 1 ? " is" : "s are");
}

static void look_at_crls(struct items *i, const struct facts *f, const char *account, const struct crls_tally *t) {
    if (t->left_out)
        add(i, CRITICAL, "crl_incomplete", account, NULL, "muster audit verify", "%lld revoked certificate%s in damaged rows are on no revocation list. The log says crl_rows_damaged.", (long long)t->left_out, plural(t->left_out));
    if (t->behind)
        add(i, CRITICAL, "crl_behind", account, NULL, "muster crl list", "What was revoked is not on the revocation list, which cannot be made: whoever judges devices by it lets them in. The log says why (crl_failed, crl_ca_damaged).");
    if (t->next_update && t->next_update <= f->now)
        add(i, CRITICAL, "crl_overdue", account, NULL, "muster crl list", "A certificate revocation list was due for its next update at %s: verifiers that have it refuse every device. The log says why none is made.",
            date_of(t->next_update));
    else if (t->next_update && t->next_update - f->now < CLOCK_DAY && f->crl_life > 2 * CLOCK_DAY)
        add(i, WARNING, "crl_ends", account, NULL, "muster crl list", "A certificate revocation list is due for its next update at %s, and no newer one was made. The log says why.", date_of(t->next_update));
}

json_t *attention_of(const struct facts *f, bool server, bool *critical) {
    struct items i = {.of = {json_array(), json_array(), json_array()}};
    if (server) {
        look_at_server(&i, f);
        look_ahead(&i, f, "");
    }
    for (size_t k = 0; k < f->registry.n; k++) {
        look_at_account(&i, f, &f->registry.at[k]);
        if (f->crls)
            look_at_crls(&i, f, f->registry.at[k].name, &f->crls[k]);
    }
    *critical = json_array_size(i.of[CRITICAL]) > 0;
    for (int level = WARNING; level < LEVELS; level++) {
        json_array_extend(i.of[CRITICAL], i.of[level]);
        json_decref(i.of[level]);
    }
    return i.of[CRITICAL];
}

int attention_weight(const struct facts *f, const struct overview_account *a) {
    struct items i = {0};
    look_at_account(&i, f, a);
    return i.warnings;
}
