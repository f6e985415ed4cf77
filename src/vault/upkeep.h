/* vault/upkeep: what `musterd vault status` and `musterd vault rekey` ask of a vault that serves, one piece a turn: a vault of thousands of accounts
 * answers devices in between.
 *
 * Asked for at the export's socket by whoever may export, never on a channel: neither a gateway nor control has a request for it.  Called by
 * export.c and process.c. */
#ifndef MUSTER_VAULT_UPKEEP_H
#define MUSTER_VAULT_UPKEEP_H

#include "vault/wire.h"

struct vault;

/* The master key, and then the key that may take its place in a moment, told before it does to whoever will start this process again.  False: nobody hears it. */
typedef bool (*upkeep_told_fn)(void *arg, struct span key);

struct upkeep {
    enum wire_local op;  /* of the one under way; 0: none */
    size_t next;         /* record that is counted next */
    struct vault_status status;
    struct secret key;
    bool tidy;           /* files of a key before are left */
};

/* MUSTER_EBUSY (one is under way), _EINVALID, or what records_rekey_begin() says. */
int upkeep_begin(struct upkeep *u, struct vault *v, const struct wire_local_request *rq, int64_t now, struct err *err) MUSTER_MUST_CHECK;
/* Whether there is a piece to do. */
bool upkeep_pending(const struct upkeep *u);
/* One piece.  1: there is more; 0: it is done, and `answer` is what is to be said.  *fatal: the process has to end, and to be started again. */
int upkeep_step(struct upkeep *u, struct vault *v, upkeep_told_fn tell, void *arg, struct buf *answer, bool *fatal, struct err *err) MUSTER_MUST_CHECK;
/* Whoever asked has gone. */
void upkeep_cancel(struct upkeep *u, struct vault *v);
/* A piece of what is left to do when nobody waits. */
void upkeep_tidy(struct upkeep *u, struct vault *v);

#endif
