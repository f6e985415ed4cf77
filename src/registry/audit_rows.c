/* audit_rows: rows of devices, certificates and invitations against what the log says of them; see audit_state.h. */
#include "registry/audit_state_work.h"

#include "pki/crl_make.h"
#include "registry/device_identity.h"
#include "registry/invitation.h"

static uint64_t mark(const struct audit_state *s, struct span bytes) { return bytes.n ? audit_devices_hash(s->work->replay.devices, bytes) : 0; }

/* --- devices ------------------------------------------------------------------------------------------------------------------------- */

enum device_col { D_ID, D_DEVICE_ID, D_STATE, D_BEFORE, D_AGAIN, D_CERTIFICATE, D_SPKI, D_METHOD, D_ROOT, D_LINE, D_LINE_KEY, D_ROOT_ROW, D_ANCHOR, D_ANCHOR_ORIGIN };

static int accepted_fit(struct store_tx *tx, struct audit_state *s, int64_t row, struct audit_device *d, bool *fit, struct err *err) {
    CLEANUP(store_row_end) struct store_row *offer = NULL;
    *fit = true;
    int rc = store_query(tx, &offer, err, SQL_STATE_ACCEPTED, "i", row);
    while (!rc && (rc = store_next(offer, err)) > 0) {
        *fit = *fit && audit_replay_accepted(&s->work->replay, d, mark(s, store_blob(offer, 0)));
        rc = 0;
    }
    return rc;
}

static uint64_t mark_by(const struct audit_state *s, struct span fingerprint, struct span uuid, int64_t enrolled) {
    struct uuid by;
    if (uuid.n == sizeof by.b)
        memcpy(by.b, uuid.p, sizeof by.b);
    return audit_replay_mark(&s->work->replay, fingerprint, uuid.n == sizeof by.b ? &by : NULL, enrolled);
}

static uint64_t identity_of(const struct audit_state *s, struct store_row *row) { return mark_by(s, store_blob(row, D_CERTIFICATE), store_blob(row, D_ROOT), 0); }

/* The root that its row says it stands under, by which retiring counts: the one that it came by; of a device with a certificate of Muster's one of Muster's own, of which the log does not
 * say which.  0: not known, as of a recovered one. */
static bool anchor_fits(struct store_row *row) {
    const int64_t anchor = store_int(row, D_ANCHOR);
    if (!store_is_null(row, D_ROOT))
        return anchor == store_int(row, D_ROOT_ROW);
    return !anchor || store_int(row, D_ANCHOR_ORIGIN) == ROOT_MUSTER;
}

static int check_device(struct store_tx *tx, struct audit_state *s, struct store_row *row, struct err *err) {
    struct span id = store_text(row, D_DEVICE_ID);
    struct audit_device *d = audit_devices_find(s->work->replay.devices, id);
    unsigned state = (unsigned)store_int(row, D_STATE), before = (unsigned)store_int(row, D_BEFORE);
    const char *is = word_of(&WORDS_DEVICE_STATE, state);
    bool fit;
    if (!d) {
        audit_state_bad(s, "The device %.*s is %s, and no entry of the log brought it in.", SPAN_FMT(id), is);
        return 0;
    }
    d->seen = true;
    if (!(d->states >> state & 1) || (state == DEVICE_QUARANTINED && !(d->states_before >> before & 1)))
        audit_verify_bad(&s->verify, d->entry, "The device %.*s is %s, and the log says otherwise.", SPAN_FMT(id), is);
    else if (identity_of(s, row) != d->identity || (d->spki && mark(s, store_blob(row, D_SPKI)) != d->spki))
        audit_verify_bad(&s->verify, d->entry, "The device %.*s has another certificate or key than the log says.", SPAN_FMT(id));
    else if (store_int(row, D_METHOD) != (store_is_null(row, D_ROOT) ? METHOD_SHARED : METHOD_DEVICE))
        audit_verify_bad(&s->verify, d->entry, "The device %.*s came by another method than its row says.", SPAN_FMT(id));
    else if (!anchor_fits(row))
        audit_verify_bad(&s->verify, d->entry, "The device %.*s stands under another fleet root than the one that it came by.", SPAN_FMT(id));
    else if (store_int(row, D_AGAIN) == AGAIN_GRANTED && !d->granted)
        audit_verify_bad(&s->verify, d->entry, "The device %.*s may come again, and no operator said so.", SPAN_FMT(id));
    else if (audit_replay_line_mark(&s->work->replay, store_text(row, D_LINE), store_blob(row, D_LINE_KEY)) != d->line)
        audit_verify_bad(&s->verify, d->entry, "The device %.*s came by another factory line, or with another key, than its row says.", SPAN_FMT(id));
    if (s->verify.bad)
        return 0;
    int rc = accepted_fit(tx, s, store_int(row, D_ID), d, &fit, err);
    if (!rc && !fit)
        audit_verify_bad(&s->verify, d->entry, "A key of the device %.*s is accepted, and no operator accepted it.", SPAN_FMT(id));
    return rc;
}

