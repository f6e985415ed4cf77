/* certificate: names, and what is shown of one certificate; see certificate.h. */
#include "registry/certificate.h"

#include "base/hex.h"
#include "registry/line_revoke.h"

#define SERIAL_MAX 20 /* bytes: RFC 5280, 4.1.2.2 */

static const char *const filter_words[] = {[CERTIFICATES_ACTIVE] = "active", [CERTIFICATES_EXPIRED] = "expired", [CERTIFICATES_ISSUED] = "issued", [CERTIFICATES_CURRENT] = "current",
                                           [CERTIFICATES_VOID] = "void", [CERTIFICATES_SUPERSEDED] = "superseded", [CERTIFICATES_REVOKED] = "revoked"};
const struct words WORDS_CERTIFICATE_FILTER = {filter_words, sizeof filter_words / sizeof *filter_words};

/* --- names ---------------------------------------------------------------------------------------------------------------------- */

int certificate_name_parse(struct span text, struct certificate_name *out, struct err *err) {
    uint8_t digits[1 + 2 * PKI_HASH_LEN] = {'0'}; /* in front, where others leave it out */
    size_t n = 0;
    *out = (struct certificate_name){.n = 0};
    for (size_t i = 0; i < text.n && n <= 2 * PKI_HASH_LEN; i++)
        if (text.p[i] != ':' && n++ < 2 * PKI_HASH_LEN)
            digits[n] = text.p[i];
    const size_t len = (n + 1) / 2;
    if (!n || (n != 2 * PKI_HASH_LEN && n > 2 * SERIAL_MAX) || hex_decode(span_of(digits + 1 - n % 2, 2 * len), out->b, len))
        return err_set(err, MUSTER_EINVALID, "A certificate is named by its serial number, of 1 to %d bytes in hex digits, or by its SHA-256 fingerprint.", SERIAL_MAX);
    out->n = len;
    return 0;
}

/* --- rows ---------------------------------------------------------------------------------------------------------------------- */

enum column { C_ID, C_SERIAL, C_FINGERPRINT, C_ACCOUNT, C_DEVICE, C_PROV_KEY, C_SPKI, C_STATE, C_NOT_BEFORE, C_NOT_AFTER, C_CREATED, C_USED, C_REVOKED, C_REASON, C_WAS, C_DEVICE_UUID, C_DEVICE_ID,
              C_KEY_UUID, C_KEY_NAME };

int row_certificate(struct store_row *row, struct certificate *out, struct err *err) {
    *out = (struct certificate){
        .row = store_int(row, C_ID),
        .account = store_int(row, C_ACCOUNT),
        .device = store_int(row, C_DEVICE),
        .prov_key = store_int(row, C_PROV_KEY),
        .state = (enum cert_state)store_int(row, C_STATE),
        .not_before = store_int(row, C_NOT_BEFORE),
        .not_after = store_int(row, C_NOT_AFTER),
        .created = store_int(row, C_CREATED),
        .used = store_int(row, C_USED),
        .revoked = store_int(row, C_REVOKED),
        .reason = store_int(row, C_REASON),
    };
    struct span serial = store_blob(row, C_SERIAL);
    if (!serial.n || serial.n > sizeof out->serial || row_hash(row, C_FINGERPRINT, &out->fingerprint) || row_hash(row, C_SPKI, &out->spki) || store_uuid(row, C_DEVICE_UUID, &out->device_uuid) ||
        store_uuid(row, C_KEY_UUID, &out->key_uuid))
        return err_set(err, MUSTER_ECORRUPT, "A row of the table cert is damaged.");
    memcpy(out->serial, serial.p, serial.n);
    out->serial_n = serial.n;
    row_text(row, store_is_null(row, C_DEVICE_ID) ? C_WAS : C_DEVICE_ID, out->device_id, sizeof out->device_id);
    row_text(row, C_KEY_NAME, out->key_name, sizeof out->key_name);
    return 0;
}

int certificate_need(struct store_tx *tx, const struct account *a, const struct certificate_name *name, struct certificate *out, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int found = first_row(tx, &row, err, name->n == PKI_HASH_LEN ? SQL_CERT_GET_PRINT : SQL_CERT_GET_SERIAL, "b", certificate_name_span(name));
    int rc = found <= 0 ? found : row_certificate(row, out, err);
    if (rc < 0)
        return rc;
    return found && out->account == a->row ? 0 : err_set(err, MUSTER_ENOTFOUND, "The account %s has issued no certificate of that serial number or fingerprint.", a->name);
}

/* --- shown --------------------------------------------------------------------------------------------------------------------- */

void certificate_end_with(const struct account *a, struct certificate *c) {
    if (a->state == ACCOUNT_DELETED && !c->revoked)
        c->revoked = 1;
}

const char *certificate_state_word(const struct certificate *c) { return word_of(&WORDS_CERT_STATE, c->revoked ? CERT_REVOKED : c->state); }

static void set_text(json_t *o, const char *name, const char *text) { json_set_str(o, name, *text ? text : NULL); }

