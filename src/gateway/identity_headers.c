/* identity_headers: see identity_headers.h. */
#include "gateway/identity_headers.h"

#include <stdio.h>

#include "http/head.h"

#define PREFIX "x-muster-"

static const char *const KEYS[IDENTITY_VALUES] = {[IDENTITY_ACCOUNT] = "account", [IDENTITY_UUID] = "uuid", [IDENTITY_DEVICE_ID] = "device-id"};

static const struct {
    const char *preset;
    const char *name[IDENTITY_VALUES];
} PRESETS[] = {
    {"muster", {PREFIX "account", PREFIX "device-uuid", PREFIX "device-id"}},
    /* OTA Community Edition's services: the namespace is the account, the device is known by its UUID. */
    {"ota-ce", {"x-ats-namespace", "x-ats-device-uuid", "x-ats-device-id"}},
};
#define PRESETS_N (sizeof PRESETS / sizeof *PRESETS)

/* Fields that have a meaning of their own on the way. */
static const char *const TAKEN[] = {"host", "connection", "content-length", "content-type", "transfer-encoding", "te", "trailer", "upgrade", "expect", "authorization",
                                    "proxy-authorization", "cookie", "range", "date",
                                    "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"};

static bool same_name(struct span a, const char *b) { return head_names_alike(a, span_str(b)); }

static bool in_use(const struct identity_headers *h, struct span name) {
    for (int v = 0; v < IDENTITY_VALUES; v++)
        if (h->name[v][0] && same_name(name, h->name[v]))
            return true;
    return false;
}

bool identity_headers_claim(const struct identity_headers *h, struct span field) {
    if (in_use(h, field) || same_name(span_sub(field, 0, sizeof PREFIX - 1), PREFIX))
        return true;
    for (size_t i = 0; i < PRESETS_N; i++)
        for (int v = 0; v < IDENTITY_VALUES; v++)
            if (same_name(field, PRESETS[i].name[v]))
                return true;
    return false;
}

static bool is_taken(struct span name) {
    for (size_t i = 0; i < sizeof TAKEN / sizeof *TAKEN; i++)
        if (same_name(name, TAKEN[i]))
            return true;
    return false;
}

/* One word, KEY=NAME. */
static int take_name(struct span word, struct identity_headers *out, struct err *err) {
    long equals = span_index(word, '=');
    struct span key = equals < 0 ? word : span_sub(word, 0, (size_t)equals), name = equals < 0 ? SPAN_NONE : span_sub(word, (size_t)equals + 1, word.n);
    int v = 0;
    while (v < IDENTITY_VALUES && !span_eq_str(key, KEYS[v]))
        v++;
    if (equals < 0 || v == IDENTITY_VALUES)
        return err_set(err, MUSTER_ECONFIG, "identity_headers: `%.*s` is neither a preset (muster, ota-ce) nor account=NAME, uuid=NAME or device-id=NAME.", SPAN_FMT(word));
    if (!head_is_token(name) || name.n > IDENTITY_HEADER_MAX || is_taken(name))
        return err_set(err, MUSTER_ECONFIG, "identity_headers: `%.*s` cannot be the name of such a field.", SPAN_FMT(name));
    if (out->name[v][0] || in_use(out, name))
        return err_set(err, MUSTER_ECONFIG, "identity_headers: `%.*s` stands there twice.", SPAN_FMT(out->name[v][0] ? key : name));
    for (size_t i = 0; i < name.n; i++)
        out->name[v][i] = (char)(name.p[i] >= 'A' && name.p[i] <= 'Z' ? name.p[i] | 0x20 : name.p[i]);
    return 0;
}

int identity_headers_parse(const char *setting, struct identity_headers *out, struct err *err) {
    *out = (struct identity_headers){0};
    for (size_t i = 0; i < PRESETS_N; i++)
        if (strcmp(setting, PRESETS[i].preset) == 0) {
            for (int v = 0; v < IDENTITY_VALUES; v++)
                snprintf(out->name[v], sizeof out->name[v], "%s", PRESETS[i].name[v]);
            return 0;
        }
    for (const char *at = setting + strspn(setting, " "); *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        int rc = take_name(span_of(at, n), out, err);
        if (rc)
            return rc;
        at += n;
    }
    if (!out->name[IDENTITY_ACCOUNT][0] && !out->name[IDENTITY_UUID][0] && !out->name[IDENTITY_DEVICE_ID][0])
        return err_set(err, MUSTER_ECONFIG, "identity_headers names no field.");
    return 0;
}

static void percent_encode(const char *text, char *out) {
    static const char hex[] = "0123456789ABCDEF";
    for (; *text; text++) {
        uint8_t c = (uint8_t)*text;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c);
        if (plain) {
            *out++ = (char)c;
            continue;
        }
        *out++ = '%';
        *out++ = hex[c >> 4];
        *out++ = hex[c & 15];
    }
    *out = '\0';
}

void identity_headers_each(const struct identity_headers *h, const struct admit *a, void (*fn)(void *arg, const char *name, const char *value), void *arg) {
    char uuid[UUID_TEXT_LEN + 1], device_id[3 * DEVICE_ID_MAX + 1];
    uuid_text(&a->device, uuid);
    percent_encode(a->device_id, device_id);
    const char *const value[IDENTITY_VALUES] = {[IDENTITY_ACCOUNT] = a->account_name, [IDENTITY_UUID] = uuid, [IDENTITY_DEVICE_ID] = device_id};
    for (int v = 0; v < IDENTITY_VALUES; v++)
        if (h->name[v][0])
            fn(arg, h->name[v], value[v]);
}
