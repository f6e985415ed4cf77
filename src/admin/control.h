/* control: the process that operators talk to.  Called by musterd's child.  It alone opens DIR/control.db, never talks to devices,
 * and asks the vault for everything that needs a key.
 *
 * At start it greets the vault, brings the server certificates under DIR/tls/ up to date (one "default", one an account), and from
 * then on renews them and the issuing CAs in time. */
#ifndef MUSTER_ADMIN_CONTROL_H
#define MUSTER_ADMIN_CONTROL_H

#include <stdatomic.h>

#include "base/err.h"
#include "config/settings.h"
#include "metrics/metrics.h"

struct control_options {
    const struct settings *settings;
    const char *dir;       /* DIR, absolute */
    int listen_fd;         /* the admin listener; taken over */
    int vault_fd;          /* control's channel; -1: PARENT_CHANNEL brings it; taken over */
    int parent_fd;         /* taken over */
    const char *gateway_url, *admin_url;
    const char *crl_url;   /* http://HOST:PORT of the gateway's plain listener; "" there is none */
    const struct metrics *metrics; /* of all processes, to read */
    _Atomic uint64_t *trust; /* registry/trust.h: the word that it shares with the other processes */
    int (*confine)(void *arg, struct err *err);
    void *confine_arg;
};

/* Until PARENT_DRAIN, SIGTERM or the supervisor's end.  Sends PARENT_READY once the certificates that the gateway needs are there. */
int control_process_run(const struct control_options *o, struct err *err) MUSTER_MUST_CHECK;

/* For `musterd init`: makes DIR/registry.db and DIR/control.db with their newest schema and the first owner's token, whose text goes
 * to *token (for DIR/admin.token).  Nothing may run on DIR meanwhile. */
int control_init(const char *dir, struct buf *token, struct err *err) MUSTER_MUST_CHECK;
/* For the supervisor at start: applies migrations of both databases. */
int control_migrate(const char *dir, struct err *err) MUSTER_MUST_CHECK;
/* For `musterd token reset`: revokes every token of the server's owners and makes a new one; recorded. A running server sees it at once. */
int control_token_reset(const char *dir, struct buf *token, struct err *err) MUSTER_MUST_CHECK;
/* For `musterd clock accept`: the newest time of the log becomes the present, and that the clock was set is forgotten; recorded. */
int control_clock_accept(const char *dir, struct err *err) MUSTER_MUST_CHECK;

/* For `musterd backup`, beside a running server: the entry of the server's log, durable when it returns. */
struct recovery_backup;
int control_backup_record(const char *dir, const struct recovery_backup *b, struct err *err) MUSTER_MUST_CHECK;
/* For `musterd vault rekey`, likewise: that it begins, or (done) that it has happened and what the vault's version is since; 0: not known. */
int control_rekey_record(const char *dir, const char *from, const char *to, bool done, uint64_t version, struct err *err) MUSTER_MUST_CHECK;
/* For `musterd restore`: brings the databases up to date, records the restore in every log, and begins the recovery (registry/recovery.h).
 * No token of the backup opens anything: that of a new owner goes to *token.  Nothing may run on DIR meanwhile. */
struct recovery_begin;
int control_restored(const char *dir, const struct recovery_begin *b, struct buf *token, struct err *err) MUSTER_MUST_CHECK;

#endif
