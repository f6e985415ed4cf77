/* certificate_revoke: one certificate is revoked, and where its key is compromised the others of that key; see certificate.h. */
#include "base/hex.h"
#include "registry/audit.h"
#include "registry/certificate.h"
#include "registry/device_identity.h"
#include "registry/event.h"

#define SAME_KEY_MAX 1000 /* certificates of one key that are revoked at once, the newest first */

struct revoking {
    const struct certificate_revoke *op;
    struct account account;
    struct device device;
    struct certificate first; /* that was named */
    int64_t others[SAME_KEY_MAX];
    size_t n_others;
};

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
    return audit_add(tx, r->account.row, &r->op->actor, "device.certificate_revoke", span_str(r->device.device_id), d, err);
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
    int rc = device_identity_revoke_one(tx, &r->device, &it, err);
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
        struct certificate c;
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
    if (in && usable)
        json_array_append_new(list, json_sprintf("The device has %lld other certificate%s with which it comes in.", (long long)usable, usable == 1 ? "" : "s"));
    else if (in)
        json_array_append_new(list, json_sprintf("The device has no certificate any more that lets it in. It gets one as its account's setting reprovision (%s) says, or once after `muster device release --for-reprovision`.",
                                                 word_of(&WORDS_REPROVISION, r->account.reprovision)));
    if (r->n_others == SAME_KEY_MAX)
        json_array_append_new(list, json_sprintf("There may be older certificates of the same key, all of them replaced; those of more than %d have to be revoked one by one.", SAME_KEY_MAX));
    json_set(o, "warnings", list);
}

int certificate_revoke_run(struct store_tx *tx, void *arg, struct err *err) {
    struct certificate_revoke *op = arg;
    struct revoking r = {.op = op};
    CLEANUP_JSON json_t *also = json_array();
    struct certificate now;
    int64_t usable;
    int rc = account_need(tx, op->account, &r.account, err);
    if (rc || (rc = certificate_need(tx, &r.account, &op->name, &r.first, err)))
        return rc;
    if (r.first.revoked)
        return err_set(err, MUSTER_ESTATE, "The certificate was revoked already (%s).", word_of(&WORDS_REVOKE_REASON, r.first.reason));
    int found = device_find_row(tx, r.first.device, &r.device, err);
    if (found <= 0)
        return found < 0 ? found : err_set(err, MUSTER_ECORRUPT, "A certificate belongs to no device.");
    if ((rc = find_others(tx, &r, err)) || (rc = confirm(&r, op, err)) || (rc = revoke_all(tx, &r, also, err)) || (rc = epoch_raise(tx, err)) ||
        (rc = read_again(tx, r.first.row, &now, err)) || (rc = one_int(tx, &usable, 0, err, SQL_CERT_USABLE, "i", r.device.row)))
        return rc;
    json_decref(op->out);
    op->out = certificate_json(&r.account, &now, clock_now());
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
