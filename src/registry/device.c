/* device: what is shown of one device, and small facts that the gateway keeps; see device.h. */
#include "registry/device.h"

#include "registry/certificate.h"
#include "registry/line.h"
#include "registry/line_revoke.h"
#include "registry/renewable.h"
#include "registry/report.h"

static int set_ref(struct store_tx *tx, json_t *o, const char *key, const char *name_key, int64_t row, bool is_key, struct err *err) {
    struct prov_key k;
    struct root r;
    int found = !row ? 0 : is_key ? key_find_row(tx, row, &k, err) : root_find_row(tx, row, &r, err);
    if (found < 0)
        return found;
    if (!found)
        json_set_str(o, key, NULL);
    else
        json_set_uuid(o, key, is_key ? &k.uuid : &r.uuid);
    if (name_key)
        json_set_str(o, name_key, found ? k.name : NULL);
    return 0;
}

static int add_certificates(struct store_tx *tx, const struct device *d, json_t *o, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    json_t *list = json_array();
    json_set(o, "certificates", list);
    int rc = store_query(tx, &row, err, SQL_CERT_OF_DEVICE, "i", d->row);
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        json_t *c = json_object();
        json_set_hex(c, "serial", store_blob(row, 0));
        json_set_hex(c, "fingerprint", store_blob(row, 1));
        json_set_str(c, "state", word_of(&WORDS_CERT_STATE, store_int(row, 8) ? CERT_REVOKED : store_int(row, 2)));
        json_set_time(c, "not_before", store_int(row, 3));
        json_set_time(c, "not_after", store_int(row, 4));
        json_set_time(c, "created", store_int(row, 5));
        json_set_time(c, "first_used", store_int(row, 6));
        certificate_set_revoked(c, store_int(row, 8), store_int(row, 9));
        json_set_hex(c, "spki", store_blob(row, 7));
        json_array_append_new(list, c);
    }
    return rc;
}

static int add_offers(struct store_tx *tx, const struct device *d, json_t *o, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    json_t *list = json_array();
    json_set(o, "offered_keys", list);
    int rc = store_query(tx, &row, err, SQL_OFFER_LIST, "i", d->row);
    if (rc)
        return rc;
    while ((rc = store_next(row, err)) > 0) {
        json_t *one = json_object();
        json_set_hex(one, "fingerprint", store_blob(row, 0));
        json_set_bool(one, "accepted", store_int(row, 1) != 0);
        json_set_time(one, "first_seen", store_int(row, 2));
        json_set_time(one, "last_seen", store_int(row, 3));
        json_set_span(one, "address", store_text(row, 4));
        json_array_append_new(list, one);
    }
    return rc;
}

static int add_ecus(struct store_tx *tx, const struct device *d, json_t *o, struct err *err) {
    struct store_row *row;
    int rc = first_row(tx, &row, err, SQL_DEVICE_GET_ECUS, "i", d->row);
    if (rc <= 0)
        return rc;
    json_t *ecus = store_is_null(row, 0) ? NULL : json_parse(store_text(row, 0), NULL);
    json_set(o, "ecus", ecus ? ecus : json_null());
    store_row_end(row);
    return 0;
}

static int add_line(struct store_tx *tx, const struct device *d, json_t *o, struct err *err) {
    struct line l;
    int found = d->line ? line_find_row(tx, d->line, &l, err) : 0;
    json_set_str(o, "line", found > 0 ? l.name : NULL);
    json_set(o, "line_key", json_null());
    if (found > 0 && d->has_line_key)
        json_set_hex(o, "line_key", hash_span(&d->line_key));
    json_set(o, "line_certificate", json_null());
    json_set(o, "line_serial", json_null());
    json_set(o, "line_revoked", json_null());
    if (found <= 0 || !d->has_line_certificate)
        return found < 0 ? found : 0;
    json_set_hex(o, "line_certificate", hash_span(&d->line_certificate));
    if (d->line_serial_n)
        json_set_hex(o, "line_serial", span_of(d->line_serial, d->line_serial_n));
    int64_t when = 0, reason;
    found = line_certificate_revoked(tx, d->account, &d->line_certificate, &d->line_key, &when, &reason, err);
    json_set_time(o, "line_revoked", when);
    return found < 0 ? found : 0;
}

