/* provision: from the credentials that an image or a factory gave to an identity of this device's own; see session.h. */
#include <limits.h>

#include "agent/hardware.h"
#include "base/clock.h"
#include "base/hex.h"

/* An ID once chosen stays: what is asked for again under another name would be another device. */
static int choose_id(struct session *s, struct err *err) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(DEVICE_ID_MAX);
    char *mine = s->state.device_id;
    if (mine[0] && !s->o->names_device && !s->o->device_id[0])
        return 0;
    int rc = device_id_find(s->o, &id, err);
    if (!rc && mine[0] && strcmp(mine, buf_str(&id)))
        return err_set(err, MUSTER_EINVALID, "This device is %s, and the options say %s: an ID once chosen stays. Remove %s first, where it is to be another device.", mine, buf_str(&id), s->place.dir);
    if (!rc)
        snprintf(mine, sizeof s->state.device_id, "%s", buf_str(&id));
    return rc;
}

static const char *gateway_of(const struct session *s, const struct credentials *c) {
    return s->o->gateway[0] ? s->o->gateway : c->gateway[0] ? c->gateway : s->state.gateway;
}

static int begin(struct session *s, const struct credentials *c, const char *method, struct err *err) {
    struct state *st = &s->state;
    const char *url = gateway_of(s, c);
    if (!url[0])
        return err_set(err, MUSTER_EINVALID, "Nothing names the gateway: %s has no gateway.url, and --gateway is not given.", c->path);
    size_t n = strlen(url);
    while (n && url[n - 1] == '/')
        n--;
    snprintf(st->gateway, sizeof st->gateway, "%.*s", (int)n, url);
    snprintf(st->method, sizeof st->method, "%s", method);
    if (s->o->keep_credentials) /* passes of the timer have to know it as well */
        st->keep_credentials = 1;
    char full[PATH_MAX];
    if (!realpath(c->path, full) || strlen(full) >= sizeof st->source) /* a later pass may begin in another directory */
        return err_set(err, MUSTER_EINVALID, "%s cannot be found again by its path.", c->path);
    memcpy(st->source, full, strlen(full) + 1);
    snprintf(st->import_gateway, sizeof st->import_gateway, "%s", c->gateway);
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
    CLEANUP(certs_fini) struct certs came = CERTS_INIT, above = CERTS_INIT;
    struct refused why = {0};
    struct gateway g;
    const struct shown by = {c->key, c->cert, NULL};
    int rc = session_ask(s, s->state.gateway, &c->anchors, &g, err);
    if (rc)
        return rc;
    do
        rc = est_ask(&g, EST_ENROL, &by, next->key, span_str(s->state.device_id), &cert, &came, &why, err);
    while (rc && session_mended(s, &g, &why, err));
    if (rc == 0 && (rc = certs_above(cert, &came, &(struct certs){.n = 0}, &above, err)))
        return rc;
    if (rc == 0)
        return session_put_certificate(s, next->number, cert, &above, err);
    if (!no_est(&why))
        return session_failed(s, &why, err);
    if (next->where[0]) {
        err_set(err, MUSTER_EINVALID, "The gateway has no EST, and by POST /devices it makes the key itself, which would not lie in this device's hardware. Let it offer EST, or set `key = file`.");
        return session_failed(s, &why, err);
    }
    rc = by_devices(s, &g, c, next->number, &why, err);
    return rc ? session_failed(s, &why, err) : 0;
}

static int enrol(struct session *s, const struct credentials *c, struct err *err) {
    CLEANUP(identity_fini) struct identity next = IDENTITY_INIT;
    bool gone;
    unsigned cut = strcmp(s->state.key, "server") ? 0 : place_next(&s->place); /* its key, without the certificate, is not this device's own */
    int rc = cut ? place_drop(&s->place, cut, err) : 0;
    rc = rc ? rc : choose_id(s, err);
    if (rc || (rc = begin(s, c, "shared", err)))
        return rc;
    if (session_next(s, &c->anchors, s->state.gateway, &next, err))
        return session_failed(s, &(struct refused){0}, err);
    if ((rc = ask(s, c, &next, err)))
        return rc;
    return session_adopt(s, next.number, "enrolled", &gone, err);
}

