/* est: see est.h. */
#include "gateway/est.h"

#include "base/hex.h"
#include "gateway/est_part.h"
#include "gateway/est_request.h"
#include "registry/server_ca.h"

#define ATTRS_MAX 256 /* bytes */
#define CACERTS_MAX (1u << 20)

/* What a good request has, by the first kind of key that the account takes (RFC 8951, 4; RFC 7030, 4.5.2): the key's algorithm with its curve or length, and
 * the signature's.  Ed25519 is both by one name. */
#define ID_EC_KEY 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01
#define ID_RSA_KEY 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01
#define ID_ECDSA(hash) 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, (hash)
#define ID_RSA_SHA256 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b
#define RSA_ATTRS(high) {0x30, 0x1e, 0x30, 0x11, ID_RSA_KEY, 0x31, 0x04, 0x02, 0x02, (high), 0x00, ID_RSA_SHA256}
static const struct {
    enum profile_key kind;
    uint8_t der[40]; /* as long as its second byte says, and two */
} ATTRS[] = {
    {PROFILE_KEY_P256, {0x30, 0x21, 0x30, 0x15, ID_EC_KEY, 0x31, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, ID_ECDSA(0x02)}},
    {PROFILE_KEY_P384, {0x30, 0x1e, 0x30, 0x12, ID_EC_KEY, 0x31, 0x07, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, ID_ECDSA(0x03)}},
    {PROFILE_KEY_P521, {0x30, 0x1e, 0x30, 0x12, ID_EC_KEY, 0x31, 0x07, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23, ID_ECDSA(0x04)}},
    {PROFILE_KEY_ED25519, {0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70}},
    {PROFILE_KEY_RSA2048, RSA_ATTRS(0x08)},
    {PROFILE_KEY_RSA3072, RSA_ATTRS(0x0c)},
    {PROFILE_KEY_RSA4096, RSA_ATTRS(0x10)},
};

/* Of which server CAs a device has been given. */
struct given {
    struct server_ca_given op; /* first: what the operation is given */
    struct worker *worker;
};

struct span est_label(const struct http_exchange *x) { return http_param(x, "account"); }

/* What the certificate says, admission has found out. */
int est_account(const struct http_exchange *x, struct worker *w, char out[ACCOUNT_NAME_MAX + 1], struct err *err) {
    const struct identity *id = http_exchange_peer(x);
    struct span label = est_label(x);
    verifier_account_of(w->gateway->verifier, http_host(x), out);
    if (label.n > ACCOUNT_NAME_MAX || memchr(label.n ? label.p : (const uint8_t *)"-", 0, label.n))
        return err_set(err, MUSTER_EACCOUNTUNKNOWN, NULL);
    if (label.n)
        snprintf(out, ACCOUNT_NAME_MAX + 1, "%.*s", SPAN_FMT(label));
    else if (id->sni_account[0])
        snprintf(out, ACCOUNT_NAME_MAX + 1, "%s", id->sni_account);
    else if (!out[0] && !id->chain.code && id->admitted_epoch)
        snprintf(out, ACCOUNT_NAME_MAX + 1, "%s", id->admit.account_name);
    return verifier_has_account(w->gateway->verifier, out) ? 0 : err_set(err, MUSTER_EACCOUNTUNKNOWN, NULL);
}

/* --- what anybody may read ------------------------------------------------------------------------------------------------------ */

/* Clients of before RFC 8951 look for the field; later ones pass it over. */
void est_reply_base64(struct http_exchange *x, const char *type, struct span text) {
    http_reply_field(x, "Content-Transfer-Encoding", "base64");
    http_reply(x, 200, type, text);
}

static void given_done(void *arg, int rc, const struct err *err) { free(arg); }

static void given_looked_up(void *arg, int rc, const struct err *err) {
    struct given *g = arg;
    if (rc || !g->op.due || store_write(g->worker->gateway->store, g->worker->loop, server_ca_given_run, given_done, g, NULL))
        free(g);
}

/* A device that has asked by its own certificate has them now, as far as that can be known.  Not worth a wait: lost in a crash, it counts as one that has not asked. */
static void note_given(struct worker *w, const struct identity *id, const struct hash *newest) {
    if (!newest || id->chain.code || !id->admitted_epoch || !id->admit.device_row || id->admit.verdict.code)
        return;
    struct given *g = calloc(1, sizeof *g);
    if (!g)
        return;
    *g = (struct given){.op = {.device = id->admit.device_row, .spki = *newest}, .worker = w};
    if (store_read(w->gateway->store, w->loop, server_ca_given_run, given_looked_up, g, NULL))
        free(g);
}

