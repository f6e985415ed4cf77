/* judge: between http and the verifier: who a connection is, and whether each of its requests may go on.
 *
 * Order: names of accounts that contradict each other; no certificate, which is no matter where the code of an invitation comes in its place
 * (invited.h), or a bad chain; neither matters for what anybody may read; a provisioning key, which is good for enrolling alone; then the
 * registry's verdict.  Nothing of a body is read before.  The registry is asked about a device's certificate even where its request is refused
 * for another reason: the first request makes a certificate the device's. */
#include "base/log.h"
#include "gateway/internal.h"
#include "gateway/invited.h"
#include "metrics/metrics.h"
#include "registry/device.h"
#include "registry/tried.h"

#define SEEN_EVERY 300 /* seconds: how exact last_seen is */

/* Whether no path to a root was found, which one that was made a moment ago may change; also where the search for it was given up. */
static bool leads_nowhere(const struct identity *id) { return id->chain.code == MUSTER_ECERTUNTRUSTED || id->chain.code == MUSTER_ECHAINLONG; }

static void identify(struct http_conn *c, SSL *ssl, void **peer, void *arg) {
    struct worker *w = arg;
    char address[HTTP_ADDRESS_MAX];
    http_conn_address_text(c, address);
    bool fresh = verifier_is_fresh(w->gateway->verifier);
    struct identity *id = identity_new(w->gateway->verifier, SSL_get0_peer_certificate(ssl), SSL_get_peer_cert_chain(ssl), tls_sni(ssl), address);
    if (!id) {
        http_conn_abort(c);
        return;
    }
    /* A provisioning key enrols each device once, and nobody resumes what was refused: neither takes the place of a device's session.
     * Whoever may be known by the registry's newest roots is not refused yet. */
    bool refused = id->chain.code && (!leads_nowhere(id) || fresh);
    if (refused || (!id->chain.code && id->class == ADMIT_KEY))
        http_conn_forget(c);
    *peer = id;
}

static void tls_failed(struct http_conn *c, SSL *ssl, const struct err *why, void *peer, void *arg) { refusal_keep_connection(c, ssl, why, peer, arg); }

static void gone(void *peer, void *arg) { identity_unref(peer); }

static void refuse(struct http_exchange *x, const struct err *err) { invited_refuse(x, http_exchange_arg(x), err); }

enum request_kind judge_kind(const struct http_exchange *x) {
    const struct http_route *route = http_exchange_route(x);
    return route && route->data ? *(const enum request_kind *)route->data : REQUEST_DEVICE;
}

/* --- last seen -------------------------------------------------------------------------------------------------------------------- */

static void seen_done(void *arg, int rc, const struct err *err) { free(arg); }

/* Not worth a wait: lost in a crash, it is written again five minutes later. */
static void note_seen(struct worker *w, struct identity *id) {
    int64_t now = clock_now();
    if (within(id->admit.last_seen, SEEN_EVERY, now))
        return;
    struct device_seen *s = malloc(sizeof *s);
    if (!s)
        return;
    identity_seen(id, now);
    s->device = id->admit.device_row;
    memcpy(s->address, id->address, sizeof s->address);
    if (store_write(w->gateway->store, w->loop, device_seen_run, seen_done, s, NULL))
        free(s);
}

/* --- admission ------------------------------------------------------------------------------------------------------------------------ */

/* "-" for what can be no account's name: it differs from all of them. */
static void label_of(const struct http_exchange *x, char out[ACCOUNT_NAME_MAX + 1]) {
    struct span label = est_label(x);
    bool name = label.n <= ACCOUNT_NAME_MAX && !(label.n && memchr(label.p, 0, label.n));
    label = name ? label : SPAN_LIT("-");
    if (label.n)
        memcpy(out, label.p, label.n);
    out[label.n] = '\0';
}

