/* webhook: see webhook.h.  Dead letters are webhook_dead.c's, the queue is delivery.c's. */
#include "registry/webhook.h"

#include "base/hex.h"
#include "base/secret.h"
#include "registry/audit.h"

static const char *const states[] = {[WEBHOOK_ACTIVE] = "active", [WEBHOOK_DISABLED] = "disabled"};
const struct words WORDS_WEBHOOK_STATE = {states, sizeof states / sizeof *states};

void webhook_secret_make(char out[WEBHOOK_SECRET_LEN + 1]) {
    uint8_t random[32];
    CLEANUP(buf_wipe) struct buf b = BUF_INIT(64);
    secret_random_bytes(random, sizeof random);
    buf_adds(&b, WEBHOOK_SECRET_PREFIX);
    base64url_add(&b, span_of(random, sizeof random));
    memcpy(out, buf_str(&b), WEBHOOK_SECRET_LEN + 1);
    secret_wipe(random, sizeof random);
}

int row_webhook(struct store_row *row, struct webhook *out, struct err *err) {
    *out = (struct webhook){
        .row = store_int(row, 0),
        .events = store_int(row, 4),
        .state = (enum webhook_state)store_int(row, 5),
        .own_ca = store_int(row, 7) != 0,
        .secret_before_until = store_int(row, 8),
        .created = store_int(row, 9),
        .delivered = store_int(row, 10),
        .dropped = store_int(row, 11),
        .failures = store_int(row, 12),
        .failing_since = store_int(row, 13),
        .next_at = store_int(row, 14),
        .last_success = store_int(row, 15),
    };
    row_text(row, 2, out->account, sizeof out->account);
    row_text(row, 3, out->url, sizeof out->url);
    row_text(row, 6, out->why, sizeof out->why);
    row_text(row, 16, out->last_error, sizeof out->last_error);
    return store_uuid(row, 1, &out->uuid) ? err_set(err, MUSTER_ECORRUPT, "A row of the table webhook is damaged.") : 0;
}

int webhook_need(struct store_tx *control, const struct uuid *id, const char *account, struct webhook *out, struct err *err) {
    struct store_row *row;
    int found = first_row(control, &row, err, SQL_WEBHOOK_BY_UUID, "u", id);
    if (found < 0)
        return found;
    int rc = found ? row_webhook(row, out, err) : 0;
    store_row_end(row);
    if (rc)
        return rc;
    return found && (!*account || strcmp(account, out->account) == 0) ? 0 : err_set(err, MUSTER_ENOTFOUND, "There is no such webhook.");
}

static json_t *events_json(int64_t events) {
    json_t *list = json_array();
    for (size_t i = 0; i < EVENT_TYPES_N; i++)
        if (events & event_bit(EVENT_TYPES[i].kind))
            json_array_append_new(list, json_string(EVENT_TYPES[i].type));
    return list;
}

/* Everything but secrets. */
static json_t *webhook_json(const struct webhook *w) {
    json_t *o = json_object();
    json_set_uuid(o, "id", &w->uuid);
    json_set_str(o, "account", w->account[0] ? w->account : NULL);
    json_set_str(o, "url", w->url);
    json_set(o, "events", w->events ? events_json(w->events) : json_null());
    json_set_str(o, "state", word_of(&WORDS_WEBHOOK_STATE, w->state));
    json_set_str(o, "why", w->why[0] ? w->why : NULL);
    json_set_bool(o, "own_ca", w->own_ca);
    json_set_time(o, "created", w->created);
    json_set_int(o, "delivered", w->delivered);
    json_set_int(o, "dropped", w->dropped);
    json_set_int(o, "failures", w->failures);
    json_set_time(o, "failing_since", w->failing_since);
    json_set_str(o, "last_error", w->last_error[0] ? w->last_error : NULL);
    json_set_time(o, "last_success", w->last_success);
    json_set_time(o, "next_attempt", w->failures ? w->next_at : 0);
    json_set_time(o, "secret_before_until", w->secret_before_until > clock_now() ? w->secret_before_until : 0);
    return o;
}

