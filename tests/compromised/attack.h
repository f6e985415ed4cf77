/* attack: what somebody does who runs code of his own in the gateway's process.  Linked into musterd-compromised alone, which is never
 * installed: musterd, but for gateway_process_run(), in whose place stands run.c.
 *
 * Everything here runs where a gateway runs: forked by the supervisor, with its descriptors and memory, behind Landlock and seccomp.  Each step
 * says what it got in lines "attack: …" on standard error; tests/integration/test_compromised.py judges them.  A step that got nothing has
 * to say so too, so that a step which was never taken is no success. */
#ifndef MUSTER_ATTACK_H
#define MUSTER_ATTACK_H

#include "base/buf.h"
#include "base/cleanup.h"
#include "gateway/gateway.h"
#include "musterd/serve.h"

struct attack {
    const struct gateway_options *o;
    int vault[SERVE_LOOPS_MAX]; /* channels to the vault; -1: lost */
};

/* One line. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A variable of the environment, "" where it is not set. */
const char *given(const char *name);
/* Takes what the supervisor says until a channel to the vault is there in the place of the lost one; false after `seconds`. */
bool attack_wait_channel(struct attack *a, size_t at, int seconds);

/* vault.c: certificates by every request that the gateway's channel carries, then by those that it does not. */
void attack_vault(struct attack *a);
void attack_ceiling(struct attack *a);
void attack_forbidden(struct attack *a);
/* ocsp.c: OCSP answers, by whatever control can be asked. */
void attack_ocsp(struct attack *a);
/* supervisor.c: every message to the supervisor; malformed ones, after which the gateway's process is ended; memory that is shared. */
void attack_supervisor(struct attack *a);
void attack_malformed(struct attack *a);
void attack_shared(struct attack *a);
/* reach.c: files, processes, sockets, and what was inherited. */
void attack_descriptors(struct attack *a);
void attack_files(struct attack *a);
void attack_processes(struct attack *a);
void attack_sockets(struct attack *a);
/* memory.c: secrets in the memory that the process has. */
void attack_memory(struct attack *a);
/* rows.c: SQL over registry.db, with whatever the attacker wants to compute. */
void attack_rows(struct attack *a);

#endif