int audit_rows_devices(struct store_tx *tx, struct audit_state *s, int64_t limit, struct err *err) {
    struct audit_state_work *w = s->work;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int64_t n = 0;
    int rc = store_query(tx, &row, err, SQL_STATE_DEVICES, "iii", s->verify.chain, w->last_device, limit);
    if (rc)
        return rc;
    for (; !s->verify.bad && (rc = store_next(row, err)) > 0; n++) {
        w->last_device = store_int(row, D_ID);
        if (!audit_devices_has_part(w->replay.devices, store_text(row, D_DEVICE_ID)))
            continue;
        if ((rc = check_device(tx, s, row, err)))
            return rc;
        s->devices++;
    }
    w->devices_left = n == limit;
    return rc < 0 ? rc : 0;
}

/* --- certificates ---------------------------------------------------------------------------------------------------------------------- */

enum cert_col { C_ID, C_ACCOUNT, C_FINGERPRINT, C_SERIAL, C_SPKI, C_STATE, C_NOT_BEFORE, C_NOT_AFTER, C_DEVICE, C_DEVICE_ACCOUNT, C_DEVICE_ID, C_DEVICE_SPKI, C_DEVICE_PROV_KEY,
                C_DEVICE_END, C_DER, C_CREATED, C_PROV_KEY, C_KEY, C_KEY_ACCOUNT, C_ENROLLED, C_REVOKED, C_REASON, C_WAS, C_ISSUER_KEY };

static bool is_issued(const struct audit_state *s, const struct cert *c) {
    for (size_t i = 0; i < s->work->n_issuing; i++)
        if (cert_signed_by(c, s->work->issuing[i]))
            return true;
    return false;
}

static bool names_its_issuer(struct store_row *row) {
    uint8_t id[CRL_KEY_ID_LEN];
    return crl_issuer_key_id(store_blob(row, C_DER), id) && span_eq(store_blob(row, C_ISSUER_KEY), span_of(id, sizeof id));
}

static bool is_what_it_says(struct store_row *row, const struct cert *c) {
    const ASN1_INTEGER *serial = X509_get0_serialNumber(c->x);
    return llabs(c->not_before + DEVICE_ISSUED_BACK - store_int(row, C_CREATED)) <= DEVICE_ISSUED_WITHIN && span_eq(store_blob(row, C_FINGERPRINT), hash_span(&c->fingerprint)) && span_eq(store_blob(row, C_SPKI), hash_span(&c->key.spki)) && c->not_before == store_int(row, C_NOT_BEFORE) &&
           c->not_after == store_int(row, C_NOT_AFTER) && span_eq(store_blob(row, C_SERIAL), span_of(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial)));
}

/* Its state against the device's identity. */
static bool state_fits(const struct audit_device *d, struct store_row *row, uint64_t own) {
    int64_t state = store_int(row, C_STATE);
    const unsigned gone = (1U << DEVICE_REVOKED) | (1U << DEVICE_DELETED);
    if ((d->states & gone) && (d->states & ~gone)) /* it may be either */
        return true;
    if (d->identity == own && !(d->states & gone))
        return state == CERT_CURRENT && span_eq(store_blob(row, C_DEVICE_SPKI), store_blob(row, C_SPKI)) && store_int(row, C_DEVICE_PROV_KEY) == store_int(row, C_PROV_KEY) &&
               store_int(row, C_DEVICE_END) == store_int(row, C_NOT_AFTER);
    return state != CERT_CURRENT;
}