/* An account that is named, and that nobody has heard of: by the path, or, where no certificate says one, by the host name. */
static bool names_nobody(const struct http_exchange *x, struct worker *w, const struct identity *id) {
    char label[ACCOUNT_NAME_MAX + 1];
    label_of(x, label);
    const char *host = id->chain.code == MUSTER_ECERTREQUIRED ? id->sni_account : "";
    return (label[0] && !verifier_has_account(w->gateway->verifier, label)) || (host[0] && !verifier_has_account(w->gateway->verifier, host));
}

static enum verdict look(const struct http_exchange *x, struct worker *w, const struct identity *id, bool asked, struct err *why) {
    char named[ACCOUNT_NAME_MAX + 1], label[ACCOUNT_NAME_MAX + 1] = "";
    verifier_account_of(w->gateway->verifier, http_host(x), named);
    label_of(x, label);
    const struct verdict_request rq = {.kind = judge_kind(x), .host_account = named, .path_account = label, .code = invited_brings_code(x),
                                       .recovery = verifier_in_recovery(w->gateway->verifier)};
    const enum verdict v = verdict_of(id, asked, &rq, why);
    if ((why->code == MUSTER_EOTHERACCOUNT && label[0] && !verifier_has_account(w->gateway->verifier, label)) || /* an account that there is not is no other one */
        (why->code == MUSTER_EKEYONLYENROLS && rq.kind == REQUEST_RENEW && names_nobody(x, w, id)))
        err_set(why, MUSTER_EACCOUNTUNKNOWN, NULL);
    return v;
}

/* Once where the registry was asked, and not with each request. */
static void tell_shadow(struct http_exchange *x, struct identity *id) {
    const struct err why = {.code = id->admit.shadow};
    struct err shadow = ERR_INIT;
    if (!why.code)
        return;
    id->admit.shadow = 0;
    tried_refused(&shadow, &why);
    refusal_keep_shadow(x, &shadow);
}

/* The registry was asked, or need not be: on, or the reason why not. */
static void conclude(struct http_exchange *x, struct worker *w, struct identity *id) {
    struct err why;
    enum verdict v = look(x, w, id, true, &why);
    const bool late = v == VERDICT_ADMITTED && id->admit.verdict.code == MUSTER_ECERTEXPIRED; /* the device all the same, which renews */
    if (id->admitted_epoch && id->admit.device_row && (!id->admit.verdict.code || late) && why.code != MUSTER_EMISDIRECTED)
        note_seen(w, id);
    if (v == VERDICT_ADMITTED)
        tell_shadow(x, id);
    if (v == VERDICT_ADMITTED && auth_is_asked(x))
        auth_pass(x, w, &id->admit);
    else if (v == VERDICT_ADMITTED)
        http_exchange_admit(x);
    else if (v == VERDICT_INVITED)
        invited_judge(x, w);
    else
        refuse(x, &why);
}

static void judge(struct http_exchange *x, struct worker *w, struct identity *id);
static void refreshed(void *arg, int rc, const struct err *err);

/* Whom a retired root takes along depends on the other roots that the chain reaches, and one that was proved a moment ago was none yet when it was judged; nor was the CA
 * whose key has proved a root that was uploaded before, and that is the anchor in its place. */
static bool may_be_old(const struct identity *id) {
    return !id->newest && (id->admit.verdict.code == MUSTER_EROOTRETIRED || id->admit.verdict.code == MUSTER_ECERTUNTRUSTED);
}

static void admitted(void *arg, int rc, const struct err *err) {
    struct http_exchange *x = arg;
    struct worker *w = http_exchange_arg(x);
    if (!rc && may_be_old(http_exchange_peer(x)) && verifier_refresh(w->gateway->verifier, w->loop, refreshed, x, NULL) == 0)
        return;
    if (rc)
        refuse(x, err);
    else
        conclude(x, w, http_exchange_peer(x));
    http_exchange_unref(x);
}