/* --- the device's own -------------------------------------------------------------------------------------------------------------------------------- */

static void name_import(const struct credentials *c, char out[2 * PKI_HASH_LEN + 1]) {
    CLEANUP(buf_fini) struct buf hex = BUF_INIT(2 * PKI_HASH_LEN + 1);
    hex_add(&hex, hash_span(&c->cert->fingerprint));
    snprintf(out, 2 * PKI_HASH_LEN + 1, "%s", buf_str(&hex));
}

static int took_over(struct session *s, const char *name, struct err *err) {
    snprintf(s->state.import, sizeof s->state.import, "%s", name);
    s->state.import_refused_at = 0;
    return session_remember(s, err);
}

/* By a clock that may be wrong: the gateway is asked before a certificate is said to have ended. */
static int check_use(struct session *s, const struct credentials *c, struct err *err) {
    char when[CLOCK_RFC3339_LEN + 1];
    struct gateway g = {.url = gateway_of(s, c), .account = s->o->account, .anchors = &c->anchors};
    struct refused why = {.dates = c->cert->not_after < true_time_now(&s->time)};
    if (c->cert->ca || !cert_allows_client(c->cert))
        return err_set(err, MUSTER_EINVALID, "The certificate in %s is not one of a TLS client.", c->path);
    if (why.dates && g.url[0])
        (void)session_mended(s, &g, &why, err);
    clock_rfc3339(c->cert->not_after, when);
    if (!true_time_behind(&s->time) && c->cert->not_after < true_time_now(&s->time))
        return err_set(err, MUSTER_EINVALID, "The certificate in %s ended at %s; have another one made by whoever issued it.", c->path, when);
    *err = ERR_INIT;
    return 0;
}

/* The name of a certificate is what the gateway goes by: another one beside it would name no device. */
static int name_device(struct session *s, const struct credentials *c, struct err *err) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(DEVICE_ID_MAX);
    int rc = cert_own_device_id(c->cert, &id, err);
    if (rc)
        return err_prefix(err, "The certificate in %s names no device", c->path);
    if (s->o->device_id[0] && strcmp(s->o->device_id, buf_str(&id)) != 0)
        return err_set(err, MUSTER_EINVALID, "The certificate in %s is of the device %s, and --device-id says %s.", c->path, buf_str(&id), s->o->device_id);
    snprintf(s->state.device_id, sizeof s->state.device_id, "%s", buf_str(&id));
    return 0;
}

/* A copy of the key's file, or the name of one in hardware. */
static int put_key(const struct session *s, const struct credentials *c, unsigned number, struct err *err) {
    CLEANUP(buf_wipe) struct buf key = BUF_INIT(4 * KEY_PRIVATE_MAX);
    if (c->where[0])
        return hardware_put(s, number, c->where, c->key, err);
    int rc = key_private_pem(c->key, &key, err);
    return rc ? rc : place_put(&s->place, number, "pkey.pem", buf_span(&key), 0600, err);
}

static int take_over(struct session *s, const struct credentials *c, struct err *err) {
    CLEANUP(buf_fini) struct buf url = BUF_INIT(OPTIONS_VALUE_MAX + 1), ca = BUF_INIT(65536);
    char name[2 * PKI_HASH_LEN + 1];
    unsigned number;
    bool gone;
    struct gateway g;
    int rc = check_use(s, c, err);
    if (rc || (rc = name_device(s, c, err)) || (rc = begin(s, c, "device", err)) || (rc = session_ask(s, s->state.gateway, &c->anchors, &g, err)) || (rc = certs_pem(&c->anchors, &ca)))
        return rc; /* nothing is written for a gateway that is left alone */
    buf_addf(&url, "%s\n", s->state.gateway);
    if ((rc = place_begin(&s->place, &number, err)) || (rc = put_key(s, c, number, err)) ||
        (rc = place_put(&s->place, number, "root.crt", buf_span(&ca), 0644, err)) || (rc = place_put(&s->place, number, "gateway.url", buf_span(&url), 0644, err)) ||
        (rc = session_put_certificate(s, number, c->cert, &c->above, err)))
        return rc;
    if ((rc = session_adopt(s, number, "imported", &gone, err)))
        return rc;
    name_import(c, name);
    return took_over(s, name, err);
}

