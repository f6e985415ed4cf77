/* library: muster-agent.h over a session; see there.  Each call opens the directory anew: what another process has changed meanwhile counts. */
#include <curl/curl.h>
#include <openssl/ssl.h>
#include <pthread.h>

#include "agent/muster-agent.h"
#include "agent/report.h"
#include "base/clock.h"
#include "base/secret.h"

#define API __attribute__((visibility("default")))

struct muster_agent {
    struct options o;
    struct err err;
    struct state state;
    char gateway[OPTIONS_VALUE_MAX], file[3][OPTIONS_VALUE_MAX + 32], where[KEYRING_URI_MAX];
    bool unconfigured; /* the configuration could not be read */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool started;

static void start(void) { started = secret_init() == 0 && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK; }

API muster_agent *muster_agent_new(void) {
    struct muster_agent *a = calloc(1, sizeof *a);
    if (pthread_once(&once, start) || !started || !a) {
        free(a);
        return NULL;
    }
    options_init(&a->o);
    a->unconfigured = options_config(&a->o, &a->err) != 0;
    return a;
}

API void muster_agent_free(muster_agent *a) { free(a); }

API const char *muster_agent_error(const muster_agent *a) { return a->err.code ? err_text(&a->err) : ""; }
API const char *muster_agent_error_code(const muster_agent *a) { return a->err.code ? err_code(a->err.code) : ""; }
API int64_t muster_agent_retry_after(const muster_agent *a) { return a->err.retry_after; }

static int result(struct muster_agent *a, int rc) {
    if (rc == 0)
        return MUSTER_AGENT_DONE;
    if (a->err.retry_after > 0 || rc == MUSTER_ENETWORK || rc == MUSTER_ELOCKED)
        return MUSTER_AGENT_NOT_YET;
    return err_exit(rc) == 2 ? MUSTER_AGENT_USAGE : MUSTER_AGENT_FAILED;
}

/* A configuration that nobody could read is no reason to go on without it. */
static int begin(struct muster_agent *a) {
    if (a->unconfigured)
        return a->err.code;
    a->err = ERR_INIT;
    return 0;
}

API int muster_agent_set(muster_agent *a, const char *name, const char *value) {
    CLEANUP(buf_fini) struct buf line = BUF_INIT(2 * OPTIONS_VALUE_MAX);
    buf_addf(&line, "%s = %s", name, value);
    int rc = begin(a);
    if (!rc && (strchr(name, '\n') || strchr(value, '\n') || !buf_ok(&line)))
        rc = err_set(&a->err, MUSTER_ECONFIG, "A setting is one line.");
    return result(a, rc ? rc : options_text(&a->o, "muster_agent_set", buf_str(&line), line.n, &a->err));
}

static int pass(struct muster_agent *a, int (*work)(struct session *, struct err *)) {
    CLEANUP(session_fini) struct session s = SESSION_INIT;
    int rc = begin(a);
    if (rc || (rc = session_open(&s, &a->o, true, &a->err)) || (rc = work(&s, &a->err)))
        return result(a, rc);
    return MUSTER_AGENT_DONE;
}

API int muster_agent_provision(muster_agent *a) { return pass(a, provision); }
API int muster_agent_run(muster_agent *a) { return pass(a, renew_pass); }

static int load(struct muster_agent *a, struct identity *id) {
    CLEANUP(session_fini) struct session s = SESSION_INIT;
    int rc = begin(a);
    if (rc || (rc = session_open(&s, &a->o, false, &a->err)))
        return rc;
    unsigned current = place_current(&s.place);
    if (!current || place_identity(&s.place, current, id, NULL) || !identity_whole(id))
        return err_set(&a->err, MUSTER_ENOTFOUND, "This device has no identity yet; `muster-agent provision` gets it one.");
    session_recover(&s, id);
    a->state = s.state;
    return 0;
}

API int muster_agent_identity(muster_agent *a, struct muster_agent_identity *out) {
    static const char *const NAMES[] = {"client.pem", "pkey.pem", "root.crt"};
    CLEANUP(identity_fini) struct identity id = IDENTITY_INIT;
    int rc = load(a, &id);
    if (rc)
        return result(a, rc);
    memcpy(a->gateway, id.gateway, sizeof a->gateway);
    memcpy(a->where, id.where, sizeof a->where);
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        snprintf(a->file[i], sizeof a->file[i], "%s/current/%s", a->o.dir, NAMES[i]);
    *out = (struct muster_agent_identity){.device_id = a->state.device_id, .gateway = a->gateway, .cert_file = a->file[0], .key_file = a->where[0] ? NULL : a->file[1], .ca_file = a->file[2],
                                          .not_before = id.cert->not_before, .not_after = id.cert->not_after, .key_uri = a->where[0] ? a->where : NULL};
    return MUSTER_AGENT_DONE;
}

/* libcrypto's own check of dates has the 32 bits of time_t on some targets. */
static int judge(int good, X509_STORE_CTX *ctx) {
    CLEANUP(cert_free) struct cert *c = NULL;
    X509 *x = X509_STORE_CTX_get_current_cert(ctx);
    int64_t now = clock_now();
    if (!good || !x || cert_from_x509(x, &c, NULL))
        return 0;
    if (c->not_before <= now && now <= c->not_after)
        return 1;
    X509_STORE_CTX_set_error(ctx, now > c->not_after ? X509_V_ERR_CERT_HAS_EXPIRED : X509_V_ERR_CERT_NOT_YET_VALID);
    return 0;
}

API int muster_agent_use(muster_agent *a, struct ssl_ctx_st *ctx) {
    CLEANUP(identity_fini) struct identity id = IDENTITY_INIT;
    int rc = load(a, &id);
    if (rc)
        return result(a, rc);
    if ((rc = keyring_refused(id.where, &a->err)))
        return result(a, rc);
    X509_STORE *store = X509_STORE_new();
    bool good = store && SSL_CTX_use_certificate(ctx, id.cert->x) == 1 && SSL_CTX_use_PrivateKey(ctx, id.key) == 1 && SSL_CTX_clear_chain_certs(ctx) == 1;
    for (size_t i = 0; good && i < id.above.n; i++)
        good = SSL_CTX_add1_chain_cert(ctx, id.above.cert[i]->x) == 1;
    for (size_t i = 0; good && i < id.anchors.n; i++)
        good = X509_STORE_add_cert(store, id.anchors.cert[i]->x) == 1;
    if (!good) {
        X509_STORE_free(store);
        return result(a, pki_err(&a->err, MUSTER_ECRYPTO, "Giving TLS this device's identity"));
    }
    X509_STORE_set_flags(store, X509_V_FLAG_NO_CHECK_TIME | X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_cert_store(ctx, store);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, judge);
    return MUSTER_AGENT_DONE;
}

static int said(struct muster_agent *a, json_t *(*report)(struct session *), char **json) {
    CLEANUP(session_fini) struct session s = SESSION_INIT;
    *json = NULL;
    int rc = begin(a);
    if (rc || (rc = session_open(&s, &a->o, false, &a->err)))
        return result(a, rc);
    CLEANUP_JSON json_t *doc = report(&s);
    *json = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    return *json ? MUSTER_AGENT_DONE : result(a, err_set(&a->err, MUSTER_ENOMEM, NULL));
}

API int muster_agent_status(muster_agent *a, char **json) { return said(a, report_status, json); }
API int muster_agent_explain(muster_agent *a, char **json) { return said(a, report_check, json); }
