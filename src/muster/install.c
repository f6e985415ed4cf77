/* install: `muster ca install` and `muster key install`: credentials into the root file system of an image; see command.h. */
#include <errno.h>

#include "base/file.h"
#include "bundle/credentials.h"
#include "ca/install.h"
#include "json/json.h"
#include "muster/ca_part.h"
#include "muster/file_arg.h"
#include "muster/print.h"

#define PEM_MAX 65536
#define ZIP_MAX (8u << 20)

/* --owner UID:GID, else 0:0 where that is possible. */
static int set_owner(const struct invocation *in, struct image *image, struct err *err) {
    const char *text = invocation_option(in, "owner");
    uint64_t uid = 0, gid = 0;
    image->chown = text || geteuid() == 0;
    if (!text)
        return 0;
    struct span s = span_str(text);
    long colon = span_index(s, ':');
    if (colon < 0 || !span_to_u64(span_sub(s, 0, (size_t)colon), &uid) || !span_to_u64(span_sub(s, (size_t)colon + 1, s.n), &gid) || uid >= UINT32_MAX || gid >= UINT32_MAX)
        return err_set(err, MUSTER_EUSAGE, "--owner takes UID:GID in numbers, not \"%s\".", text);
    image->uid = (uid_t)uid;
    image->gid = (gid_t)gid;
    return 0;
}

static int open_image(const struct invocation *in, struct image *image, struct install *i, struct err *err) {
    const char *layout = invocation_option(in, "layout");
    i->layout = install_layout(layout ? layout : "aktualizr");
    i->force = invocation_option(in, "force") != NULL;
    i->config = invocation_option(in, "no-config") == NULL;
    if (!i->layout)
        return err_set(err, MUSTER_EUSAGE, "--layout takes aktualizr, not \"%s\".", layout);
    int rc = image_open(invocation_option(in, "root"), image, err);
    return rc ? rc : set_owner(in, image, err);
}

/* --- a device's own --------------------------------------------------------------------------------------------------------- */

static int read_part(const char *dir, const char *name, struct buf *out, struct err *err) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return err_set(err, MUSTER_EUSAGE, "--from's directory is too long.");
    return file_arg_read(path, out, err);
}

/* What `ca issue -o DIR` wrote; root and URL only where no option names them. */
static int read_issued(const char *dir, struct buf *key, struct buf *chain, struct ca_server *server, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(PEM_MAX);
    int rc = read_part(dir, "pkey.pem", key, err);
    if (rc || (rc = read_part(dir, "client.pem", chain, err)))
        return rc;
    if (server->root.n == 0 && (rc = read_part(dir, "root.crt", &text, NULL)) != MUSTER_ENOTFOUND && (rc || (rc = ca_server_set_root(server, buf_span(&text), clock_now(), err))))
        return rc;
    buf_clear(&text);
    if (server->url.n == 0 && (rc = read_part(dir, "gateway.url", &text, NULL)) != MUSTER_ENOTFOUND && (rc || (rc = ca_server_set_url(server, buf_span(&text), err))))
        return rc;
    return 0;
}

static int need_server(const struct ca_server *server, struct err *err) {
    if (server->root.n && server->url.n)
        return 0;
    return err_set(err, MUSTER_EUSAGE, "The image needs the gateway's root and URL: give --server DIR, or --server-ca FILE and --url URL.");
}

static int issue_now(const struct invocation *in, struct span id, struct buf *key_pem, struct buf *chain, struct ca_issued *issued, struct err *err) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(8192);
    struct ca_order order = {.device_id = id, .again = invocation_option(in, "again") != NULL};
    enum key_kind kind;
    int bits;
    int rc = ca_part_kind(in, false, &kind, &bits, err);
    if (rc || (rc = ca_part_open(in, false, &ca, err)) || (rc = ca_may_issue(&ca, id, order.again, err)) || (rc = key_generate(kind, bits, &key, err)) ||
        (rc = key_public_der(key, &spki, err)) || (rc = key_private_pem(key, key_pem, err)))
        return rc;
    order.public_key = buf_span(&spki);
    if ((rc = ca_issue(&ca, &order, issued, err)))
        return rc;
    CLEANUP_JSON json_t *said = json_object();
    ca_part_warn_clock(&ca, said);
    print_warnings(said);
    buf_add(chain, buf_span(&issued->chain));
    return buf_check(chain, err);
}

