/* vault/records_rekey: another master key for a vault; see records.h.
 *
 * The file of a record under the next key is named by its version with the number of the change above it, so that it never has the name of a
 * file that is in use.  Data keys stay: whoever has the old master key and an old copy has read all of that copy, and no new data key takes
 * that back; what is made from now on is under the next key alone. */
#include <errno.h>

#include "base/file.h"
#include "base/log.h"
#include "vault/records_part.h"

#define VERSION_BITS 40
#define VERSION_MASK ((1ULL << VERSION_BITS) - 1)
#define REKEYS_MAX (1U << 20)

static uint64_t next_version(const struct records *r, const struct entry *e) { return (uint64_t)r->next_head.rekeys << VERSION_BITS | (e->version & VERSION_MASK); }

int records_rekey_begin(struct records *r, const struct records_rekey *next, int64_t now, struct err *err) {
    if (r->rekeying)
        return err_retry(err, MUSTER_EBUSY, 5, "The vault's master key is being changed already.");
    if (next->kind != KEY_MASTER_FILE && next->kind != KEY_MASTER_PASSPHRASE && next->kind != KEY_MASTER_CREDENTIAL)
        return err_set(err, MUSTER_EINVALID, "There is no such kind of master key.");
    if (next->key.n != SEAL_KEY_LEN || secret_eq(next->key, secret_span(&r->master)))
        return err_set(err, MUSTER_EINVALID, "The vault has this master key already.");
    if (r->head.rekeys >= REKEYS_MAX)
        return err_set(err, MUSTER_EINVALID, "The vault's master key has been changed too often.");
    int rc = records_settle(r, err);
    if (rc)
        return rc;
    if (secret_copy(&r->next_master, next->key))
        return err_set(err, MUSTER_ENOMEM, NULL);
    r->next_head = r->head;
    r->next_head.kind = next->kind;
    r->next_head.costs = next->costs;
    r->next_head.rekeys++;
    r->next_head.rekeyed = now;
    r->rekeying = true;
    return 0;
}

void records_rekey_cancel(struct records *r) {
    struct err ignored = ERR_INIT; /* the next opening removes what is left */
    if (!r->rekeying)
        return;
    for (size_t i = 0; i < r->n; i++)
        if (r->entries[i].next.version) {
            records_remove_file(r, r->entries[i].name, r->entries[i].next.version);
            r->entries[i].next.version = 0;
        }
    (void)!file_remove(r->dir_fd, RECORDS_INDEX_NEXT, &ignored);
    secret_fini(&r->next_master);
    r->rekeying = false;
}

static int wrap(struct records *r, struct entry *e, struct err *err) {
    CLEANUP(secret_fini) struct secret key = SECRET_INIT, body = SECRET_INIT;
    int rc = records_load(r, e->name, &key, &body, err);
    if (rc || (rc = records_write(r, secret_span(&r->next_master), e->name, next_version(r, e), secret_span(&key), secret_span(&body), &e->next.hash, err)))
        return rc;
    e->next.version = next_version(r, e);
    return 0;
}

int records_rekey_step(struct records *r, size_t most, struct err *err) {
    if (!r->rekeying)
        return err_set(err, MUSTER_ESTATE, "The vault's master key is not being changed.");
    int rc = records_settle(r, err);
    for (size_t i = 0; !rc && i < r->n; i++) {
        if (r->entries[i].next.version)
            continue;
        if (most-- == 0)
            return 1;
        rc = wrap(r, &r->entries[i], err);
    }
    if (rc)
        records_rekey_cancel(r);
    return rc;
}

static struct entry *entries_behind(const struct records *r) {
    struct entry *all = calloc(r->n + 1, sizeof *all);
    for (size_t i = 0; all && i < r->n; i++) {
        const struct entry *e = &r->entries[i];
        all[i] = (struct entry){.version = e->next.version, .hash = e->next.hash, .old = e->version};
        memcpy(all[i].name, e->name, sizeof e->name);
    }
    return all;
}

/* The index takes its place.  Where that fails the next opening does it: the change has happened. */
static void place_index(struct records *r) {
    struct err why = ERR_INIT;
    r->doubtful = true;
    if (records_write_index(r, RECORDS_INDEX, secret_span(&r->master), r->version, r->entries, r->n, &why))
        log_err(LOG_ERROR, "vault_index_not_placed", &why, NULL);
    else if (file_remove(r->dir_fd, RECORDS_INDEX_NEXT, &why))
        log_err(LOG_WARN, "vault_next_index_kept", &why, NULL);
    else
        r->doubtful = false;
}

int records_rekey_end(struct records *r, bool *head_in_doubt, struct err *err) {
    struct entry *entries = r->rekeying ? entries_behind(r) : NULL;
    uint64_t version = r->version + 1;
    *head_in_doubt = false;
    if (!entries)
        return r->rekeying ? err_set(err, MUSTER_ENOMEM, NULL) : err_set(err, MUSTER_ESTATE, "The vault's master key is not being changed.");
    int rc = records_write_index(r, RECORDS_INDEX_NEXT, secret_span(&r->next_master), version, entries, r->n, err);
    if (rc) {
        free(entries);
        records_rekey_cancel(r);
        return rc;
    }
    if ((rc = records_head_write(r, &r->next_head, secret_span(&r->next_master), err))) {
        free(entries);
        *head_in_doubt = true;
        return rc;
    }
    free(r->entries);
    r->entries = entries;
    r->version = version;
    secret_fini(&r->master);
    r->master = r->next_master;
    r->next_master = SECRET_INIT;
    r->head = r->next_head;
    r->rekeying = false;
    place_index(r);
    return 0;
}

bool records_rekey_tidy(struct records *r, size_t most) {
    for (size_t i = 0; i < r->n; i++) {
        if (!r->entries[i].old)
            continue;
        if (most-- == 0)
            return true;
        records_remove_file(r, r->entries[i].name, r->entries[i].old);
        r->entries[i].old = 0;
    }
    return false;
}
