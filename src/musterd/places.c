/* places: see places.h. */
#include "musterd/places.h"

#include "vault/policy.h"

#define LINE_MAX_BYTES 199                                          /* as config.h has it */
#define HOST_MAX (LINE_MAX_BYTES - (int)sizeof "host.32 = " + 1) /* and `<account>.<host>` is a DNS name still */

/* Appends the host as certificates have it: in lower case, without the root's dot. */
static int add_host(struct span host, int code, const char *where, struct buf *out, struct err *err) {
    char text[HOST_MAX + 1];
    struct err why = ERR_INIT;
    size_t n = host.n > 1 && host.p[host.n - 1] == '.' ? host.n - 1 : host.n;
    if (n > HOST_MAX)
        return err_set(err, code, "%s: a host's name has at most %d bytes, and `%.*s` has more.", where, HOST_MAX, SPAN_FMT(host));
    for (size_t i = 0; i < n; i++)
        text[i] = (char)(host.p[i] >= 'A' && host.p[i] <= 'Z' ? host.p[i] | 0x20 : host.p[i]);
    if (policy_server_name(span_of(text, n), &why))
        return err_set(err, code, "%s: `%.*s` is neither a host name nor an address.", where, SPAN_FMT(host));
    buf_addf(out, "%s%.*s", out->n ? " " : "", (int)n, text);
    return 0;
}

int places_hosts(const struct options *o, struct buf *out, struct err *err) {
    for (size_t i = 0; i < o->n_hosts; i++) {
        int rc = add_host(span_str(o->hosts[i]), MUSTER_EUSAGE, "--host", out, err);
        if (rc)
            return rc;
    }
    return buf_check(out, err);
}

int places_line(const char *key, const char *value, struct err *err) {
    if (value && strlen(key) + 3 + strlen(value) > LINE_MAX_BYTES)
        return err_set(err, MUSTER_EUSAGE, "%s: the value is too long for a line of musterd.conf, which has at most %d bytes.", key, LINE_MAX_BYTES);
    return 0;
}

/* Those of the file. */
static int normalise(struct settings *s, struct err *err) {
    CLEANUP(buf_fini) struct buf hosts = BUF_INIT(8192);
    for (const char *at = s->host; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        int rc = add_host(span_of(at, n), MUSTER_ECONFIG, "host", &hosts, err);
        if (rc)
            return rc;
        at += n;
    }
    int rc = buf_check(&hosts, err);
    return rc ? rc : config_set(SETTINGS_TABLE, SETTINGS_COUNT, s, "host", "host", buf_str(&hosts), err);
}

static int set(struct settings *s, const char *option, const char *name, const char *value, struct err *err) {
    return value && *value ? config_set(SETTINGS_TABLE, SETTINGS_COUNT, s, option, name, value, err) : 0;
}

int places_settings(const struct options *o, const struct data *d, struct settings *out, struct err *err) {
    CLEANUP(buf_fini) struct buf hosts = BUF_INIT(OPTIONS_HOSTS_MAX * 256);
    CLEANUP(settings_fini) struct settings s = {0};
    char path[PATH_MAX] = "";
    int rc = d ? data_path(d, DATA_CONFIG, path, err) : 0;
    if (rc || (rc = places_hosts(o, &hosts, err)) || (rc = settings_load(o->value[OPT_CONFIG] ? o->value[OPT_CONFIG] : *path ? path : NULL, &s, err)))
        return rc;
    if ((rc = normalise(&s, err)) || (rc = set(&s, "--host", "host", buf_str(&hosts), err)) || (rc = set(&s, "--listen", "listen", o->value[OPT_LISTEN], err)) ||
        (rc = set(&s, "--admin", "admin", o->value[OPT_ADMIN], err)) || (rc = set(&s, "--master-key", "master_key", o->value[OPT_MASTER_KEY], err)) ||
        (rc = set(&s, "--master-key-file", "master_key_file", o->value[OPT_MASTER_KEY_FILE], err)))
        return rc;
    *out = s;
    s = (struct settings){0};
    return 0;
}

void places_first_host(const struct settings *s, char *out, size_t max) {
    snprintf(out, max, "%.*s", (int)strcspn(s->host, " "), s->host);
    if (!*out)
        snprintf(out, max, "localhost");
}
