/* reconcile: `muster factory reconcile`: what a line has built against what has shown up; see command.h.
 *
 * The manifest has to be signed by the key that the server has for the line.  All devices of the account are walked once, a page at a time, because one that
 * the line built may have come by another; what is kept of them is what is told. */
#include "base/csv.h"
#include "base/hex.h"
#include "ca/manifest.h"
#include "json/json.h"
#include "muster/api.h"
#include "muster/command.h"
#include "muster/file_arg.h"
#include "muster/manifest_tell.h"
#include "muster/print.h"
#include "muster/run_part.h"

#define PAGE 1000

/* What may be said of a device, in the order of the counts. */
enum status { SEEN, NOT_SEEN, NOT_BUILT, OTHER_KEY, REVOKED, WRONG_LINE, DUPLICATE, STATUSES };
static const struct {
    const char *name;
    bool alarming; /* somebody has to look at it */
} statuses[STATUSES] = {[SEEN] = {"seen", false}, [NOT_SEEN] = {"not-seen", false}, [NOT_BUILT] = {"not-built", true}, [OTHER_KEY] = {"other-key", true},
                        [REVOKED] = {"revoked", true}, [WRONG_LINE] = {"wrong-line", true}, [DUPLICATE] = {"duplicate", true}};

struct reconciliation {
    struct invocation *in;
    struct manifest manifest;
    json_t *built;   /* device ID → {"keys": {SHA256: serial}, "revoked": {SHA256: true}, "seen"?: true, "issued": N}; owned */
    json_t *keys;    /* SHA256 → the first device ID that has it; owned */
    json_t *devices; /* array of what is told; owned */
    json_t *unknown; /* array of device IDs that came by the line, are in or wait, and were not built; owned */
    int64_t n[STATUSES], n_built;
    size_t walked;
    json_t *line;    /* as the server has it; owned */
    json_t *told;    /* what the manifest is to those before it (manifest_tell.h); owned */
};

static void reconciliation_fini(struct reconciliation *r) {
    manifest_fini(&r->manifest);
    json_decref(r->built);
    json_decref(r->keys);
    json_decref(r->devices);
    json_decref(r->unknown);
    json_decref(r->line);
    json_decref(r->told);
}
DEFINE_CLEANUP_FINI(reconciliation_fini, struct reconciliation)

static const char *text_of(const json_t *o, const char *name) { return json_string_value(json_object_get(o, name)); }

/* device NULL: none is registered. */
static void tell(struct reconciliation *r, enum status status, const char *device_id, const json_t *device, const char *serial, const char *detail) {
    json_t *one = json_object();
    json_set_str(one, "device_id", device_id);
    json_set_str(one, "status", statuses[status].name);
    json_set_str(one, "state", text_of(device, "state"));
    json_set_str(one, "line", text_of(device, "line"));
    json_set_str(one, "serial", serial);
    json_set_str(one, "spki", text_of(device, "spki"));
    json_set_str(one, "created", text_of(device, "created"));
    json_set_str(one, "last_seen", text_of(device, "last_seen"));
    json_set_str(one, "detail", detail);
    json_array_append_new(r->devices, one);
    r->n[status]++;
}

/* --- what was built ------------------------------------------------------------------------------------------------------------------- */

static json_t *built_of(struct reconciliation *r, const char *device_id) {
    json_t *b = json_object_get(r->built, device_id);
    if (!b) {
        b = json_object();
        json_set(b, "keys", json_object());
        json_set(b, "revoked", json_object());
        json_object_set_new(r->built, device_id, b);
    }
    return b;
}

static void take_issue(struct reconciliation *r, const json_t *entry) {
    const char *id = text_of(entry, "device_id"), *key = text_of(entry, "key");
    const char *other = text_of(r->keys, key);
    json_object_set_new(json_object_get(built_of(r, id), "keys"), key, json_string(text_of(entry, "serial")));
    if (!other)
        json_object_set_new(r->keys, key, json_string(id));
    else if (strcmp(other, id))
        tell(r, DUPLICATE, id, NULL, text_of(entry, "serial"), "its key is another device's as well");
}

static void take_revoke(struct reconciliation *r, const json_t *entry) {
    const char *key, *serial = text_of(entry, "serial");
    json_t *b = built_of(r, text_of(entry, "device_id")), *keys = json_object_get(b, "keys"), *value;
    void *next;
    json_object_foreach_safe(keys, next, key, value)
        if (strcmp(json_string_value(value), serial) == 0) {
            json_object_set(json_object_get(b, "revoked"), key, value);
            json_object_del(keys, key);
        }
}