int webhook_audit(struct store_tx *control, const struct actor *actor, const char *action, const struct webhook *w, json_t *detail, struct err *err) {
    char id[UUID_TEXT_LEN + 1];
    json_t *with = detail ? detail : json_object();
    uuid_text(&w->uuid, id);
    json_set_str(with, "url", w->url);
    json_set_str(with, "account", w->account[0] ? w->account : NULL);
    return audit_add(control, AUDIT_SERVER, actor, action, span_str(id), with, err);
}

static json_t *config_detail(const struct webhook *w) {
    json_t *d = json_object();
    json_set(d, "events", w->events ? events_json(w->events) : json_null());
    json_set_str(d, "state", word_of(&WORDS_WEBHOOK_STATE, w->state));
    json_set_bool(d, "own_ca", w->own_ca);
    return d;
}

static int finish(json_t **out, const struct webhook *w) {
    json_decref(*out);
    *out = webhook_json(w);
    return 0;
}

/* Who answers there decides what is issued. */
static int owners_alone(int64_t events, bool owner, struct err *err) {
    if (owner || !(events & (event_bit(EVENT_CERTIFICATE_ASK) | event_bit(EVENT_CERTIFICATE_TRY))))
        return 0;
    return err_set(err, MUSTER_EROLE, "The webhook that is asked before certificates are issued (certificate.ask, certificate.try) is the owners' to say.");
}

int webhook_create_run(struct store_tx *control, void *arg, struct err *err) {
    struct webhook_create *c = arg;
    int64_t all, own;
    int rc = one_int(control, &all, 0, err, SQL_WEBHOOK_COUNT, "");
    if (rc || (rc = owners_alone(c->events, c->owner, err)) || (rc = one_int(control, &own, 0, err, SQL_WEBHOOK_COUNT_ACCOUNT, "s", c->account)))
        return rc;
    if (all >= WEBHOOKS_MAX || own >= WEBHOOKS_ACCOUNT_MAX)
        return err_set(err, MUSTER_ESTATE, "There are %lld webhooks already, as many as %s may have; delete one first.", (long long)(own >= WEBHOOKS_ACCOUNT_MAX ? own : all),
                       own >= WEBHOOKS_ACCOUNT_MAX ? "one account" : "a server");
    struct uuid id = uuid_new();
    rc = store_exec(control, NULL, err, SQL_WEBHOOK_ADD, "ussitsi", &id, c->account, c->url, c->events, c->ca.n ? c->ca : SPAN_LIT(""), c->secret, clock_now());
    struct webhook w;
    if (rc || (rc = webhook_need(control, &id, "", &w, err)) || (rc = webhook_audit(control, &c->actor, "webhook.create", &w, config_detail(&w), err)))
        return rc;
    return finish(&c->out, &w);
}

int webhook_list_run(struct store_tx *control, void *arg, struct err *err) {
    struct webhook_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int64_t last = l->page.after, n = 0;
    int rc = *l->account ? store_query(control, &row, err, SQL_WEBHOOK_PAGE_ACCOUNT, "iis", l->page.after, l->page.limit + 1, l->account)
                         : store_query(control, &row, err, SQL_WEBHOOK_PAGE, "ii", l->page.after, l->page.limit + 1);
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < l->page.limit) {
        struct webhook w;
        if ((rc = row_webhook(row, &w, err)))
            return rc;
        json_array_append_new(items, webhook_json(&w));
        last = w.row;
        n++;
    }
    return rc < 0 ? rc : page_finish(&l->page, TAKE(items), last, rc > 0);
}

