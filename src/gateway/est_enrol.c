/* est_enrol: EST's simpleenroll, serverkeygen and simplereenroll; see est.h. */
#include "base/hex.h"
#include "base/log.h"
#include "gateway/est_part.h"
#include "gateway/est_request.h"
#include "gateway/invited.h"
#include "pki/pkcs7.h"

#define ANSWER_MAX 65536      /* bytes */
#define WAIT 300              /* seconds until one that waits for an operator asks again */

void est_reply_certificate(struct http_exchange *x, struct span cert) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(ANSWER_MAX);
    CLEANUP(buf_fini) struct buf text = BUF_INIT(ANSWER_MAX);
    struct err err = ERR_INIT;
    int rc = pkcs7_certs(&cert, 1, &der, &err);
    base64_add_lines(&text, buf_span(&der));
    if (rc || (rc = buf_check(&text, &err)))
        http_reply_err(x, &err);
    else
        est_reply_base64(x, EST_CERTS_ONLY, buf_span(&text));
}

/* RFC 7030, 4.2.3.  No refusal: nothing of it is kept as one, and it counts against nobody. */
void est_reply_waits(struct http_exchange *x, const struct err *why) {
    CLEANUP(buf_fini) struct buf body = BUF_INIT(4096);
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%d", why->retry_after > 0 ? why->retry_after : WAIT);
    CLEANUP_JSON json_t *o = json_object();
    json_set_str(o, "code", err_code(why->code));
    json_set_str(o, "description", err_text(why));
    http_reply_field(x, "Retry-After", seconds);
    if (json_write(&body, o))
        http_reply_empty(x, 202);
    else
        http_reply(x, 202, "application/json", buf_span(&body));
}

static bool waits(int code) { return code == MUSTER_EHOOKWAITS || code == MUSTER_EAPPROVAL || code == MUSTER_EPENDING || code == MUSTER_EUNEXPECTED; }

static void issued(void *arg, int rc, const struct err *err, const struct issued *issued) {
    struct http_exchange *x = arg;
    struct worker *w = http_exchange_arg(x);
    const struct err withheld = {.code = rc ? 0 : issued->withheld};
    const bool renews = judge_kind(x) == REQUEST_RENEW;
    limits_enrolment_end(w->gateway->limits);
    if (rc && waits(rc) && (!renews || rc == MUSTER_EHOOKWAITS)) {
        est_reply_waits(x, err);
    } else if (rc) {
        invited_refuse(x, w, err);
    } else {
        refusal_keep_shadow(x, issued->shadow);
        log_event(LOG_INFO, withheld.code ? "device_waits" : renews ? "device_renewed" : issued->again ? "device_enrolled_again" : "device_enrolled", "request", http_exchange_id(x), "account",
                  issued->account, "device", issued->device_id, NULL);
        if (withheld.code)
            est_reply_waits(x, &withheld);
        else if (issued->key)
            est_reply_key(x, issued->key, issued->cert);
        else
            est_reply_certificate(x, issued->cert);
    }
    http_exchange_unref(x);
}

/* rc: of what limits said, which is undone where the issuer does not begin. */
static int begun(struct http_exchange *x, struct worker *w, int rc) {
    if (rc) {
        limits_enrolment_end(w->gateway->limits);
        http_exchange_unref(x);
    }
    return rc;
}

/* --- simpleenroll ----------------------------------------------------------------------------------------------------------------- */

/* by NULL: a provisioning key.  Without a key in the claim Muster makes one. */
static int start_enrolment(struct http_exchange *x, struct worker *w, const struct csr_claim *claim, const struct invited *by, const char *account, struct err *err) {
    const struct identity *id = http_exchange_peer(x);
    struct issuer_enrol rq = {.device_id = buf_span(&claim->device_id), .address = id->address, .account = account, .est = true};
    if (claim->public_der.n)
        rq.own = (struct issuer_key){&claim->key, buf_span(&claim->public_der)};
    else
        rq.server_keygen = true;
    struct limits_enrolment limited = {.device_id = rq.device_id};
    if (by) {
        rq.code = &by->code;
        limited.account = span_str(account);
    } else {
        rq.key_spki = id->leaf->key.spki;
        limited.key = hash_span(&rq.key_spki);
        limited.account = hash_span(&id->provisioning_ca);
    }
    int rc = limits_enrolment_begin(w->gateway->limits, &limited, err);
    if (rc)
        return rc;
    http_exchange_ref(x);
    return begun(x, w, issuer_enrol(&w->issuer, &rq, issued, x, err));
}

