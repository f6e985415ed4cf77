/* journal: see journal.h.  Reading is strict: whatever this module would not have written ends it, because a CA that guesses at its own
 * record would sign twice. */
#include "ca/journal.h"

#include "base/hex.h"
#include "json/json.h"

#define DEVICE_ID_MAX 128 /* bytes: what a server takes */

int journal_init(struct journal *j) {
    *j = (struct journal){.serials = json_object(), .devices = json_object(), .keys = json_object(), .open = json_object(), .order = json_array()};
    return j->serials && j->devices && j->keys && j->open && j->order ? 0 : MUSTER_ENOMEM;
}

void journal_fini(struct journal *j) {
    json_decref(j->serials);
    json_decref(j->devices);
    json_decref(j->keys);
    json_decref(j->open);
    json_decref(j->order);
    *j = (struct journal){0};
}

/* --- words ------------------------------------------------------------------------------------------------------------------ */

static const char *const reasons[] = {[0] = "unspecified", [1] = "key-compromise", [3] = "affiliation-changed", [4] = "superseded", [5] = "cessation-of-operation", [9] = "privilege-withdrawn"};
#define REASONS (int)(sizeof reasons / sizeof *reasons)

int journal_reason(const char *name) {
    for (int i = 0; i < REASONS; i++)
        if (reasons[i] && strcmp(reasons[i], name) == 0)
            return i;
    return -1;
}

const char *journal_reason_name(int reason) { return reason >= 0 && reason < REASONS ? reasons[reason] : NULL; }

bool journal_is(const json_t *record, const char *state) {
    const char *is = json_string_value(json_object_get(record, "state"));
    return is && strcmp(is, state) == 0;
}

bool journal_revocable(const json_t *record) {
    const char *kind = json_string_value(json_object_get(record, "kind"));
    return kind && (strcmp(kind, "device") == 0 || strcmp(kind, "intermediate") == 0 || strcmp(kind, "line") == 0);
}

/* --- reading ---------------------------------------------------------------------------------------------------------------- */

bool journal_is_hex(const char *s, size_t bytes) {
    size_t n = 0;
    for (; s[n]; n++)
        if (hex_digit((uint8_t)s[n]) < 0 || (s[n] >= 'A' && s[n] <= 'F'))
            return false;
    return n == 2 * bytes;
}

bool journal_is_time(const char *s) {
    int64_t t;
    return strlen(s) == CLOCK_RFC3339_LEN && clock_parse_rfc3339(span_str(s), &t) == 0;
}

static bool is_device_id(const char *s) {
    struct span id = span_str(s);
    return id.n > 0 && id.n <= DEVICE_ID_MAX && span_is_utf8(id) && !span_has_control(id);
}

static int wrong(struct err *err, const char *what) { return err_set(err, MUSTER_ECORRUPT, "%s.", what); }

static int add_device(struct journal *j, json_t *record, const char *device_id, const char *key) {
    json_t *of_device = json_object_get(j->devices, device_id);
    if (!of_device) {
        of_device = json_array();
        json_object_set_new(j->devices, device_id, of_device);
    }
    if (json_array_append(of_device, record) || (!json_object_get(j->keys, key) && json_object_set(j->keys, key, record)))
        return MUSTER_ENOMEM;
    return 0;
}

/* One certificate of a line: takes a reservation in. */
static int take_reserve(struct journal *j, const char *at, const char *kind, const char *serial, const char *device_id, const char *key, struct err *err) {
    bool device = strcmp(kind, "device") == 0;
    if (!device && strcmp(kind, "root") && strcmp(kind, "intermediate") && strcmp(kind, "proof") && strcmp(kind, "line"))
        return wrong(err, "Its kind is not known");
    if (device != (device_id != NULL) || (device && !is_device_id(device_id)) || !journal_is_hex(key, PKI_HASH_LEN) || !journal_is_hex(serial, MAKE_SERIAL_LEN))
        return wrong(err, "Its device ID, serial or key is not well-formed");
    if (json_object_get(j->serials, serial))
        return wrong(err, "Its serial was reserved before");
    CLEANUP_JSON json_t *record = json_object();
    json_set_str(record, "id", serial);
    json_set_str(record, "serial", serial);
    json_set_str(record, "kind", kind);
    if (device)
        json_set_str(record, "device_id", device_id);
    json_set_str(record, "state", "reserved");
    json_set_str(record, "key", key);
    json_set_str(record, "reserved", at);
    if (json_object_size(record) != (device ? 7u : 6u) || json_object_set(j->serials, serial, record) || json_object_set(j->open, serial, record) ||
        (device && add_device(j, record, device_id, key)))
        return err_set(err, MUSTER_ENOMEM, NULL);
    return 0;
}