int webhook_show_run(struct store_tx *control, void *arg, struct err *err) {
    struct webhook_show *s = arg;
    struct webhook w;
    int64_t waiting, dead, oldest;
    int rc = webhook_need(control, &s->id, s->account, &w, err);
    if (rc || (rc = one_int(control, &waiting, 0, err, SQL_DELIVERY_COUNT, "ii", w.row, I(1))) || (rc = one_int(control, &dead, 0, err, SQL_DELIVERY_COUNT, "ii", w.row, I(2))) ||
        (rc = one_int(control, &oldest, 0, err, SQL_DELIVERY_OLDEST, "i", w.row)))
        return rc;
    finish(&s->out, &w);
    json_set_int(s->out, "waiting", waiting);
    json_set_time(s->out, "oldest_waiting", oldest);
    json_set_int(s->out, "dead", dead);
    return 0;
}

int webhook_set_run(struct store_tx *control, void *arg, struct err *err) {
    struct webhook_set *s = arg;
    struct webhook w;
    int rc = webhook_need(control, &s->id, s->account, &w, err);
    if (rc || (rc = owners_alone(w.events | (s->events > 0 ? s->events : 0), s->owner, err)))
        return rc;
    if (s->url)
        snprintf(w.url, sizeof w.url, "%s", s->url);
    if (s->events >= 0)
        w.events = s->events;
    if (s->state)
        w.state = s->state;
    if (s->ca.p)
        w.own_ca = s->ca.n > 0;
    if ((rc = store_exec(control, NULL, err, SQL_WEBHOOK_SET, "isii", w.row, w.url, w.events, I(w.state))) || (s->ca.p && (rc = store_exec(control, NULL, err, SQL_WEBHOOK_CA, "it", w.row, s->ca))) ||
        /* Whoever mends it need not wait for the next attempt. */
        (rc = store_exec(control, NULL, err, SQL_WEBHOOK_AT_ONCE, "i", w.row)) || (rc = webhook_audit(control, &s->actor, "webhook.set", &w, config_detail(&w), err)) ||
        (rc = webhook_need(control, &s->id, s->account, &w, err)))
        return rc;
    return finish(&s->out, &w);
}

int webhook_delete_run(struct store_tx *control, void *arg, struct err *err) {
    struct webhook_delete *d = arg;
    struct webhook w;
    int rc = webhook_need(control, &d->id, d->account, &w, err);
    if (rc || (rc = one_int(control, &d->count, 0, err, SQL_DELIVERY_COUNT_ALL, "i", w.row)))
        return rc;
    if (d->count && d->confirm != d->count)
        return err_set(err, MUSTER_ECONFIRM, "%lld event%s of this webhook that %s not been delivered would be lost.", (long long)d->count, d->count == 1 ? "" : "s", d->count == 1 ? "has" : "have");
    json_t *detail = json_object();
    json_set_int(detail, "undelivered", d->count);
    if ((rc = store_exec(control, NULL, err, SQL_WEBHOOK_DROP, "i", w.row))) {
        json_decref(detail);
        return rc;
    }
    return (rc = webhook_audit(control, &d->actor, "webhook.delete", &w, detail, err)) ? rc : finish(&d->out, &w);
}

int webhook_rotate_run(struct store_tx *control, void *arg, struct err *err) {
    struct webhook_rotate *r = arg;
    struct webhook w;
    int rc = webhook_need(control, &r->id, r->account, &w, err);
    if (rc || (rc = owners_alone(w.events, r->owner, err)))
        return rc;
    w.secret_before_until = r->overlap ? clock_now() + r->overlap : 0;
    json_t *detail = json_object();
    json_set_time(detail, "secret_before_until", w.secret_before_until);
    if ((rc = store_exec(control, NULL, err, SQL_WEBHOOK_ROTATE, "isi", w.row, r->secret, w.secret_before_until))) {
        json_decref(detail);
        return rc;
    }
    return (rc = webhook_audit(control, &r->actor, "webhook.rotate_secret", &w, detail, err)) ? rc : finish(&r->out, &w);
}
