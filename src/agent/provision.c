/* provision: from the credentials that an image or a factory gave to an identity of this device's own; see session.h. */
#include <limits.h>

#include "agent/session.h"
#include "base/clock.h"

/* An ID once chosen stays: what is asked for again under another name would be another device. */
static int choose_id(struct session *s, struct err *err) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(DEVICE_ID_MAX);
    if (s->state.device_id[0])
        return 0;
    int rc = device_id_find(s->o, &id, err);
    if (!rc)
        snprintf(s->state.device_id, sizeof s->state.device_id, "%s", buf_str(&id));
    return rc;
}

static int begin(struct session *s, const struct credentials *c, const char *method, struct err *err) {
    struct state *st = &s->state;
    const char *url = s->o->gateway[0] ? s->o->gateway : c->gateway[0] ? c->gateway : st->gateway;
    if (!url[0])
        return err_set(err, MUSTER_EINVALID, "Nothing names the gateway: %s has no gateway.url, and --gateway is not given.", c->path);
    size_t n = strlen(url);
    while (n && url[n - 1] == '/')
        n--;
    snprintf(st->gateway, sizeof st->gateway, "%.*s", (int)n, url);
    snprintf(st->method, sizeof st->method, "%s", method);
    char full[PATH_MAX];
    if (!realpath(c->path, full) || strlen(full) >= sizeof st->source) /* a later pass may begin in another directory */
        return err_set(err, MUSTER_EINVALID, "%s cannot be found again by its path.", c->path);
    snprintf(st->source, sizeof st->source, "%s", full);
    snprintf(st->account, sizeof st->account, "%.63s", s->o->account);
    snprintf(st->key, sizeof st->key, "own");
    return session_remember(s, err); /* whose disk cannot be written asks for nothing */
}

/* --- shared credentials --------------------------------------------------------------------------------------------------------------------------- */

/* No EST there: an older server, or a proxy that lets nothing but POST /devices pass. */
static bool no_est(const struct refused *why) {
    return (why->status == 404 || why->status == 405 || why->status == 501) && strcmp(why->code, "account_unknown") != 0;
}

static int by_devices(struct session *s, struct gateway *g, const struct credentials *c, unsigned number, struct refused *why, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(cert_free) struct cert *cert = NULL;
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(KEY_PRIVATE_MAX * 2);
    const struct shown by = {c->key, c->cert, NULL};
    *err = ERR_INIT;
    int rc = est_devices(g, &by, span_str(s->state.device_id), &key, &cert, why, err);
    if (rc)
        return rc;
    snprintf(s->state.key, sizeof s->state.key, "server");
    if ((rc = session_remember(s, err)) || (rc = key_private_pem(key, &pem, err)) || (rc = place_put(&s->place, number, "pkey.pem", buf_span(&pem), 0600, err)))
        return rc;
    session_say(s, "the gateway has no EST; it made this device's key, which is changed for one of its own as soon as it takes one");
    return session_put_certificate(s, number, cert, NULL, err);
}

static int ask(struct session *s, const struct credentials *c, const struct identity *next, struct err *err) {
    CLEANUP(cert_free) struct cert *cert = NULL;
    struct refused why = {0};
    struct gateway g;
    const struct shown by = {c->key, c->cert, NULL};
    int rc = session_gateway(s, s->state.gateway, &c->anchors, &g, err);
    if (rc)
        return session_failed(s, NULL, err);
    do
        rc = est_ask(&g, EST_ENROL, &by, next->key, span_str(s->state.device_id), &cert, &why, err);
    while (rc && session_mended(s, &g, &why));
    if (rc == 0)
        return session_put_certificate(s, next->number, cert, NULL, err);
    if (!no_est(&why))
        return session_failed(s, &why, err);
    rc = by_devices(s, &g, c, next->number, &why, err);
    return rc ? session_failed(s, &why, err) : 0;
}

static int enrol(struct session *s, const struct credentials *c, struct err *err) {
    CLEANUP(identity_fini) struct identity next = IDENTITY_INIT;
    bool gone;
    int rc = choose_id(s, err);
    if (rc || (rc = begin(s, c, "shared", err)) || (rc = session_next(s, &c->anchors, s->state.gateway, &next, err)) || (rc = ask(s, c, &next, err)))
        return rc;
    return session_adopt(s, next.number, "enrolled", &gone, err);
}

/* --- the device's own -------------------------------------------------------------------------------------------------------------------------------- */

