/* vault/init: makes a vault, for `musterd init`.  The index comes last, so that a making that was cut off is no vault yet. */
#include "vault/core.h"

int vault_init(int dir_fd, const struct key_master_options *master, const struct vault_lives *lives, struct buf *server_ca_pem, struct err *err) {
    CLEANUP(records_free) struct records *r = NULL;
    CLEANUP(core_free) struct core *core = NULL;
    if (secret_init())
        return err_set(err, MUSTER_EINTERNAL, "The cryptographic library cannot be used.");
    int rc = records_create(dir_fd, master, &r, err);
    if (rc || (rc = core_make(r, lives, &core, err)))
        return rc;
    return core_server_cas(core, server_ca_pem, err);
}
