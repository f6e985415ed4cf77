/* lines: factory lines over the API.  Their CAs' keys are made by the lines, and stay there; what the vault signs is for the key of a request, and only once
 * the registry has said that it would take the line. */
#include "registry/line_told.h"

#include "admin/internal.h"
#include "base/hex.h"
#include "pki/csr.h"

#define LIFE_DEFAULT (30 * CLOCK_YEAR)

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct line_list *)op)->page.out)); }

void admin_LINE_LIST(struct http_exchange *x, void *arg) {
    struct line_list l = {.account = grant_account(x)};
    if (page_of(x, &l.page))
        job_start(x, JOB_READ, line_list_run, &l, sizeof l, listed);
}

static void shown(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct line_show *)op)->out)); }

void admin_LINE_SHOW(struct http_exchange *x, void *arg) {
    const struct line_show s = {.account = grant_account(x), .line = param_of(x, "line")};
    job_start(x, JOB_READ, line_show_run, &s, sizeof s, shown);
}

static void devices(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct line_devices *)op)->page.out)); }

void admin_LINE_DEVICES(struct http_exchange *x, void *arg) {
    struct line_devices d = {.account = grant_account(x), .line = param_of(x, "line")};
    if (page_of(x, &d.page))
        job_start(x, JOB_READ, line_devices_run, &d, sizeof d, devices);
}

static void acted(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct line_act *s = op;
    json_decref(s->devices);
    json_t *out = rc ? NULL : json_object();
    if (out) {
        json_set_str(out, "action", s->action == LINE_HOLD_DEVICES ? "hold" : "quarantine");
        json_set_int(out, "acted", s->acted);
        json_set_int(out, "passed", s->passed);
    }
    reply_done(x, rc, err, out);
}

void admin_LINE_ACT(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    const char *action = NULL, *reason = NULL;
    json_t *list = NULL;
    struct line_act s = {.actor = grant_of(x)->actor, .account = grant_account(x), .line = param_of(x, "line")};
    struct err err = ERR_INIT;
    if (!body)
        return;
    int rc = json_take(body, &err, "{s:s, s:o, s?s}", "action", &action, "devices", &list, "reason", &reason);
    if (!rc && !(s.action = strcmp(action, "hold") == 0 ? LINE_HOLD_DEVICES : strcmp(action, "quarantine") == 0 ? LINE_QUARANTINE_DEVICES : 0))
        rc = err_set(&err, MUSTER_EINVALID, "action is hold or quarantine.");
    if (!rc && (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > LINE_ACT_MAX))
        rc = err_set(&err, MUSTER_EINVALID, "devices is a list of 1 to %d device IDs.", LINE_ACT_MAX);
    if (!rc && reason && (strlen(reason) >= sizeof s.reason || span_has_control(span_str(reason))))
        rc = err_set(&err, MUSTER_EINVALID, "reason has at most %zu bytes, and no control characters.", sizeof s.reason - 1);
    if (rc) {
        http_reply_err(x, &err);
        return;
    }
    snprintf(s.reason, sizeof s.reason, "%s", reason ? reason : "an operator took it out again");
    s.devices = json_incref(list);
    job_start(x, JOB_WRITE, line_act_run, &s, sizeof s, acted);
}

/* --- manifests --------------------------------------------------------------------------------------------------------------------------- */

static void told(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct line_told_list *)op)->page.out)); }

void admin_LINE_TOLD(struct http_exchange *x, void *arg) {
    struct line_told_list l = {.account = grant_account(x), .line = param_of(x, "line")};
    if (page_of(x, &l.page))
        job_start(x, JOB_READ, line_told_list_run, &l, sizeof l, told);
}

static void tell_fini(struct line_tell *t) {
    buf_fini(&t->signature);
    json_decref(t->digests);
    json_decref(t->out);
}
DEFINE_CLEANUP_FINI(tell_fini, struct line_tell)

static void judged(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct line_tell *t = op;
    reply_done(x, rc, err, rc ? NULL : TAKE(t->out));
    tell_fini(t);
}

static int take_manifest(json_t *body, struct line_tell *t, struct err *err) {
    const char *at, *digest, *signature;
    json_t *digests = NULL, *one;
    json_int_t entries = -1;
    int accept = 0;
    int64_t when;
    size_t i;
    int rc = t->look ? json_take(body, err, "{s:I, s:s, s:s, s:s, s:o}", "entries", &entries, "at", &at, "digest", &digest, "signature", &signature, "digests", &digests)
                     : json_take(body, err, "{s:I, s:s, s:s, s:s, s:o, s?b}", "entries", &entries, "at", &at, "digest", &digest, "signature", &signature, "digests", &digests, "accept", &accept);
    if (rc)
        return rc;
    if (entries < 0 || entries > LINE_ENTRIES_MAX || strlen(at) != CLOCK_RFC3339_LEN || clock_parse_rfc3339(span_str(at), &when) || hex_decode(span_str(digest), t->chain.b, sizeof t->chain.b) ||
        base64_decode(span_str(signature), &t->signature))
        return err_set(err, MUSTER_EINVALID, "entries, at, digest and signature are those of the manifest's last line.");
    if (!json_is_array(digests) || json_array_size(digests) > 2 * LINE_TOLD_MAX)
        return err_set(err, MUSTER_EINVALID, "digests is a list of at most %d.", 2 * LINE_TOLD_MAX);
    json_array_foreach(digests, i, one) {
        json_int_t n;
        const char *text;
        if ((rc = json_take(one, err, "{s:I, s:s}", "entries", &n, "digest", &text)))
            return rc;
    }
    t->entries = entries;
    t->accept = accept != 0;
    t->digests = json_incref(digests);
    snprintf(t->at, sizeof t->at, "%s", at);
    return 0;
}