static void take_manifest(struct reconciliation *r) {
    const char *id;
    json_t *entry, *b;
    size_t i;
    json_array_foreach(r->manifest.entries, i, entry) {
        if (strcmp(text_of(entry, "event"), "issue") == 0)
            take_issue(r, entry);
        else
            take_revoke(r, entry);
    }
    r->n_built = (int64_t)json_object_size(r->built);
    json_object_foreach(r->built, id, b)
        if (json_object_size(json_object_get(b, "keys")) > 1)
            tell(r, DUPLICATE, id, NULL, NULL, "it has several certificates that are not revoked, for different keys");
}

/* --- what was seen ---------------------------------------------------------------------------------------------------------------------- */

static void unknown(struct reconciliation *r, const json_t *device) {
    const char *state = text_of(device, "state");
    if (strcmp(state, "active") == 0 || strcmp(state, "pending") == 0)
        json_array_append(r->unknown, json_object_get(device, "device_id"));
}

/* What the line says of the key that the device has, or else of the one that it came with: whoever has renewed to another one did so by that. */
static const char *told_of_key(const json_t *device, const json_t *keys) {
    const char *now = text_of(device, "spki"), *first = text_of(device, "line_key");
    const char *serial = now ? text_of(keys, now) : NULL;
    return serial || !first ? serial : text_of(keys, first);
}

static void judge(struct reconciliation *r, const json_t *device) {
    const char *id = text_of(device, "device_id"), *line = text_of(device, "line");
    json_t *b = json_object_get(r->built, id);
    bool ours = line && strcmp(line, r->manifest.line) == 0;
    if (!b && !ours)
        return;
    if (!b) {
        tell(r, NOT_BUILT, id, device, NULL, "it came by the line, and the line has not built it");
        unknown(r, device);
        return;
    }
    json_object_set_new(b, "seen", json_true());
    const char *serial = told_of_key(device, json_object_get(b, "keys")), *taken = told_of_key(device, json_object_get(b, "revoked"));
    const bool key_lost = ours && !text_of(device, "line_key"); /* it came and renewed behind a backup that was put back */
    if (!ours)
        tell(r, WRONG_LINE, id, device, serial, line ? "it came by another line" : "it came by no line");
    else if (serial)
        tell(r, SEEN, id, device, serial, NULL);
    else if (key_lost && json_object_size(json_object_get(b, "keys")))
        tell(r, SEEN, id, device, NULL, "the server was restored from a backup, and does not know the key with which it came");
    else if (taken)
        tell(r, REVOKED, id, device, taken, "the line has taken its certificate back");
    else {
        tell(r, OTHER_KEY, id, device, NULL, "it came with a key that the line has not built it with");
        unknown(r, device);
    }
}

static int walk(struct reconciliation *r, struct err *err) {
    char cursor[1024] = "";
    bool progress = !r->in->json && isatty(STDERR_FILENO);
    for (;;) {
        CLEANUP_JSON json_t *page = NULL;
        CLEANUP(buf_fini) struct buf path = BUF_INIT(16384);
        const json_t *device;
        size_t i;
        buf_addf(&path, "/api/v1/accounts/%s/devices?order=created&limit=%d", r->manifest.account, PAGE);
        if (cursor[0]) {
            buf_adds(&path, "&cursor=");
            api_encode(&path, cursor);
        }
        int rc = api_json(r->in->api, "GET", buf_str(&path), NULL, &page, NULL, err);
        if (rc)
            return rc;
        json_array_foreach(json_object_get(page, "items"), i, device)
            judge(r, device);
        r->walked += json_array_size(json_object_get(page, "items"));
        if (progress)
            fprintf(stderr, "\r%zu devices looked at", r->walked);
        const char *next = text_of(page, "next");
        if (!next || !strcmp(next, cursor) || strlen(next) >= sizeof cursor) {
            if (progress && r->walked)
                fputc('\n', stderr);
            return next ? err_set(err, MUSTER_ENETWORK, "The server's pages do not come to an end.") : 0;
        }
        snprintf(cursor, sizeof cursor, "%s", next);
    }
}

