/* devices: POST /devices, provisioning with shared credentials: {"deviceId": "…", "ttl": "36000"} gets a PKCS#12.
 *
 * ttl is in days and comes as a number or a text; it is clamped, never refused.  What a stock client does with each answer decides the
 * shape of ours: doc/wire.md. */
#include "base/log.h"
#include "gateway/internal.h"
#include "pki/make.h"

#define PKCS12_MAX 65535 /* bytes; the client takes less than 64 KiB */
#define TTL_MAX 100000000.0 /* days; what is beyond is clamped anyway */

/* A number of days in a text, however large; false: it is none. */
static bool read_days(const char *text, double *days) {
    char *end;
    *days = strtod(text, &end);
    return *text && !*end && strspn(text, "+-0123456789.eE") == strlen(text);
}

/* Seconds; 0: the account's.  A wish is clamped, whatever number it is. */
static int read_ttl(json_t *v, int64_t *life, struct err *err) {
    double days = 0;
    *life = 0;
    if (!v || json_is_null(v))
        return 0;
    if (json_is_number(v))
        days = json_number_value(v);
    else if (!json_is_string(v) || !read_days(json_string_value(v), &days))
        return err_set(err, MUSTER_EJSON, "ttl is a number of days, as a number or as a text.");
    *life = (int64_t)(days < 1 ? 1 : days > TTL_MAX ? TTL_MAX : days) * CLOCK_DAY;
    return 0;
}

static void enrolled(void *arg, int rc, const struct err *err, const struct issued *issued) {
    struct http_exchange *x = arg;
    struct worker *w = http_exchange_arg(x);
    struct err why = ERR_INIT;
    struct buf p12 = BUF_INIT(PKCS12_MAX);
    CLEANUP(anchors_unref) struct anchors *anchors = server_identity_anchors(w->gateway);
    limits_enrolment_end(w->gateway->limits);
    if (!rc && (rc = make_pkcs12(issued->key, issued->public_key, issued->cert, anchors->at, anchors->n, &p12, &why)))
        err = &why;
    if (rc) {
        buf_wipe(&p12);
        http_reply_err(x, err);
    } else {
        refusal_keep_shadow(x, issued->shadow);
        log_event(LOG_INFO, issued->again ? "device_enrolled_again" : "device_enrolled", "request", http_exchange_id(x), "account", issued->account, "device",
                  issued->device_id, NULL);
        http_reply_buf(x, 200, "application/x-pkcs12", &p12, true);
    }
    http_exchange_unref(x);
}

static int start(struct http_exchange *x, struct worker *w, const struct identity *id, struct issuer_enrol *rq, struct err *err) {
    /* The provisioning CA stands for the account, which the registry has not been asked for yet. */
    const struct limits_enrolment limited = {.key = hash_span(&rq->key_spki), .account = hash_span(&id->provisioning_ca), .device_id = rq->device_id};
    int rc = limits_enrolment_begin(w->gateway->limits, &limited, err);
    if (rc)
        return rc;
    /* The answer has these, or newer ones. */
    CLEANUP(anchors_unref) struct anchors *anchors = server_identity_anchors(w->gateway);
    rq->server_ca = anchors->newest;
    http_exchange_ref(x);
    if ((rc = issuer_enrol(&w->issuer, rq, enrolled, x, err))) {
        limits_enrolment_end(w->gateway->limits);
        http_exchange_unref(x);
    }
    return rc;
}

void devices_post(struct http_exchange *x, void *arg) {
    struct worker *w = arg;
    struct identity *id = http_exchange_peer(x);
    struct err err = ERR_INIT;
    CLEANUP_JSON json_t *body = json_parse(http_body(x), &err);
    char named[ACCOUNT_NAME_MAX + 1];
    const char *device_id = body ? json_string_value(json_object_get(body, "deviceId")) : NULL;
    verifier_account_of(w->gateway->verifier, http_host(x), named);
    struct issuer_enrol rq = {.key_spki = id->leaf->key.spki, .address = id->address, .account = id->sni_account[0] ? id->sni_account : named};
    int rc = body ? 0 : err.code;
    if (!rc && !device_id)
        rc = err_set(&err, MUSTER_EJSON, "The body has no deviceId, or it is not a text.");
    if (!rc)
        refusal_claims(x, device_id);
    if (!rc)
        rc = read_ttl(json_object_get(body, "ttl"), &rq.life, &err);
    if (!rc) {
        rq.device_id = span_of(device_id, json_string_length(json_object_get(body, "deviceId")));
        rc = start(x, w, id, &rq, &err);
    }
    if (rc)
        http_reply_err(x, &err);
}
