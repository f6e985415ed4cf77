/* The files of a fleet CA, which a person may have edited, and what an operator says of the gateway: the journal, ca.json, the URL. */
#include "fuzz.h"
#include "base/hex.h"
#include "ca/ca.h"
#include "ca/list.h"
#include "ca/manifest.h"
#include "ca/name.h"
#include "ca/server.h"
#include "json/json.h"

static const char *text_of(const json_t *record, const char *name) { return json_string_value(json_object_get(record, name)); }

/* The record, written again from what was read of it. */
static void write_again(const json_t *record, struct buf *out) {
    const char *state = text_of(record, "state"), *id = text_of(record, "device_id");
    struct journal_reserve r = {.kind = text_of(record, "kind"), .device_id = span_str(id)};
    struct hash fingerprint;
    int64_t reserved, issued, not_after;
    snprintf(r.serial, sizeof r.serial, "%s", text_of(record, "serial"));
    MUST(hex_decode(span_str(text_of(record, "key")), r.key.b, sizeof r.key.b) == 0 && clock_parse_rfc3339(span_str(text_of(record, "reserved")), &reserved) == 0);
    MUST(journal_line_reserve(&r, reserved, out) == 0);
    if (strcmp(state, "issued") == 0 || strcmp(state, "revoked") == 0) {
        MUST(hex_decode(span_str(text_of(record, "fingerprint")), fingerprint.b, sizeof fingerprint.b) == 0);
        MUST(clock_parse_rfc3339(span_str(text_of(record, "not_after")), &not_after) == 0 && clock_parse_rfc3339(span_str(text_of(record, "issued")), &issued) == 0);
        MUST(journal_line_issue(r.serial, &fingerprint, not_after, issued, out) == 0);
        MUST(strcmp(state, "issued") == 0 || (journal_revocable(record) && journal_line_revoke(r.serial, text_of(record, "reason"), issued, out) == 0));
    } else if (strcmp(state, "abandoned") == 0) {
        MUST(journal_line_abandon(r.serial, reserved, out) == 0);
    } else {
        MUST(strcmp(state, "reserved") == 0);
    }
}

static int64_t time_of(const json_t *record, const char *name) {
    int64_t at = 0;
    MUST(clock_parse_rfc3339(span_str(text_of(record, name)), &at) == 0);
    return at;
}

/* Its devices as one batch and its newest lists: what the two lines of a batch say is what the lines of each would. */
static void check_batch(const struct journal *j) {
    static struct journal_reserve asked[JOURNAL_BATCH_MAX];
    static struct journal_issue given[JOURNAL_BATCH_MAX];
    CLEANUP(journal_fini) struct journal same = {0};
    CLEANUP(buf_fini) struct buf text = BUF_INIT(2 * JOURNAL_BATCH_LINE_MAX);
    size_t n_asked = 0, n_given = 0;
    const char *serial;
    json_t *record;
    json_object_foreach(j->serials, serial, record) {
        if (!journal_is(record, "issued") && !journal_is(record, "reserved"))
            continue;
        if (!text_of(record, "device_id") || n_asked == JOURNAL_BATCH_MAX)
            continue;
        struct journal_reserve *r = &asked[n_asked++];
        *r = (struct journal_reserve){.kind = "device", .device_id = span_str(text_of(record, "device_id"))};
        snprintf(r->serial, sizeof r->serial, "%s", serial);
        MUST(hex_decode(span_str(text_of(record, "key")), r->key.b, sizeof r->key.b) == 0);
        if (!journal_is(record, "issued"))
            continue;
        struct journal_issue *i = &given[n_given++];
        *i = (struct journal_issue){.not_after = time_of(record, "not_after")};
        snprintf(i->serial, sizeof i->serial, "%s", serial);
        MUST(hex_decode(span_str(text_of(record, "fingerprint")), i->fingerprint.b, sizeof i->fingerprint.b) == 0);
    }
    MUST(n_asked == 0 || journal_line_reserve_batch(asked, n_asked, 1767225600, &text) == 0);
    MUST(n_given == 0 || journal_line_issue_batch(given, n_given, 1767225600, &text) == 0);
    for (int i = 0; i < 2; i++)
        MUST(j->crl[i] == 0 || journal_line_crl(i == 0, j->crl[i], n_given, 1767225600, &text) == 0);
    MUST(journal_init(&same) == 0 && journal_read(&same, buf_span(&text), NULL) == 0 && same.bytes == text.n && same.crl[0] == j->crl[0] && same.crl[1] == j->crl[1]);
    MUST(json_object_size(same.serials) == n_asked && json_object_size(same.open) == n_asked - n_given && json_array_size(same.order) == n_given);
    for (size_t i = 0; i < n_asked; i++) {
        const json_t *was = json_object_get(j->serials, asked[i].serial), *is = json_object_get(same.serials, asked[i].serial), *newest = NULL;
        MUST(is && strcmp(text_of(is, "device_id"), text_of(was, "device_id")) == 0 && strcmp(text_of(is, "key"), text_of(was, "key")) == 0 && journal_is(is, text_of(was, "state")));
        newest = journal_issued_key(&same, text_of(is, "device_id"), &asked[i].key);
        MUST(journal_is(is, "issued") ? newest != NULL : !newest || newest != is);
        MUST(!newest || strcmp(text_of(newest, "key"), text_of(is, "key")) == 0);
    }
}

