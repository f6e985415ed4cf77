/* certificate_revoke: one certificate is revoked, and where its key is compromised the others of that key; see certificate.h. */
#include "base/hex.h"
#include "registry/audit.h"
#include "registry/certificate.h"
#include "registry/device_identity.h"
#include "registry/event.h"
#include "registry/line.h"
#include "registry/line_revoke.h"

#define SAME_KEY_MAX 1000 /* certificates of one key that are revoked at once, the newest first */

struct revoking {
    const struct certificate_revoke *op;
    struct account account;
    struct device device;
    struct certificate first; /* that was named */
    int64_t others[SAME_KEY_MAX];
    size_t n_others;
    bool of_line;           /* it is one that a factory line has signed */
    struct line line;
};

#define NOT_LISTED "It stands on no revocation list, since the factory line's CA signs its own: Muster refuses it, and who verifies devices without asking Muster takes it until it ends."

static int find_others(struct store_tx *tx, struct revoking *r, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    if (r->op->reason != REASON_KEY_COMPROMISE)
        return 0;
    int rc = store_query(tx, &row, err, SQL_CERT_SAME_KEY, "ibii", r->device.row, hash_span(&r->first.spki), r->first.row, I(SAME_KEY_MAX));
    while (!rc && (rc = store_next(row, err)) > 0) {
        r->others[r->n_others++] = store_int(row, 0);
        rc = 0;
    }
    return rc;
}

/* --- what follows, for whoever has to confirm it ---------------------------------------------------------------------------------- */

static const char *what_it_is(const struct certificate *c) {
    switch (c->state) {
    case CERT_ISSUED:
        return "a certificate that was not used yet";
    case CERT_CURRENT:
        return "the certificate in use";
    case CERT_VOID:
        return "a certificate that was replaced before it was used";
    case CERT_SUPERSEDED:
    case CERT_REVOKED:
        break;
    }
    return "a certificate before the present one";
}

/* Whether the device comes in no more as it does now. */
static bool cuts_off(const struct revoking *r) {
    return r->first.state == CERT_CURRENT || (r->op->reason == REASON_KEY_COMPROMISE && r->device.has_certificate && hash_eq(&r->device.spki, &r->first.spki));
}

static int confirm(const struct revoking *r, struct certificate_revoke *op, struct err *err) {
    char others[200] = "";
    op->count = 1 + (int64_t)r->n_others;
    if (op->confirm == op->count)
        return 0;
    if (op->reason == REASON_KEY_COMPROMISE)
        snprintf(others, sizeof others, ", and with it %zu other%s of the same key, which gets none any more", r->n_others, r->n_others == 1 ? "" : "s");
    if (r->of_line)
        return err_set(err, MUSTER_ECONFIRM, "This would revoke the certificate of the factory line %s with which the device %.64s came%s.%s " NOT_LISTED, r->line.name, r->device.device_id, others,
                       cuts_off(r) ? " The device is let in no more with what it uses now." : "");
    return err_set(err, MUSTER_ECONFIRM, "This would revoke %s of the device %.64s%s.%s", what_it_is(&r->first), r->device.device_id, others,
                   cuts_off(r) ? " The device is let in no more with what it uses now." : "");
}

/* --- doing it --------------------------------------------------------------------------------------------------------------------- */

static int record(struct store_tx *tx, const struct revoking *r, const struct certificate *c, struct err *err) {
    json_t *d = json_object();
    json_set_uuid(d, "id", &r->device.uuid);
    json_set_hex(d, "serial", span_of(c->serial, c->serial_n));
    json_set_hex(d, "fingerprint", hash_span(&c->fingerprint));
    json_set_str(d, "state", word_of(&WORDS_CERT_STATE, c->state));
    json_set_str(d, "reason", word_of(&WORDS_REVOKE_REASON, r->op->reason));
    if (!c->row)
        json_set_str(d, "line", r->line.name);
    return audit_add(tx, r->account.row, &r->op->actor, c->row ? "device.certificate_revoke" : "device.line_certificate_revoke", span_str(r->device.device_id), d, err);
}

