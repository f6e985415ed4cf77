/* sandbox: what each kind of process may still do once it is confined: files by Landlock, system calls by seccomp.
 *
 * Called in a child.  Files are taken away before the process opens anything and while it has one thread (Landlock knows no other
 * way to reach all threads); system calls once everything is open, in all threads at once.  Nothing that must not be reached is left
 * open by the child (child.h).  Never called in the supervisor: it cannot be undone. */
#ifndef MUSTER_MUSTERD_SANDBOX_H
#define MUSTER_MUSTERD_SANDBOX_H

#include "musterd/reach.h"

enum sandbox_kind { SANDBOX_VAULT, SANDBOX_CONTROL, SANDBOX_GATEWAY, SANDBOX_COURIER, SANDBOX_TOKEN };
#define SANDBOX_KINDS 5

struct sandbox_paths {
    const char *dir;                              /* DIR, absolute */
    int vault_fd;                                 /* DIR/vault, open; SANDBOX_VAULT alone, else -1 */
    const struct reach *own;                      /* SANDBOX_GATEWAY: the operator's certificate; NULL: none */
    const char *token_module, *token_files;       /* SANDBOX_TOKEN: the settings pkcs11_module and pkcs11_files; NULL: none */
};

/* "vault", "control", "gateway", "courier", "token". */
const char *sandbox_name(enum sandbox_kind kind);
/* MUSTER_ESANDBOX where this machine cannot confine. Asked before the first child is made. */
int sandbox_available(struct err *err) MUSTER_MUST_CHECK;
/* Landlock. */
int sandbox_files(enum sandbox_kind kind, const struct sandbox_paths *paths, struct err *err) MUSTER_MUST_CHECK;
/* seccomp: an allow-list; anything else fails with EPERM.  connects: the gateway has routes, or the token's module a
 * network, so it makes connections to other servers. */
int sandbox_calls(enum sandbox_kind kind, bool connects, struct err *err) MUSTER_MUST_CHECK;

#endif