int command_ca_install(struct invocation *in, struct err *err) {
    const char *from = invocation_option(in, "from");
    CLEANUP(image_close) struct image image = IMAGE_NONE;
    CLEANUP(ca_server_fini) struct ca_server server = CA_SERVER_INIT;
    CLEANUP(buf_wipe) struct buf key = BUF_INIT(PEM_MAX);
    CLEANUP(buf_fini) struct buf chain = BUF_INIT(PEM_MAX);
    CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
    struct install i = {.server = &server};
    struct span id = span_str(invocation_option(in, "device"));
    int rc = open_image(in, &image, &i, err);
    if (rc || (rc = ca_part_server(in, &server, err)) || (from && (rc = read_issued(from, &key, &chain, &server, err))) || (rc = need_server(&server, err)))
        return rc;
    if (!from && ((rc = install_prepare(&image, &i, err)) || (rc = issue_now(in, id, &key, &chain, &issued, err))))
        return rc;
    i.key = buf_span(&key);
    i.chain = buf_span(&chain);
    if ((rc = install_check(i.key, i.chain, id, err)))
        return rc;
    CLEANUP_JSON json_t *shown = from ? json_object() : ca_part_issued(NULL, &issued, id);
    json_object_del(shown, "warnings"); /* install_run has its own */
    if (from) {
        json_set_span(shown, "id", id);
        json_set_span(shown, "device_id", id);
    }
    json_set_str(shown, "root", invocation_option(in, "root"));
    if ((rc = install_run(&image, &i, shown, err)))
        return issued.serial[0] ? err_prefix(err, "The certificate %s was issued, but the image was not finished; issue another with --again", issued.serial) : rc;
    return ca_part_show(in, shown, err);
}

/* --- shared by all devices of an image ---------------------------------------------------------------------------------------- */

int command_key_install(struct invocation *in, struct err *err) {
    CLEANUP(image_close) struct image image = IMAGE_NONE;
    CLEANUP(buf_wipe) struct buf zip = BUF_INIT(ZIP_MAX);
    CLEANUP(credentials_found_fini) struct credentials_found found = CREDENTIALS_FOUND_INIT;
    CLEANUP(ca_server_fini) struct ca_server server = CA_SERVER_INIT;
    struct install i = {0};
    int rc = open_image(in, &image, &i, err);
    if (rc || (rc = file_arg_read(in->args[0], &zip, err)) || (rc = credentials_read(buf_span(&zip), &found, err)) ||
        (rc = credentials_check(&found, clock_now(), err)) || (rc = ca_server_set_url(&server, buf_span(&found.url), err)))
        return rc;
    i.zip = buf_span(&zip);
    CLEANUP_JSON json_t *shown = json_object();
    json_set_hex(shown, "id", hash_span(&found.key));
    json_set_str(shown, "root", invocation_option(in, "root"));
    json_set_span(shown, "url", span_sub(buf_span(&server.url), 0, server.url.n - 1));
    json_set_time(shown, "not_after", found.not_after);
    if ((rc = install_run(&image, &i, shown, err)))
        return rc;
    if (found.pushes) {
        json_t *warnings = json_object_get(shown, "warnings");
        if (!warnings)
            json_set(shown, "warnings", warnings = json_array());
        json_array_append_new(warnings, json_string("The zip holds what publishes updates (treehub.json, targets.sec or the like): whoever has the image could. Take it out before."));
    }
    return ca_part_show(in, shown, err);
}