static int announce(struct store_tx *tx, const struct revoking *r, const struct certificate *c, struct err *err) {
    json_t *more = json_object();
    json_set_hex(more, "serial", span_of(c->serial, c->serial_n));
    json_set_hex(more, "fingerprint", hash_span(&c->fingerprint));
    json_set_str(more, "before", word_of(&WORDS_CERT_STATE, c->state));
    json_set_str(more, "reason", word_of(&WORDS_REVOKE_REASON, r->op->reason));
    return event_device(tx, &r->account, &r->device, r->device.state, EVENT_CERTIFICATE_REVOKED, more, err);
}

static int revoke_one(struct store_tx *tx, struct revoking *r, const struct certificate *c, struct err *err) {
    const struct device_revoked it = {.cert = c->row, .state = c->state, .spki = c->spki, .reason = r->op->reason, .bar = r->op->reason == REASON_KEY_COMPROMISE};
    int rc = c->row ? device_identity_revoke_one(tx, &r->device, &it, err) : line_certificate_revoke(tx, c, r->op->reason, err);
    if (!rc && !c->row)
        rc = device_identity_revoke_line(tx, &r->device, &it, err);
    if (rc || (rc = announce(tx, r, c, err)))
        return rc;
    return record(tx, r, c, err);
}

static int read_again(struct store_tx *tx, int64_t at, struct certificate *out, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int found = first_row(tx, &row, err, SQL_CERT_GET_ROW, "i", at);
    return found < 0 ? found : found ? row_certificate(row, out, err) : err_set(err, MUSTER_ECORRUPT, NULL);
}

static int revoke_all(struct store_tx *tx, struct revoking *r, json_t *also, struct err *err) {
    int rc = revoke_one(tx, r, &r->first, err);
    for (size_t i = 0; !rc && i < r->n_others; i++) {
        struct certificate c = {.row = 0};
        if ((rc = read_again(tx, r->others[i], &c, err)) || (rc = revoke_one(tx, r, &c, err)))
            return rc;
        char serial[2 * sizeof c.serial + 1];
        hex_encode(span_of(c.serial, c.serial_n), serial);
        json_array_append_new(also, json_string(serial));
    }
    return rc;
}

/* How the device goes on. */
static void warn(const struct revoking *r, int64_t usable, json_t *o) {
    json_t *list = json_array();
    const bool in = device_state_code(&r->device) == 0;
    if (r->of_line)
        json_array_append_new(list, json_string(NOT_LISTED));
    if (r->of_line && in && !usable && !r->device.has_certificate)
        json_array_append_new(list, json_string("The device has no certificate any more that lets it in. `muster device release --for-reprovision` and `muster device invite` give it one."));
    else if (r->of_line && in && !usable) /* one that the customer's CA has given it since */
        json_array_append_new(list, json_string("The device has another certificate with which it comes in."));
    else if (in && usable)
        json_array_append_new(list, json_sprintf("The device has %lld other certificate%s with which it comes in.", (long long)usable, usable == 1 ? "" : "s"));
    else if (in)
        json_array_append_new(list, json_sprintf("The device has no certificate any more that lets it in. It gets one as its account's setting reprovision (%s) says, or once after `muster device release --for-reprovision`.",
                                                 word_of(&WORDS_REPROVISION, r->account.reprovision)));
    if (r->n_others == SAME_KEY_MAX)
        json_array_append_new(list, json_sprintf("There may be older certificates of the same key, all of them replaced; those of more than %d have to be revoked one by one.", SAME_KEY_MAX));
    json_set(o, "warnings", list);
}

