/* export: asks the running vault for a fleet root's key, encrypted under a passphrase, and writes what it gives out. */
#include "musterd/export.h"

#include <fcntl.h>

#include "base/file.h"
#include "json/json.h"
#include "musterd/data.h"
#include "base/passphrase.h"
#include "musterd/report.h"
#include "vault/vault.h"

#define EXPORT_MAX 65536

int export_run(const struct options *o, struct err *err) {
    CLEANUP(data_close) struct data data = DATA_NONE;
    CLEANUP(secret_fini) struct secret passphrase = SECRET_INIT;
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(EXPORT_MAX);
    const char *output = o->value[OPT_OUTPUT], *file = o->value[OPT_PASSPHRASE_FILE], *what = "passphrase of the export";
    char path[PATH_MAX];
    int rc = data_open_ready(&data, o->value[OPT_DATA], err);
    if (rc || (rc = data_vault_socket(&data, path, err)))
        return rc;
    /* Asked before the vault is: an export that nobody can keep stands in the audit log all the same. */
    if (faccessat(AT_FDCWD, output, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return err_set(err, MUSTER_EEXISTS, "%s exists already.", output);
    rc = file ? passphrase_read_file(file, what, VAULT_PASSPHRASE_MIN, &passphrase, err) : passphrase_read(what, true, VAULT_PASSPHRASE_MIN, &passphrase, err);
    if (rc || (rc = vault_export_request(path, span_str(o->value[OPT_ACCOUNT]), secret_span(&passphrase), &pem, err)))
        return rc;
    rc = file_create(AT_FDCWD, output, buf_span(&pem), 0600, err);
    if (rc || !o->value[OPT_JSON])
        return rc;
    CLEANUP_JSON json_t *doc = json_object();
    json_set_str(doc, "id", o->value[OPT_ACCOUNT]);
    json_set_str(doc, "output", output);
    return report_json(doc, err);
}