/* --- both ----------------------------------------------------------------------------------------------------------------------------------------------- */

/* What the gateway refused it may take once an operator has seen to it; a day is soon enough, and no noise. */
static bool looked_at(const struct session *s, const char *name) {
    int64_t at = s->state.import_refused_at, now = true_time_now(&s->time);
    return !strcmp(s->state.import, name) && (!at || (!s->o->now && now >= at && now - at < CLOCK_DAY));
}

/* The file stays where it is: nothing is lost by dropping what was made of it, and it is in nobody's way. */
static int drop_import(struct session *s, const char *name, struct err *err) {
    unsigned number = place_next(&s->place);
    struct err second = ERR_INIT;
    if (number && place_drop(&s->place, number, &second))
        return *err = second, second.code;
    if (err->code == MUSTER_ENETWORK || err->code == MUSTER_ETLSREJECTED || err->code == MUSTER_EBUSY || err->code == MUSTER_ETIME || err->retry_after)
        return err->code;
    snprintf(s->state.import, sizeof s->state.import, "%s", name);
    s->state.import_refused_at = true_time_now(&s->time);
    if (session_remember(s, &second))
        *err = second;
    return err->code;
}

/* A certificate that was issued is used first. */
static bool other_begun(const struct session *s, const struct credentials *c) {
    CLEANUP(identity_fini) struct identity next = IDENTITY_INIT;
    unsigned number = place_next(&s->place);
    return number && place_identity(&s->place, number, &next, NULL) == 0 && identity_whole(&next) && !hash_eq(&next.cert->fingerprint, &c->cert->fingerprint);
}

/* One that was mixed up is no reason to become another device. */
static int check_own(const struct session *s, const struct credentials *c, struct err *err) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(DEVICE_ID_MAX);
    if (cert_own_device_id(c->cert, &id, NULL) || !strcmp(buf_str(&id), s->state.device_id))
        return 0;
    return err_set(err, MUSTER_EINVALID, "The files in %s are of the device %s, and this one is %s: they are not taken over. Put its own there, or remove %s first, where it is to be the other one.", c->path,
                   buf_str(&id), s->state.device_id, s->place.dir);
}

/* Where that fails, this device is where it was. */
static int take_over_again(struct session *s, const struct identity *now, const struct credentials *c, struct err *err) {
    char account[sizeof s->state.account], followed[OPTIONS_VALUE_MAX];
    struct err second = ERR_INIT;
    memcpy(account, s->state.account, sizeof account);
    memcpy(followed, s->state.import_gateway, sizeof followed);
    int rc = take_over(s, c, err);
    if (!rc)
        return 0;
    memcpy(s->state.gateway, now->gateway, sizeof s->state.gateway);
    memcpy(s->state.account, account, sizeof account);
    memcpy(s->state.import_gateway, followed, sizeof followed);
    if (session_remember(s, &second))
        *err = second;
    return err->code;
}

/* Files whose certificate is over, or in use, may name another gateway than they did. */
static int follow_file(struct session *s, struct identity *now, const struct credentials *c, struct err *err) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(DEVICE_ID_MAX);
    struct state *st = &s->state;
    if (s->o->gateway[0] || !c->gateway[0] || !strcmp(c->gateway, st->import_gateway) || cert_own_device_id(c->cert, &id, NULL) || strcmp(buf_str(&id), st->device_id) != 0)
        return 0;
    int rc = renew_move(s, now, c->gateway, err);
    if (rc)
        return rc;
    snprintf(st->import_gateway, sizeof st->import_gateway, "%s", c->gateway);
    return session_remember(s, err);
}