static void check_reasons(void) {
    for (int i = -1; i < 12; i++)
        MUST(!journal_reason_name(i) || journal_reason(journal_reason_name(i)) == i);
}

static void check_journal(const struct journal *j, struct span in) {
    CLEANUP(journal_fini) struct journal same = {0};
    CLEANUP(buf_fini) struct buf text = BUF_INIT(1u << 20);
    const char *serial;
    json_t *record;
    MUST(j->bytes <= in.n && span_index(span_sub(in, j->bytes, in.n), '\n') < 0);
    json_object_foreach(j->serials, serial, record) {
        const char *id = text_of(record, "device_id");
        MUST(strcmp(serial, text_of(record, "serial")) == 0);
        MUST((strcmp(text_of(record, "state"), "reserved") == 0) == (json_object_get(j->open, serial) != NULL));
        MUST(!id || (json_object_get(j->devices, id) && json_object_get(j->keys, text_of(record, "key"))));
        write_again(record, &text);
    }
    json_object_foreach(j->devices, serial, record) {
        const json_t *issued = journal_issued(j, serial);
        MUST(json_array_size(record) >= 1 && (!issued || strcmp(text_of(issued, "device_id"), serial) == 0));
    }
    MUST(json_array_size(j->order) <= 2 * json_object_size(j->serials));
    MUST(journal_init(&same) == 0 && journal_read(&same, buf_span(&text), NULL) == 0);
    MUST(json_object_size(same.open) == json_object_size(j->open) && json_object_size(same.devices) == json_object_size(j->devices));
    MUST(json_object_size(same.serials) == json_object_size(j->serials) && json_object_size(same.keys) == json_object_size(j->keys));
    check_batch(j);
    check_reasons();
}

/* Read at once, and a line at a time. */
static void fuzz_journal(struct span in) {
    CLEANUP(journal_fini) struct journal whole = {0};
    CLEANUP(journal_fini) struct journal pieces = {0};
    struct err err = ERR_INIT;
    MUST(journal_init(&whole) == 0 && journal_init(&pieces) == 0);
    int rc = journal_read(&whole, in, &err), rc2 = 0;
    for (size_t at = 0, n; rc2 == 0 && at < in.n; at += n) {
        struct span rest = span_sub(in, at, in.n);
        long end = span_index(rest, '\n');
        n = end < 0 ? rest.n : (size_t)end + 1;
        rc2 = journal_read(&pieces, span_sub(rest, 0, n), NULL);
    }
    MUST(rc == rc2 && whole.lines == pieces.lines && whole.bytes == pieces.bytes);
    MUST(rc == 0 || (rc == MUSTER_ECORRUPT && err.code == rc && span_is_utf8(span_str(err.text))));
    if (rc == 0)
        check_journal(&whole, in);
}

/* A batch as it would be issued: each device once, and each by the rules for one. */
static void fuzz_list(struct span in, const char *column) {
    CLEANUP(ca_list_fini) struct ca_list list = {0};
    struct err err = ERR_INIT;
    int rc = ca_list_read(in, column, &list, &err);
    MUST(rc == 0 || ((rc == MUSTER_EINVALID || rc == MUSTER_EDEVICEID) && err.code == rc && list.n == 0));
    for (size_t i = 0; i < list.n; i++) {
        const struct ca_list_row *r = &list.rows[i];
        MUST(ca_check_device_id(r->device_id, NULL) == 0 && r->line >= 1 && (i == 0 || r->line > list.rows[i - 1].line));
        MUST((r->life == 0 || (r->life >= CLOCK_HOUR && r->life <= CA_LIFE_MAX)) && (column == NULL || (r->life == 0 && r->kind == KEY_NONE)));
        for (size_t k = 0; k < i && k < 16; k++)
            MUST(!span_eq(r->device_id, list.rows[k].device_id));
    }
}

