/* delivery: see delivery.h. */
#include "registry/delivery.h"

#include "base/secret.h"

#define CANDIDATES 256 /* that are looked at for one batch */

int64_t delivery_backoff(const struct delivery_policy *p, int64_t failures, uint32_t random) {
    int64_t wait = p->first;
    for (int64_t i = 1; i < failures && wait < p->most; i++)
        wait *= 2;
    if (wait > p->most)
        wait = p->most;
    int64_t tenths = wait * 10, spread = tenths / 5; /* a fifth, in tenths of a second, so that short waits are spread too */
    wait = (tenths - spread + (int64_t)(random % (uint32_t)(2 * spread + 1)) + 9) / 10;
    return wait < 1 ? 1 : wait;
}

int64_t delivery_longest(const struct delivery_policy *p) { return 2 * p->most; }

/* --- into the queue ------------------------------------------------------------------------------------------------------------------- */

struct reader {
    struct {
        int64_t row, events;
        char account[ACCOUNT_NAME_MAX + 1];
        bool touched;
    } at[WEBHOOKS_MAX];
    size_t n;
};

static int read_active(struct store_tx *control, struct reader *r, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(control, &row, err, SQL_WEBHOOK_ACTIVE, "i", I(WEBHOOKS_MAX));
    while (!rc && r->n < WEBHOOKS_MAX && (rc = store_next(row, err)) > 0) {
        r->at[r->n].row = store_int(row, 0);
        r->at[r->n].events = store_int(row, 2);
        row_text(row, 1, r->at[r->n++].account, ACCOUNT_NAME_MAX + 1);
        rc = 0;
    }
    return rc < 0 ? rc : 0;
}

/* Dead letters beyond what is kept. */
static int trim_dead(struct store_tx *control, int64_t webhook, struct err *err) {
    int64_t dead, dropped;
    int rc = one_int(control, &dead, 0, err, SQL_DELIVERY_COUNT, "ii", webhook, I(2));
    if (rc || dead <= WEBHOOK_DEAD_MAX)
        return rc;
    rc = store_exec(control, &dropped, err, SQL_DEAD_TRIM, "ii", webhook, dead - WEBHOOK_DEAD_MAX);
    return rc ? rc : store_exec(control, NULL, err, SQL_WEBHOOK_DROPPED, "ii", webhook, dropped);
}

static int bound(struct store_tx *control, struct delivery_put *p, int64_t webhook, struct err *err) {
    int64_t waiting;
    int rc = one_int(control, &waiting, 0, err, SQL_DELIVERY_COUNT, "ii", webhook, I(1));
    if (rc || waiting <= p->policy->queue_max)
        return rc;
    p->overflowed += waiting - p->policy->queue_max;
    rc = store_exec(control, NULL, err, SQL_DELIVERY_OVERFLOW, "iiis", webhook, waiting - p->policy->queue_max, clock_now(), "The queue was full.");
    return rc ? rc : trim_dead(control, webhook, err);
}

int delivery_put_run(struct store_tx *control, void *arg, struct err *err) {
    struct delivery_put *p = arg;
    struct reader r = {.n = 0};
    int64_t now = clock_now();
    int rc = read_active(control, &r, err);
    p->overflowed = 0;
    for (size_t i = 0; i < p->n; i++)
        for (size_t k = 0; !rc && k < r.n; k++) {
            const struct event_row *e = &p->at[i];
            if ((r.at[k].account[0] && strcmp(r.at[k].account, e->account)) || (r.at[k].events && !(r.at[k].events & event_bit(e->kind))))
                continue;
            r.at[k].touched = true;
            rc = store_exec(control, NULL, err, SQL_DELIVERY_ADD, "iuiuit", r.at[k].row, &e->id, I(e->kind), uuid_is_nil(&e->subject) ? NULL : &e->subject, now, buf_span(&e->payload));
        }
    for (size_t k = 0; !rc && k < r.n; k++)
        if (r.at[k].touched)
            rc = bound(control, p, r.at[k].row, err);
    return rc;
}

/* --- what control holds ------------------------------------------------------------------------------------------------------------------ */

void webhook_load_fini(struct webhook_load *l) {
    for (size_t i = 0; i < l->n; i++) {
        buf_fini(&l->at[i].ca);
        secret_wipe(l->at[i].secret, sizeof l->at[i].secret);
        secret_wipe(l->at[i].secret_before, sizeof l->at[i].secret_before);
    }
    free(l->at);
    *l = (struct webhook_load){0};
}

