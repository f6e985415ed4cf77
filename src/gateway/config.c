/* config: POST /system_info/config, the client's whole effective configuration: PIN of its HSM and passwords included.  What is kept is
 * the list below and nothing else, in forms that leave no room for a secret; the rest is never copied, logged or named in an error. */
#include "gateway/keep_part.h"
#include "gateway/toml.h"

#define TEXT_MAX 128
#define URL_MAX 512

enum kind { WORD, TEXT, NUMBER, SWITCH, URL };
static const struct {
    const char *section, *key;
    enum kind kind;
} allowed[] = {
    {"provision", "mode", WORD}, {"provision", "device_id", TEXT}, {"provision", "primary_ecu_serial", TEXT}, {"provision", "primary_ecu_hardware_id", TEXT},
    {"provision", "server", URL}, {"provision", "ecu_registration_endpoint", URL}, {"provision", "expiry_days", NUMBER},
    {"tls", "server", URL}, {"tls", "ca_source", WORD}, {"tls", "cert_source", WORD}, {"tls", "pkey_source", WORD},
    {"uptane", "polling_sec", NUMBER}, {"uptane", "director_server", URL}, {"uptane", "repo_server", URL}, {"uptane", "key_source", WORD},
    {"uptane", "key_type", WORD}, {"uptane", "force_install_completion", SWITCH},
    {"pacman", "type", WORD}, {"pacman", "os", WORD}, {"pacman", "ostree_server", URL},
    {"storage", "type", WORD}, {"bootloader", "rollback_mode", WORD}, {"logger", "loglevel", NUMBER},
    {"telemetry", "report_network", SWITCH}, {"telemetry", "report_config", SWITCH},
};

static bool is_of(struct span s, const char *more) {
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr(more, c))))
            return false;
    }
    return true;
}

/* No user, no password, no query: an URL with either is left out. */
static bool is_url(struct span s) {
    struct span scheme = span_starts(s, SPAN_LIT("https://")) ? SPAN_LIT("https://") : SPAN_LIT("http://");
    return s.n <= URL_MAX && span_starts(s, scheme) && s.n > scheme.n && is_of(s, ":/.-_~[]");
}

static json_t *value_of(enum kind kind, struct span v, bool text) {
    uint64_t number;
    switch (kind) {
    case WORD:
        return v.n && v.n <= 64 && is_of(v, "_-.") ? json_stringn((const char *)v.p, v.n) : NULL;
    case TEXT:
        return text && v.n && v.n <= TEXT_MAX && !span_has_control(v) ? json_stringn((const char *)v.p, v.n) : NULL;
    case NUMBER:
        return v.n <= 12 && span_to_u64(v, &number) ? json_integer((json_int_t)number) : NULL;
    case SWITCH:
        return span_eq_str(v, "true") || span_eq_str(v, "1") ? json_true() : span_eq_str(v, "false") || span_eq_str(v, "0") ? json_false() : NULL;
    case URL:
        return text && is_url(v) ? json_stringn((const char *)v.p, v.n) : NULL;
    }
    return NULL;
}

/* What is not on the list, or not of its form, is left out. */
static int keep_one(void *arg, struct span section, struct span key, struct span value, bool text) {
    json_t *out = arg;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        if (!span_eq_str(section, allowed[i].section) || !span_eq_str(key, allowed[i].key))
            continue;
        json_t *v = value_of(allowed[i].kind, value, text), *in = json_object_get(out, allowed[i].section);
        if (!v)
            return 0;
        if (!in)
            json_set(out, allowed[i].section, in = json_object());
        if (json_object_get(in, allowed[i].key)) {
            json_decref(v);
            return MUSTER_EINVALID;
        }
        json_set(in, allowed[i].key, v);
        return 0;
    }
    return 0;
}

int config_take(struct span body, struct keeping *k, struct err *err) {
    CLEANUP_JSON json_t *out = json_object();
    int rc = toml_read(body, keep_one, out, err);
    return rc ? rc : report_take(k, REPORT_CONFIG, "", json_incref(out), json_incref(out), err);
}