/* A kit, written again from what was read of it. */
static void fuzz_kit(struct span in) {
    CLEANUP(kit_fini) struct kit k = {0};
    CLEANUP(kit_fini) struct kit same = {0};
    CLEANUP_JSON json_t *line = NULL;
    CLEANUP(buf_fini) struct buf text = BUF_INIT(1u << 20);
    struct err err = ERR_INIT;
    int rc = kit_read(in, &k, &err);
    MUST(rc == 0 ? k.doc != NULL : (rc == MUSTER_ECORRUPT || rc == MUSTER_EVERSION) && err.code == rc && !k.doc && span_is_utf8(span_str(err.text)));
    if (rc)
        return;
    line = json_copy(k.doc);
    json_set_str(line, "name", k.line);
    MUST(kit_write(line, &text) == 0 && kit_read(buf_span(&text), &same, NULL) == 0 && same.max_devices == k.max_devices && strcmp(same.id_pattern, k.id_pattern) == 0 && same.expires == k.expires);
    rc = kit_check(&k, SPAN_LIT("vin-1"), k.max_devices - 1, k.expires - 1, &err);
    MUST(rc == 0 || rc == MUSTER_EKIT);
    MUST(kit_check(&k, SPAN_LIT("vin-1"), k.max_devices, k.expires - 1, NULL) == MUSTER_EKIT && kit_check(&k, SPAN_LIT("vin-1"), 0, k.expires, NULL) == MUSTER_EKIT);
}

/* Each entry has the number of its place, and its form. */
static void check_entries(const struct manifest *m) {
    const json_t *entry;
    size_t i;
    json_array_foreach(m->entries, i, entry) {
        const char *reason = text_of(entry, "reason"), *fingerprint = text_of(entry, "fingerprint");
        MUST(json_integer_value(json_object_get(entry, "n")) == (json_int_t)i + 1 && journal_is_time(text_of(entry, "at")) && journal_is_hex(text_of(entry, "serial"), MAKE_SERIAL_LEN));
        MUST(reason ? !fingerprint && journal_reason(reason) >= 0 : journal_is_hex(fingerprint, PKI_HASH_LEN) && journal_is_time(text_of(entry, "not_after")));
    }
}

static void fuzz_manifest(struct span in) {
    CLEANUP(manifest_fini) struct manifest m = {0};
    struct err err = ERR_INIT;
    int rc = manifest_read(in, &m, &err);
    MUST(rc == 0 ? m.cert && json_is_array(m.entries) : rc == MUSTER_EMANIFEST && err.code == rc && !m.head && span_is_utf8(span_str(err.text)));
    if (rc == 0)
        check_entries(&m);
}

static void fuzz_config(struct span in) {
    CLEANUP_JSON json_t *config = NULL;
    CLEANUP_JSON json_t *same = NULL;
    CLEANUP(buf_fini) struct buf text = BUF_INIT(1u << 20);
    struct err err = ERR_INIT;
    int64_t life = 0, same_life = 0;
    int rc = ca_read_config(in, &config, &life, &err);
    MUST(rc == 0 ? config != NULL : (rc == MUSTER_ECORRUPT || rc == MUSTER_EVERSION) && err.code == rc && !config && span_is_utf8(span_str(err.text)));
    if (rc)
        return;
    struct ca_init init = {.device_life = life, .subject = ca_subject(config)};
    MUST(ca_write_config(&init, 1, &text) == 0 && ca_read_config(buf_span(&text), &same, &same_life, NULL) == 0 && life == same_life);
    struct subject again = ca_subject(same);
    MUST(span_eq(again.country, init.subject.country) && span_eq(again.organisational_unit, init.subject.organisational_unit));
}

static void fuzz_server(struct span in) {
    struct ca_server s = CA_SERVER_INIT, same = CA_SERVER_INIT;
    struct err err = ERR_INIT;
    if (ca_server_set_url(&s, in, &err) == 0) {
        MUST(s.url.n > 9 && s.url.n <= 256 && s.url.p[s.url.n - 1] == '\n' && s.url.p[s.url.n - 2] != '/');
        MUST(span_starts(buf_span(&s.url), SPAN_LIT("https://")) && span_index(buf_span(&s.url), '\n') == (long)s.url.n - 1);
        MUST(ca_server_set_url(&same, buf_span(&s.url), NULL) == 0 && span_eq(buf_span(&same.url), buf_span(&s.url)));
    } else {
        MUST(err.code == MUSTER_EINVALID && s.url.n == 0);
    }
    err = ERR_INIT;
    if (ca_server_set_root(&s, in, 1800000000, &err) == 0)
        MUST(ca_server_set_root(&same, buf_span(&s.root), 1800000000, NULL) == 0 && span_eq(buf_span(&s.root), buf_span(&same.root)));
    else
        MUST(err.code < 0 && err.text[0] && s.root.n == 0);
    ca_server_fini(&s);
    ca_server_fini(&same);
}

static void fuzz_name(struct span in) {
    CLEANUP(buf_fini) struct buf name = BUF_INIT(512);
    ca_file_name(&name, in);
    MUST(buf_ok(&name) && name.n <= 240 && !memchr(buf_str(&name), '/', name.n) && strcmp(buf_str(&name), ".") && strcmp(buf_str(&name), ".."));
    MUST(ca_check_device_id(in, NULL) || (name.n > 0 && strlen(buf_str(&name)) == name.n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n);
    fuzz_journal(in);
    fuzz_config(in);
    fuzz_server(in);
    fuzz_name(in);
    fuzz_kit(in);
    fuzz_manifest(in);
    fuzz_list(in, NULL);
    fuzz_list(in, "serial");
    return 0;
}
