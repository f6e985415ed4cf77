/* vault/offline: status and another master key of a vault that nobody has open; see process.h. */
#include "vault/process.h"
#include "vault/records.h"
#include "vault/upkeep.h"

int vault_is_opened_by(int dir_fd, struct span key, struct err *err) { return records_head_is_of(dir_fd, key, err); }

static void of_head(const struct records_head *h, struct vault_status *out) {
    *out = (struct vault_status){.kind = h->kind, .rekeys = h->rekeys, .rekeyed = h->rekeyed};
    memcpy(out->id, h->id, sizeof out->id);
}

int vault_status_offline(int dir_fd, struct vault_status *out, struct err *err) {
    struct records_head head;
    int rc = records_head_look(dir_fd, &head, err);
    if (!rc)
        of_head(&head, out);
    return rc;
}

int vault_rekey_offline(int dir_fd, const struct key_master_options *master, const struct vault_rekey *rq, struct vault_status *out, struct err *err) {
    CLEANUP(records_free) struct records *r = NULL;
    const struct records_rekey next = {.kind = rq->kind, .costs = rq->costs, .key = rq->key};
    bool in_doubt;
    int rc = records_open(dir_fd, master, &r, err);
    if (rc || (rc = records_rekey_begin(r, &next, clock_now(), err)) || (rc = records_rekey_step(r, RECORDS_MAX, err)) || (rc = records_rekey_end(r, &in_doubt, err)))
        return rc;
    records_rekey_tidy(r, RECORDS_MAX);
    of_head(records_head(r), out);
    out->version = records_version(r);
    return 0;
}
