/* The JSON body of POST /devices, through the gateway's own handler. */
#include "exchange.h"
#include "fuzz.h"

#include "gateway/devices.c"

/* --- what the handlers ask ---------------------------------------------------------------------------------------------------- */

static struct {
    bool asked;
    struct issuer_enrol rq;
    issuer_fn done;
    void *arg;
} enrolment;

int issuer_enrol(struct issuer *is, const struct issuer_enrol *rq, issuer_fn done, void *arg, struct err *err) {
    /* Nothing of the device ID is judged before the registry does, but what is passed on is text of a sane life. */
    MUST(span_is_utf8(rq->device_id) && (rq->device_id.n == 0 || span_index(rq->device_id, 0) < 0));
    MUST(rq->life == 0 || (rq->life >= CLOCK_DAY && rq->life <= TTL_MAX * CLOCK_DAY && rq->life % CLOCK_DAY == 0));
    if (rq->device_id.n == 3)
        return err_set(err, MUSTER_EDEVICEID, NULL); /* refused at once */
    enrolment.asked = true;
    enrolment.rq = *rq;
    enrolment.done = done;
    enrolment.arg = arg;
    return 0;
}

struct span http_host(const struct http_exchange *x) { return SPAN_LIT("acme.gateway.example"); }
void refusal_claims(struct http_exchange *x, const char *device_id) { MUST(device_id); }
void refusal_keep_shadow(struct http_exchange *x, const struct err *err) { MUST(!err); }
void verifier_account_of(struct verifier *v, struct span host, char out[ACCOUNT_NAME_MAX + 1]) { snprintf(out, ACCOUNT_NAME_MAX + 1, "acme"); }
static int anchors_held;
struct anchors *server_identity_anchors(struct gateway *g) {
    static struct anchors none;
    anchors_held++;
    return &none;
}
void anchors_unref(struct anchors *a) { anchors_held--; }
int make_pkcs12(EVP_PKEY *key, struct span public_key, struct span der, struct cert *const *cas, size_t n_cas, struct buf *out, struct err *err) {
    buf_adds(out, "PKCS#12");
    return 0;
}

/* --- the handler --------------------------------------------------------------------------------------------------------------- */

/* Every enrolment that is begun ends, once; every fifth device ID is one too many. */
static int under_way;

int limits_enrolment_begin(struct limits *l, const struct limits_enrolment *e, struct err *err) {
    MUST(e->key.n == sizeof(struct hash));
    if (e->device_id.n % 5 == 4)
        return err_retry(err, MUSTER_ELINE, 7, NULL);
    under_way++;
    return 0;
}

void limits_enrolment_end(struct limits *l) { MUST(under_way-- == 1); }

static struct cert leaf;
static struct identity peer = {.leaf = &leaf, .sni_account = "acme", .address = "192.0.2.1"};
static struct gateway gateway;
static struct worker worker = {.gateway = &gateway};

static void fuzz_devices(struct span body) {
    struct http_exchange x = {.body = body, .peer = &peer, .arg = &worker};
    enrolment.asked = false;
    devices_post(&x, &worker);
    if (enrolment.asked) {
        const struct err err = {.code = MUSTER_EVAULT};
        const struct issued issued = {.account = "acme", .device_id = "device"};
        MUST(x.replies == 0 && x.refs == 1);
        enrolment.done(enrolment.arg, body.n % 2 ? MUSTER_EVAULT : 0, body.n % 2 ? &err : NULL, &issued);
    }
    exchange_settle(&x, 0);
    MUST(anchors_held == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    log_init("fuzz", LOG_ERROR);
    fuzz_devices(span_of(data, n));
    return 0;
}
