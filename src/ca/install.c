/* install: see install.h. */
#include "ca/install.h"

#include <fcntl.h>

#include "base/clock.h"
#include "json/json.h"
#include "pki/chain.h"

#define CERTS_MAX CHAIN_MAX_CERTS

/* What a device reads the files with, and where (reference: the client's own defaults, and what meta-updater's recipes install). */
static const struct layout {
    const char *name;
    const char *state, *import, *config;  /* directories: of the client, of what it imports, of its configuration */
    const char *key, *certificate, *root, *url, *zip;
    const char *device_config, *shared_config; /* files in `config`; in usr/lib/sota/conf.d of the same name the client reads first */
    const char *device_text, *shared_text;
} layouts[] = {
    {.name = "aktualizr",
     .state = "var/sota",
     .import = "var/sota/import",
     .config = "etc/sota/conf.d",
     .key = "pkey.pem",
     .certificate = "client.pem",
     .root = "root.crt",
     .url = "gateway.url",
     .zip = "sota_provisioning_credentials.zip",
     .device_config = "20-sota-device-cred.toml",
     .shared_config = "20-sota-shared-cred.toml",
     .device_text = "[tls]\nserver_url_path = \"/var/sota/import/gateway.url\"\n\n[import]\nbase_path = \"/var/sota/import\"\ntls_cacert_path = \"root.crt\"\n"
                    "tls_clientcert_path = \"client.pem\"\ntls_pkey_path = \"pkey.pem\"\n",
     .shared_text = "[provision]\nprovision_path = \"/var/sota/sota_provisioning_credentials.zip\"\n"},
};
#define VENDOR_CONFIG "usr/lib/sota/conf.d"
#define CLIENT_STATE "sql.db" /* what a client that has run leaves behind */

const struct layout *install_layout(const char *name) {
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (strcmp(layouts[i].name, name) == 0)
            return &layouts[i];
    return NULL;
}

/* --- what is to be installed -------------------------------------------------------------------------------------------------- */

static int check_leaf(const struct cert *leaf, const struct key_facts *key, struct span device_id, struct err *err) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(512);
    if (!hash_eq(&leaf->key.spki, &key->spki))
        return err_set(err, MUSTER_EINVALID, "The key is not the one of the certificate.");
    if (leaf->ca || !cert_allows_client(leaf))
        return err_set(err, MUSTER_EINVALID, "The first certificate is not one of a device.");
    if (leaf->not_after <= clock_now())
        return err_set(err, MUSTER_ECERTEXPIRED, NULL);
    int rc = cert_device_id(leaf, ID_RULE_CN, &id, err);
    if (!rc && !span_eq(buf_span(&id), device_id))
        return err_set(err, MUSTER_EINVALID, "The certificate is of the device %s, not of %.*s.", buf_str(&id), SPAN_FMT(device_id));
    return rc;
}

int install_check(struct span key_pem, struct span chain_pem, struct span device_id, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    struct cert *chain[CERTS_MAX] = {NULL};
    struct key_facts facts;
    size_t n = 0;
    int rc = key_read_private(key_pem, SPAN_NONE, &key, err);
    if (rc || (rc = key_facts(key, &facts, err)) || (rc = cert_chain_from_file(chain_pem, chain, CERTS_MAX, &n, err)))
        return rc;
    rc = check_leaf(chain[0], &facts, device_id, err);
    for (size_t i = 0; i < n; i++)
        cert_free(chain[i]);
    return rc;
}

/* --- writing ---------------------------------------------------------------------------------------------------------------- */

struct writing {
    const struct image *image;
    const struct install *in;
    json_t *files, *warnings;
};

static void warn(struct writing *w, const char *text) { json_array_append_new(w->warnings, json_string(text)); }

static int put(struct writing *w, const char *dir, int fd, const char *name, struct span content, mode_t mode, struct err *err) {
    char path[256], octal[8];
    bool secret = !(mode & 077);
    int rc = image_put(w->image, fd, name, content, mode, secret && !w->in->force ? IMAGE_KEEP_OTHER : IMAGE_REPLACE, err);
    if (rc)
        return rc;
    snprintf(path, sizeof path, "/%s/%s", dir, name);
    snprintf(octal, sizeof octal, "%04o", (unsigned)mode);
    json_array_append_new(w->files, json_pack("{s:s,s:s}", "path", path, "mode", octal));
    return 0;
}

