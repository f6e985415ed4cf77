/* vault/export: the vault's end of `musterd vault export`; `musterd vault status` and `musterd vault rekey` come in by the same door (upkeep.h).
 *
 * A process on this machine connects to the Unix socket; who it is says the kernel (SO_PEERCRED).  It sends an account and a
 * passphrase; control is told, writes its audit entry and answers with the nonce; only then the key is opened, and leaves under
 * the passphrase.  Called by process.c (the sockets) and serve.c (control's answer).  Nothing here ends the vault. */
#ifndef MUSTER_VAULT_EXPORT_H
#define MUSTER_VAULT_EXPORT_H

#include <poll.h>
#include <sys/types.h>

#include "vault/upkeep.h"

#define EXPORTS_MAX 4

struct vault;
struct exports;

struct exports *exports_new(void); /* NULL: out of memory */
void exports_free(struct exports *es);

/* Tells control; false where there is no control to tell. */
typedef bool (*exports_tell_fn)(void *arg, const struct vault_export *wanted);
struct exports_options {
    uid_t allowed[3]; /* (uid_t)-1: nobody */
    exports_tell_fn tell;
    void *tell_arg;
    upkeep_told_fn tell_key; /* of upkeep.h */
    void *tell_key_arg;
};
/* One connection of the listening socket: refused, or taken among the waiting. */
void exports_accept(struct exports *es, int listen_fd, const struct exports_options *o, int64_t mono_ms);
/* Puts at most EXPORTS_MAX descriptors to watch into out; returns how many. */
size_t exports_poll(const struct exports *es, struct pollfd *out);
/* Reads from the connection of fd, which poll says is readable or has ended. */
void exports_ready(struct exports *es, struct vault *v, int fd, const struct exports_options *o, int64_t mono_ms);
/* Ends those that waited too long.  The first deadline of the rest, or INT64_MAX. */
int64_t exports_expire(struct exports *es, struct vault *v, int64_t mono_ms);
/* A piece of what is under way besides exports, where upkeep_pending().  A failure ends the process. */
int exports_work(struct exports *es, struct vault *v, const struct exports_options *o, struct err *err) MUSTER_MUST_CHECK;
/* Control's word.  MUSTER_ENOTFOUND where nothing waits under this nonce any more. */
int exports_decide(struct exports *es, struct vault *v, const uint8_t nonce[VAULT_NONCE_LEN], bool allowed, struct err *err) MUSTER_MUST_CHECK;

#endif