/* fingerprint NULL: it was abandoned. */
static int take_close(struct journal *j, const char *at, const char *serial, const char *fingerprint, const char *not_after, struct err *err) {
    json_t *record = json_object_get(j->open, serial);
    if (!record)
        return wrong(err, "Its serial is not reserved, or was used before");
    if (fingerprint && (!journal_is_hex(fingerprint, PKI_HASH_LEN) || !journal_is_time(not_after)))
        return wrong(err, "Its fingerprint or end is not well-formed");
    json_set_str(record, "state", fingerprint ? "issued" : "abandoned");
    if (fingerprint) {
        json_set_str(record, "issued", at);
        json_set_str(record, "fingerprint", fingerprint);
        json_set_str(record, "not_after", not_after);
    }
    if (fingerprint && json_array_append(j->order, record))
        return err_set(err, MUSTER_ENOMEM, NULL);
    json_object_del(j->open, serial);
    return 0;
}

static int read_reserve(struct journal *j, json_t *line, struct err *err) {
    const char *at, *event, *kind, *key, *serial, *device_id = NULL;
    int rc = json_take(line, err, "{s:s, s:s, s:s, s:s, s?s, s:s}", "at", &at, "event", &event, "serial", &serial, "kind", &kind, "device_id", &device_id, "key", &key);
    return rc ? rc : take_reserve(j, at, kind, serial, device_id, key, err);
}

static int read_issue(struct journal *j, json_t *line, struct err *err) {
    const char *at, *event, *serial, *fingerprint, *not_after;
    int rc = json_take(line, err, "{s:s, s:s, s:s, s:s, s:s}", "at", &at, "event", &event, "serial", &serial, "fingerprint", &fingerprint, "not_after", &not_after);
    return rc ? rc : take_close(j, at, serial, fingerprint, not_after, err);
}

static int read_abandon(struct journal *j, json_t *line, struct err *err) {
    const char *at, *event, *serial;
    int rc = json_take(line, err, "{s:s, s:s, s:s}", "at", &at, "event", &event, "serial", &serial);
    return rc ? rc : take_close(j, at, serial, NULL, NULL, err);
}

static int read_revoke(struct journal *j, json_t *line, struct err *err) {
    const char *at, *event, *serial, *reason;
    int rc = json_take(line, err, "{s:s, s:s, s:s, s:s}", "at", &at, "event", &event, "serial", &serial, "reason", &reason);
    if (rc)
        return rc;
    json_t *record = json_object_get(j->serials, serial);
    if (!journal_is(record, "issued") || !journal_revocable(record) || journal_reason(reason) < 0)
        return wrong(err, "Its serial is of nothing that can be revoked, or its reason is not known");
    json_set_str(record, "state", "revoked");
    json_set_str(record, "revoked", at);
    json_set_str(record, "reason", reason);
    return json_array_append(j->order, record) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
}

static int read_crl(struct journal *j, json_t *line, struct err *err) {
    const char *at, *event, *issuer;
    json_int_t number, entries;
    int rc = json_take(line, err, "{s:s, s:s, s:s, s:I, s:I}", "at", &at, "event", &event, "issuer", &issuer, "number", &number, "entries", &entries);
    if (rc)
        return rc;
    bool root = strcmp(issuer, "root") == 0;
    if ((!root && strcmp(issuer, "intermediate")) || entries < 0 || number <= 0 || (uint64_t)number <= j->crl[!root])
        return wrong(err, "Its issuer is not known, or its number was used before");
    j->crl[!root] = (uint64_t)number;
    return 0;
}