/* Whether it is one that a factory line has signed; else *err is as it was. */
static int find_of_line(struct store_tx *tx, struct revoking *r, struct err *err) {
    struct err why = ERR_INIT;
    int64_t reason = 0;
    int found = line_certificate_find(tx, r->account.row, &r->op->name, &r->device, &why);
    if (!found)
        return MUSTER_ENOTFOUND;
    *err = why;
    if (found < 0 || (found = line_find_row(tx, r->device.line, &r->line, err)) <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, "A device's factory line is not there.");
    const struct device *d = &r->device;
    const bool live = d->has_certificate && d->method == METHOD_DEVICE && hash_eq(&d->certificate, &d->line_certificate);
    r->of_line = true;
    r->first = (struct certificate){.account = d->account, .device = d->row, .fingerprint = d->line_certificate, .spki = d->line_key, .state = live ? CERT_CURRENT : CERT_SUPERSEDED,
                                    .not_after = live ? d->certificate_not_after : 0, .device_uuid = d->uuid, .serial_n = d->line_serial_n};
    memcpy(r->first.serial, d->line_serial, d->line_serial_n);
    snprintf(r->first.device_id, sizeof r->first.device_id, "%s", d->device_id);
    found = line_certificate_revoked(tx, d->account, &r->first.fingerprint, &r->first.spki, &r->first.revoked, &reason, err);
    r->first.reason = reason;
    return found < 0 ? found : 0;
}

static int find_first(struct store_tx *tx, struct revoking *r, struct err *err) {
    int rc = certificate_need(tx, &r->account, &r->op->name, &r->first, err);
    if (rc == MUSTER_ENOTFOUND)
        return find_of_line(tx, r, err);
    int found = rc ? rc : device_find_row(tx, r->first.device, &r->device, err);
    return found < 0 ? found : found || r->first.revoked ? 0 : err_set(err, MUSTER_ECORRUPT, "A certificate belongs to no device.");
}

static json_t *of_line_json(struct revoking *r, int64_t now) {
    r->first.revoked = now;
    r->first.reason = r->op->reason;
    json_t *o = certificate_json(&r->account, &r->first, now);
    if (!r->first.serial_n) {
        json_set_hex(o, "id", hash_span(&r->first.fingerprint));
        json_set(o, "serial", json_null());
    }
    if (!r->first.not_after)
        json_set(o, "expired", json_null());
    return o;
}

int certificate_revoke_run(struct store_tx *tx, void *arg, struct err *err) {
    struct certificate_revoke *op = arg;
    struct revoking r = {.op = op};
    CLEANUP_JSON json_t *also = json_array();
    struct certificate now;
    int64_t usable;
    int rc = account_need(tx, op->account, &r.account, err);
    if (rc || (rc = find_first(tx, &r, err)))
        return rc;
    if (r.first.revoked)
        return err_set(err, MUSTER_ESTATE, "The certificate was revoked already (%s).", word_of(&WORDS_REVOKE_REASON, r.first.reason));
    if ((rc = find_others(tx, &r, err)) || (rc = confirm(&r, op, err)) || (rc = revoke_all(tx, &r, also, err)) || (rc = epoch_raise(tx, err)) ||
        (!r.of_line && (rc = read_again(tx, r.first.row, &now, err))) || (rc = one_int(tx, &usable, 0, err, SQL_CERT_USABLE, "i", r.device.row)))
        return rc;
    json_decref(op->out);
    op->out = r.of_line ? of_line_json(&r, clock_now()) : certificate_json(&r.account, &now, clock_now());
    json_set_str(op->out, "line", r.of_line ? r.line.name : NULL);
    json_set(op->out, "also", TAKE(also));
    json_set_int(op->out, "usable", usable);
    warn(&r, usable, op->out);
    return 0;
}

int certificate_revoke_listed(struct store_tx *tx, const struct account *a, const struct actor *by, struct span serial, enum revoke_reason reason, bool *revoked, struct err *err) {
    struct certificate_revoke op = {.actor = *by, .reason = reason};
    struct revoking r = {.op = &op, .account = *a};
    CLEANUP_JSON json_t *also = json_array();
    *revoked = false;
    if (serial.n >= sizeof op.name.b)
        return err_set(err, MUSTER_ENOTFOUND, NULL);
    memcpy(op.name.b, serial.p, serial.n);
    op.name.n = serial.n;
    int rc = certificate_need(tx, a, &op.name, &r.first, err);
    if (rc || r.first.revoked)
        return rc;
    int found = r.first.device ? device_find_row(tx, r.first.device, &r.device, err) : 0;
    if (found <= 0)
        return found;
    if ((rc = find_others(tx, &r, err)) || (rc = revoke_all(tx, &r, also, err)))
        return rc;
    *revoked = true;
    return 0;
}
