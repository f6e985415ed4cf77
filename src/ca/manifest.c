/* manifest: writing; see manifest.h. */
#include "ca/manifest_part.h"

#include "base/file.h"
#include "base/hex.h"
#include "ca/signer.h"
#include "json/json.h"

struct writer {
    struct buf *out;
    size_t from;                          /* of the line before */
    size_t n;                             /* entries */
    char previous[2 * PKI_HASH_LEN + 1];
};

/* Takes the line over. */
static int put(struct writer *w, json_t *line, size_t members) {
    CLEANUP_JSON json_t *owned = line;
    struct hash h;
    if (json_object_size(owned) != members)
        return MUSTER_ENOMEM;
    w->from = w->out->n;
    int rc = json_write(w->out, owned);
    if (rc || !buf_ok(w->out))
        return MUSTER_ENOMEM;
    hash_of(span_sub(buf_span(w->out), w->from, w->out->n), &h);
    hex_encode(hash_span(&h), w->previous);
    buf_addc(w->out, '\n');
    return buf_check(w->out, NULL);
}

static int put_head(struct writer *w, const struct ca *ca) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    json_t *head = json_object();
    if (cert_pem(ca->intermediate, &pem)) {
        json_decref(head);
        return MUSTER_ENOMEM;
    }
    json_set_int(head, "manifest", MANIFEST_FORMAT);
    json_set_uuid(head, "kit", &ca->kit.id);
    json_set_str(head, "account", ca->kit.account);
    json_set_str(head, "line", ca->kit.line);
    json_set_span(head, "certificate", buf_span(&pem));
    return put(w, head, 5);
}

static const char *text_of(const json_t *record, const char *name) { return json_string_value(json_object_get(record, name)); }

static int put_entry(struct writer *w, const json_t *record, bool revoke) {
    json_t *entry = json_object();
    json_set_int(entry, "n", (int64_t)++w->n);
    json_set_str(entry, "event", revoke ? "revoke" : "issue");
    json_set_str(entry, "at", text_of(record, revoke ? "revoked" : "issued"));
    json_set_str(entry, "device_id", text_of(record, "device_id"));
    json_set_str(entry, "serial", text_of(record, "serial"));
    if (revoke) {
        json_set_str(entry, "reason", text_of(record, "reason"));
    } else {
        json_set_str(entry, "key", text_of(record, "key"));
        json_set_str(entry, "fingerprint", text_of(record, "fingerprint"));
        json_set_str(entry, "not_after", text_of(record, "not_after"));
    }
    json_set_str(entry, "previous", w->previous);
    return put(w, entry, revoke ? 7 : 9);
}

static int put_entries(struct writer *w, const struct ca *ca) {
    CLEANUP_JSON json_t *seen = json_object();
    const json_t *record;
    size_t i;
    int rc = 0;
    json_array_foreach(ca->journal.order, i, record) {
        const char *serial = text_of(record, "serial");
        if (strcmp(text_of(record, "kind"), "device"))
            continue;
        bool revoke = json_object_get(seen, serial) != NULL; /* the second time */
        if (rc || (rc = put_entry(w, record, revoke)))
            return rc;
        json_object_set_new(seen, serial, json_true());
    }
    return rc;
}

static int put_end(struct writer *w, const struct ca *ca, struct err *err) {
    CLEANUP(buf_fini) struct buf what = BUF_INIT(1024);
    CLEANUP(buf_fini) struct buf signature = BUF_INIT(1024);
    CLEANUP(buf_fini) struct buf text = BUF_INIT(2048);
    char kit[UUID_TEXT_LEN + 1], at[CLOCK_RFC3339_LEN + 1];
    json_t *end = json_object();
    uuid_text(&ca->kit.id, kit);
    clock_rfc3339(clock_now(), at);
    manifest_message(&what, kit, at, (int64_t)w->n, w->previous);
    int rc = signer_fault(ca, key_sign(ca->key, buf_span(&what), &signature, err), err);
    base64_add(&text, buf_span(&signature));
    json_set_str(end, "event", "end");
    json_set_str(end, "at", at);
    json_set_int(end, "entries", (int64_t)w->n);
    json_set_str(end, "previous", w->previous);
    json_set_span(end, "signature", buf_span(&text));
    int put_rc = put(w, end, 5);
    return rc ? rc : put_rc ? err_set(err, put_rc, NULL) : 0;
}

static int write_locked(struct ca *ca, size_t *entries, struct buf *text, struct err *err) {
    struct writer w = {.out = text};
    int rc = put_head(&w, ca);
    if (rc || (rc = put_entries(&w, ca)))
        return err_set(err, rc, NULL);
    if ((rc = put_end(&w, ca, err)))
        return rc;
    *entries = w.n;
    return file_replace(ca->fd, MANIFEST_FILE, buf_span(text), 0644, err);
}

int manifest_write(struct ca *ca, size_t *entries, struct buf *out, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(MANIFEST_MAX);
    if (!ca->kit.doc || !ca->key || ca->key_is_root)
        return err_set(err, MUSTER_ENOTFOUND, "The directory is no factory line's.");
    int rc = ca_begin(ca, err); /* whatever was open is closed, and the order does not change any more */
    if (rc)
        return rc;
    rc = write_locked(ca, entries, &text, err);
    ca_end(ca);
    if (!rc && out)
        buf_add(out, buf_span(&text));
    return rc ? rc : out ? buf_check(out, err) : 0;
}
