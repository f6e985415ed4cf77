/* kit: see kit.h. */
#include "ca/kit.h"

#include <sqlite3.h>

#include "json/json.h"

#define FORMAT 1
#define DEVICES_MAX 100000000

bool kit_is_label(struct span name, size_t max) {
    bool ok = name.n >= 1 && name.n <= max && name.p[0] != '-' && name.p[name.n - 1] != '-';
    for (size_t i = 0; ok && i < name.n; i++)
        ok = (name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= '0' && name.p[i] <= '9') || name.p[i] == '-';
    return ok;
}

static int bad(struct err *err, const char *what) { return err_set(err, MUSTER_ECORRUPT, KIT_FILE ": %s.", what); }

int kit_read(struct span text, struct kit *out, struct err *err) {
    struct err why = ERR_INIT;
    const char *id, *begins, *expires;
    json_int_t format = 0, max = 0;
    struct kit k = {0};
    CLEANUP_JSON json_t *doc = json_parse(text, &why);
    if (!doc)
        return err_set(err, MUSTER_ECORRUPT, KIT_FILE ": %s", err_text(&why));
    if (json_integer_value(json_object_get(doc, "format")) > FORMAT)
        return err_set(err, MUSTER_EVERSION, "The kit was made by a newer version of Muster.");
    if (json_take(doc, &why, "{s:I, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s}", "format", &format, "id", &id, "account", &k.account, "line", &k.line, "max_devices", &max, "id_pattern", &k.id_pattern,
                  "begins", &begins, "expires", &expires, "certificate", &k.certificate, "root_certificate", &k.root))
        return err_set(err, MUSTER_ECORRUPT, KIT_FILE ": %s", err_text(&why));
    if (format != FORMAT || uuid_parse(span_str(id), &k.id) || max < 1 || max > DEVICES_MAX)
        return bad(err, "its format, id or number of devices is out of its range");
    if (!kit_is_label(span_str(k.account), 32) || !kit_is_label(span_str(k.line), KIT_NAME_MAX))
        return bad(err, "its account or line is no lower-case DNS label");
    if (clock_parse_rfc3339(span_str(begins), &k.begins) || clock_parse_rfc3339(span_str(expires), &k.expires))
        return bad(err, "a time is not RFC 3339");
    if (strlen(k.id_pattern) > 128 || span_has_control(span_str(k.id_pattern)))
        return bad(err, "its pattern is not well-formed");
    k.max_devices = max;
    k.doc = TAKE(doc);
    *out = k;
    return 0;
}

int kit_write(const json_t *line, struct buf *out) {
    static const char *const members[] = {"id", "account", NULL, "max_devices", "id_pattern", "begins", "expires", "certificate", "root_certificate"};
    CLEANUP_JSON json_t *doc = json_object();
    json_set_int(doc, "format", FORMAT);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const char *name = members[i] ? members[i] : "line";
        json_t *value = json_object_get(line, members[i] ? members[i] : "name");
        if (!value)
            return MUSTER_EINVALID;
        json_set(doc, name, json_incref(value));
    }
    return json_write_pretty(out, doc);
}

void kit_fini(struct kit *k) {
    json_decref(k->doc);
    *k = (struct kit){0};
}

/* As the server matches, by the same function. */
static bool matches(const char *pattern, struct span id) {
    char text[129];
    if (id.n >= sizeof text)
        return false;
    memcpy(text, id.p, id.n);
    text[id.n] = '\0';
    return !*pattern || sqlite3_strglob(pattern, text) == 0;
}

int kit_check(const struct kit *k, struct span device_id, int64_t made, int64_t now, struct err *err) {
    if (now >= k->expires)
        return err_set(err, MUSTER_EKIT, "The time of the factory line %s is over: what it made now would wait for an operator.", k->line);
    if (!matches(k->id_pattern, device_id))
        return err_set(err, MUSTER_EKIT, "The factory line %s makes device IDs like %s, and %.*s is none.", k->line, k->id_pattern, SPAN_FMT(device_id));
    if (made >= k->max_devices)
        return err_set(err, MUSTER_EKIT, "The factory line %s has made as many devices as it may: %lld.", k->line, (long long)k->max_devices);
    return 0;
}