static void check_cert(struct audit_state *s, struct store_row *row, const struct cert *c, struct span id) {
    struct audit_replay *r = &s->work->replay;
    const int64_t enrolled = store_int(row, C_ENROLLED) == store_int(row, C_CREATED) ? 0 : store_int(row, C_ENROLLED); /* of a renewed one alone */
    const uint64_t own = mark(s, hash_span(&c->fingerprint)), with_key = mark_by(s, hash_span(&c->fingerprint), store_blob(row, C_KEY), enrolled);
    if (!store_is_null(row, C_PROV_KEY) && store_int(row, C_KEY_ACCOUNT) != s->verify.chain) {
        audit_state_bad(s, "A certificate of the device %.*s was issued with no provisioning key of the account.", SPAN_FMT(id));
        return;
    }
    if (store_is_null(row, C_DEVICE)) {
        r->orphans_held += with_key;
        if (store_int(row, C_STATE) != CERT_REVOKED || !store_int(row, C_REVOKED))
            audit_state_bad(s, "A certificate of the device %.*s, which was released, is not revoked.", SPAN_FMT(id));
        else if (!store_is_null(row, C_WAS) && !span_eq(store_text(row, C_WAS), id))
            audit_state_bad(s, "A certificate of the device %.*s, which was released, is said to be another one's.", SPAN_FMT(id));
        return;
    }
    struct audit_device *d = audit_devices_find(r->devices, id);
    if (!d || !span_eq(store_text(row, C_DEVICE_ID), id) || store_int(row, C_DEVICE_ACCOUNT) != s->verify.chain) {
        audit_state_bad(s, "A certificate of the device %.*s belongs to another one.", SPAN_FMT(id));
        return;
    }
    d->certs_held += with_key;
    if (store_int(row, C_STATE) == CERT_ISSUED)
        d->waiting_held += own;
    if (store_int(row, C_REVOKED))
        d->revoked_held += audit_replay_mark(r, hash_span(&c->fingerprint), NULL, store_int(row, C_REASON)) * (store_int(row, C_STATE) == CERT_REVOKED ? 1 + AUDIT_LAST : 1);
    if (!state_fits(d, row, own) || (store_int(row, C_STATE) == CERT_REVOKED && !store_int(row, C_REVOKED)))
        audit_verify_bad(&s->verify, d->entry, "A certificate of the device %.*s is %s, and the log says otherwise.", SPAN_FMT(id), word_of(&WORDS_CERT_STATE, store_int(row, C_STATE)));
}

int audit_rows_certs(struct store_tx *tx, struct audit_state *s, int64_t until, struct err *err) {
    struct audit_state_work *w = s->work;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    CLEANUP(buf_fini) struct buf id = BUF_INIT(1024);
    int rc = store_query(tx, &row, err, SQL_STATE_CERTS, "ii", w->last_cert, until);
    if (rc)
        return rc;
    w->replay.rows_seen = true;
    while (!s->verify.bad && (rc = store_next(row, err)) > 0) {
        CLEANUP(cert_free) struct cert *c = NULL;
        if (store_int(row, C_ACCOUNT) != s->verify.chain || (!store_is_null(row, C_DEVICE) && !audit_devices_has_part(w->replay.devices, store_text(row, C_DEVICE_ID))))
            continue;
        buf_clear(&id);
        if (cert_from_der(store_blob(row, C_DER), &c, NULL) || cert_own_device_id(c, &id, NULL) || !is_what_it_says(row, c)) {
            audit_state_bad(s, "Row %lld of the certificates is not the certificate that it says.", (long long)store_int(row, C_ID));
            break;
        }
        if (!audit_devices_has_part(w->replay.devices, buf_span(&id)))
            continue;
        if (!is_issued(s, c))
            audit_state_bad(s, "A certificate of the device %s was not issued by the vault.", buf_str(&id));
        else if (!names_its_issuer(row))
            audit_state_bad(s, "A certificate of the device %s names another issuing CA than it has.", buf_str(&id));
        else
            check_cert(s, row, c, buf_span(&id));
        s->certificates++;
    }
    s->certs_seen = w->last_cert = until;
    return rc < 0 ? rc : 0;
}

/* --- invitations ------------------------------------------------------------------------------------------------------------------------ */