static void not_seen(struct reconciliation *r) {
    const char *id, *state = text_of(r->line, "state");
    const bool revoked = state && !strcmp(state, "revoked");
    json_t *b;
    json_object_foreach(r->built, id, b)
        if (!json_object_get(b, "seen"))
            tell(r, NOT_SEEN, id, NULL, json_string_value(json_object_iter_value(json_object_iter(json_object_get(b, "keys")))), !json_object_size(json_object_get(b, "keys")) ? "all of its certificates are revoked" : revoked ? "its line was revoked: it is refused when it comes" : NULL);
}

/* The manifest is the line's, by the key that the server has for it. */
static int check_line(struct reconciliation *r, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(1024);
    char kit[UUID_TEXT_LEN + 1], key[2 * PKI_HASH_LEN + 1];
    buf_addf(&path, "/api/v1/accounts/%s/lines/%s", r->manifest.account, r->manifest.line);
    int rc = api_json(r->in->api, "GET", buf_str(&path), NULL, &r->line, NULL, err);
    if (rc)
        return rc;
    uuid_text(&r->manifest.kit, kit);
    hex_encode(hash_span(&r->manifest.cert->key.spki), key);
    if (strcmp(text_of(r->line, "id"), kit) || strcmp(text_of(r->line, "spki"), key))
        return err_set(err, MUSTER_EMANIFEST, "The manifest is of another kit, or signed by another key, than the server has for the line %s of %s.", r->manifest.line, r->manifest.account);
    return 0;
}

/* --- taking the unknown out -------------------------------------------------------------------------------------------------------------- */

static int act(struct reconciliation *r, const char *action, int64_t *acted, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(1024);
    buf_addf(&path, "/api/v1/accounts/%s/lines/%s/devices", r->manifest.account, r->manifest.line);
    for (size_t at = 0; at < json_array_size(r->unknown);) {
        CLEANUP_JSON json_t *body = json_object();
        CLEANUP_JSON json_t *answer = NULL;
        json_t *some = json_array();
        for (; at < json_array_size(r->unknown) && json_array_size(some) < PAGE; at++)
            json_array_append(some, json_array_get(r->unknown, at));
        json_set_str(body, "action", action);
        json_set(body, "devices", some);
        json_set_str(body, "reason", "its factory line has not built it, by the line's manifest");
        int rc = api_json(r->in->api, "POST", buf_str(&path), body, &answer, NULL, err);
        if (rc)
            return *acted ? err_prefix(err, "After %lld devices", (long long)*acted) : rc;
        *acted += json_integer_value(json_object_get(answer, "acted"));
    }
    return 0;
}

static int take_out(struct reconciliation *r, json_t *summary, struct err *err) {
    bool quarantine = invocation_option(r->in, "quarantine") != NULL;
    char reach[256];
    int64_t acted = 0;
    size_t n = json_array_size(r->unknown);
    if (!quarantine && !invocation_option(r->in, "hold"))
        return 0;
    if (manifest_tell_alarming(r->told)) /* what the other one has built would be taken for a counterfeit */
        return err_set(err, MUSTER_EMANIFESTODD, NULL);
    snprintf(reach, sizeof reach, "This %s %zu device%s that came by the line %s of %s and %s not built by it.", quarantine ? "cuts off" : "has wait", n, n == 1 ? "" : "s", r->manifest.line, r->manifest.account,
             n == 1 ? "was" : "were");
    if (n && !run_agreed(r->in, reach))
        return err_set(err, MUSTER_ECONFIRM, "%s", reach);
    int rc = act(r, quarantine ? "quarantine" : "hold", &acted, err);
    json_set_str(summary, "action", quarantine ? "quarantine" : "hold");
    json_set_int(summary, "acted", acted);
    return rc;
}

/* --- telling ------------------------------------------------------------------------------------------------------------------------------ */

static json_t *summary_of(const struct reconciliation *r) {
    static const char *const names[STATUSES] = {"seen", "not_seen", "not_built", "other_key", "revoked", "wrong_line", "duplicates"};
    json_t *o = json_object();
    json_set_uuid(o, "id", &r->manifest.kit);
    json_set_str(o, "account", r->manifest.account);
    json_set_str(o, "line", r->manifest.line);
    json_set_str(o, "line_state", text_of(r->line, "state"));
    CLEANUP(buf_fini) struct buf why = BUF_INIT(2048);
    manifest_tell_text(r->told, &why);
    json_set_time(o, "manifest", r->manifest.at);
    json_set_int(o, "entries", (int64_t)json_array_size(r->manifest.entries));
    json_set_str(o, "manifest_is", text_of(r->told, "verdict"));
    json_set_str(o, "manifest_detail", why.n ? buf_str(&why) : NULL);
    json_set_bool(o, "manifest_accepted", json_is_true(json_object_get(r->told, "accepted")));
    json_set_bool(o, "manifest_recorded", json_is_true(json_object_get(r->told, "recorded")));
    json_set_int(o, "built", r->n_built);
    for (int i = 0; i < STATUSES; i++)
        json_set_int(o, names[i], r->n[i]);
    return o;
}

