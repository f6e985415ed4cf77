/* recovery: what a server that was put back from a backup is, until an operator says that it is whole again.
 *
 * The registry does not know what became of the fleet since the backup was made: which devices came in, what keys have spent, what was
 * revoked.  So nothing is issued (provisioning keys and invitations are blocked, and nobody renews) and nobody comes in who is not known.
 * Devices that are known go on.  It begins in `musterd restore`, while nothing runs, and ends once, by an operator's command. */
#ifndef MUSTER_REGISTRY_RECOVERY_H
#define MUSTER_REGISTRY_RECOVERY_H

#include "registry/audit.h"

struct recovery {
    int64_t since; /* when the server was put back; 0: it is in no recovery */
    int64_t made;  /* when the backup was made */
};
int recovery_get(struct store_tx *tx, struct recovery *out, struct err *err) MUSTER_MUST_CHECK;

/* For `musterd restore`: in each database by itself, an entry "server.restore" in each log that it has.  In registry.db recovery begins. */
struct recovery_begin {
    int64_t made;
    struct uuid backup;
};
int recovery_begin_registry_run(struct store_tx *registry, void *arg /* const struct recovery_begin */, struct err *err);
int recovery_begin_control_run(struct store_tx *control, void *arg /* const struct recovery_begin */, struct err *err);

/* For `musterd backup`: the entry in control.db. */
struct recovery_backup {
    struct uuid id;
    bool to_recipient, master_key; /* whether the vault's key file is in it */
};
int recovery_backup_run(struct store_tx *control, void *arg /* const struct recovery_backup */, struct err *err);

/* GET /recovery, and its end. */
struct recovery_show {
    json_t *out; /* new reference */
};
int recovery_show_run(struct store_tx *tx, void *arg /* struct recovery_show */, struct err *err);
/* Looked whether there is one, then the entry in control.db, then the end in registry.db.  MUSTER_ESTATE: there is none.  MUSTER_ECONFIRM
 * with `count` where certificates are held that would be lost, unless confirm is that number. */
struct recovery_finish {
    struct actor actor;
    bool keep_tokens; /* operators' tokens of the backup open again; the owners' do not */
    int64_t confirm, count; /* MUSTER_ECONFIRM with `count` (keys and invitations that open, certificates that are held) unless it is that */
    json_t *out; /* new reference */
};
int recovery_finish_look_run(struct store_tx *registry, void *arg /* struct recovery_finish */, struct err *err);
int recovery_finish_record_run(struct store_tx *control, void *arg /* struct recovery_finish */, struct err *err);
int recovery_finish_run(struct store_tx *registry, void *arg /* struct recovery_finish */, struct err *err);

#endif