static void check_invitation(struct audit_state *s, const struct invitation *i) {
    struct audit_replay *r = &s->work->replay;
    struct audit_invited *said = audit_replay_invited(r, span_str(i->device_id));
    struct audit_sum sum;
    const uint64_t spent = !i->spent ? 0 : i->server_key ? AUDIT_SERVER_KEY : mark(s, hash_span(&i->spki));
    invitation_sum(i, &sum);
    if (!said || !said->invitation)
        audit_state_bad(s, "The device %s is invited, and no operator invited it.", i->device_id);
    else if (said->sum != mark(s, span_of(&sum, sizeof sum)))
        audit_verify_bad(&s->verify, said->entry, "The invitation of the device %s is not the one that the log says.", i->device_id);
    else if (said->spent != spent)
        audit_verify_bad(&s->verify, said->entry, "The invitation of the device %s is %s, and the log says otherwise.", i->device_id, i->spent ? "spent" : "not spent");
    else
        said->seen = true;
}

int audit_rows_invitations(struct store_tx *tx, struct audit_state *s, int64_t limit, struct err *err) {
    struct audit_state_work *w = s->work;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int64_t n = 0;
    int rc = store_query(tx, &row, err, SQL_INVITATION_PAGE, "iii", s->verify.chain, w->last_invitation, limit);
    if (rc)
        return rc;
    for (; !s->verify.bad && (rc = store_next(row, err)) > 0; n++) {
        struct invitation i;
        if ((rc = row_invitation(row, &i, err)))
            return rc;
        w->last_invitation = i.row;
        if (audit_devices_has_part(w->replay.devices, span_str(i.device_id)))
            check_invitation(s, &i);
    }
    w->invitations_left = n == limit;
    return rc < 0 ? rc : 0;
}

/* --- the end ----------------------------------------------------------------------------------------------------------------------------- */

/* A row that came in behind the others under the number of one that went: SQLite gives the highest number again. */
static int look_again(struct store_tx *tx, struct audit_state *s, struct audit_device *d, struct err *err) {
    CLEANUP(store_row_end) struct store_row *entry = NULL;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int found = first_row(tx, &entry, err, SQL_AUDIT_OBJECT, "ii", s->verify.chain, (int64_t)d->entry);
    if (found > 0)
        found = first_row(tx, &row, err, SQL_STATE_DEVICE, "it", s->verify.chain, store_text(entry, 0));
    if (found < 0)
        return found;
    if (found)
        return check_device(tx, s, row, err);
    audit_verify_bad(&s->verify, d->entry, "The device of the entry is not there.");
    return 0;
}

static int check_line_revoked(struct store_tx *tx, struct audit_state *s, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    uint64_t held = 0;
    int rc = store_query(tx, &row, err, SQL_LINE_REVOKED_ALL, "i", s->verify.chain);
    while (!rc && (rc = store_next(row, err)) > 0) {
        if (audit_devices_has_part(s->work->replay.devices, store_text(row, 1)))
            held += audit_replay_mark(&s->work->replay, store_blob(row, 0), NULL, store_int(row, 2));
        rc = 0;
    }
    if (rc >= 0 && held != s->work->replay.line_revoked)
        audit_state_bad(s, "The certificates of factory lines that are revoked are not those that the log says, or for other reasons.");
    return rc < 0 ? rc : 0;
}

int audit_rows_complete(struct store_tx *tx, struct audit_state *s, struct err *err) {
    struct audit_replay *r = &s->work->replay;
    for (struct audit_device *d = NULL; !s->verify.bad && (d = audit_devices_next(r->devices, d));) {
        int rc = d->seen ? 0 : look_again(tx, s, d, err);
        if (rc)
            return rc;
        if (d->certs != d->certs_held)
            audit_verify_bad(&s->verify, d->entry, "The device of the entry has other certificates than the log has issued.");
        else if (!d->unsure && d->waiting != d->waiting_held)
            audit_verify_bad(&s->verify, d->entry, "The device of the entry has other certificates that wait for their first use than the log says.");
        else if (!d->loose && d->revoked + AUDIT_LAST * d->last != d->revoked_held)
            audit_verify_bad(&s->verify, d->entry, "The device of the entry has other certificates that were revoked than the log says, or for other reasons.");
    }
    for (struct audit_invited *i = NULL; !s->verify.bad && (i = audit_invited_next(&r->invited, i));)
        if (i->invitation && !i->seen)
            audit_verify_bad(&s->verify, i->entry, "The invitation of the entry is not there.");
    if (!s->verify.bad && r->orphans != r->orphans_held)
        audit_state_bad(s, "The certificates of devices that were released are not those that the log has issued.");
    return s->verify.bad ? 0 : check_line_revoked(tx, s, err);
}
