/* explain: what the gateway would say to a chain, over the API; the rules are verifier/explain.h's. */
#include "verifier/explain.h"

#include "admin/internal.h"
#include "registry/refusal.h"

static void answer(struct http_exchange *x, int rc, const struct err *err, struct explain *e) {
    json_t *out = rc ? NULL : TAKE(e->out);
    explain_fini(e);
    reply_done(x, rc, err, out);
}

/* The store has undone it, which is no failure where it came to its end. */
static void undone(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct explain *e = op;
    answer(x, e->decided ? 0 : rc ? rc : MUSTER_EINTERNAL, err, e);
}

static void explained(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct explain *e = op;
    if (!rc && e->must_write)
        job_start(x, JOB_WRITE, explain_write_run, e, sizeof *e, undone);
    else
        answer(x, rc, err, e);
}

static char *keep_text(struct http_exchange *x, const char *text) { return arena_strdup(http_exchange_arena(x), span_str(text ? text : "")); }

static bool is_host(const char *text) {
    for (const char *p = text; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("-._:[]", *p)))
            return false;
    return strlen(text) <= 255;
}

/* What the request says besides the chain. */
static int take(struct http_exchange *x, json_t *body, struct explain *e, const char **chain, const char **refusal, struct err *err) {
    struct control *c = http_exchange_arg(x);
    const char *host = NULL, *at = NULL, *address = NULL, *device_id = NULL;
    char own[600];
    *chain = *refusal = NULL;
    int rc = json_take(body, err, "{s?s, s?s, s?s, s?s, s?s, s?s}", "chain", chain, "refusal", refusal, "host", &host, "at", &at, "address", &address, "device_id", &device_id);
    if (rc || (at && (rc = read_ahead(span_str(at), "at", &e->at, err))))
        return rc;
    if (!*chain == !*refusal)
        return err_set(err, MUSTER_EINVALID, "Either chain or refusal is given.");
    if (host && !is_host(host))
        return err_set(err, MUSTER_EINVALID, "host is a host name.");
    if (address && (strlen(address) > 63 || span_has_control(span_str(address))))
        return err_set(err, MUSTER_EINVALID, "address is an IP address.");
    const char *account = grant_of(x)->account;
    e->host = keep_text(x, host ? host : account_host(c, account, own));
    e->address = keep_text(x, address);
    e->device_id = keep_text(x, device_id);
    e->account = account;
    e->hosts = (const char *const *)c->hosts;
    e->n_hosts = c->n_hosts;
    e->any_request = true;
    return e->host && e->address && e->device_id ? 0 : err_set(err, MUSTER_ENOMEM, NULL);
}

static void start(struct http_exchange *x, struct explain *e, struct span pem) {
    struct err err = ERR_INIT;
    int rc = cert_chain_from_file(pem, e->chain, CHAIN_FILE_MAX, &e->n_chain, &err);
    if (rc) {
        explain_fini(e);
        http_reply_err(x, &err);
        return;
    }
    job_start(x, JOB_READ, explain_run, e, sizeof *e, explained);
}

/* --- the chain that was kept with a refusal --------------------------------------------------------------------------------------- */

struct kept {
    struct refusal_show show; /* first */
    struct buf pem;
    struct explain explain;
    bool host_given;
};

static int kept_run(struct store_tx *tx, void *arg, struct err *err) {
    struct kept *k = arg;
    buf_clear(&k->pem);
    k->show.pem = &k->pem;
    return refusal_show_run(tx, &k->show, err);
}

/* POST /devices, or EST's simpleenroll with or without its label. */
static bool is_enrolment(struct span path) {
    return span_eq_str(path, "/devices") || (span_starts(path, SPAN_LIT("/.well-known/est/")) && span_ends(path, SPAN_LIT("/simpleenroll")));
}

/* As it was asked then: host, address, and whether it was an enrolment; at the registry as it is now. */
static void kept_found(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct kept *k = op;
    struct explain e = k->explain;
    json_t *shown = TAKE(k->show.out);
    if (rc) {
        http_reply_err(x, err);
    } else {
        e.any_request = false;
        e.enrolment = !strcmp(k->show.method, "POST") && is_enrolment(span_str(k->show.path));
        if (!k->host_given)
            e.host = keep_text(x, k->show.host);
        if (!*e.address)
            e.address = keep_text(x, k->show.address);
        if (e.enrolment && !*e.device_id)
            e.device_id = keep_text(x, json_string_value(json_object_get(shown, "device_id")));
        if (e.host && e.address && e.device_id)
            start(x, &e, buf_span(&k->pem));
        else
            reply_code(x, MUSTER_ENOMEM, NULL);
    }
    json_decref(shown);
    buf_fini(&k->pem);
}

void admin_EXPLAIN(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    struct kept k = {.pem = BUF_INIT(REFUSAL_CHAIN_MAX)};
    const char *chain, *refusal;
    struct err err = ERR_INIT;
    if (!body)
        return;
    if (take(x, body, &k.explain, &chain, &refusal, &err)) {
        http_reply_err(x, &err);
        return;
    }
    if (chain) {
        start(x, &k.explain, span_str(chain));
        return;
    }
    k.host_given = json_object_get(body, "host") != NULL;
    /* A token of the whole server may ask with a stranger's chain whether this account would take it. */
    k.show = (struct refusal_show){.account = grant_of(x)->token.account[0] ? grant_account(x) : SPAN_NONE};
    char *id = keep_text(x, refusal);
    k.show.refusal = span_str(id ? id : "");
    job_start(x, JOB_READ, kept_run, &k, sizeof k, kept_found);
}