static int read_batch(struct journal *j, json_t *line, struct err *err) {
    const char *at, *event, *kind = NULL;
    json_t *batch, *one;
    size_t i;
    int rc = json_take(line, err, "{s:s, s:s, s?s, s:o}", "at", &at, "event", &event, "kind", &kind, "batch", &batch);
    if (rc)
        return rc;
    bool reserve = strcmp(event, "reserve") == 0;
    if ((!reserve && strcmp(event, "issue")) || reserve != (kind != NULL) || (kind && strcmp(kind, "device")) || !json_is_array(batch) || json_array_size(batch) == 0 ||
        json_array_size(batch) > JOURNAL_BATCH_MAX)
        return wrong(err, "It is of no batch that there is");
    json_array_foreach(batch, i, one) {
        const char *serial, *device_id, *key, *fingerprint, *not_after;
        rc = reserve ? json_take(one, err, "{s:s, s:s, s:s}", "serial", &serial, "device_id", &device_id, "key", &key)
                     : json_take(one, err, "{s:s, s:s, s:s}", "serial", &serial, "fingerprint", &fingerprint, "not_after", &not_after);
        if (!rc)
            rc = reserve ? take_reserve(j, at, kind, serial, device_id, key, err) : take_close(j, at, serial, fingerprint, not_after, err);
        if (rc)
            return rc;
    }
    return 0;
}

static const struct {
    const char *event;
    bool of_serial;
    int (*read)(struct journal *j, json_t *line, struct err *err);
} events[] = {{"reserve", true, read_reserve}, {"issue", true, read_issue}, {"abandon", true, read_abandon}, {"revoke", true, read_revoke}, {"crl", false, read_crl}};

static int read_line(struct journal *j, struct span text, struct err *err) {
    if (text.n > JOURNAL_BATCH_LINE_MAX)
        return wrong(err, "It is too long");
    CLEANUP_JSON json_t *line = json_parse(text, err);
    if (!line)
        return MUSTER_EJSON;
    const char *at = json_string_value(json_object_get(line, "at")), *event = json_string_value(json_object_get(line, "event"));
    const char *serial = json_string_value(json_object_get(line, "serial"));
    if (!at || !event || !journal_is_time(at) || (serial && !journal_is_hex(serial, MAKE_SERIAL_LEN)))
        return wrong(err, "Its time, event or serial is not well-formed");
    int64_t when = 0;
    if (clock_parse_rfc3339(span_str(at), &when) == 0 && when > j->newest)
        j->newest = when;
    if (json_object_get(line, "batch"))
        return read_batch(j, line, err);
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (strcmp(event, events[i].event) == 0)
            return events[i].of_serial && !serial ? wrong(err, "It has no serial") : events[i].read(j, line, err);
    return wrong(err, "Its event is not known");
}

int journal_read(struct journal *j, struct span text, struct err *err) {
    for (;;) {
        long end = span_index(text, '\n');
        if (end < 0)
            return 0;
        struct err why = ERR_INIT;
        int rc = read_line(j, span_sub(text, 0, (size_t)end), &why);
        if (rc == MUSTER_ENOMEM)
            return err_set(err, rc, NULL);
        if (rc)
            return err_set(err, MUSTER_ECORRUPT, "Line %zu of " JOURNAL_FILE " is not what a fleet CA writes: %s", j->lines + 1, err_text(&why));
        j->lines++;
        j->bytes += (size_t)end + 1;
        text = span_sub(text, (size_t)end + 1, text.n);
    }
}

/* --- writing ---------------------------------------------------------------------------------------------------------------- */

static json_t *line_of(const char *event, const char *serial, int64_t at) {
    json_t *line = json_object();
    json_set_time(line, "at", at);
    json_set_str(line, "event", event);
    if (serial)
        json_set_str(line, "serial", serial);
    return line;
}

static int put(struct buf *out, const json_t *line, size_t members) {
    if (json_object_size(line) != members)
        return MUSTER_ENOMEM;
    int rc = json_write(out, line);
    buf_addc(out, '\n');
    return rc ? rc : buf_check(out, NULL);
}

int journal_line_reserve(const struct journal_reserve *r, int64_t at, struct buf *out) {
    CLEANUP_JSON json_t *line = line_of("reserve", r->serial, at);
    json_set_str(line, "kind", r->kind);
    if (r->device_id.n)
        json_set_span(line, "device_id", r->device_id);
    json_set_hex(line, "key", hash_span(&r->key));
    return put(out, line, r->device_id.n ? 6 : 5);
}