static int put_config(struct writing *w, const char *name, const char *text, struct err *err) {
    CLEANUP(fd_close) int fd = -1;
    if (!w->in->config)
        return 0;
    int rc = image_dir(w->image, w->in->layout->config, 0755, false, &fd, err);
    return rc ? rc : put(w, w->in->layout->config, fd, name, span_str(text), 0644, err);
}

/* The client's own directories, closed to others; those above them are made where they are missing. */
static int open_state(struct writing *w, int *fd, struct err *err) {
    const char *state = w->in->layout->state;
    char above[256];
    CLEANUP(fd_close) int parent = -1;
    snprintf(above, sizeof above, "%.*s", (int)(strrchr(state, '/') - state), state);
    int rc = image_dir(w->image, above, 0755, false, &parent, err);
    return rc ? rc : image_dir(w->image, state, 0700, true, fd, err);
}

static int open_import(struct writing *w, int *fd, struct err *err) {
    CLEANUP(fd_close) int state = -1;
    int rc = open_state(w, &state, err);
    return rc ? rc : image_dir(w->image, w->in->layout->import, 0700, true, fd, err);
}

int install_prepare(const struct image *image, const struct install *in, struct err *err) {
    struct writing w = {.image = image, .in = in};
    CLEANUP(fd_close) int import = -1;
    CLEANUP(fd_close) int config = -1;
    int rc = open_import(&w, &import, err);
    if (rc || (in->config && (rc = image_dir(image, in->layout->config, 0755, false, &config, err))))
        return rc;
    if (!in->force && faccessat(import, in->layout->key, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return err_set(err, MUSTER_EKEYINPLACE, "The image has a /%s/%s already.", in->layout->import, in->layout->key);
    return 0;
}

static int run_device(struct writing *w, struct err *err) {
    const struct layout *l = w->in->layout;
    CLEANUP(fd_close) int fd = -1;
    int rc = open_import(w, &fd, err);
    if (rc)
        return rc;
    /* The key first: where another one is in place nothing is changed.  The certificate last: without it the client does nothing. */
    if ((rc = put(w, l->import, fd, l->key, w->in->key, 0600, err)) || (rc = put(w, l->import, fd, l->root, buf_span(&w->in->server->root), 0644, err)) ||
        (rc = put(w, l->import, fd, l->url, buf_span(&w->in->server->url), 0644, err)) || (rc = put_config(w, l->device_config, l->device_text, err)))
        return rc;
    if (image_has(w->image, l->config, l->shared_config) || image_has(w->image, VENDOR_CONFIG, l->shared_config) || image_has(w->image, l->state, l->zip))
        warn(w, "The image has shared credentials too: the client uses those, unless provision.mode says otherwise.");
    return put(w, l->import, fd, l->certificate, w->in->chain, 0644, err);
}

static int run_shared(struct writing *w, struct err *err) {
    const struct layout *l = w->in->layout;
    CLEANUP(fd_close) int state = -1;
    int rc = open_state(w, &state, err);
    if (rc || (rc = put_config(w, l->shared_config, l->shared_text, err)))
        return rc;
    if (image_has(w->image, l->import, l->certificate))
        warn(w, "The image has a device's own certificate too: every device made of it would have the same.");
    return put(w, l->state, state, l->zip, w->in->zip, 0600, err);
}

int install_run(const struct image *image, const struct install *in, json_t *report, struct err *err) {
    struct writing w = {.image = image, .in = in, .files = json_array(), .warnings = json_array()};
    int rc = in->zip.n ? run_shared(&w, err) : run_device(&w, err);
    if (image_has(image, in->layout->state, CLIENT_STATE))
        warn(&w, "The image has been booted: its client keeps an identity in /var/sota/sql.db, which every copy would share. Build it anew, or remove that file.");
    if (!image->chown)
        warn(&w, "The files belong to whoever runs this, not to root: pack the image with owner 0:0, or run this as root or under fakeroot.");
    json_set(report, "files", w.files);
    if (json_array_size(w.warnings))
        json_set(report, "warnings", w.warnings);
    else
        json_decref(w.warnings);
    return rc;
}
