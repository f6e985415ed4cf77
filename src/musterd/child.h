/* child: starts the processes that the supervisor supervises, and gives them their channels. */
#ifndef MUSTER_MUSTERD_CHILD_H
#define MUSTER_MUSTERD_CHILD_H

#include "musterd/serve.h"

/* Forks; c: what is known of it, &s->children[kind] or &s->successor.  Everyone who is running gets the channels that the new process brings along. */
int child_start(struct serve *s, enum sandbox_kind kind, struct child *c, struct err *err) MUSTER_MUST_CHECK;
/* What makes the calling process one of that kind, but for its system calls: user, capabilities, no new privileges, not dumpable, and
 * the files where `files` is set (own: of the gateway).  For child_start, and for the self-test of the confinement. */
int child_become(const struct settings *s, const struct data *d, const struct users *u, enum sandbox_kind kind, int vault_fd, const struct reach *own,
                 bool files, struct err *err) MUSTER_MUST_CHECK;

#endif
