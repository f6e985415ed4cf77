/* hook: see hook.h. */
#include "registry/hook.h"

#include "registry/audit.h"
#include "registry/refusal.h"
#include "registry/tried.h"

#define OVER_A_TIME 20 /* rows that go with each one that comes */

void hook_what(bool renews, int64_t key, int64_t invitation, const struct hash *certificate, struct span device_id, const struct hash *spki, struct hash *out) {
    static const struct hash none;
    CLEANUP(buf_fini) struct buf b = BUF_INIT(512);
    buf_addc(&b, renews);
    buf_add_u64(&b, (uint64_t)key);
    buf_add_u64(&b, (uint64_t)invitation);
    buf_add(&b, hash_span(certificate ? certificate : &none));
    buf_add(&b, hash_span(spki ? spki : &none));
    buf_add(&b, device_id);
    hash_of(buf_span(&b), out);
}

bool hook_asks(enum hook_rule rule, bool renews) { return rule == HOOK_ALL || (rule == HOOK_NEW && !renews); }

enum hook_trial hook_trial_of(const struct account *a, bool renews) {
    struct account tried;
    if (!tried_account(a, &tried) || !hook_asks(tried.hook, renews))
        return HOOK_DECIDES;
    return hook_asks(a->hook, renews) ? HOOK_TRIAL_BESIDE : HOOK_TRIAL;
}

int hook_find(struct store_tx *tx, int64_t account, const struct hash *what, struct hook_answer *out, struct err *err) {
    struct store_row *row;
    *out = (struct hook_answer){0};
    int found = first_row(tx, &row, err, SQL_ASK_FIND, "ib", account, hash_span(what));
    if (found <= 0)
        return found;
    out->row = store_int(row, 0);
    out->state = (enum hook_state)store_int(row, 2);
    out->until = store_int(row, 3);
    row_text(row, 4, out->reason, sizeof out->reason);
    int rc = store_uuid(row, 1, &out->uuid);
    store_row_end(row);
    return rc ? err_set(err, MUSTER_ECORRUPT, "A row of the table ask is damaged.") : 0;
}

int hook_judge(const struct hook_answer *a, int64_t now, struct err *why, bool *ask) {
    *ask = !a->row || a->until <= now || a->until > now + CLOCK_AHEAD + (a->state == HOOK_ALLOWED ? HOOK_ALLOWED_FOR : HOOK_LATER_MAX);
    if (*ask)
        return err_retry(why, MUSTER_EHOOKWAITS, HOOK_AGAIN, NULL);
    switch (a->state) {
    case HOOK_ALLOWED:
        return 0;
    case HOOK_WAITING:
        return err_retry(why, MUSTER_EHOOKWAITS, HOOK_AGAIN, NULL);
    case HOOK_LATER:
        return err_retry(why, MUSTER_EHOOKWAITS, (int)(a->until - now), NULL);
    case HOOK_DENIED:
        return err_set(why, MUSTER_EHOOKDENIED, NULL);
    case HOOK_FAILED:
        break;
    }
    /* Whatever it is: no allowance. */
    return err_retry(why, MUSTER_EHOOKFAILED, (int)(a->until - now), "Whoever is asked before certificates are issued gave no answer that counts%s%s", a->reason[0] ? ": " : ".", a->reason);
}

static int add(struct store_tx *tx, int64_t account, const struct hook_ask *ask, const struct hash *what, enum hook_trial trial, int64_t now, struct err *err) {
    const struct uuid id = uuid_new();
    int64_t many = 0;
    int rc = store_exec(tx, NULL, err, SQL_ASK_OVER, "iii", account, now, I(OVER_A_TIME));
    if (rc || (rc = store_exec(tx, NULL, err, SQL_ASK_AHEAD, "iii", account, now + CLOCK_AHEAD + HOOK_LATER_MAX, I(OVER_A_TIME))) || (rc = one_int(tx, &many, 0, err, trial ? SQL_ASK_TRIALS : SQL_ASK_MANY, "ii", account, I(HOOK_ASKS_MAX - 1))))
        return rc;
    if (many)
        return err_retry(err, MUSTER_EBUSY, HOOK_FAILED_FOR, "The account waits for too many answers of whoever is asked before certificates are issued.");
    return store_exec(tx, NULL, err, SQL_ASK_ADD, "uibitisbsi", &id, account, hash_span(what), now + HOOK_WAITS, ask->device_id, I(ask->renews), ask->by, ask->spki, ask->address, I(trial));
}

int hook_write(struct store_tx *tx, int64_t account, const struct hook_ask *ask, int64_t now, struct err *err) { return add(tx, account, ask, &ask->what, HOOK_DECIDES, now, err); }

/* Under a mark of its own: what decides about the same certificate has the other. */
int hook_try(struct store_tx *tx, int64_t account, const struct hook_ask *ask, enum hook_trial trial, int64_t now, struct err *err) {
    CLEANUP(buf_fini) struct buf marked = BUF_INIT(128);
    struct err why = ERR_INIT;
    struct hash what;
    buf_adds(&marked, "trial");
    buf_add(&marked, hash_span(&ask->what));
    hash_of(buf_span(&marked), &what);
    int rc = add(tx, account, ask, &what, trial, now, &why);
    return rc == MUSTER_EBUSY ? 0 : rc ? err_set(err, rc, "%s", why.text) : 0;
}

