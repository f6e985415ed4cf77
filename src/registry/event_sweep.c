/* event_sweep: see event_sweep.h. */
#include "registry/event_sweep.h"

#define STEP 200 /* events of one kind in one transaction */

enum what { WHAT_DEVICE = 1, WHAT_ROOT = 2, WHAT_ISSUING = 3, WHAT_KEY = 4, WHAT_SERVER = 5, WHAT_CRL = 6, WHAT_SERVER_CA = 7, WHAT_FORMER_CA = 8 };

/* From where to where one number of days looks now. */
struct range {
    enum what what;
    int days;
    int64_t from, from_row, to;
};

static int range_of(struct store_tx *tx, int64_t account, int64_t now, int days, int below, enum what what, struct range *out, struct err *err) {
    struct store_row *row;
    *out = (struct range){.what = what, .days = days, .from = now, .from_row = INT64_MAX, .to = now + days * CLOCK_DAY};
    int found = first_row(tx, &row, err, SQL_EVENT_SWEPT, "iii", account, I(what), I(days));
    if (found < 0)
        return found;
    if (found) {
        out->from = store_int(row, 0);
        out->from_row = store_int(row, 1);
        store_row_end(row);
    }
    int64_t least = now + below * CLOCK_DAY; /* what ends before is said with that smaller number of days */
    /* Or a clock that ran ahead has looked there: what lies between had ended by it, or was said with a smaller number, and nobody has been told. */
    if (out->from < least || out->from > out->to + CLOCK_DAY) {
        out->from = least;
        out->from_row = INT64_MAX;
    }
    return 0;
}

static json_t *more_of(const struct range *r, const char *of, int64_t end) {
    json_t *o = json_object();
    if (of) {
        json_set_str(o, "of", of);
        json_set_time(o, "not_after", end);
    }
    json_set_int(o, "days", r->days);
    return o;
}

static int say(struct store_tx *tx, const struct account *a, const struct range *r, int64_t row, int64_t end, struct err *err) {
    struct device d;
    struct root root;
    struct prov_key k;
    int found = r->what == WHAT_DEVICE ? device_find_row(tx, row, &d, err) : r->what == WHAT_ROOT || r->what == WHAT_CRL ? root_find_row(tx, row, &root, err) : key_find_row(tx, row, &k, err);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, NULL);
    if (r->what == WHAT_DEVICE)
        return event_device(tx, a, &d, d.state, EVENT_CERTIFICATE_EXPIRING, more_of(r, "device", end), err);
    if (r->what == WHAT_ROOT)
        return event_root(tx, a, &root, root.state, EVENT_CERTIFICATE_EXPIRING, more_of(r, "root", end), err);
    if (r->what == WHAT_CRL) {
        json_t *more = json_object();
        json_set_time(more, "next_update", end);
        json_set_int(more, "days", r->days);
        return event_root(tx, a, &root, root.state, EVENT_ROOT_CRL_DUE, more, err);
    }
    if (k.max_devices && k.spent >= k.max_devices) /* it ended before */
        return 0;
    return event_key(tx, a, &k, EVENT_KEY_EXPIRING, more_of(r, NULL, 0), err);
}

static int swept(struct store_tx *tx, int64_t account, const struct range *r, int64_t until, int64_t until_row, struct err *err) {
    return store_exec(tx, NULL, err, SQL_EVENT_SWEPT_SET, "iiiii", account, I(r->what), I(r->days), until, until_row);
}

static int sweep_list(struct store_tx *tx, struct event_sweep *s, const struct account *a, const struct range *r, bool *full, struct err *err) {
    static const int statements[] = {[WHAT_DEVICE] = SQL_DEVICE_ENDING, [WHAT_ROOT] = SQL_ROOT_ENDING, [WHAT_KEY] = SQL_KEY_ENDING, [WHAT_CRL] = SQL_ROOT_CRL_ENDING};
    int64_t at[STEP], ends[STEP];
    size_t n = 0;
    struct store_row *row;
    if (r->to < r->from) /* of one end there may be more than a step */
        return 0;
    int rc = store_query(tx, &row, err, statements[r->what], "iiiii", a->row, r->from, r->from_row, r->to, I(STEP));
    if (rc)
        return rc;
    while (n < STEP && (rc = store_next(row, err)) > 0) {
        at[n] = store_int(row, 0);
        ends[n++] = store_int(row, 1);
    }
    store_row_end(row);
    for (size_t i = 0; rc >= 0 && i < n; i++)
        rc = say(tx, a, r, at[i], ends[i], err);
    if (rc < 0)
        return rc;
    s->said += (int64_t)n;
    *full = *full || n == STEP;
    return n == STEP ? swept(tx, a->row, r, ends[n - 1], at[n - 1], err) : swept(tx, a->row, r, r->to, INT64_MAX, err);
}