/* The registry's newest roots were looked at. */
static void refreshed(void *arg, int rc, const struct err *err) {
    struct http_exchange *x = arg;
    struct identity *id = http_exchange_peer(x);
    if (rc) {
        refuse(x, err);
    } else {
        id->newest = true;
        identity_judge(id);
        judge(x, http_exchange_arg(x), id);
    }
    http_exchange_unref(x);
}

static void admit(struct http_exchange *x, void *peer, void *arg) { judge_request(x, arg, peer); }

/* A root or an account that was made a moment ago is no stranger's, and a recovery that was ended holds nobody up: nobody is refused for either by what may be old, nor where that cannot be told. */
void judge_request(struct http_exchange *x, struct worker *w, struct identity *id) {
    bool fresh = verifier_is_fresh(w->gateway->verifier); /* before the snapshot is taken */
    id->newest = false;
    identity_judge(id);
    bool unknown = leads_nowhere(id) || names_nobody(x, w, id) || verifier_in_recovery(w->gateway->verifier);
    if (!unknown || fresh) {
        judge(x, w, id);
        return;
    }
    struct err err = ERR_INIT;
    http_exchange_ref(x);
    if (verifier_refresh(w->gateway->verifier, w->loop, refreshed, x, &err)) {
        refuse(x, &err);
        http_exchange_unref(x);
    }
}

static void judge(struct http_exchange *x, struct worker *w, struct identity *id) {
    struct err err = ERR_INIT;
    enum verdict v = look(x, w, id, identity_admitted(id) != NULL, &err);
    if (v == VERDICT_ASK && identity_judge_unread(id))
        v = look(x, w, id, false, &err);
    if (v != VERDICT_ASK) {
        conclude(x, w, id);
        return;
    }
    http_exchange_ref(x);
    if (verifier_admit(w->gateway->verifier, w->loop, id, admitted, x, &err)) {
        refuse(x, &err);
        http_exchange_unref(x);
    }
}

const struct peer_ops JUDGE_OPS = {.identify = identify, .admit = admit, .tls_failed = tls_failed, .gone = gone};

/* --- when the registry has changed ------------------------------------------------------------------------------------------------------ */

static void judged_again(void *arg, int rc, const struct err *err) {
    struct http_exchange *x = arg;
    struct identity *id = http_exchange_peer(x);
    struct http_conn *c = http_exchange_conn(x);
    bool renews = id->admit.may_renew && judge_kind(x) == REQUEST_RENEW;
    if (c && http_conn_exchange(c) == x && !rc && id->admit.verdict.code && !renews) {
        refusal_keep_request(x, &id->admit.verdict);
        metrics_count(METRIC_CUT_OFF, 0, 0);
        log_event(LOG_INFO, "cut_off", "request", http_exchange_id(x), "account", id->admit.account_name, "device", id->admit.device_id, "code", err_code(id->admit.verdict.code), NULL);
        http_conn_abort(c);
    }
    http_exchange_unref(x);
}

static void look_again(struct http_conn *c, void *peer, void *arg) {
    struct worker *w = arg;
    struct identity *id = peer;
    struct http_exchange *x = http_conn_exchange(c);
    if (!x || !id || id->chain.code || id->class == ADMIT_KEY || !id->admitted_epoch)
        return; /* idle, or not admitted yet: asked with the next request */
    if (id->admit.verdict.code && !id->admit.may_renew)
        return; /* refused, and hears why once the newest roots have been looked at */
    identity_judge(id);
    identity_judge_unread(id);
    if (id->chain.code) {
        http_conn_abort(c);
        return;
    }
    http_exchange_ref(x);
    if (verifier_admit(w->gateway->verifier, w->loop, id, judged_again, x, NULL)) {
        http_conn_abort(c);
        http_exchange_unref(x);
    }
}

void judge_again(struct worker *w) {
    if (w->server)
        http_server_each(w->server, look_again, w);
}