int journal_line_issue(const char *serial, const struct hash *fingerprint, int64_t not_after, int64_t at, struct buf *out) {
    CLEANUP_JSON json_t *line = line_of("issue", serial, at);
    json_set_hex(line, "fingerprint", hash_span(fingerprint));
    json_set_time(line, "not_after", not_after);
    return put(out, line, 5);
}

int journal_line_abandon(const char *serial, int64_t at, struct buf *out) {
    CLEANUP_JSON json_t *line = line_of("abandon", serial, at);
    return put(out, line, 3);
}

int journal_line_revoke(const char *serial, const char *reason, int64_t at, struct buf *out) {
    CLEANUP_JSON json_t *line = line_of("revoke", serial, at);
    json_set_str(line, "reason", reason);
    return put(out, line, 4);
}

int journal_line_crl(bool root, uint64_t number, size_t entries, int64_t at, struct buf *out) {
    CLEANUP_JSON json_t *line = line_of("crl", NULL, at);
    json_set_str(line, "issuer", root ? "root" : "intermediate");
    json_set_int(line, "number", (int64_t)number);
    json_set_int(line, "entries", (int64_t)entries);
    return put(out, line, 5);
}

/* Ends the batch's line; its members are counted, because what could not be set is missing. */
static int put_batch(struct buf *out, const char *event, const char *kind, int64_t at, json_t *batch, size_t n) {
    CLEANUP_JSON json_t *line = line_of(event, NULL, at);
    const json_t *one;
    size_t i;
    bool whole = json_array_size(batch) == n;
    json_array_foreach(batch, i, one)
        whole = whole && json_object_size(one) == 3;
    if (kind)
        json_set_str(line, "kind", kind);
    json_set(line, "batch", batch);
    return whole ? put(out, line, kind ? 4 : 3) : MUSTER_ENOMEM;
}

int journal_line_reserve_batch(const struct journal_reserve *r, size_t n, int64_t at, struct buf *out) {
    json_t *batch = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *one = json_object();
        json_set_str(one, "serial", r[i].serial);
        json_set_span(one, "device_id", r[i].device_id);
        json_set_hex(one, "key", hash_span(&r[i].key));
        json_array_append_new(batch, one);
    }
    return put_batch(out, "reserve", "device", at, batch, n);
}

int journal_line_issue_batch(const struct journal_issue *r, size_t n, int64_t at, struct buf *out) {
    json_t *batch = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *one = json_object();
        json_set_str(one, "serial", r[i].serial);
        json_set_hex(one, "fingerprint", hash_span(&r[i].fingerprint));
        json_set_time(one, "not_after", r[i].not_after);
        json_array_append_new(batch, one);
    }
    return put_batch(out, "issue", NULL, at, batch, n);
}

/* --- questions -------------------------------------------------------------------------------------------------------------- */

void journal_new_serial(const struct journal *j, uint8_t serial[MAKE_SERIAL_LEN], char text[JOURNAL_SERIAL_LEN + 1]) {
    do {
        make_serial(serial);
        hex_encode(span_of(serial, MAKE_SERIAL_LEN), text);
    } while (json_object_get(j->serials, text));
}

/* The newest that is issued, of any key or of one. */
static const json_t *newest(const struct journal *j, const char *device_id, const char *key) {
    const json_t *of_device = json_object_get(j->devices, device_id), *found = NULL;
    for (size_t i = 0; i < json_array_size(of_device); i++) {
        const json_t *record = json_array_get(of_device, i);
        if (journal_is(record, "issued") && (!key || strcmp(json_string_value(json_object_get(record, "key")), key) == 0))
            found = record;
    }
    return found;
}

const json_t *journal_issued(const struct journal *j, const char *device_id) { return newest(j, device_id, NULL); }

const json_t *journal_issued_key(const struct journal *j, const char *device_id, const struct hash *key) {
    char hex[2 * PKI_HASH_LEN + 1];
    hex_encode(hash_span(key), hex);
    return newest(j, device_id, hex);
}
