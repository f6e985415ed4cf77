/* master: where the settings say that the vault's master key comes from. */
#ifndef MUSTER_MUSTERD_MASTER_H
#define MUSTER_MUSTERD_MASTER_H

#include <limits.h>

#include "config/settings.h"
#include "keys/master.h"

struct master {
    struct key_master_options options; /* refers to what is below */
    struct secret passphrase;
    struct secret candidates[2]; /* the keys that the vault told last: the one in force, and the one that is about to take its place */
    char path[PATH_MAX];
};

/* Asks for a passphrase where one is needed; twice: for a new vault. */
int master_prepare(struct master *m, const struct settings *s, bool twice, struct err *err) MUSTER_MUST_CHECK;
/* A change of the master key that was cut off beside its key file: where the vault opens with the next file already that takes the place of the
 * other one; otherwise it goes, so nobody may be about to put the vault under it.  vault_fd: DIR/vault.  Nothing to do unless the key comes from a file. */
int master_tidy(const struct master *m, int vault_fd, struct err *err) MUSTER_MUST_CHECK;
/* The key has another source from here on, and that is durable.  A key file in the vault's own directory opens nothing any more: it is wiped and goes
 * (*gone); one that an operator keeps elsewhere stays his. */
int master_forget(const struct master *m, int vault_fd, bool *gone, struct err *err) MUSTER_MUST_CHECK;
/* hex: of the vault's message to the supervisor; the last two are kept.  False: it is no key. */
bool master_take_candidate(struct master *m, const char *hex);
void master_fini(struct master *m); /* wipes */

DEFINE_CLEANUP_FINI(master_fini, struct master)

#endif