void certificate_set_revoked(json_t *o, int64_t revoked, int64_t reason) {
    json_set_time(o, "revoked", revoked > 1 ? revoked : 0);
    json_set_str(o, "reason", revoked ? word_of(&WORDS_REVOKE_REASON, reason) : NULL);
}

json_t *certificate_json(const struct account *a, const struct certificate *c, int64_t now) {
    const struct span serial = span_of(c->serial, c->serial_n);
    json_t *o = json_object();
    json_set_hex(o, "id", serial);
    json_set_hex(o, "serial", serial);
    json_set_hex(o, "fingerprint", hash_span(&c->fingerprint));
    json_set_str(o, "account", a->name);
    json_set_uuid(o, "device", &c->device_uuid);
    set_text(o, "device_id", c->device_id);
    json_set_uuid(o, "key", &c->key_uuid);
    set_text(o, "key_name", c->key_name);
    json_set_str(o, "state", certificate_state_word(c));
    json_set_bool(o, "expired", c->not_after <= now);
    json_set_time(o, "not_before", c->not_before);
    json_set_time(o, "not_after", c->not_after);
    json_set_time(o, "created", c->created);
    json_set_time(o, "first_used", c->used);
    certificate_set_revoked(o, c->revoked, c->reason);
    json_set_hex(o, "spki", hash_span(&c->spki));
    return o;
}

/* The issuing CA of the account whose key signed it; null: none that is known. */
static int set_issuer(struct store_tx *tx, const struct account *a, const struct cert *cert, json_t *o, struct buf *pem, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    json_set(o, "issuer_fingerprint", json_null());
    int rc = store_query(tx, &row, err, SQL_STATE_CAS, "i", a->row);
    while (!rc && (rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *ca = NULL;
        if (store_int(row, 0) == CA_ISSUING && (rc = cert_from_der(store_blob(row, 2), &ca, err)) == 0 && cert_signed_by(cert, ca)) {
            json_set_hex(o, "issuer_fingerprint", hash_span(&ca->fingerprint));
            return pem ? cert_pem(ca, pem) : 0;
        }
        rc = rc < 0 ? rc : 0;
    }
    return rc || !pem ? rc : err_set(err, MUSTER_ENOTFOUND, "The CA that signed the certificate is not known.");
}

static int set_whole(struct store_tx *tx, const struct account *a, const struct certificate *c, json_t *o, struct buf *ca, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    CLEANUP(cert_free) struct cert *cert = NULL;
    CLEANUP(buf_fini) struct buf issuer = BUF_INIT(4096), subject = BUF_INIT(4096), pem = BUF_INIT(2 * CERT_DER_MAX), id = BUF_INIT(512);
    int found = first_row(tx, &row, err, SQL_CERT_DER, "i", c->row);
    int rc = found <= 0 ? found : cert_from_der(store_blob(row, 0), &cert, err);
    if (rc || !found)
        return rc ? rc : err_set(err, MUSTER_ECORRUPT, NULL);
    json_set_time(o, "enrolled", store_int(row, 1));
    cert_issuer_text(cert, &issuer);
    cert_subject_text(cert, &subject);
    json_set_span(o, "subject", buf_span(&subject));
    json_set_span(o, "issuer", buf_span(&issuer));
    if (!c->device_id[0] && cert_own_device_id(cert, &id, NULL) == 0) /* released before that was written down */
        json_set_span(o, "device_id", buf_span(&id));
    if ((rc = cert_pem(cert, &pem)) || (rc = set_issuer(tx, a, cert, o, ca, err)))
        return rc;
    json_set_span(o, "certificate", buf_span(&pem));
    return 0;
}

/* Whose it is says the text, where a factory line has signed it. */
static int is_line_s(struct store_tx *tx, const struct account *a, const struct certificate_name *name, struct err *err) {
    struct err why = ERR_INIT;
    struct device d;
    int found = line_certificate_find(tx, a->row, name, &d, &why);
    if (found > 0)
        return err_set(err, MUSTER_ENOTFOUND, "The certificate was signed by the factory line of the device %.64s, and Muster does not keep it; see `muster device show`. `muster cert revoke` refuses it from then on.", d.device_id);
    if (found < 0)
        *err = why;
    return found < 0 ? found : MUSTER_ENOTFOUND;
}

int certificate_show_run(struct store_tx *tx, void *arg, struct err *err) {
    struct certificate_show *s = arg;
    CLEANUP_JSON json_t *o = NULL;
    struct account a = {.row = 0};
    struct certificate c = {.row = 0};
    int rc = account_need_any(tx, s->account, &a, err);
    if (rc || (rc = certificate_need(tx, &a, &s->name, &c, err)))
        return rc == MUSTER_ENOTFOUND && a.row ? is_line_s(tx, &a, &s->name, err) : rc;
    certificate_end_with(&a, &c);
    o = certificate_json(&a, &c, clock_now());
    if ((rc = set_whole(tx, &a, &c, o, s->issuer, err)))
        return rc;
    json_decref(s->out);
    s->out = TAKE(o);
    return 0;
}