int webhook_load_run(struct store_tx *control, void *arg, struct err *err) {
    struct webhook_load *l = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    webhook_load_fini(l);
    if (!(l->at = calloc(WEBHOOKS_MAX, sizeof *l->at)))
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = store_query(control, &row, err, SQL_WEBHOOK_LOAD, "i", I(WEBHOOKS_MAX));
    if (rc)
        return rc;
    while (l->n < WEBHOOKS_MAX && (rc = store_next(row, err)) > 0) {
        struct webhook_loaded *one = &l->at[l->n];
        if ((rc = row_webhook(row, &one->w, err)))
            return rc;
        one->ca = BUF_INIT(WEBHOOK_CA_MAX);
        l->n++;
        buf_add(&one->ca, store_text(row, 17));
        row_text(row, 18, one->secret, sizeof one->secret);
        row_text(row, 19, one->secret_before, sizeof one->secret_before);
        if ((rc = buf_check(&one->ca, err)))
            return rc;
    }
    return rc < 0 ? rc : 0;
}

/* --- out of the queue ---------------------------------------------------------------------------------------------------------------------- */

void delivery_take_fini(struct delivery_take *t) {
    for (size_t i = 0; i < t->n; i++)
        buf_fini(&t->at[i].payload);
    t->n = 0;
}

/* Whether an earlier event of the same subject is still there. */
static int blocked(struct store_tx *control, const struct delivery_take *t, const struct delivery *d, bool *yes, struct err *err) {
    int64_t first;
    *yes = false;
    if (uuid_is_nil(&d->subject))
        return 0;
    int rc = one_int(control, &first, d->row, err, SQL_DELIVERY_FIRST_OF, "iu", t->webhook, &d->subject);
    *yes = first != d->row;
    return rc;
}

static int read_delivery(struct store_row *row, struct delivery *d, struct err *err) {
    *d = (struct delivery){.row = store_int(row, 0), .kind = (enum event_kind)store_int(row, 2), .created = store_int(row, 4), .attempts = store_int(row, 5),
                           .payload = BUF_INIT(EVENT_PAYLOAD_MAX)};
    return store_uuid(row, 1, &d->event) || store_uuid(row, 3, &d->subject) ? err_set(err, MUSTER_ECORRUPT, "A row of the table delivery is damaged.") : 0;
}

static int take(struct store_tx *control, struct delivery_take *t, int statement, int64_t at, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    const size_t most = t->failing ? 1 : DELIVERY_BATCH;
    int rc = store_query(control, &row, err, statement, "iii", t->webhook, at, I(CANDIDATES));
    if (rc)
        return rc;
    while (t->n < most && (rc = store_next(row, err)) > 0) {
        struct delivery *d = &t->at[t->n];
        bool wait;
        if ((rc = read_delivery(row, d, err)) || (rc = blocked(control, t, d, &wait, err)))
            return rc;
        if (wait)
            continue;
        buf_add(&d->payload, store_text(row, 6));
        t->n++;
        if ((rc = buf_check(&d->payload, err)))
            return rc;
    }
    return rc < 0 ? rc : 0;
}

int delivery_take_run(struct store_tx *control, void *arg, struct err *err) {
    struct delivery_take *t = arg;
    int64_t failures;
    delivery_take_fini(t);
    t->next_at = 0;
    int rc = one_int(control, &failures, 0, err, SQL_WEBHOOK_FAILURES, "i", t->webhook);
    t->failing = failures > 0;
    if (!rc)
        rc = take(control, t, SQL_DELIVERY_DUE, t->now, err);
    if (!rc && !t->n)
        rc = take(control, t, SQL_DELIVERY_PUT_OFF, t->now + t->longest, err);
    return rc || t->n ? rc : one_int(control, &t->next_at, 0, err, SQL_DELIVERY_NEXT, "i", t->webhook);
}

/* --- what became of them --------------------------------------------------------------------------------------------------------------------- */

/* Whether anything may be given up: a queue that was left alone for days is given its attempts first, and the receiver its time. */
static bool tried_enough(const struct delivery_settle *s) { return s->failed_before + 1 >= DELIVERY_ATTEMPTS_MIN; }