/* One end that is known already: of an issuing CA, of the gateway's certificate, of a server CA. */
static int sweep_one(struct store_tx *tx, struct event_sweep *s, const struct account *a, const struct range *r, const char *of, int64_t end, struct err *err) {
    int rc = 0;
    if (r->to <= r->from)
        return 0;
    if (end > r->from && end <= r->to) {
        rc = event_plain(tx, a, EVENT_CERTIFICATE_EXPIRING, more_of(r, of, end), err);
        s->said++;
    }
    return rc ? rc : swept(tx, a ? a->row : 0, r, r->to, INT64_MAX, err);
}

static int sweep_account(struct store_tx *tx, struct event_sweep *s, const struct account *a, bool *full, struct err *err) {
    static const struct {
        enum what what;
        int days, below;
    } looks[] = {{WHAT_DEVICE, 1, 0}, {WHAT_DEVICE, 7, 1}, {WHAT_DEVICE, 30, 7}, {WHAT_ROOT, 1, 0}, {WHAT_ROOT, 7, 1},    {WHAT_ROOT, 30, 7},
                 {WHAT_KEY, 1, 0},    {WHAT_KEY, 7, 1},    {WHAT_ISSUING, 1, 0}, {WHAT_ISSUING, 7, 1}, {WHAT_ISSUING, 30, 7}, {WHAT_CRL, 1, 0}};
    bool certificates, keys, lists;
    int64_t issuing;
    int rc = event_is_wanted(tx, a->row, EVENT_CERTIFICATE_EXPIRING, &certificates, err);
    if (rc || (rc = event_is_wanted(tx, a->row, EVENT_KEY_EXPIRING, &keys, err)) || (rc = event_is_wanted(tx, a->row, EVENT_ROOT_CRL_DUE, &lists, err)) || (rc = one_int(tx, &issuing, 0, err, SQL_CA_ISSUING_NEWEST, "i", a->row)))
        return rc;
    for (size_t i = 0; !rc && i < sizeof looks / sizeof *looks; i++) {
        struct range r;
        if (!(looks[i].what == WHAT_KEY ? keys : looks[i].what == WHAT_CRL ? lists : certificates))
            continue;
        if ((rc = range_of(tx, a->row, s->now, looks[i].days, looks[i].below, looks[i].what, &r, err)))
            return rc;
        rc = looks[i].what == WHAT_ISSUING ? sweep_one(tx, s, a, &r, "issuing-ca", issuing, err) : sweep_list(tx, s, a, &r, full, err);
    }
    return rc;
}

static int sweep_server(struct store_tx *tx, struct event_sweep *s, struct err *err) {
    static const int days[] = {1, 7, 30};
    bool wanted;
    int rc = event_is_wanted(tx, 0, EVENT_CERTIFICATE_EXPIRING, &wanted, err);
    const struct {
        enum what what;
        const char *of;
        int64_t end;
    } looks[] = {{WHAT_SERVER, "server", s->server_end}, {WHAT_SERVER_CA, "server-ca", s->server_ca_end}, {WHAT_FORMER_CA, "former-server-ca", s->former_ca_end}};
    for (size_t k = 0; wanted && k < sizeof looks / sizeof *looks; k++)
        for (size_t i = 0; !rc && looks[k].end && i < 3; i++) {
            struct range r;
            rc = range_of(tx, 0, s->now, days[i], i ? days[i - 1] : 0, looks[k].what, &r, err);
            if (!rc)
                rc = sweep_one(tx, s, NULL, &r, looks[k].of, looks[k].end, err);
        }
    return rc;
}

int event_sweep_run(struct store_tx *tx, void *arg, struct err *err) {
    struct event_sweep *s = arg;
    struct store_row *row;
    struct account a;
    bool full = false;
    int rc = 0;
    if (s->after < 0) {
        rc = sweep_server(tx, s, err);
        s->after = rc ? s->after : 0;
        s->more = true;
        return rc;
    }
    int found = first_row(tx, &row, err, SQL_ACCOUNT_ALL, "ii", s->after, I(1));
    if (found <= 0) {
        s->more = false;
        return found;
    }
    rc = row_account(row, &a, err);
    store_row_end(row);
    if (!rc && a.state == ACCOUNT_ACTIVE)
        rc = sweep_account(tx, s, &a, &full, err);
    if (!rc && !full)
        s->after = a.row;
    s->more = true;
    return rc;
}