static int add_renewable(struct store_tx *tx, const struct account *a, const struct device *d, json_t *o, struct err *err) {
    int64_t until;
    int rc = renewable_until(tx, a, d, &until, err);
    json_set_time(o, "renewable_until", rc ? 0 : until);
    return rc;
}

int device_json(struct store_tx *tx, const struct account *a, const struct device *d, bool full, json_t **out, struct err *err) {
    CLEANUP_JSON json_t *o = json_object();
    json_set_uuid(o, "id", &d->uuid);
    json_set_str(o, "account", a->name);
    json_set_str(o, "device_id", d->device_id);
    json_set_str(o, "state", word_of(&WORDS_DEVICE_STATE, d->state));
    json_set_str(o, "method", word_of(&WORDS_METHOD, d->method));
    int rc = set_ref(tx, o, "key", "key_name", d->prov_key, true, err);
    if (rc || (rc = set_ref(tx, o, "root", NULL, d->root, false, err)) || (rc = add_line(tx, d, o, err)))
        return rc;
    json_set_time(o, "created", d->created);
    json_set_time(o, "last_seen", d->last_seen);
    json_set_str(o, "last_address", d->last_address[0] ? d->last_address : NULL);
    json_set(o, "certificate", json_null());
    if (d->has_certificate)
        json_set_hex(o, "certificate", hash_span(&d->certificate));
    json_set(o, "spki", json_null());
    if (d->has_certificate)
        json_set_hex(o, "spki", hash_span(&d->spki));
    json_set_time(o, "certificate_not_after", d->certificate_not_after);
    json_set_str(o, "reprovision", word_of(&WORDS_AGAIN, d->again));
    json_set_str(o, "reason", d->reason[0] ? d->reason : NULL);
    json_set_bool(o, "expected", d->expected);
    if (full && ((rc = add_renewable(tx, a, d, o, err)) || (rc = add_certificates(tx, d, o, err)) || (rc = add_ecus(tx, d, o, err)) || (rc = add_offers(tx, d, o, err)) ||
                 (rc = report_add_json(tx, a->row, d->row, false, o, err))))
        return rc;
    json_decref(*out);
    *out = TAKE(o);
    return 0;
}

int device_show_run(struct store_tx *tx, void *arg, struct err *err) {
    struct device_show *s = arg;
    struct account a;
    struct device d;
    int rc = account_need(tx, s->account, &a, err);
    if (rc || (rc = device_need(tx, &a, s->device, &d, err)))
        return rc;
    if ((rc = device_json(tx, &a, &d, true, &s->out, err)) || !s->reports)
        return rc;
    return report_add_json(tx, a.row, d.row, true, s->out, err);
}

int device_ecus_run(struct store_tx *tx, void *arg, struct err *err) {
    struct device_ecus *e = arg;
    struct store_row *row;
    int rc = first_row(tx, &row, err, SQL_DEVICE_GET_ECUS, "i", e->device);
    if (rc <= 0)
        return rc < 0 ? rc : err_set(err, MUSTER_ENOTFOUND, NULL);
    e->unchanged = !store_is_null(row, 0) && span_eq(store_text(row, 0), e->ecus);
    store_row_end(row);
    return e->unchanged ? 0 : store_exec(tx, NULL, err, SQL_DEVICE_ECUS, "it", e->device, e->ecus);
}

int device_seen_run(struct store_tx *tx, void *arg, struct err *err) {
    struct device_seen *s = arg;
    const int64_t now = clock_now();
    int rc = store_exec(tx, NULL, err, SQL_DEVICE_SEEN, "iis", s->device, now, s->address);
    return rc ? rc : store_exec(tx, NULL, err, SQL_DEVICE_SEEN_HOUR, "ii", s->device, now / CLOCK_HOUR);
}
