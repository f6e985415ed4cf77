/* forecast_show: a forecast as the API answers it; see forecast.h.  Cause by cause, so that no more than one of them stands in memory as a document. */
#include "verifier/forecast_part.h"

static json_t *devices_json(const struct forecast_cause *c) {
    json_t *all = json_array();
    for (size_t i = 0; i < c->n_devices; i++) {
        const struct forecast_device *d = &c->devices[i];
        json_t *o = json_object();
        json_set_uuid(o, "id", &d->id);
        json_set_str(o, "device_id", d->device_id);
        json_set_time(o, "at", d->at);
        json_set_bool(o, "renews", d->renews);
        json_array_append_new(all, o);
    }
    return all;
}

/* The days are many, so that they are written without a document around each. */
static void add_days(struct buf *out, const struct forecast_cause *c) {
    char day[CLOCK_RFC3339_LEN + 1];
    for (size_t i = 0; i < c->n_days; i++) {
        clock_rfc3339(c->days[i].at, day);
        buf_addf(out, "%s{\"day\":\"%s\",\"stops\":%lld,\"renews\":%lld}", i ? "," : "", day, (long long)c->days[i].stops, (long long)c->days[i].renews);
    }
}

/* An object, open for a further field that is a list. */
static int open_list(struct buf *out, json_t *taken, const char *name, struct err *err) {
    CLEANUP_JSON json_t *o = taken;
    if (!o || json_write(out, o))
        return err_set(err, MUSTER_ENOMEM, NULL);
    out->n--; /* its brace */
    buf_addf(out, ",\"%s\":[", name);
    return 0;
}

static json_t *cause_json(const struct forecast_cause *c) {
    json_t *o = json_object();
    json_set_str(o, "cause", FORECAST_WORDS[c->kind]);
    json_set_str(o, "account", c->account[0] ? c->account : NULL);
    json_set_uuid(o, "object", &c->id);
    json_set_str(o, "subject", c->subject[0] ? c->subject : NULL);
    json_set_str(o, "code", err_code(c->code));
    json_set_str(o, "reason", err_what(c->code));
    json_set_str(o, "fix", err_fix(c->code));
    json_set_time(o, "first", c->first);
    json_set_time(o, "last", c->last);
    json_set_time(o, "first_stop", c->first_stop);
    json_set_time(o, "last_stop", c->last_stop);
    json_set_int(o, "keys", c->keys);
    json_set_int(o, "stops", c->stops);
    json_set_int(o, "renews", c->renews);
    json_set(o, "devices", devices_json(c));
    json_set_int(o, "left_out", c->kind == FORECAST_KEY ? 0 : c->stops + c->renews - (int64_t)c->n_devices);
    return o;
}

/* Of more causes than are shown: the server's always, then what stops or renews, then keys, each by when it begins. */
static int rank_of(const struct forecast_cause *c) { return !c->account_row ? 0 : c->kind != FORECAST_KEY ? 1 : 2; }

static bool is_shown(const struct forecast *f, const size_t of_rank[3], size_t taken[3], const struct forecast_cause *c) {
    size_t before = 0;
    const int rank = rank_of(c);
    for (int i = 0; i < rank; i++)
        before += of_rank[i];
    return f->n <= FORECAST_CAUSES_MAX || before + taken[rank]++ < FORECAST_CAUSES_MAX;
}

int forecast_write(const struct forecast *f, struct buf *out, struct err *err) {
    json_t *o = json_object();
    int64_t stops = 0, renews = 0, keys = 0;
    size_t of_rank[3] = {0}, taken[3] = {0};
    for (size_t i = 0; i < f->n; i++) {
        const struct forecast_cause *c = f->causes[i];
        of_rank[rank_of(c)]++;
        stops += c->stops;
        renews += c->renews;
        keys += c->keys;
    }
    json_set_str(o, "id", "forecast");
    json_set_str(o, "account", f->only[0] ? f->only : NULL);
    json_set_time(o, "from", f->from);
    json_set_time(o, "until", f->to);
    json_set_int(o, "stops", stops);
    json_set_int(o, "renews", renews);
    json_set_int(o, "keys", keys);
    json_set_int(o, "renewable", f->late.n);
    json_set_time(o, "renewable_until", f->late.first);
    json_set_int(o, "day_length", f->bin / CLOCK_DAY);
    json_set_bool(o, "complete", forecast_complete(f));
    json_set_int(o, "damaged", f->damaged);
    int rc = open_list(out, o, "causes", err);
    for (size_t i = 0, n = 0; !rc && i < f->n; i++) {
        const struct forecast_cause *c = f->causes[i];
        if (!is_shown(f, of_rank, taken, c))
            continue;
        buf_adds(out, n++ ? "," : "");
        if ((rc = open_list(out, cause_json(c), "days", err)))
            return rc;
        add_days(out, c);
        buf_adds(out, "]}");
    }
    buf_adds(out, "]}");
    return rc || buf_ok(out) ? rc : err_set(err, MUSTER_ENOMEM, NULL);
}
