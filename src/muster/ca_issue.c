/* ca_issue: `muster ca issue` (of several devices ca_batch.h's) and `ca csr`: keys and certificates for devices, into files; see command.h.
 *
 * The key's file is durable before the certificate is asked for: a certificate whose key was lost on a full disk is good for nobody. */
#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "ca/name.h"
#include "json/json.h"
#include "muster/ca_batch.h"
#include "muster/ca_part.h"

/* --- the folder of one device ------------------------------------------------------------------------------------------------- */

static int open_folder(const char *path, int *out, struct err *err) {
    int rc = file_make_dir(AT_FDCWD, path, 0700, err);
    if (rc)
        return rc;
    *out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return *out < 0 ? err_set(err, MUSTER_EIO, "%s cannot be opened: %s.", path, strerror(errno)) : 0;
}

static int need_empty(int fd, const char *path, const char *const *names, struct err *err) {
    for (size_t i = 0; names[i]; i++)
        if (faccessat(fd, names[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return err_set(err, MUSTER_EEXISTS, "%s/%s exists already; neither keys nor certificates are written over.", path, names[i]);
    return 0;
}

static int make_key(const struct invocation *in, int fd, EVP_PKEY **key, struct buf *spki, struct err *err) {
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(65536);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *made = NULL;
    enum key_kind kind;
    int bits;
    int rc = ca_part_kind(in, false, &kind, &bits, err);
    if (rc || (rc = key_generate(kind, bits, &made, err)) || (rc = key_public_der(made, spki, err)) || (rc = key_private_pem(made, &pem, err)) ||
        (rc = file_create(fd, "pkey.pem", buf_span(&pem), 0600, err)))
        return rc;
    *key = TAKE(made);
    return 0;
}

/* --- issue ------------------------------------------------------------------------------------------------------------------ */

/* Nothing was certified: neither here, nor by a batch that has found the key in the meantime and taken it for one that a kill left. */
static bool is_of_no_use(const struct ca *ca, const struct ca_order *order, const struct ca_issued *issued) {
    char id[4 * CA_DEVICE_ID_CHARS + 1];
    struct key_facts facts;
    snprintf(id, sizeof id, "%.*s", SPAN_FMT(order->device_id));
    return !issued->serial[0] && key_facts_from_public_der(order->public_key, &facts, NULL) == 0 && !journal_issued_key(&ca->journal, id, &facts.spki);
}

static int fill(const struct invocation *in, struct ca *ca, int fd, struct ca_order *order, const struct ca_server *server, struct ca_issued *issued, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(8192);
    int rc = make_key(in, fd, &key, &spki, err);
    if (rc)
        return rc;
    order->public_key = buf_span(&spki);
    if ((rc = ca_issue(ca, order, issued, err))) {
        if (is_of_no_use(ca, order, issued))
            unlinkat(fd, "pkey.pem", 0);
        return rc;
    }
    if (server->root.n && (rc = file_create(fd, "root.crt", buf_span(&server->root), 0644, err)))
        return rc;
    if (server->url.n && (rc = file_create(fd, "gateway.url", buf_span(&server->url), 0644, err)))
        return rc;
    return file_create(fd, "client.pem", buf_span(&issued->chain), 0644, err);
}

static int issue_one(const struct invocation *in, struct ca *ca, struct span id, const char *path, int64_t life, const struct ca_server *server, json_t **out, struct err *err) {
    static const char *const names[] = {"pkey.pem", "client.pem", "root.crt", "gateway.url", NULL};
    CLEANUP(fd_close) int fd = -1;
    CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
    struct ca_order order = {.device_id = id, .again = invocation_option(in, "again") != NULL, .life = life};
    int rc = ca_may_issue(ca, id, order.again, err);
    if (rc || (rc = open_folder(path, &fd, err)) || (rc = need_empty(fd, path, names, err)))
        return rc;
    if ((rc = fill(in, ca, fd, &order, server, &issued, err)))
        return issued.serial[0] ? err_prefix(err, "The certificate %s was issued and is in %s/issued, its key in %s", issued.serial, ca_part_dir(in), path) : rc;
    *out = ca_part_issued(ca, &issued, id);
    json_set_str(*out, "output", path);
    return 0;
}

int command_ca_issue(struct invocation *in, struct err *err) {
    const char *dir = invocation_option(in, "output");
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(ca_server_fini) struct ca_server server = CA_SERVER_INIT;
    struct ca_batch batch = {.server = &server};
    bool many = invocation_option(in, "from") || in->n_rest > 1;
    if (!many && in->n_rest == 0)
        return err_set(err, MUSTER_EUSAGE, "Name a DEVICE-ID, or --from FILE with one on each line.");
    if (invocation_option(in, "column") && !invocation_option(in, "from"))
        return err_set(err, MUSTER_EUSAGE, "--column is of the file that --from names.");
    int rc = ca_part_kind(in, false, &batch.kind, &batch.bits, err);
    if (rc || (rc = ca_part_life(in, "life", 0, &batch.life, err)) || (rc = ca_part_server(in, &server, err)) || (rc = ca_part_open(in, false, &ca, err)))
        return rc;
    if (many)
        return ca_batch_issue(in, &ca, &batch, err);
    CLEANUP_JSON json_t *shown = NULL;
    rc = issue_one(in, &ca, span_str(in->args[0]), dir, batch.life, &server, &shown, err);
    return rc ? rc : ca_part_show(in, shown, err);
}

/* --- csr -------------------------------------------------------------------------------------------------------------------- */

int command_ca_csr(struct invocation *in, struct err *err) {
    static const char *const names[] = {"pkey.pem", "client.csr", NULL};
    const char *path = invocation_option(in, "output");
    CLEANUP(fd_close) int fd = -1;
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(8192);
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    CLEANUP_JSON json_t *shown = json_object();
    struct csr_request rq = {.subject = ca_part_subject(in), .uris = invocation_values(in, "uri"), .dns = invocation_values(in, "dns")};
    struct key_facts facts;
    rq.subject.common_name = span_str(in->args[0]);
    int rc = ca_check_device_id(rq.subject.common_name, err);
    if (rc || (rc = open_folder(path, &fd, err)) || (rc = need_empty(fd, path, names, err)) || (rc = make_key(in, fd, &key, &spki, err)))
        return rc;
    if ((rc = key_facts(key, &facts, err)) || (rc = csr_make(&rq, key, &pem, err)) || (rc = file_create(fd, "client.csr", buf_span(&pem), 0644, err))) {
        unlinkat(fd, "pkey.pem", 0);
        return rc;
    }
    json_set_hex(shown, "id", hash_span(&facts.spki));
    json_set_str(shown, "device_id", in->args[0]);
    json_set_str(shown, "key", key_kind_name(facts.kind));
    json_set_str(shown, "output", path);
    if (in->json)
        json_set_span(shown, "request", buf_span(&pem));
    return ca_part_show(in, shown, err);
}