/* A client would take whoever has a certificate of a fleet's for the gateway: what stands in server-ca.pem and is a fleet's CA besides is not handed out.  `room` is for the answer that is made then. */
static int cacerts_of(struct worker *w, const struct anchors *a, struct buf *room, struct span *out, struct err *err) {
    bool fleet[SERVER_CAS_MAX] = {false}, any = false;
    for (size_t i = 0; a->has_theirs && i < a->n; i++) { /* a key of Muster's own server CAs nobody can upload */
        fleet[i] = verifier_is_fleet_key(w->gateway->verifier, &a->at[i]->key.spki);
        any = any || fleet[i];
    }
    int rc = any ? anchors_cacerts(a, fleet, room, err) : 0;
    *out = buf_span(any ? room : &a->cacerts);
    return rc;
}

static void cacerts(struct http_exchange *x, void *arg) {
    CLEANUP(buf_fini) struct buf room = BUF_INIT(CACERTS_MAX);
    struct worker *w = arg;
    struct err err = ERR_INIT;
    struct span text;
    char account[ACCOUNT_NAME_MAX + 1];
    CLEANUP(anchors_unref) struct anchors *anchors = server_identity_anchors(w->gateway);
    if (est_account(x, w, account, &err) || cacerts_of(w, anchors, &room, &text, &err)) {
        http_reply_err(x, &err);
        return;
    }
    est_reply_base64(x, EST_CERTS_ONLY, text);
    note_given(w, http_exchange_peer(x), anchors->newest_in_cacerts);
}

static void csrattrs(struct http_exchange *x, void *arg) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(ATTRS_MAX);
    struct err err = ERR_INIT;
    char account[ACCOUNT_NAME_MAX + 1];
    struct worker *w = arg;
    if (est_account(x, w, account, &err)) {
        http_reply_err(x, &err);
        return;
    }
    const uint32_t keys = verifier_account_keys(w->gateway->verifier, account);
    for (size_t i = 0; i < sizeof ATTRS / sizeof *ATTRS && !text.n; i++)
        if (keys & ATTRS[i].kind)
            base64_add_lines(&text, span_of(ATTRS[i].der, ATTRS[i].der[1] + 2u));
    if (buf_check(&text, &err))
        http_reply_err(x, &err);
    else
        est_reply_base64(x, "application/csrattrs", buf_span(&text));
}

static void fullcmc(struct http_exchange *x, void *arg) {
    struct err err = ERR_INIT;
    err_set(&err, MUSTER_EHTTPNOTIMPL, "Full CMC is not offered; simpleenroll and simplereenroll are.");
    http_reply_err(x, &err);
}

/* --- the table -------------------------------------------------------------------------------------------------------------------- */

static const enum request_kind public = REQUEST_PUBLIC, enrols = REQUEST_ENROL, renews = REQUEST_RENEW;

/* Each path with and without a label. */
#define ROUTES(verb, name, ...)                                                                                                \
    {.method = verb, .path = "/.well-known/est/" name, .sole = true, __VA_ARGS__},                                              \
        {.method = verb, .path = "/.well-known/est/{account}/" name, .sole = true, __VA_ARGS__}

const struct http_route EST_ROUTES[] = {
    ROUTES("GET", "cacerts", .handler = cacerts, .data = &public),
    ROUTES("GET", "csrattrs", .handler = csrattrs, .data = &public),
    ROUTES("POST", "simpleenroll", .handler = est_enrol, .data = &enrols, .body_max = EST_BODY_MAX, .media = EST_PKCS10),
    ROUTES("POST", "serverkeygen", .handler = est_serverkeygen, .data = &enrols, .body_max = EST_BODY_MAX, .media = EST_PKCS10),
    ROUTES("POST", "simplereenroll", .handler = est_renew, .data = &renews, .body_max = EST_BODY_MAX, .media = EST_PKCS10),
    ROUTES("POST", "fullcmc", .handler = fullcmc, .data = &public, .stream = true), /* whatever its body is */
};
const size_t EST_ROUTES_N = sizeof EST_ROUTES / sizeof *EST_ROUTES;
