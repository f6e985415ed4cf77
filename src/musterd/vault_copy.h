/* vault_copy: the files of DIR/vault as they were at one moment, in memory.
 *
 * Every change of the vault ends with a new index (vault/records.h), whose bytes are never the same twice, and one of the master key with a new head
 * besides: both before and behind whatever else is read say whether all of it is of one state. */
#ifndef MUSTER_MUSTERD_VAULT_COPY_H
#define MUSTER_MUSTERD_VAULT_COPY_H

#include "backup/content.h"
#include "musterd/data.h"

#define VAULT_COPY_MAX (512u << 20) /* bytes in all */

struct vault_copy {
    struct vault_file {
        char name[CONTENT_NAME_MAX + 1]; /* with CONTENT_VAULT */
        struct buf bytes;
    } *at;                               /* as they stand in a backup */
    size_t n;
    struct buf head, index;              /* before the rest */
    bool master_key;                     /* is among them */
};

/* The file in DIR/vault that holds the key under which the vault is: its name there; NULL: none does, whatever key files lie there.  One is beside
 * the other where a change of the master key was cut off. */
int vault_copy_key(const struct data *d, const char **name, struct err *err) MUSTER_MUST_CHECK;
int vault_copy_begin(struct vault_copy *v, const struct data *d, struct err *err) MUSTER_MUST_CHECK;
/* 1: all of it is of one state, which was there from vault_copy_begin() until now; 0: not, begin again.  master_key false: without the key file.  One that does not open the vault
 * stays out in any case. */
int vault_copy_end(struct vault_copy *v, const struct data *d, bool master_key, struct err *err) MUSTER_MUST_CHECK;
void vault_copy_fini(struct vault_copy *v); /* wipes */

DEFINE_CLEANUP_FINI(vault_copy_fini, struct vault_copy)

#endif
