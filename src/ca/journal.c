/* journal: see journal.h.  Reading is strict: whatever this module would not have written ends it, because a CA that guesses at its own
 * record would sign twice. */
#include "ca/journal.h"

#include "base/hex.h"
#include "json/json.h"

#define DEVICE_ID_MAX 128 /* bytes: what a server takes */

int journal_init(struct journal *j) {
    *j = (struct journal){.serials = json_object(), .devices = json_object(), .keys = json_object(), .open = json_object()};
    return j->serials && j->devices && j->keys && j->open ? 0 : MUSTER_ENOMEM;
}

void journal_fini(struct journal *j) {
    json_decref(j->serials);
    json_decref(j->devices);
    json_decref(j->keys);
    json_decref(j->open);
    *j = (struct journal){0};
}

/* --- reading ---------------------------------------------------------------------------------------------------------------- */

static bool is_hex(const char *s, size_t bytes) {
    size_t n = 0;
    for (; s[n]; n++)
        if (hex_digit((uint8_t)s[n]) < 0 || (s[n] >= 'A' && s[n] <= 'F'))
            return false;
    return n == 2 * bytes;
}

static bool is_time(const char *s) {
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

static int read_reserve(struct journal *j, json_t *line, const char *at, const char *serial, struct err *err) {
    const char *event, *kind, *key, *device_id = NULL;
    int rc = json_take(line, err, "{s:s, s:s, s:s, s:s, s?s, s:s}", "at", &at, "event", &event, "serial", &serial, "kind", &kind, "device_id", &device_id, "key", &key);
    if (rc)
        return rc;
    bool device = strcmp(kind, "device") == 0;
    if (!device && strcmp(kind, "root") && strcmp(kind, "intermediate") && strcmp(kind, "proof"))
        return wrong(err, "Its kind is not known");
    if (device != (device_id != NULL) || (device && !is_device_id(device_id)) || !is_hex(key, PKI_HASH_LEN))
        return wrong(err, "Its device ID or key is not well-formed");
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

static int read_close(struct journal *j, json_t *line, bool issue, const char *at, const char *serial, struct err *err) {
    const char *event, *fingerprint = NULL, *not_after = NULL;
    int rc = issue ? json_take(line, err, "{s:s, s:s, s:s, s:s, s:s}", "at", &at, "event", &event, "serial", &serial, "fingerprint", &fingerprint, "not_after", &not_after)
                   : json_take(line, err, "{s:s, s:s, s:s}", "at", &at, "event", &event, "serial", &serial);
    if (rc)
        return rc;
    json_t *record = json_object_get(j->open, serial);
    if (!record)
        return wrong(err, "Its serial is not reserved, or was used before");
    if (issue && (!is_hex(fingerprint, PKI_HASH_LEN) || !is_time(not_after)))
        return wrong(err, "Its fingerprint or end is not well-formed");
    json_set_str(record, "state", issue ? "issued" : "abandoned");
    if (issue) {
        json_set_str(record, "issued", at);
        json_set_str(record, "fingerprint", fingerprint);
        json_set_str(record, "not_after", not_after);
    }
    json_object_del(j->open, serial);
    return 0;
}

static int read_line(struct journal *j, struct span text, struct err *err) {
    if (text.n > JOURNAL_LINE_MAX)
        return wrong(err, "It is too long");
    CLEANUP_JSON json_t *line = json_parse(text, err);
    if (!line)
        return MUSTER_EJSON;
    const char *at = json_string_value(json_object_get(line, "at")), *event = json_string_value(json_object_get(line, "event"));
    const char *serial = json_string_value(json_object_get(line, "serial"));
    if (!at || !event || !serial || !is_time(at) || !is_hex(serial, MAKE_SERIAL_LEN))
        return wrong(err, "Its time, event or serial is not well-formed");
    if (strcmp(event, "reserve") == 0)
        return read_reserve(j, line, at, serial, err);
    if (strcmp(event, "issue") == 0 || strcmp(event, "abandon") == 0)
        return read_close(j, line, event[0] == 'i', at, serial, err);
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

/* --- questions -------------------------------------------------------------------------------------------------------------- */

void journal_new_serial(const struct journal *j, uint8_t serial[MAKE_SERIAL_LEN], char text[JOURNAL_SERIAL_LEN + 1]) {
    do {
        make_serial(serial);
        hex_encode(span_of(serial, MAKE_SERIAL_LEN), text);
    } while (json_object_get(j->serials, text));
}

const json_t *journal_issued(const struct journal *j, const char *device_id) {
    const json_t *of_device = json_object_get(j->devices, device_id), *newest = NULL;
    for (size_t i = 0; i < json_array_size(of_device); i++) {
        const json_t *record = json_array_get(of_device, i);
        if (strcmp(json_string_value(json_object_get(record, "state")), "issued") == 0)
            newest = record;
    }
    return newest;
}