static int settle_failed(struct store_tx *control, struct delivery_settle *s, struct delivery *d, struct err *err) {
    int64_t wait = delivery_backoff(s->policy, d->attempts + 1, s->random ^ (uint32_t)d->row * 2654435761U);
    if (d->retry_after > wait)
        wait = d->retry_after > s->policy->most ? s->policy->most : d->retry_after;
    if (s->now + wait > d->created + s->policy->lasts && d->attempts + 1 >= DELIVERY_ATTEMPTS_MIN && tried_enough(s)) {
        s->given_up++;
        return store_exec(control, NULL, err, SQL_DELIVERY_GIVE_UP, "iis", d->row, s->now, d->error);
    }
    int rc = store_exec(control, NULL, err, SQL_DELIVERY_LATER, "iis", d->row, s->now + wait, d->error);
    /* Those behind it come after it. */
    return rc || uuid_is_nil(&d->subject) ? rc : store_exec(control, NULL, err, SQL_DELIVERY_BEHIND, "iui", s->webhook, &d->subject, s->now + wait);
}

/* Nothing got through: the whole webhook waits.  What has been waiting for all the time that an event lasts, and the webhook has been
 * failing for as long, is given up without an attempt of its own, once the webhook has had its number of them. */
static int settle_webhook_failed(struct store_tx *control, struct delivery_settle *s, struct err *err) {
    struct store_row *row;
    int64_t wait = 0, gone;
    int found = first_row(control, &row, err, SQL_WEBHOOK_FAILING, "i", s->webhook);
    if (found <= 0)
        return found;
    int64_t failures = store_int(row, 0) + 1, since = store_int(row, 1) ? store_int(row, 1) : s->now;
    store_row_end(row);
    for (size_t i = 0; i < s->n; i++)
        wait = s->at[i].retry_after > wait ? s->at[i].retry_after : wait;
    int64_t own = delivery_backoff(s->policy, failures, s->random);
    wait = wait < own ? own : wait > s->policy->most ? s->policy->most : wait;
    s->next_at = s->now + wait;
    int rc = store_exec(control, NULL, err, SQL_WEBHOOK_FAILED, "iiiis", s->webhook, failures, since, s->now + wait, s->at[s->n - 1].error);
    if (rc || s->now - since < s->policy->lasts || !tried_enough(s))
        return rc;
    rc = store_exec(control, &gone, err, SQL_DELIVERY_GIVE_UP_OLD, "iiis", s->webhook, s->now - s->policy->lasts, s->now, s->at[s->n - 1].error);
    s->given_up += gone;
    return rc;
}

int delivery_settle_run(struct store_tx *control, void *arg, struct err *err) {
    struct delivery_settle *s = arg;
    int64_t done = 0;
    const char *last = "";
    int rc = 0;
    s->given_up = s->next_at = 0;
    s->disabled = s->failed = false;
    for (size_t i = 0; !rc && i < s->n; i++) {
        struct delivery *d = &s->at[i];
        switch (d->result) {
        case DELIVERY_DONE:
            done++;
            rc = store_exec(control, NULL, err, SQL_DELIVERY_DONE, "i", d->row);
            break;
        case DELIVERY_GONE:
            s->disabled = true; /* the event stays, for whoever enables the webhook again */
            break;
        case DELIVERY_FAILED:
            last = d->error;
            s->failed = true;
            rc = settle_failed(control, s, d, err);
            break;
        }
    }
    if (!rc && done)
        rc = store_exec(control, NULL, err, SQL_WEBHOOK_DELIVERED, "iiis", s->webhook, done, s->now, last);
    else if (!rc && !s->disabled && s->n)
        rc = settle_webhook_failed(control, s, err);
    if (!rc && s->disabled) {
        struct webhook w;
        struct uuid id = {{0}};
        const struct actor muster = {"muster"};
        struct store_row *row;
        int found = first_row(control, &row, err, SQL_WEBHOOK_UUID, "i", s->webhook);
        if (found <= 0)
            return found;
        rc = store_uuid(row, 0, &id);
        store_row_end(row);
        if (rc || (rc = store_exec(control, NULL, err, SQL_WEBHOOK_DISABLE, "is", s->webhook, "The receiver answered 410: it wants no more events.")) ||
            (rc = webhook_need(control, &id, "", &w, err)) || (rc = webhook_audit(control, &muster, "webhook.disable", &w, NULL, err)))
            return rc;
    }
    return rc ? rc : s->given_up ? trim_dead(control, s->webhook, err) : 0;
}