static bool is_alarming(const json_t *device) {
    for (int i = 0; i < STATUSES; i++)
        if (strcmp(statuses[i].name, text_of(device, "status")) == 0)
            return statuses[i].alarming;
    return true;
}

static int print_csv(const struct reconciliation *r, struct err *err) {
    static const char *const columns[] = {"device_id", "status", "state", "line", "serial", "spki", "created", "last_seen", "detail"};
    CLEANUP(buf_fini) struct buf out = BUF_INIT(1u << 30);
    const char *output = invocation_option(r->in, "output");
    const json_t *device;
    size_t i;
    for (size_t k = 0; k < sizeof columns / sizeof *columns; k++)
        buf_addf(&out, "%s%s", k ? "," : "", columns[k]);
    buf_adds(&out, "\r\n");
    json_array_foreach(r->devices, i, device) {
        for (size_t k = 0; k < sizeof columns / sizeof *columns; k++) {
            if (k)
                buf_addc(&out, ',');
            csv_add(&out, span_str(text_of(device, columns[k])));
        }
        buf_adds(&out, "\r\n");
    }
    int rc = buf_check(&out, err);
    return rc ? rc : file_arg_write(output ? output : "-", buf_span(&out), output && strcmp(output, "-"), err);
}

static int print_people(const struct reconciliation *r, const json_t *summary, struct err *err) {
    CLEANUP_JSON json_t *shown = json_array();
    const char *format = invocation_option(r->in, "format");
    json_t *device;
    size_t i;
    if (manifest_tell_alarming(r->told))
        print_message("warning: ", text_of(summary, "manifest_detail"));
    if (format && strcmp(format, "csv") == 0)
        return print_csv(r, err);
    json_array_foreach(r->devices, i, device)
        if (invocation_option(r->in, "all") || is_alarming(device))
            json_array_append(shown, device);
    print_object(summary);
    if (json_array_size(shown)) {
        fputc('\n', stdout);
        print_table(shown, r->in->command->columns);
    }
    return 0;
}

static bool anything_alarming(const struct reconciliation *r) {
    if (manifest_tell_alarming(r->told))
        return true;
    for (int i = 0; i < STATUSES; i++)
        if (statuses[i].alarming && r->n[i])
            return true;
    return false;
}

int command_factory_reconcile(struct invocation *in, struct err *err) {
    CLEANUP(reconciliation_fini) struct reconciliation r = {.in = in, .built = json_object(), .keys = json_object(), .devices = json_array(), .unknown = json_array()};
    CLEANUP(buf_fini) struct buf text = BUF_INIT(MANIFEST_MAX);
    const char *format = invocation_option(in, "format");
    if (invocation_option(in, "hold") && invocation_option(in, "quarantine"))
        return err_set(err, MUSTER_EUSAGE, "--hold or --quarantine, not both.");
    if (invocation_option(in, "output") && (in->json || !format || strcmp(format, "csv")))
        return err_set(err, MUSTER_EUSAGE, "-o goes with --format csv.");
    int rc = file_arg_read(in->args[0], &text, err);
    if (rc || (rc = manifest_read(buf_span(&text), &r.manifest, err)) || (rc = check_line(&r, err)) || (rc = manifest_tell(in, &r.manifest, &r.told, err)))
        return rc;
    take_manifest(&r);
    if ((rc = walk(&r, err)))
        return rc;
    not_seen(&r);
    CLEANUP_JSON json_t *summary = summary_of(&r);
    rc = take_out(&r, summary, err);
    if (in->json) {
        json_set(summary, "told_before", json_incref(json_object_get(r.told, "told")));
        json_set(summary, "devices", json_incref(r.devices));
        int printed = print_json(summary, rc ? NULL : err);
        rc = rc ? rc : printed;
    } else {
        int printed = print_people(&r, summary, rc ? NULL : err);
        rc = rc ? rc : printed;
    }
    if (!rc && invocation_option(in, "check") && anything_alarming(&r))
        return err_set(err, MUSTER_ERECONCILE, NULL);
    return rc;
}
