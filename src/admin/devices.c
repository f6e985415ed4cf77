/* devices: devices over the API. */
#include "registry/device.h"
#include "registry/report.h"

#include "admin/internal.h"
#include "base/hex.h"

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct device_list *)op)->page.out)); }

void admin_DEVICE_LIST(struct http_exchange *x, void *arg) {
    struct device_list l = {.account = grant_account(x)};
    struct span state, order;
    char word[32] = "";
    if (!page_limit(x, &l.page) || !when_of(x, "since", &l.since) || !when_of(x, "seen_since", &l.seen_since) || !when_of(x, "not_seen_since", &l.not_seen_since) || !spki_of(x, &l.spki, &l.has_spki))
        return;
    if (http_query_param(x, "order", &order) && !(l.by_row = span_eq_str(order, "created"))) {
        reply_code(x, MUSTER_EINVALID, "order is created.");
        return;
    }
    http_query_param(x, "cursor", &l.cursor);
    http_query_param(x, "key", &l.key);
    http_query_param(x, "root", &l.root);
    http_query_param(x, "prefix", &l.prefix);
    if (http_query_param(x, "state", &state) && state.n) {
        snprintf(word, sizeof word, "%.*s", (int)(state.n < sizeof word ? state.n : 0), (const char *)state.p);
        if (!(l.state = (enum device_state)word_parse(&WORDS_DEVICE_STATE, word))) {
            reply_code(x, MUSTER_EINVALID, "state is active, pending, quarantined, revoked or deleted.");
            return;
        }
    }
    job_start(x, JOB_READ, device_list_run, &l, sizeof l, listed);
}

static void expected_listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct expected_list *)op)->page.out)); }

void admin_EXPECTED_LIST(struct http_exchange *x, void *arg) {
    struct expected_list l = {.account = grant_account(x)};
    struct span missing;
    if (!page_limit(x, &l.page))
        return;
    http_query_param(x, "cursor", &l.cursor);
    http_query_param(x, "prefix", &l.prefix);
    if (http_query_param(x, "missing", &missing)) {
        l.missing = span_eq_str(missing, "yes");
        if (!l.missing && !span_eq_str(missing, "no")) {
            reply_code(x, MUSTER_EINVALID, "missing is yes or no.");
            return;
        }
    }
    job_start(x, JOB_READ, expected_list_run, &l, sizeof l, expected_listed);
}

static void expected_removed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct expected_remove *)op)->out)); }

void admin_EXPECTED_REMOVE(struct http_exchange *x, void *arg) {
    const struct expected_remove r = {.actor = grant_of(x)->actor, .account = grant_account(x), .device_id = param_of(x, "device")};
    job_start(x, JOB_WRITE, expected_remove_run, &r, sizeof r, expected_removed);
}

static void shown(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct device_show *)op)->out)); }

void admin_DEVICE_SHOW(struct http_exchange *x, void *arg) {
    struct device_show s = {.account = grant_account(x), .device = param_of(x, "device")};
    struct span full;
    if (http_query_param(x, "full", &full)) {
        s.reports = span_eq_str(full, "yes");
        if (!s.reports && !span_eq_str(full, "no")) {
            reply_code(x, MUSTER_EINVALID, "full is yes or no.");
            return;
        }
    }
    job_start(x, JOB_READ, device_show_run, &s, sizeof s, shown);
}

static void events_listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct said_list *)op)->page.out)); }

void admin_DEVICE_EVENTS(struct http_exchange *x, void *arg) {
    struct said_list l = {.account = grant_account(x), .device = param_of(x, "device")};
    if (page_of(x, &l.page))
        job_start(x, JOB_READ, said_list_run, &l, sizeof l, events_listed);
}

static void imported(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct device_import *in = op;
    json_decref(in->items);
    json_t *out = rc ? NULL : json_object();
    if (out) {
        json_set_int(out, "added", in->added);
        json_set_int(out, "changed", in->changed);
    }
    reply_done(x, rc, err, out);
}

void admin_DEVICE_IMPORT(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    json_t *items = body ? json_object_get(body, "items") : NULL;
    if (!body)
        return;
    if (!json_is_array(items) || json_object_size(body) != 1) {
        reply_code(x, MUSTER_EJSON, "The body is {\"items\": [{\"device_id\", \"fingerprint\"?}, …]}.");
        return;
    }
    const struct device_import in = {.actor = grant_of(x)->actor, .account = grant_account(x), .items = json_incref(items)};
    job_start(x, JOB_WRITE, device_import_run, &in, sizeof in, imported);
}

/* --- changes ---------------------------------------------------------------------------------------------------------------------- */

static void changed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct device_set *)op)->out)); }

static void change(struct http_exchange *x, enum device_change what) {
    CLEANUP_JSON json_t *body = body_object(x);
    struct device_set s = {.actor = grant_of(x)->actor, .account = grant_account(x), .device = param_of(x, "device"), .change = what};
    const char *reason = "";
    int again = 0, same_key = 0;
    struct err err = ERR_INIT;
    if (!body)
        return;
    int rc = what == DEVICE_RELEASE ? json_take(body, &err, "{s?b, s?b}", "for_reprovision", &again, "same_key", &same_key) : json_take(body, &err, "{s?s}", "reason", &reason);
    if (!rc && (strlen(reason) >= sizeof s.reason || span_has_control(span_str(reason))))
        rc = err_set(&err, MUSTER_EINVALID, "reason has at most %zu bytes and no control characters.", sizeof s.reason - 1);
    if (rc) {
        http_reply_err(x, &err);
        return;
    }
    snprintf(s.reason, sizeof s.reason, "%s", reason);
    s.for_reprovision = again;
    s.same_key = same_key;
    job_start(x, JOB_WRITE, device_set_run, &s, sizeof s, changed);
}

void admin_DEVICE_APPROVE(struct http_exchange *x, void *arg) { change(x, DEVICE_APPROVE); }
void admin_DEVICE_REFUSE(struct http_exchange *x, void *arg) { change(x, DEVICE_REFUSE); }
void admin_DEVICE_REVOKE(struct http_exchange *x, void *arg) { change(x, DEVICE_REVOKE); }
void admin_DEVICE_QUARANTINE(struct http_exchange *x, void *arg) { change(x, DEVICE_QUARANTINE); }
void admin_DEVICE_RELEASE(struct http_exchange *x, void *arg) { change(x, DEVICE_RELEASE); }
void admin_DEVICE_DELETE(struct http_exchange *x, void *arg) { change(x, DEVICE_DELETE); }

static void accepted(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct device_accept_key *)op)->out)); }

void admin_DEVICE_ACCEPTKEY(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    struct device_accept_key k = {.actor = grant_of(x)->actor, .account = grant_account(x), .device = param_of(x, "device")};
    const char *fingerprint = NULL;
    struct err err = ERR_INIT;
    if (!body)
        return;
    int rc = json_take(body, &err, "{s:s}", "fingerprint", &fingerprint);
    if (!rc && hex_decode(span_str(fingerprint), k.spki.b, sizeof k.spki.b))
        rc = err_set(&err, MUSTER_EINVALID, "fingerprint is the SHA-256 of the public key in 64 hex digits, as `device show` lists it under offered_keys.");
    if (rc)
        http_reply_err(x, &err);
    else
        job_start(x, JOB_WRITE, device_accept_key_run, &k, sizeof k, accepted);
}
