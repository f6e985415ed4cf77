/* manifest_tell: see manifest_tell.h. */
#include "muster/manifest_tell.h"

#include "json/json.h"
#include "muster/api.h"
#include "muster/run_part.h"

#define TELLINGS 1000 /* as many as the server holds a manifest against */

static const char *text_of(const json_t *o, const char *name) { return json_string_value(json_object_get(o, name)); }
static long long int_of(const json_t *o, const char *name) { return json_integer_value(json_object_get(o, name)); }

/* The hash of its chain up to that number of entries; NULL where it has fewer. */
static const char *digest_at(const struct manifest *m, json_int_t entries) {
    const size_t n = json_array_size(m->entries);
    if (entries < 0 || (size_t)entries > n)
        return NULL;
    return text_of((size_t)entries < n ? json_array_get(m->entries, (size_t)entries) : m->end, "previous");
}

/* n: how many were told that stand, and that were set aside, this one included. */
static void add_digest(const struct manifest *m, const json_t *told, size_t n, json_t *digests) {
    const json_int_t entries = int_of(told, "entries");
    const char *digest = digest_at(m, entries);
    json_t *one = digest && n <= TELLINGS ? json_object() : NULL;
    if (!one)
        return;
    json_set_int(one, "entries", entries);
    json_set_str(one, "digest", digest);
    json_array_append_new(digests, one);
}

/* Of those that stand, and of those that were set aside, the server looks at the newest. */
static int read_told(struct invocation *in, const struct manifest *m, const char *base, json_t *digests, struct err *err) {
    char cursor[1024] = "";
    for (size_t n[2] = {0}; n[0] < TELLINGS;) { /* that stand, and that were set aside */
        CLEANUP_JSON json_t *page = NULL;
        CLEANUP(buf_fini) struct buf path = BUF_INIT(16384);
        const json_t *told;
        size_t i;
        buf_addf(&path, "%s?limit=%d", base, TELLINGS);
        if (cursor[0]) {
            buf_adds(&path, "&cursor=");
            api_encode(&path, cursor);
        }
        int rc = api_json(in->api, "GET", buf_str(&path), NULL, &page, NULL, err);
        if (rc)
            return rc;
        json_array_foreach(json_object_get(page, "items"), i, told) {
            const bool aside = json_is_true(json_object_get(told, "set_aside"));
            add_digest(m, told, ++n[aside], digests);
        }
        const char *next = text_of(page, "next");
        if (!next || !strcmp(next, cursor) || strlen(next) >= sizeof cursor)
            return next ? err_set(err, MUSTER_ENETWORK, "The server's pages do not come to an end.") : 0;
        snprintf(cursor, sizeof cursor, "%s", next);
    }
    return 0;
}

static json_t *body_of(const struct manifest *m) {
    json_t *body = json_object();
    json_set_int(body, "entries", (int64_t)json_array_size(m->entries));
    json_set_str(body, "at", text_of(m->end, "at"));
    json_set_str(body, "digest", text_of(m->end, "previous"));
    json_set_str(body, "signature", text_of(m->end, "signature"));
    return body;
}

static int post(struct invocation *in, const char *base, const char *more, json_t *body, json_t **verdict, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(1024);
    buf_addf(&path, "%s%s", base, more);
    json_decref(*verdict);
    *verdict = NULL;
    return api_json(in->api, "POST", buf_str(&path), body, verdict, NULL, err);
}

static int accept_it(struct invocation *in, const char *base, json_t *body, json_t **verdict, struct err *err) {
    CLEANUP(buf_fini) struct buf reach = BUF_INIT(2048);
    int rc = post(in, base, "/check", body, verdict, err);
    if (rc)
        return rc;
    if (manifest_tell_alarming(*verdict)) {
        manifest_tell_text(*verdict, &reach);
        buf_adds(&reach, " From now on this one counts as the line's word, and what contradicts it, or is longer, is set aside; `factory kit manifests` and the audit log keep it.");
        if (!run_agreed(in, buf_str(&reach)))
            return err_set(err, MUSTER_ECONFIRM, "%s", buf_str(&reach));
    }
    json_set_bool(body, "accept", true);
    if ((rc = post(in, base, "", body, verdict, err)))
        return rc;
    json_set_bool(*verdict, "accepted", true);
    return 0;
}

int manifest_tell(struct invocation *in, const struct manifest *m, json_t **verdict, struct err *err) {
    CLEANUP(buf_fini) struct buf base = BUF_INIT(1024);
    CLEANUP_JSON json_t *body = body_of(m);
    json_t *digests = json_array();
    buf_addf(&base, "/api/v1/accounts/%s/lines/%s/manifests", m->account, m->line);
    json_set(body, "digests", digests);
    int rc = read_told(in, m, buf_str(&base), digests, err);
    if (rc)
        return rc;
    if (invocation_option(in, "accept-manifest"))
        return accept_it(in, buf_str(&base), body, verdict, err);
    rc = post(in, buf_str(&base), "", body, verdict, err);
    if (rc != MUSTER_EROLE)
        return rc;
    *err = ERR_INIT; /* an auditor looks, and writes nothing */
    return post(in, buf_str(&base), "/check", body, verdict, err);
}

bool manifest_tell_alarming(const json_t *verdict) {
    const char *is = text_of(verdict, "verdict");
    return !json_is_true(json_object_get(verdict, "accepted")) && (!is || strcmp(is, "continues"));
}

void manifest_tell_text(const json_t *verdict, struct buf *out) {
    const json_t *told = json_object_get(verdict, "told");
    const char *is = text_of(verdict, "verdict"), *when = text_of(told, "told");
    const long long agreed = int_of(verdict, "agreed"), entries = int_of(told, "entries");
    if (!is || !when || !strcmp(is, "continues"))
        return;
    if (!strcmp(is, "shorter")) {
        buf_addf(out, "The manifest has %lld entries, and one of %lld was told on %s: it is an old file, or an old copy of the line's directory was put back.", int_of(verdict, "entries"), entries, when);
        return;
    }
    if (json_is_true(json_object_get(told, "set_aside"))) {
        buf_addf(out, "The manifest is the one of %lld entries that was told on %s, or goes on from it, and that was set aside: an operator has taken another one for the line's word.", entries, when);
        return;
    }
    buf_addf(out, "The manifest contradicts what was told on %s: ", when);
    if (entries > agreed + 1)
        buf_addf(out, "one of the entries %lld to %lld differs", agreed + 1, entries);
    else if (entries)
        buf_addf(out, "entry %lld differs", entries);
    else
        buf_adds(out, "its first line differs");
    buf_adds(out, ". The line's directory or key was copied, or an old copy of it was put back: what was built is what both of them say.");
}