int provision_again(struct session *s, struct identity *now, struct err *err) {
    CLEANUP(credentials_fini) struct credentials c = CREDENTIALS_INIT;
    struct options from = {.json = false};
    char name[2 * PKI_HASH_LEN + 1];
    if (strcmp(s->state.method, "device") != 0 || !s->state.source[0])
        return 0;
    snprintf(from.credentials, sizeof from.credentials, "%s", s->state.source);
    memcpy(from.credentials_key, s->o->credentials_key, sizeof from.credentials_key);
    if (credentials_find(&from, &c, NULL) || c.kind != CREDENTIALS_DEVICE)
        return 0;
    name_import(&c, name);
    bool same = hash_eq(&c.cert->fingerprint, &now->cert->fingerprint);
    int rc = same ? took_over(s, name, err) : 0; /* a power cut may have left that unsaid */
    if (rc || same || c.cert->not_after <= now->cert->not_after)
        return rc ? rc : follow_file(s, now, &c, err);
    if (looked_at(s, name) || other_begun(s, &c))
        return 0;
    if ((rc = check_own(s, &c, err)))
        return rc;
    return take_over_again(s, now, &c, err) ? drop_import(s, name, err) : 0;
}

static bool have_identity(struct session *s, struct identity *now) {
    unsigned current = place_current(&s->place);
    return current && place_identity(&s->place, current, now, NULL) == 0 && identity_whole(now);
}

/* Who provisions a device that is in may name another gateway, say whether the provisioning key stays in its credentials, and nothing else that would count. */
static int keep_in(struct session *s, struct identity *now, struct err *err) {
    struct err last = ERR_INIT;
    char full[PATH_MAX];
    session_recover(s, now);
    if (choose_id(s, err))
        return err->code;
    if (s->o->credentials[0] && (!realpath(s->o->credentials, full) || strcmp(full, s->state.source)) && strcmp(s->o->credentials, s->state.source))
        session_say(s, "%s is not looked at: this device is in already, by %s", s->o->credentials, s->state.source);
    if (s->state.keep_credentials != s->o->keep_credentials) {
        s->state.keep_credentials = s->o->keep_credentials;
        if (session_remember(s, err))
            return err->code;
    }
    int rc = renew_move(s, now, s->o->gateway, err), settled = session_settle(s, &last);
    if (!rc && settled)
        *err = last;
    return rc ? rc : settled;
}

/* One that was issued before this pass began. */
static bool have_issued(struct session *s, unsigned *number) {
    CLEANUP(identity_fini) struct identity id = IDENTITY_INIT;
    *number = place_next(&s->place);
    return *number && s->state.method[0] && place_identity(&s->place, *number, &id, NULL) == 0 && identity_whole(&id);
}

static int get_in(struct session *s, struct err *err) {
    CLEANUP(credentials_fini) struct credentials c = CREDENTIALS_INIT;
    CLEANUP(identity_fini) struct identity now = IDENTITY_INIT;
    unsigned number;
    bool gone;
    int64_t wait = session_wait(s);
    if (have_identity(s, &now))
        return keep_in(s, &now, err);
    int rc = hardware_settle(s, err);
    if (rc)
        return rc;
    if (wait && !s->o->now)
        return err_retry(err, MUSTER_EBUSY, (int)wait, "The gateway asked not to come again before %lld seconds have passed. %s", (long long)wait, s->state.wait_text);
    rc = credentials_find(s->o, &c, err);
    if (have_issued(s, &number) && (rc || strcmp(s->state.method, "device") != 0)) { /* what is a copy of files is made of them anew: they may have been mended */
        rc = session_adopt(s, number, !strcmp(s->state.method, "shared") ? "enrolled" : "imported", &gone, err);
        return rc ? rc : session_settle(s, err);
    }
    if (rc)
        return rc;
    rc = c.kind == CREDENTIALS_SHARED ? enrol(s, &c, err) : take_over(s, &c, err);
    return rc ? rc : session_settle(s, err);
}

/* What fails before a gateway is asked is what `explain` has to say as well; once, since flash wears out.  A device that was given nothing yet has not failed. */
int provision(struct session *s, struct err *err) {
    const struct state before = s->state;
    int rc = get_in(s, err);
    if (!rc || s->asked || err->retry_after || !strcmp(s->state.failed_text, err_text(err)) || (rc == MUSTER_ENOTFOUND && !s->o->credentials[0]))
        return rc;
    s->state = before; /* what was decided on the way does not count */
    return session_failed(s, &(struct refused){0}, err);
}
