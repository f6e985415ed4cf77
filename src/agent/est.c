/* est: see est.h. */
#include "agent/est.h"

#include <openssl/pem.h>

#include "agent/device_id.h"
#include "base/hex.h"
#include "json/json.h"
#include "keyring/keyring.h"
#include "pki/csr.h"
#include "pki/device_uri.h"
#include "pki/make.h"

#define EARLY_MAX 86400 /* seconds: clocks differ, and a certificate of tomorrow is of no use today */
#define CN_MAX 64 /* characters, X.520 */
#define REQUEST_MAX 16384
#define TTL "36500" /* days: as long as the server lets it live */

static size_t characters(struct span s) {
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += (s.p[i] & 0xc0) != 0x80;
    return n;
}

/* The lines between those of its PEM form. */
int est_request(EVP_PKEY *own, struct span id, struct buf *out, struct err *err) {
    CLEANUP(buf_fini) struct buf uri = BUF_INIT(4 * DEVICE_ID_MAX), pem = BUF_INIT(REQUEST_MAX);
    bool too_long = characters(id) > CN_MAX;
    if (too_long)
        device_uri_add(&uri, id);
    const char *const uris[] = {buf_str(&uri), NULL};
    const struct csr_request rq = {.subject = {.common_name = too_long ? SPAN_NONE : id}, .uris = too_long ? uris : NULL};
    int rc = csr_make(&rq, own, &pem, err);
    if (rc)
        return keyring_fault(own, err) && err ? err->code : rc;
    struct span rest = buf_span(&pem);
    while (rest.n) {
        long end = span_index(rest, '\n');
        struct span line = span_sub(rest, 0, end < 0 ? rest.n : (size_t)end + 1);
        rest = span_sub(rest, line.n, rest.n);
        if (line.p[0] != '-')
            buf_add(out, line);
    }
    return buf_check(out, err);
}

static void add_path(struct buf *url, const struct gateway *g, const char *what) {
    buf_addf(url, "%s/.well-known/est/", g->url);
    if (g->account[0])
        buf_addf(url, "%s/", g->account);
    buf_adds(url, what);
}

/* Asks, and takes apart what is no 200. */
static int ask(const struct gateway *g, const struct shown *by, const char *method, const char *url, const char *media, struct span body, struct http_answer *answer,
               struct refused *why, struct err *err) {
    const struct http_request rq = {.method = method, .url = url, .anchors = g->anchors, .key = by ? by->key : NULL, .cert = by ? by->cert : NULL, .above = by ? by->above : NULL,
                                    .media = media, .body = body, .now = g->now};
    *why = (struct refused){0};
    int rc = http_ask(&rq, answer, err);
    why->dates = answer->dates;
    why->tls = answer->refused;
    why->unsent = answer->unsent;
    why->named = answer->retry_after > 0;
    why->since = answer->since;
    if (rc)
        return rc;
    why->status = answer->status;
    return answer->status == 200 ? 0 : http_refusal(answer, why->code, why->fix, err);
}

static int decode_certs(struct span body, struct certs *out, struct err *err) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(HTTP_BODY_MAX);
    if (base64_decode_lines(body, &der))
        return err_set(err, MUSTER_EINVALID, "The gateway's answer is not base64.");
    return certs_read_pkcs7(buf_span(&der), out, err);
}

int est_read_anchors(struct span body, struct certs *out, struct err *err) { return decode_certs(body, out, err); }

static int check_issued(const struct cert *c, int64_t now, struct err *err) {
    if (c->ca || !cert_allows_client(c))
        return err_set(err, MUSTER_EINVALID, "The certificate that came is not one of a TLS client.");
    if (c->not_after <= now || c->not_after <= c->not_before)
        return err_set(err, MUSTER_ECERTEXPIRED, "The certificate that came has ended already.");
    if (c->not_before > now + EARLY_MAX)
        return err_set(err, MUSTER_ECERTEARLY, "The certificate that came begins more than a day from now.");
    return 0;
}

int est_read_certificate(struct span body, const EVP_PKEY *own, int64_t now, struct cert **out, struct err *err) {
    CLEANUP(certs_fini) struct certs certs = CERTS_INIT;
    int rc = decode_certs(body, &certs, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < certs.n; i++) {
        if (EVP_PKEY_eq(X509_get0_pubkey(certs.cert[i]->x), own) != 1)
            continue;
        if ((rc = check_issued(certs.cert[i], now, err)))
            return rc;
        return cert_from_x509(certs.cert[i]->x, out, err);
    }
    return err_set(err, MUSTER_EINVALID, "The certificate that came is not for this device's key.");
}