static int check_dates(const struct session *s, const struct cert *c, const char *path, struct err *err) {
    char when[CLOCK_RFC3339_LEN + 1];
    clock_rfc3339(c->not_after, when);
    if (!true_time_behind(&s->time) && c->not_after < true_time_now(&s->time))
        return err_set(err, MUSTER_EINVALID, "The certificate in %s ended at %s; have another one made by whoever issued it.", path, when);
    return cert_allows_client(c) && !c->ca ? 0 : err_set(err, MUSTER_EINVALID, "The certificate in %s is not one of a TLS client.", path);
}

static int take_over(struct session *s, const struct credentials *c, struct err *err) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(DEVICE_ID_MAX), url = BUF_INIT(OPTIONS_VALUE_MAX + 1), ca = BUF_INIT(65536);
    CLEANUP(buf_wipe) struct buf key = BUF_INIT(4 * KEY_PRIVATE_MAX);
    unsigned number;
    bool gone;
    int rc = check_dates(s, c->cert, c->path, err);
    if (rc)
        return rc;
    if (s->o->device_id[0])
        snprintf(s->state.device_id, sizeof s->state.device_id, "%.*s", DEVICE_ID_MAX, s->o->device_id);
    else if (cert_own_device_id(c->cert, &id, NULL) == 0)
        snprintf(s->state.device_id, sizeof s->state.device_id, "%s", buf_str(&id));
    if ((rc = begin(s, c, "device", err)) || (rc = key_private_pem(c->key, &key, err)) || (rc = certs_pem(&c->anchors, &ca)))
        return rc;
    buf_addf(&url, "%s\n", s->state.gateway);
    if ((rc = place_begin(&s->place, &number, err)) || (rc = place_put(&s->place, number, "pkey.pem", buf_span(&key), 0600, err)) ||
        (rc = place_put(&s->place, number, "root.crt", buf_span(&ca), 0644, err)) || (rc = place_put(&s->place, number, "gateway.url", buf_span(&url), 0644, err)) ||
        (rc = session_put_certificate(s, number, c->cert, &c->above, err)))
        return rc;
    return session_adopt(s, number, "imported", &gone, err);
}

/* --- both ----------------------------------------------------------------------------------------------------------------------------------------------- */

int provision_again(struct session *s, const struct identity *now, bool *done, struct err *err) {
    CLEANUP(credentials_fini) struct credentials c = CREDENTIALS_INIT;
    struct options from = {.json = false};
    *done = false;
    if (strcmp(s->state.method, "device") != 0 || !s->state.source[0])
        return 0;
    snprintf(from.credentials, sizeof from.credentials, "%s", s->state.source);
    if (credentials_find(&from, &c, NULL) || c.kind != CREDENTIALS_DEVICE || hash_eq(&c.cert->fingerprint, &now->cert->fingerprint) || c.cert->not_after <= now->cert->not_after)
        return 0;
    *done = true;
    return take_over(s, &c, err);
}

static bool have_identity(struct session *s) {
    CLEANUP(identity_fini) struct identity id = IDENTITY_INIT;
    unsigned current = place_current(&s->place);
    return current && place_identity(&s->place, current, &id, NULL) == 0 && identity_whole(&id);
}

/* One that was issued before this pass began. */
static bool have_issued(struct session *s, unsigned *number) {
    CLEANUP(identity_fini) struct identity id = IDENTITY_INIT;
    *number = place_next(&s->place);
    return *number && s->state.method[0] && place_identity(&s->place, *number, &id, NULL) == 0 && identity_whole(&id);
}

int provision(struct session *s, struct err *err) {
    CLEANUP(credentials_fini) struct credentials c = CREDENTIALS_INIT;
    unsigned number;
    bool gone;
    int64_t wait = session_wait(s);
    if (have_identity(s))
        return session_settle(s, err);
    int rc;
    if (have_issued(s, &number)) {
        rc = session_adopt(s, number, !strcmp(s->state.method, "shared") ? "enrolled" : "imported", &gone, err);
        return rc ? rc : session_settle(s, err);
    }
    if (wait && !s->o->now)
        return err_retry(err, MUSTER_EBUSY, (int)wait, "The gateway asked not to come again before %lld seconds have passed. %s", (long long)wait, s->state.wait_text);
    if ((rc = credentials_find(s->o, &c, err)))
        return rc;
    rc = c.kind == CREDENTIALS_SHARED ? enrol(s, &c, err) : take_over(s, &c, err);
    return rc ? rc : session_settle(s, err);
}