static void tell(struct http_exchange *x, bool look) {
    CLEANUP_JSON json_t *body = body_object(x);
    CLEANUP(tell_fini) struct line_tell t = {.actor = grant_of(x)->actor, .account = grant_account(x), .line = param_of(x, "line"), .look = look, .signature = BUF_INIT(1024)};
    struct err err = ERR_INIT;
    if (!body)
        return;
    if (take_manifest(body, &t, &err)) {
        http_reply_err(x, &err);
        return;
    }
    job_start(x, look ? JOB_READ : JOB_WRITE, line_tell_run, &t, sizeof t, judged);
    t = (struct line_tell){0}; /* the job has its copy */
}

void admin_LINE_TELL(struct http_exchange *x, void *arg) { tell(x, false); }

void admin_LINE_TELL_LOOK(struct http_exchange *x, void *arg) { tell(x, true); }

/* --- bounds ------------------------------------------------------------------------------------------------------------------------------ */

/* What a body says of them; texts live as long as the exchange. */
static int take_bounds(struct http_exchange *x, json_int_t max, const char *pattern, const char *expires, struct line_bounds *out, struct err *err) {
    *out = (struct line_bounds){.max_devices = max};
    if (pattern && !(out->id_pattern = arena_strdup(http_exchange_arena(x), span_str(pattern))))
        return err_set(err, MUSTER_ENOMEM, NULL);
    return expires ? read_ahead(span_str(expires), "expires", &out->expires, err) : 0;
}

static void changed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct line_set *)op)->out)); }

void admin_LINE_SET(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    const char *pattern = NULL, *expires = NULL, *state = NULL;
    json_int_t max = 0;
    struct line_set s = {.actor = grant_of(x)->actor, .account = grant_account(x), .line = param_of(x, "line")};
    struct err err = ERR_INIT;
    if (!body)
        return;
    int rc = json_take(body, &err, "{s?I, s?s, s?s, s?s}", "max_devices", &max, "id_pattern", &pattern, "expires", &expires, "state", &state);
    if (!rc && json_object_get(body, "max_devices") && max < 1)
        rc = err_set(&err, MUSTER_EINVALID, "max_devices is between 1 and %d.", LINE_DEVICES_MAX);
    if (!rc)
        rc = take_bounds(x, max, pattern, expires, &s.bounds, &err);
    if (!rc && state && (!(s.bounds.state = (enum line_state)word_parse(&WORDS_LINE_STATE, state)) || s.bounds.state == LINE_REVOKED))
        rc = err_set(&err, MUSTER_EINVALID, "state is open or closed; `muster factory kit revoke` revokes a line.");
    if (rc)
        http_reply_err(x, &err);
    else
        job_start(x, JOB_WRITE, line_set_run, &s, sizeof s, changed);
}

static void revoked(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct line_revoke *)op)->out)); }

void admin_LINE_REVOKE(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    const char *reason = NULL;
    struct line_revoke s = {.actor = grant_of(x)->actor, .account = grant_account(x), .line = param_of(x, "line")};
    struct err err = ERR_INIT;
    if (!body)
        return;
    int rc = json_take(body, &err, "{s:s}", "reason", &reason);
    if (!rc && (!*reason || strlen(reason) >= sizeof s.reason || span_has_control(span_str(reason))))
        rc = err_set(&err, MUSTER_EINVALID, "reason has 1 to %zu bytes, and no control characters.", sizeof s.reason - 1);
    if (rc) {
        http_reply_err(x, &err);
        return;
    }
    snprintf(s.reason, sizeof s.reason, "%s", reason);
    job_start(x, JOB_WRITE, line_revoke_run, &s, sizeof s, revoked);
}

/* --- a new one ---------------------------------------------------------------------------------------------------------------------------- */

struct making {
    struct control *c;
    struct http_exchange *x; /* held */
    struct cert *cert;
    struct buf public_key;   /* of the request; empty: a certificate was brought */
    int64_t life;
    struct line_look look;   /* a completion is given the member that it was started with */
    struct line_create op;
};

static void making_free(struct making *m) {
    cert_free(m->cert);
    buf_fini(&m->public_key);
    json_decref(m->op.out);
    http_exchange_unref(m->x);
    free(m);
}
DEFINE_CLEANUP(making_free, struct making *)

static void fail(struct making *m, const struct err *err) {
    http_reply_err(m->x, err);
    making_free(m);
}