/* Whoever reads the name in it, the gateway and a stock client among them, would take this device for another. */
static int check_name(const struct cert *c, struct span device_id, struct err *err) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(DEVICE_ID_MAX);
    int rc = cert_own_device_id(c, &id, err);
    if (rc)
        return err_prefix(err, "The certificate that came names no device");
    return span_eq(buf_span(&id), device_id) ? 0 : err_set(err, MUSTER_EINVALID, "The certificate that came is of the device %s, and not of %.*s.", buf_str(&id), SPAN_FMT(device_id));
}

int est_ask(const struct gateway *g, enum est_verb verb, const struct shown *by, EVP_PKEY *own, struct span device_id, struct cert **out, struct certs *above, struct refused *why, struct err *err) {
    CLEANUP(http_answer_fini) struct http_answer answer = HTTP_ANSWER_INIT;
    CLEANUP(buf_fini) struct buf url = BUF_INIT(4096), body = BUF_INIT(REQUEST_MAX);
    add_path(&url, g, verb == EST_ENROL ? "simpleenroll" : "simplereenroll");
    int rc = est_request(own, device_id, &body, err);
    if (rc || (rc = ask(g, by, "POST", buf_str(&url), "application/pkcs10", buf_span(&body), &answer, why, err)))
        return rc;
    rc = est_read_certificate(buf_span(&answer.body), own, g->now, out, err);
    why->dates = rc == MUSTER_ECERTEXPIRED || rc == MUSTER_ECERTEARLY;
    if (rc || (rc = check_name(*out, device_id, err)))
        return rc;
    certs_fini(above);
    return decode_certs(buf_span(&answer.body), above, err);
}

int est_anchors(const struct gateway *g, const struct shown *by, struct certs *out, struct refused *why, struct err *err) {
    CLEANUP(http_answer_fini) struct http_answer answer = HTTP_ANSWER_INIT;
    CLEANUP(buf_fini) struct buf url = BUF_INIT(4096);
    add_path(&url, g, "cacerts");
    int rc = ask(g, by, "GET", buf_str(&url), NULL, SPAN_NONE, &answer, why, err);
    return rc ? rc : est_read_anchors(buf_span(&answer.body), out, err);
}

int est_devices(const struct gateway *g, const struct shown *by, struct span device_id, EVP_PKEY **key, struct cert **cert, struct refused *why, struct err *err) {
    CLEANUP(http_answer_fini) struct http_answer answer = HTTP_ANSWER_INIT;
    CLEANUP(buf_fini) struct buf url = BUF_INIT(4096), body = BUF_INIT(4096);
    CLEANUP_JSON json_t *doc = json_object();
    CLEANUP(EVP_PKEY_free) EVP_PKEY *made = NULL;
    CLEANUP(cert_free) struct cert *leaf = NULL;
    size_t n_cas;
    buf_addf(&url, "%s/devices", g->url);
    json_set_span(doc, "deviceId", device_id);
    json_set_str(doc, "ttl", TTL);
    int rc = json_write(&body, doc);
    if (rc)
        return err_set(err, rc, NULL);
    if ((rc = ask(g, by, "POST", buf_str(&url), "application/json", buf_span(&body), &answer, why, err)))
        return rc;
    if ((rc = make_pkcs12_read(buf_span(&answer.body), &made, &leaf, &n_cas, err)) || (rc = check_issued(leaf, g->now, err)) || (rc = check_name(leaf, device_id, err)))
        return rc;
    *key = TAKE(made);
    *cert = TAKE(leaf);
    return 0;
}

/* A page of something in between, that the host is unknown, or that one should go elsewhere, says nothing of this device: neither yes nor no. */
static bool says_no(const struct refused *why) {
    return why->code[0] || why->status == 400 || why->status == 401 || why->status == 403 || why->status == 421 || why->status == 429 || why->status >= 500;
}

/* POST /devices has one method, on every gateway: GET there is answered by Muster itself and reaches nothing behind it.  The judgement comes first: to whoever is
 * admitted, and to nobody else, it says that there is nothing to get and what method there is. */
int est_admitted(const struct gateway *g, const struct shown *by, struct refused *why, struct err *err) {
    CLEANUP(http_answer_fini) struct http_answer answer = HTTP_ANSWER_INIT;
    CLEANUP(buf_fini) struct buf url = BUF_INIT(4096);
    buf_addf(&url, "%s/devices", g->url);
    int rc = ask(g, by, "GET", buf_str(&url), NULL, SPAN_NONE, &answer, why, err);
    if (answer.status == 405 && answer.allows_post) {
        *err = ERR_INIT;
        return 0;
    }
    if (!why->status || says_no(why))
        return rc;
    rc = err_set(err, MUSTER_ENETWORK, "What answers at %s has said neither that it admits this device nor that it does not (status %d): it may not be the gateway.", g->url, why->status);
    err->retry_after = answer.retry_after;
    return rc;
}
