/* init: makes a data directory, once; fresh.h. */
#include "musterd/init.h"

#include <errno.h>
#include <fcntl.h>

#include "admin/control.h"
#include "base/file.h"
#include "base/secret.h"
#include "json/json.h"
#include "musterd/fresh.h"
#include "musterd/listen.h"
#include "musterd/master.h"
#include "musterd/places.h"
#include "musterd/report.h"
#include "vault/process.h"

#define HOSTS_LINE_MAX 150 /* bytes; lines of the configuration are not long, more hosts are a line each */

struct init {
    const struct options *options;
    struct settings settings;
    struct data data;
    struct master master;
    char gateway_url[320], admin_url[320];
};

static void init_fini(struct init *i) {
    master_fini(&i->master);
    settings_fini(&i->settings);
    data_close(&i->data);
}
DEFINE_CLEANUP_FINI(init_fini, struct init)

/* --- what is in it ------------------------------------------------------------------------------------------------------------------ */

static int make_vault(struct init *i, struct err *err) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(16384);
    int rc = file_make_dir(i->data.fd, "vault", 0700, err);
    if (rc || (rc = file_make_dir(i->data.fd, "tls", 0700, err)) || (rc = file_make_dir(i->data.fd, "crl", 0755, err)))
        return rc;
    CLEANUP(fd_close) int fd = openat(i->data.fd, "vault", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_set(err, MUSTER_EIO, "%s/vault cannot be opened: %s.", i->data.path, strerror(errno));
    if ((rc = vault_init(fd, &i->master.options, NULL, &pem, err)) || (rc = buf_check(&pem, err)))
        return rc;
    return file_replace(i->data.fd, "server-ca.pem", buf_span(&pem), 0644, err);
}

static int make_databases(struct init *i, struct err *err) {
    CLEANUP(buf_wipe) struct buf token = BUF_INIT(1024);
    int rc = control_init(i->data.path, &token, err);
    return rc ? rc : data_write_line(&i->data, "admin.token", buf_str(&token), 0600, err);
}

static int make_urls(struct init *i, struct err *err) {
    struct listen_address at;
    char host[256];
    places_first_host(&i->settings, host, sizeof host);
    int rc = listen_parse(i->settings.listen, "listen", &at, err);
    if (rc || (rc = listen_url(&at, host, i->gateway_url, sizeof i->gateway_url, err)) || (rc = listen_parse(i->settings.admin, "admin", &at, err)) ||
        (rc = listen_url_local(&at, host, i->admin_url, sizeof i->admin_url, err)))
        return rc;
    return 0;
}

static int write_urls(struct init *i, struct err *err) {
    int rc = data_write_line(&i->data, "gateway.url", i->gateway_url, 0644, err);
    return rc ? rc : data_write_line(&i->data, "admin.url", i->admin_url, 0644, err);
}

static int make_config(const struct init *i, struct buf *text, struct err *err) {
    const struct options *o = i->options;
    CLEANUP(buf_fini) struct buf hosts = BUF_INIT(OPTIONS_HOSTS_MAX * 256);
    const char *given[11] = {NULL};
    size_t n = 0;
    int rc = places_hosts(o, &hosts, err);
    if (rc)
        return rc;
    bool parts = hosts.n > HOSTS_LINE_MAX;
    const struct { const char *key, *value; } all[] = {
        {"host", o->n_hosts && !parts ? buf_str(&hosts) : NULL}, {"listen", o->value[OPT_LISTEN]}, {"admin", o->value[OPT_ADMIN]},
        {"master_key", o->value[OPT_MASTER_KEY]}, {"master_key_file", o->value[OPT_MASTER_KEY_FILE]}};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        if (all[k].value) {
            given[n++] = all[k].key;
            given[n++] = all[k].value;
        }
    config_write(text, SETTINGS_TABLE, SETTINGS_COUNT, given);
    size_t k = 0;
    for (const char *at = buf_str(&hosts); parts && *at; at += strcspn(at, " "), at += strspn(at, " ")) {
        buf_addf(text, "host.%zu = ", ++k);
        buf_add(text, span_of(at, strcspn(at, " ")));
        buf_addc(text, '\n');
    }
    config_write_section(text, &SETTINGS_ROUTE);
    return buf_check(text, err);
}

/* A path that a line of musterd.conf cannot hold would be found out by the first start, which has no key then. */
static int check_config(const struct init *i, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(65536);
    CLEANUP(settings_fini) struct settings read = {0};
    const char *file = i->options->value[OPT_MASTER_KEY_FILE];
    struct err why = ERR_INIT;
    int rc = make_config(i, &text, err);
    if (rc || !file)
        return rc;
    if (settings_load_text(&text, DATA_CONFIG, &read, &why))
        return err_set(err, MUSTER_EUSAGE, "--master-key-file: the path cannot stand in musterd.conf: %s", err_text(&why));
    return strcmp(read.master_key_file, file) ? err_set(err, MUSTER_EUSAGE, "--master-key-file: `%s` cannot stand in musterd.conf, where it would be read as `%s`.", file, read.master_key_file) : 0;
}

static int write_config(struct init *i, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(65536);
    int rc = make_config(i, &text, err);
    return rc ? rc : file_replace(i->data.fd, DATA_CONFIG, buf_span(&text), 0644, err);
}

/* --- the whole ------------------------------------------------------------------------------------------------------------------------- */

static int report(const struct init *i, struct err *err) {
    const char *dir = i->data.path;
    if (i->options->value[OPT_JSON]) {
        CLEANUP_JSON json_t *doc = json_object();
        CLEANUP(buf_fini) struct buf path = BUF_INIT(PATH_MAX + 32);
        json_set_str(doc, "data", dir);
        json_set_str(doc, "gateway_url", i->gateway_url);
        json_set_str(doc, "admin_url", i->admin_url);
        buf_addf(&path, "%s/admin.token", dir);
        json_set_str(doc, "admin_token_file", buf_str(&path));
        buf_clear(&path);
        buf_addf(&path, "%s/server-ca.pem", dir);
        json_set_str(doc, "server_ca_file", buf_str(&path));
        return report_json(doc, err);
    }
    printf("data directory   %s\ngateway          %s\noperators        %s\nowner's token    %s/admin.token\nserver CA        %s/server-ca.pem\n"
           "Start the server with: musterd serve --data %s\n", dir, i->gateway_url, i->admin_url, dir, dir, dir);
    return report_flush(err);
}

int init_run(const struct options *o, struct err *err) {
    static int (*const steps[])(struct init *, struct err *) = {make_vault, make_databases, write_urls, write_config};
    CLEANUP(init_fini) struct init i = {.options = o, .data = DATA_NONE};
    /* All that can be wrong with what was asked for comes before the first change. */
    int rc = places_settings(o, NULL, &i.settings, err);
    if (rc || (rc = places_line("listen", o->value[OPT_LISTEN], err)) || (rc = places_line("admin", o->value[OPT_ADMIN], err)) ||
        (rc = places_line("master_key_file", o->value[OPT_MASTER_KEY_FILE], err)) || (rc = check_config(&i, err)) || (rc = make_urls(&i, err)) || (rc = fresh_begin(&i.data, o->value[OPT_DATA], DATA_INIT_MARK, err)) || (rc = master_prepare(&i.master, &i.settings, true, err)))
        return rc;
    for (size_t k = 0; k < sizeof steps / sizeof *steps; k++)
        if ((rc = steps[k](&i, err)))
            return rc;
    rc = fresh_end(&i.data, DATA_INIT_MARK, err);
    return rc ? rc : report(&i, err);
}