static void stored(void *arg, int rc, const struct err *err) {
    struct making *m = (struct making *)((char *)arg - offsetof(struct making, op));
    if (rc) {
        fail(m, err);
        return;
    }
    reply_json(m->x, 201, TAKE(m->op.out));
    making_free(m);
}

static void store(struct making *m) {
    struct err why = ERR_INIT;
    m->op.cert = m->cert;
    if (store_write(m->c->registry, m->c->loop, line_create_run, stored, &m->op, &why))
        fail(m, &why);
}

static void issued(void *arg, int rc, const struct err *err, const struct vault_issued *i) {
    struct making *m = arg;
    struct err why = ERR_INIT;
    if (rc)
        fail(m, err);
    else if (cert_from_der(i->der, &m->cert, &why))
        fail(m, &why);
    else
        store(m);
}

/* The registry refuses what it will not store before the vault signs anything. */
static void looked(void *arg, int rc, const struct err *err) {
    struct making *m = (struct making *)((char *)arg - offsetof(struct making, look));
    struct err why = ERR_INIT;
    if (rc) {
        fail(m, err);
        return;
    }
    if (m->cert) {
        store(m);
        return;
    }
    const struct vault_line_issue rq = {.account = m->look.account, .line = m->look.name, .public_key = buf_span(&m->public_key), .life = m->life};
    if (vault_line_issue(m->c->vault, &rq, issued, m, &why))
        fail(m, &why);
}

/* `factory request` names account and line in it.  For another line's the kit would be of no use, and the key could not be that line's any more; one that says not whose it is
 * may be anybody's, a device's too. */
static int check_whose(const struct making *m, const struct csr *csr, struct err *err) {
    return csr_is_of(csr, m->look.account, m->look.name)
               ? 0
               : err_set(err, MUSTER_EINVALID, "The request is not this line's, or does not say so: its subject has to be O=%.*s, OU=%.*s, one of each. Take the one that `muster factory request --account %.*s --line %.*s` has made.",
                         SPAN_FMT(m->look.account), SPAN_FMT(m->look.name), SPAN_FMT(m->look.account), SPAN_FMT(m->look.name));
}

static int take_request(struct making *m, const char *request, json_t *life, struct err *err) {
    CLEANUP(csr_free) struct csr *csr = NULL;
    int rc = csr_from_file(span_str(request), &csr, err);
    if (rc || (rc = check_whose(m, csr, err)) || (rc = csr_public_der(csr, &m->public_key, err)))
        return rc;
    m->look.spki = csr->key.spki;
    m->look.own = true;
    m->life = LIFE_DEFAULT;
    if (json_is_integer(life))
        m->life = json_integer_value(life);
    else if (life && (!json_is_string(life) || clock_parse_span(span_str(json_string_value(life)), &m->life)))
        m->life = 0;
    return m->life >= CLOCK_HOUR && m->life <= VAULT_LINE_LIFE_MAX ? 0 : err_set(err, MUSTER_EINVALID, "life is a length of time between an hour and 35 years.");
}

static int take_new(struct making *m, json_t *body, struct err *err) {
    const char *name = NULL, *pattern = NULL, *expires = NULL, *request = NULL, *certificate = NULL;
    json_int_t max = 0;
    json_t *life = NULL;
    int rc = json_take(body, err, "{s:s, s:I, s:s, s:s, s?s, s?o, s?s}", "name", &name, "max_devices", &max, "id_pattern", &pattern, "expires", &expires, "request", &request, "life", &life, "certificate",
                       &certificate);
    if (rc || (rc = take_bounds(m->x, max, pattern, expires, &m->look.bounds, err)))
        return rc;
    m->look.name = arena_copy(http_exchange_arena(m->x), span_str(name));
    if (!m->look.name.p)
        return err_set(err, *name ? MUSTER_ENOMEM : MUSTER_EINVALID, NULL);
    if (!request == !certificate || (life && !request))
        return err_set(err, MUSTER_EINVALID, "A factory line brings either a request, which may have a life, or a certificate.");
    if (request)
        return take_request(m, request, life, err);
    if ((rc = cert_from_file(span_str(certificate), &m->cert, err)))
        return err->code = rc == MUSTER_ECERTMALFORMED ? MUSTER_EROOTUNFIT : rc;
    m->look.spki = m->cert->key.spki;
    return 0;
}

void admin_LINE_CREATE(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    CLEANUP(making_free) struct making *m = NULL;
    struct err err = ERR_INIT;
    if (!body)
        return;
    if (!(m = calloc(1, sizeof *m))) {
        reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    m->c = http_exchange_arg(x);
    m->x = x;
    m->public_key = BUF_INIT(8192);
    http_exchange_ref(x);
    m->look.account = grant_account(x);
    int rc = take_new(m, body, &err);
    m->op = (struct line_create){.actor = grant_of(x)->actor, .account = m->look.account, .name = m->look.name, .id = uuid_new(), .bounds = m->look.bounds};
    if (!rc && !(rc = store_read(m->c->registry, m->c->loop, line_look_run, looked, &m->look, &err))) {
        m = NULL; /* the completion's */
        return;
    }
    http_reply_err(x, &err);
}
