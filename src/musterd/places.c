/* places: see places.h. */
#include "musterd/places.h"

static int check_host(const char *host, struct err *err) {
    size_t n = strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:");
    if (!n || host[n] || n > 253)
        return err_set(err, MUSTER_EUSAGE, "--host: `%s` is neither a host name nor an address.", host);
    return 0;
}

int places_hosts(const struct options *o, struct buf *out, struct err *err) {
    for (size_t i = 0; i < o->n_hosts; i++) {
        int rc = check_host(o->hosts[i], err);
        if (rc)
            return rc;
        buf_addf(out, "%s%s", i ? " " : "", o->hosts[i]);
    }
    return buf_check(out, err);
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
    if ((rc = set(&s, "--host", "host", buf_str(&hosts), err)) || (rc = set(&s, "--listen", "listen", o->value[OPT_LISTEN], err)) ||
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
