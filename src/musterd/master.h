/* master: where the settings say that the vault's master key comes from. */
#ifndef MUSTER_MUSTERD_MASTER_H
#define MUSTER_MUSTERD_MASTER_H

#include <limits.h>

#include "config/settings.h"
#include "keys/master.h"

struct master {
    struct key_master_options options; /* refers to what is below */
    struct secret passphrase;
    char path[PATH_MAX];
};

/* Asks for a passphrase where one is needed; twice: for a new vault. */
int master_prepare(struct master *m, const struct settings *s, bool twice, struct err *err) MUSTER_MUST_CHECK;
void master_fini(struct master *m); /* wipes */

DEFINE_CLEANUP_FINI(master_fini, struct master)

#endif
