/* manifest_read: see manifest.h. */
#include "base/hex.h"
#include "ca/journal.h"
#include "ca/manifest_part.h"
#include "json/json.h"

struct reader {
    size_t line;
    bool ended;
    char hash[2 * PKI_HASH_LEN + 1]; /* of the line before */
};

static int wrong(struct err *err, const char *what) { return err_set(err, MUSTER_EMANIFEST, "%s.", what); }

static int read_head(struct manifest *m, json_t *line, struct err *err) {
    const char *kit, *pem;
    json_int_t format = 0;
    m->head = json_incref(line);
    int rc = json_take(line, err, "{s:I, s:s, s:s, s:s, s:s}", "manifest", &format, "kit", &kit, "account", &m->account, "line", &m->line, "certificate", &pem);
    if (rc)
        return rc;
    if (format > MANIFEST_FORMAT)
        return wrong(err, "It was written by a newer version of Muster");
    if (format != MANIFEST_FORMAT || uuid_parse(span_str(kit), &m->kit) || !kit_is_label(span_str(m->account), 32) || !kit_is_label(span_str(m->line), KIT_NAME_MAX))
        return wrong(err, "Its kit, account or line is not well-formed");
    return cert_from_file(span_str(pem), &m->cert, err);
}

static int read_entry(struct manifest *m, json_t *line, struct err *err) {
    const char *event = json_string_value(json_object_get(line, "event")), *at, *id, *serial, *key = NULL, *fingerprint = NULL, *not_after = NULL, *reason = NULL, *previous;
    json_int_t n = 0;
    bool revoke = event && strcmp(event, "revoke") == 0;
    if (!event || (!revoke && strcmp(event, "issue")))
        return wrong(err, "Its event is not known");
    int rc = revoke ? json_take(line, err, "{s:I, s:s, s:s, s:s, s:s, s:s, s:s}", "n", &n, "event", &event, "at", &at, "device_id", &id, "serial", &serial, "reason", &reason, "previous", &previous)
                    : json_take(line, err, "{s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "n", &n, "event", &event, "at", &at, "device_id", &id, "serial", &serial, "key", &key, "fingerprint", &fingerprint,
                                "not_after", &not_after, "previous", &previous);
    if (rc)
        return rc;
    struct span device_id = span_str(id);
    if (n != (json_int_t)json_array_size(m->entries) + 1 || !journal_is_time(at) || !journal_is_hex(serial, MAKE_SERIAL_LEN) || !device_id.n || device_id.n > 128 || span_has_control(device_id) ||
        (revoke ? journal_reason(reason) < 0 : !journal_is_hex(key, PKI_HASH_LEN) || !journal_is_hex(fingerprint, PKI_HASH_LEN) || !journal_is_time(not_after)))
        return wrong(err, "Its number, time or another member is not well-formed");
    return json_array_append(m->entries, line) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
}

static int check_signature(const struct manifest *m, const char *at, size_t entries, const char *previous, const char *signature, struct err *err) {
    CLEANUP(buf_fini) struct buf what = BUF_INIT(1024);
    CLEANUP(buf_fini) struct buf bytes = BUF_INIT(1024);
    char kit[UUID_TEXT_LEN + 1];
    uuid_text(&m->kit, kit);
    manifest_message(&what, kit, at, (int64_t)entries, previous);
    if (base64_decode(span_str(signature), &bytes) || key_verify(X509_get0_pubkey(m->cert->x), buf_span(&what), buf_span(&bytes), NULL))
        return wrong(err, "Its signature is not the line's");
    return 0;
}

static int read_end(struct manifest *m, json_t *line, struct err *err) {
    const char *event, *at, *previous, *signature;
    json_int_t entries = 0;
    m->end = json_incref(line);
    int rc = json_take(line, err, "{s:s, s:s, s:I, s:s, s:s}", "event", &event, "at", &at, "entries", &entries, "previous", &previous, "signature", &signature);
    if (rc)
        return rc;
    if (entries != (json_int_t)json_array_size(m->entries) || !journal_is_time(at) || clock_parse_rfc3339(span_str(at), &m->at) || hex_decode(span_str(previous), m->chain.b, sizeof m->chain.b))
        return wrong(err, "Its number of entries or its time is not right");
    return check_signature(m, at, (size_t)entries, previous, signature, err);
}

static int read_line(struct manifest *m, struct reader *r, struct span text, struct err *err) {
    CLEANUP_JSON json_t *line = NULL;
    struct hash h;
    if (r->ended || text.n > MANIFEST_LINE_MAX)
        return wrong(err, r->ended ? "Something stands behind the end" : "It is too long");
    if (!(line = json_parse(text, err)))
        return MUSTER_EMANIFEST;
    const char *previous = json_string_value(json_object_get(line, "previous")), *event = json_string_value(json_object_get(line, "event"));
    if (r->line > 1 && (!previous || strcmp(previous, r->hash)))
        return wrong(err, "It does not follow from the line before");
    int rc = r->line == 1 ? read_head(m, line, err) : event && strcmp(event, "end") == 0 ? read_end(m, line, err) : read_entry(m, line, err);
    r->ended = r->line > 1 && event && strcmp(event, "end") == 0;
    hash_of(text, &h);
    hex_encode(hash_span(&h), r->hash);
    return rc;
}

int manifest_read(struct span text, struct manifest *out, struct err *err) {
    CLEANUP(manifest_fini) struct manifest m = {.entries = json_array()};
    struct reader r = {0};
    if (!m.entries)
        return err_set(err, MUSTER_ENOMEM, NULL);
    while (text.n) {
        struct err why = ERR_INIT;
        long end = span_index(text, '\n');
        struct span one = span_sub(text, 0, end < 0 ? text.n : (size_t)end);
        text = span_sub(text, one.n + 1, text.n);
        r.line++;
        int rc = read_line(&m, &r, one, &why);
        if (rc == MUSTER_ENOMEM)
            return err_set(err, rc, NULL);
        if (rc)
            return err_set(err, MUSTER_EMANIFEST, "Line %zu of the manifest: %s", r.line, err_text(&why));
    }
    if (!r.ended)
        return err_set(err, MUSTER_EMANIFEST, "The manifest has no end, which is signed: it was cut off.");
    *out = m;
    m = (struct manifest){0};
    return 0;
}

void manifest_fini(struct manifest *m) {
    json_decref(m->head);
    json_decref(m->entries);
    json_decref(m->end);
    cert_free(m->cert);
    *m = (struct manifest){0};
}
