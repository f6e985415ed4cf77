/* webhook_dead: events that were given up; see webhook.h. */
#include "registry/webhook.h"

static json_t *letter_json(struct store_row *row, struct err *err) {
    struct uuid event;
    if (store_uuid(row, 1, &event)) {
        err_set(err, MUSTER_ECORRUPT, "A row of the table delivery is damaged.");
        return NULL;
    }
    json_t *o = json_object();
    json_set_uuid(o, "id", &event);
    json_set_str(o, "type", event_name(store_int(row, 2)));
    json_set_time(o, "created", store_int(row, 3));
    json_set_int(o, "attempts", store_int(row, 4));
    json_set_time(o, "given_up", store_int(row, 5));
    json_set_span(o, "last_error", store_text(row, 6));
    return o;
}

int webhook_dead_list_run(struct store_tx *control, void *arg, struct err *err) {
    struct webhook_dead *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct webhook w;
    int64_t last = l->page.after, n = 0;
    int rc = webhook_need(control, &l->id, l->account, &w, err);
    if (rc || (rc = store_query(control, &row, err, SQL_DEAD_PAGE, "iii", w.row, l->page.after, l->page.limit + 1)))
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < l->page.limit) {
        json_t *one = letter_json(row, err);
        if (!one)
            return MUSTER_ECORRUPT;
        json_array_append_new(items, one);
        last = store_int(row, 0);
        n++;
    }
    return rc < 0 ? rc : page_finish(&l->page, TAKE(items), last, rc > 0);
}

static int no_letter(struct err *err) { return err_set(err, MUSTER_ENOTFOUND, "The webhook has no dead letter of that id."); }

int webhook_dead_show_run(struct store_tx *control, void *arg, struct err *err) {
    struct webhook_dead *s = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct webhook w;
    int rc = webhook_need(control, &s->id, s->account, &w, err);
    if (rc)
        return rc;
    int found = first_row(control, &row, err, SQL_DEAD_GET, "iu", w.row, &s->event);
    if (found <= 0)
        return found < 0 ? found : no_letter(err);
    json_decref(s->out);
    if (!(s->out = letter_json(row, err)))
        return MUSTER_ECORRUPT;
    json_set(s->out, "payload", json_parse(store_text(row, 7), NULL));
    return 0;
}

static int count(struct store_tx *control, struct webhook_dead *s, struct webhook *w, struct err *err) {
    int rc = webhook_need(control, &s->id, s->account, w, err);
    if (rc)
        return rc;
    rc = uuid_is_nil(&s->event) ? one_int(control, &s->count, 0, err, SQL_DELIVERY_COUNT, "ii", w->row, I(2))
                                : one_int(control, &s->count, 0, err, SQL_DEAD_HAS, "iu", w->row, &s->event);
    return rc ? rc : !uuid_is_nil(&s->event) && !s->count ? no_letter(err) : 0;
}

static json_t *what(const struct webhook_dead *s, const char *count_key) {
    json_t *o = json_object();
    json_set_uuid(o, "event", &s->event);
    json_set_int(o, count_key, s->count);
    return o;
}

static int answer(struct webhook_dead *s, const struct webhook *w, const char *count_key) {
    json_decref(s->out);
    s->out = what(s, count_key);
    json_set_uuid(s->out, "id", &w->uuid);
    return 0;
}

/* From the beginning: as if they had just happened. */
int webhook_dead_retry_run(struct store_tx *control, void *arg, struct err *err) {
    struct webhook_dead *s = arg;
    struct webhook w;
    int rc = count(control, s, &w, err);
    if (!rc)
        rc = uuid_is_nil(&s->event) ? store_exec(control, NULL, err, SQL_DEAD_RETRY_ALL, "ii", w.row, clock_now()) : store_exec(control, NULL, err, SQL_DEAD_RETRY, "iui", w.row, &s->event, clock_now());
    if (rc || (rc = store_exec(control, NULL, err, SQL_WEBHOOK_AT_ONCE, "i", w.row)) || (rc = webhook_audit(control, &s->actor, "webhook.retry", &w, what(s, "retried"), err)))
        return rc;
    return answer(s, &w, "retried");
}

int webhook_dead_drop_run(struct store_tx *control, void *arg, struct err *err) {
    struct webhook_dead *s = arg;
    struct webhook w;
    int rc = count(control, s, &w, err);
    if (rc)
        return rc;
    if (uuid_is_nil(&s->event) && s->count && s->confirm != s->count)
        return err_set(err, MUSTER_ECONFIRM, "This drops %lld dead letter%s for good.", (long long)s->count, s->count == 1 ? "" : "s");
    rc = uuid_is_nil(&s->event) ? store_exec(control, NULL, err, SQL_DEAD_DROP_ALL, "i", w.row) : store_exec(control, NULL, err, SQL_DEAD_DROP, "iu", w.row, &s->event);
    if (rc || (rc = webhook_audit(control, &s->actor, "webhook.drop", &w, what(s, "dropped"), err)))
        return rc;
    return answer(s, &w, "dropped");
}
