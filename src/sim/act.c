/* act: see act.h. */
#include "sim/act.h"

#include "agent/est.h"
#include "base/clock.h"
#include "base/hex.h"
#include "json/json.h"
#include "pki/make.h"

#define REQUEST_MAX 65536
#define HUGE_BODY (64u << 20)
#define TTL "36500" /* days: as long as the server lets it live */

/* --- requests ------------------------------------------------------------------------------------------------------------------------ */

static int put(const struct act *a, const char *method, const char *path, const char *media, const char *more, struct span body, size_t filling, struct ask *out, struct err *err) {
    buf_addf(&out->request, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: muster-sim/" MUSTER_VERSION "\r\nAccept: */*\r\nConnection: close\r\n%s", method, path, a->host, more);
    if (media)
        buf_addf(&out->request, "Content-Type: %s\r\nContent-Length: %zu\r\n", media, body.n + filling);
    buf_adds(&out->request, "\r\n");
    buf_add(&out->request, body);
    out->filling = filling;
    return buf_check(&out->request, err);
}

static int get(const struct act *a, const char *path, struct ask *out, struct err *err) { return put(a, "GET", path, NULL, "", SPAN_NONE, 0, out, err); }

static int est(const struct act *a, const char *verb, EVP_PKEY *key, const char *id, const char *more, struct ask *out, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(512), body = BUF_INIT(REQUEST_MAX);
    int rc = est_request(key, span_str(id), &body, err);
    if (rc)
        return rc;
    buf_addf(&path, "/.well-known/est/%s%s%s", a->o->account ? a->o->account : "", a->o->account ? "/" : "", verb);
    return put(a, "POST", buf_str(&path), "application/pkcs10", more, buf_span(&body), 0, out, err);
}

/* The key for which a certificate is asked, until it has come: asking again is asking for the same. */
static int next_key(struct device *d, bool same, struct err *err) {
    if (d->next)
        return 0;
    return same && d->has.key_n ? credential_key(&d->has, &d->next, err) : key_generate(KEY_P256, 0, &d->next, err);
}

static int ask_with_code(const struct act *a, struct device *d, struct ask *out, struct err *err) {
    CLEANUP(buf_wipe) struct buf both = BUF_INIT(4096), field = BUF_INIT(8192);
    buf_addf(&both, "%s:%s", d->id, d->code);
    buf_adds(&field, "Authorization: Basic ");
    base64_add(&field, buf_span(&both));
    buf_adds(&field, "\r\n");
    int rc = next_key(d, false, err);
    return rc || (rc = buf_check(&field, err)) ? rc : est(a, "simpleenroll", d->next, d->id, buf_str(&field), out, err);
}

static int ask_devices(const struct act *a, struct device *d, struct ask *out, struct err *err) {
    CLEANUP(buf_fini) struct buf body = BUF_INIT(4096);
    CLEANUP_JSON json_t *o = json_object();
    json_set_str(o, "deviceId", d->id);
    json_set_str(o, "ttl", TTL);
    int rc = json_write(&body, o);
    out->by = &a->fleet->key;
    return rc ? err_set(err, rc, NULL) : put(a, "POST", "/devices", "application/json", "", buf_span(&body), 0, out, err);
}

static bool by_devices(const struct act *a) { return a->o->method && !strcmp(a->o->method, "devices"); }

static int ask_enrol(const struct act *a, struct device *d, struct ask *out, struct err *err) {
    if (d->way == WAY_CODE)
        return ask_with_code(a, d, out, err);
    if (!a->fleet->key.key_n)
        return err_set(err, MUSTER_ENOTFOUND, "no credentials");
    if (by_devices(a))
        return ask_devices(a, d, out, err);
    int rc = next_key(d, false, err);
    out->by = &a->fleet->key;
    return rc ? rc : est(a, "simpleenroll", d->next, d->id, "", out, err);
}

int act_ask(const struct act *a, enum step step, bool uses, struct device *d, struct ask *out, struct err *err) {
    *out = (struct ask){.by = &d->has, .request = BUF_INIT(REQUEST_MAX)};
    if (step == STEP_ENROL && d->way != WAY_ISSUED)
        return ask_enrol(a, d, out, err);
    if (!d->has.key_n)
        return err_set(err, MUSTER_ENOTFOUND, "no certificate");
    if (step != STEP_RENEW || uses)
        return get(a, a->o->path, out, err);
    int rc = next_key(d, a->o->same_key, err);
    return rc ? rc : est(a, "simplereenroll", d->next, d->id, "", out, err);
}

/* --- such as no device should make ------------------------------------------------------------------------------------------------------ */

static const struct device *neighbour(const struct fleet *f, const struct device *d) {
    size_t at = (size_t)(d - f->device);
    for (size_t i = 1; i < f->n; i++)
        if (f->device[(at + i) % f->n].has.key_n)
            return &f->device[(at + i) % f->n];
    return d;
}

static int renew_as(const struct act *a, const struct credential *key_of, const char *id, struct ask *out, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    int rc = credential_key(key_of, &key, err);
    return rc ? rc : est(a, "simplereenroll", key, id, "", out, err);
}

int act_misbehave(const struct act *a, enum manner manner, struct device *d, struct ask *out, struct err *err) {
    *out = (struct ask){.by = &d->has, .request = BUF_INIT(REQUEST_MAX)};
    if (manner == MANNER_BROKEN_TLS) {
        out->how = HOW_NO_TLS;
        buf_adds(&out->request, "This is no TLS, and what answers it is an alert.\r\n\r\n");
        return buf_check(&out->request, err);
    }
    if (!d->has.key_n)
        return err_set(err, MUSTER_ENOTFOUND, "no certificate");
    switch (manner) {
    case MANNER_WRONG_ID:
        return renew_as(a, &d->has, neighbour(a->fleet, d) == d ? "somebody-else" : neighbour(a->fleet, d)->id, out, err);
    case MANNER_CLONE:
        return renew_as(a, &neighbour(a->fleet, d)->has, d->id, out, err);
    case MANNER_HUGE_BODY:
        return put(a, "POST", "/.well-known/est/simplereenroll", "application/pkcs10", "", SPAN_NONE, HUGE_BODY, out, err);
    case MANNER_SLOW_READ:
        out->how = HOW_SLOW;
        return get(a, "/.well-known/est/cacerts", out, err);
    case MANNER_STORM:
    case MANNER_IMPATIENT:
    case MANNER_BROKEN_TLS:
    case MANNERS:
        break;
    }
    return get(a, a->o->path, out, err);
}

/* --- answers -------------------------------------------------------------------------------------------------------------------------------- */

void act_name(const struct answer *answer, enum came came, char out[80]) {
    if (answer->status == 200 && came == CAME_FAILED)
        snprintf(out, 80, "200 without a certificate of the device's key");
    else if (!answer->status)
        snprintf(out, 80, "%s", answer->fault);
    else
        snprintf(out, 80, "%d%s%.63s", answer->status, answer->code[0] ? " " : "", answer->code);
}

bool act_told_to_wait(const struct answer *answer) { return answer->status == 429 || answer->status == 503 || answer->status == 202; }

/* Muster itself says to whoever it lets in that POST is the method of /devices; what stands behind the gateway, that it has something.  Anything else, a page that is not
 * there or elsewhere, may be anybody's who stands in between (est_admitted). */
static bool let_in(const struct answer *a) { return (a->status >= 200 && a->status < 300) || a->status == 304 || (a->status == 405 && a->allows_post); }

static bool keep(const struct fleet *f, struct device *d, EVP_PKEY *key, const struct cert *cert) {
    bool good = credential_set(&d->has, key, cert, NULL, NULL) == 0;
    if (good)
        d->unsaved = fleet_keep(f, d, NULL) != 0; /* the end of the step says why */
    return good;
}

static bool take_est(const struct fleet *f, struct device *d, struct span body) {
    CLEANUP(cert_free) struct cert *cert = NULL;
    bool good = d->next && est_read_certificate(body, d->next, clock_now(), &cert, NULL) == 0 && keep(f, d, d->next, cert);
    EVP_PKEY_free(d->next);
    d->next = NULL;
    return good;
}

static bool take_p12(const struct fleet *f, struct device *d, struct span body) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(cert_free) struct cert *cert = NULL;
    size_t n_cas;
    return make_pkcs12_read(body, &key, &cert, &n_cas, NULL) == 0 && keep(f, d, key, cert);
}

enum came act_take(const struct act *a, enum step step, bool uses, struct device *d, const struct answer *answer) {
    const bool asks = (step == STEP_ENROL && d->way != WAY_ISSUED) || (step == STEP_RENEW && !uses);
    if (act_told_to_wait(answer) || !answer->status || answer->status >= 500)
        return CAME_LATER;
    if (!asks)
        return let_in(answer) ? CAME_DONE : CAME_FAILED;
    if (answer->status != 200)
        return CAME_FAILED;
    const bool good = step == STEP_ENROL && d->way == WAY_KEY && by_devices(a) ? take_p12(a->fleet, d, answer->body) : take_est(a->fleet, d, answer->body);
    return !good ? CAME_FAILED : step == STEP_RENEW ? CAME_USE : CAME_DONE;
}