int hook_use(struct store_tx *tx, const struct hook_answer *a, struct err *err) { return store_exec(tx, NULL, err, SQL_ASK_USED, "i", a->row); }

/* --- for control -------------------------------------------------------------------------------------------------------------------------- */

static int read_waiting(struct store_tx *tx, struct hook_waiting *w, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, w->trial ? SQL_ASK_WAITING_TRIAL : SQL_ASK_WAITING, "ii", w->after, I(HOOK_BATCH));
    while (!rc && w->n < HOOK_BATCH && (rc = store_next(row, err)) > 0) {
        __auto_type one = &w->at[w->n];
        memset(one, 0, sizeof *one);
        one->row = w->after = store_int(row, 0);
        row_text(row, 2, one->account, sizeof one->account);
        row_text(row, 3, one->device_id, sizeof one->device_id);
        one->renews = store_int(row, 4) != 0;
        row_text(row, 5, one->by, sizeof one->by);
        one->has_spki = !store_is_null(row, 6) && row_hash(row, 6, &one->spki) == 0;
        row_text(row, 7, one->address, sizeof one->address);
        one->trial = (enum hook_trial)store_int(row, 8);
        rc = store_uuid(row, 1, &one->uuid) ? err_set(err, MUSTER_ECORRUPT, "A row of the table ask is damaged.") : 0;
        w->n++;
    }
    return rc < 0 ? rc : 0;
}

int hook_waiting_run(struct store_tx *tx, void *arg, struct err *err) {
    struct hook_waiting *w = arg;
    w->n = 0;
    int rc = read_waiting(tx, w, err);
    if (rc || w->n || w->trial || w->after)
        return rc;
    w->trial = true;
    return read_waiting(tx, w, err);
}

static int64_t until_of(const struct hook_settle *s, int64_t now) {
    switch (s->state) {
    case HOOK_ALLOWED:
        return now + HOOK_ALLOWED_FOR;
    case HOOK_DENIED:
        return now + HOOK_DENIED_FOR;
    case HOOK_LATER:
        return now + (s->seconds < 1 ? HOOK_LATER_FOR : s->seconds > HOOK_LATER_MAX ? HOOK_LATER_MAX : s->seconds);
    case HOOK_FAILED:
    case HOOK_WAITING:
        break;
    }
    return now + HOOK_FAILED_FOR;
}

/* Nobody was refused; it stands among the refusals, marked as that. */
static int write_shadow(struct store_tx *tx, int64_t account, const char *device, const char *address, const struct hook_settle *s, struct err *err) {
    struct refusal r = {.id = refusal_id_of(uuid_new()), .first = clock_now(), .last = clock_now(), .count = 1, .code = MUSTER_ESHADOW, .account = account}, *one = &r;
    struct refusal_keep keep = {.at = &one, .n = 1};
    struct store_row *row;
    snprintf(r.reason, sizeof r.reason, "By the webhook that is asked and tried: %s%s", s->state == HOOK_DENIED ? "it said no." : s->state == HOOK_LATER ? "it wanted to be asked later." : "no answer that counts: ",
             s->state == HOOK_FAILED ? s->reason : "");
    snprintf(r.device_id, sizeof r.device_id, "%s", device);
    snprintf(r.address, sizeof r.address, "%s", address);
    snprintf(r.source, sizeof r.source, "%s", address);
    int found = first_row(tx, &row, err, SQL_DEVICE_BY_ID, "is", account, device);
    if (found < 0)
        return found;
    if (found) {
        r.device = store_int(row, 0);
        store_row_end(row);
    }
    return refusal_keep_run(tx, &keep, err);
}

int hook_settle_run(struct store_tx *tx, void *arg, struct err *err) {
    struct hook_settle *s = arg;
    struct store_row *row;
    struct uuid id;
    char device[DEVICE_ID_MAX + 1], by[NAME_MAX_BYTES + 1], address[64];
    s->shadow = false;
    int found = first_row(tx, &row, err, SQL_ASK_WAITS, "i", s->row);
    if (found <= 0)
        return found;
    const int64_t account = store_int(row, 0), renews = store_int(row, 3), trial = store_int(row, 6);
    row_text(row, 2, device, sizeof device);
    row_text(row, 4, by, sizeof by);
    row_text(row, 5, address, sizeof address);
    int rc = store_uuid(row, 1, &id);
    store_row_end(row);
    if (rc)
        return err_set(err, MUSTER_ECORRUPT, "A row of the table ask is damaged.");
    if (trial) {
        s->shadow = s->state != HOOK_ALLOWED;
        rc = store_exec(tx, NULL, err, SQL_ASK_USED, "i", s->row);
        return rc || !s->shadow ? rc : write_shadow(tx, account, device, address, s, err);
    }
    if ((rc = store_exec(tx, NULL, err, SQL_ASK_SETTLE, "iiis", s->row, I(s->state), until_of(s, clock_now()), s->reason)) || s->state != HOOK_ALLOWED)
        return rc;
    const struct actor actor = actor_of("hook", SPAN_LIT("certificate.ask"));
    json_t *detail = json_object();
    json_set_uuid(detail, "ask", &id);
    json_set_bool(detail, "renews", renews != 0);
    json_set_str(detail, "by", by);
    return audit_add(tx, account, &actor, "device.allow", span_str(device), detail, err);
}
