/* The two JSON bodies that devices send, through the gateway's own handlers: POST /devices and POST /director/ecus. */
#include "exchange.h"
#include "fuzz.h"

#include "gateway/devices.c"
#include "gateway/ecus.c"

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
void verifier_account_of(struct verifier *v, struct span host, char out[ACCOUNT_NAME_MAX + 1]) { snprintf(out, ACCOUNT_NAME_MAX + 1, "acme"); }
int device_ecus_run(struct store_tx *tx, void *arg, struct err *err) {
    ((struct device_ecus *)arg)->unchanged = true;
    return 0;
}
int make_pkcs12(EVP_PKEY *key, const struct cert *leaf, struct cert *const *cas, size_t n_cas, struct buf *out, struct err *err) {
    buf_adds(out, "PKCS#12");
    return 0;
}

/* --- the handlers --------------------------------------------------------------------------------------------------------------- */

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
}

static void fuzz_ecus(struct span body) {
    struct http_exchange x = {.body = body, .peer = &peer, .arg = &worker};
    gateway.store = (struct store *)&x;
    ecus_post(&x, &worker);
    if (x.job.run) {
        /* What would be stored is JSON in the one sorted spelling, with as many ECUs as may be, the primary among them. */
        const struct device_ecus *op = x.job.arg;
        CLEANUP_JSON json_t *doc = json_parse(op->ecus, NULL);
        CLEANUP(buf_fini) struct buf same = BUF_INIT(op->ecus.n + 1);
        size_t i, primaries = 0;
        json_t *one, *list = json_object_get(doc, "ecus"), *primary = json_object_get(doc, "primary_ecu_serial");
        MUST(doc && json_object_size(doc) == 2 && json_is_string(primary) && json_array_size(list) >= 1 && json_array_size(list) <= ECUS_MAX);
        MUST(json_write_sorted(&same, doc) == 0 && span_eq(buf_span(&same), op->ecus));
        json_array_foreach(list, i, one) {
            MUST(json_object_size(one) == 4 && json_string_length(json_object_get(one, "ecu_serial")) <= SERIAL_MAX);
            primaries += json_equal(json_object_get(one, "ecu_serial"), primary);
        }
        MUST(primaries == 1);
    }
    exchange_settle(&x, body.n % 2 ? MUSTER_EIO : 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    log_init("fuzz", LOG_ERROR);
    fuzz_devices(span_of(data, n));
    fuzz_ecus(span_of(data, n));
    return 0;
}