/* A provisioning key's certificate says its account, which the registry holds against the one that is named here. */
static int named_account(const struct http_exchange *x, struct worker *w, char out[ACCOUNT_NAME_MAX + 1], struct err *err) {
    const struct identity *id = http_exchange_peer(x);
    verifier_account_of(w->gateway->verifier, http_host(x), out);
    bool named = est_label(x).n || id->sni_account[0] || out[0];
    return named ? est_account(x, w, out, err) : 0;
}

static int claims_one_device(const struct csr_claim *claim, const struct invited *by, struct err *err) {
    if (claim->other_cn.n)
        return err_set(err, MUSTER_ECSR, "The request cannot be signed: its subject CN and the URI in its subjectAltName name different devices.");
    if (by && !span_eq_str(buf_span(&claim->device_id), by->device_id))
        return err_set(err, MUSTER_ECSR, "The request cannot be signed: it names another device than the one that was invited.");
    return 0;
}

typedef int read_fn(struct span body, struct csr_claim *out, struct err *err);

static void enrol(struct http_exchange *x, struct worker *w, read_fn *read) {
    const struct invited *by = invited_of(x);
    struct err err = ERR_INIT;
    char account[ACCOUNT_NAME_MAX + 1];
    CLEANUP(csr_claim_fini) struct csr_claim claim = CSR_CLAIM_INIT;
    int rc = named_account(x, w, account, &err);
    if (!rc && !(rc = read(http_body(x), &claim, &err))) {
        refusal_claims(x, buf_str(&claim.device_id));
        rc = claims_one_device(&claim, by, &err);
        if (!rc)
            rc = start_enrolment(x, w, &claim, by, account, &err);
    }
    if (rc)
        invited_refuse(x, w, &err);
}

void est_enrol(struct http_exchange *x, void *arg) { enrol(x, arg, est_request_read); }
void est_serverkeygen(struct http_exchange *x, void *arg) { enrol(x, arg, est_request_read_names); }

/* --- simplereenroll --------------------------------------------------------------------------------------------------------------- */

/* The registered identity is what counts, not the subject of the certificate that was shown: an account's template may have changed since.
 * A certificate of Muster's own whose device ID is too long for a CN has the device's UUID there. */
static bool names_its_sender(const struct csr_claim *claim, const struct admit *a) {
    char uuid[UUID_TEXT_LEN + 1];
    uuid_text(&a->device, uuid);
    if (claim->other_cn.n && !span_eq_str(buf_span(&claim->other_cn), uuid))
        return false;
    return span_eq_str(buf_span(&claim->device_id), a->device_id) || span_eq_str(buf_span(&claim->device_id), uuid);
}

void est_renew(struct http_exchange *x, void *arg) {
    struct worker *w = arg;
    struct err err = ERR_INIT;
    const struct identity *id = http_exchange_peer(x);
    CLEANUP(csr_claim_fini) struct csr_claim claim = CSR_CLAIM_INIT;
    struct http_conn *c = http_exchange_conn(x);
    if (id->class == ADMIT_DEVICE_OWN && c) /* what its certificate says besides the device ID is by the account's template */
        claim.renews = SSL_get0_peer_certificate(http_conn_ssl(c));
    int rc = est_request_read(http_body(x), &claim, &err);
    if (!rc && !names_its_sender(&claim, &id->admit))
        rc = err_set(&err, MUSTER_ECSR, "The request cannot be signed: it names another device than the one that sends it.");
    if (!rc && id->class == ADMIT_DEVICE_UPLOADED) {
        rc = est_queue(x, w, &claim, &err);
    } else if (!rc && !(rc = limits_renewal_begin(w->gateway->limits, id->admit.device_row, span_str(id->admit.device_id), &err))) {
        const struct issuer_renew rq = {.device = id->admit.device_row, .certificate = id->leaf->fingerprint, .key = id->leaf->key.spki, .begins = id->leaf->not_before, .address = id->address, .est = true,
                                        .own = {&claim.key, buf_span(&claim.public_der)}};
        http_exchange_ref(x);
        rc = begun(x, w, issuer_renew(&w->issuer, &rq, issued, x, &err));
    }
    if (rc)
        http_reply_err(x, &err);
}
