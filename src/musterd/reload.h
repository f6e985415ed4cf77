/* reload: what SIGHUP does.  The settings are read again; bad ones change nothing.  Good ones that have changed reach the processes by new
 * ones: a successor of the gateway, and the others, but for the vault, one after the other.  Those that the supervisor itself lives by keep
 * their value until a restart, and the log says which.
 *
 * Otherwise certificates are read again by the processes that use them.  Where the operator's own certificate is out of the running gateway's reach (reach.h) a successor is started that may read it, and only once that serves is the old one told to finish:
 * both take connections in between.  A successor that does not come to serve is given up, and the old one goes on. */
#ifndef MUSTER_MUSTERD_RELOAD_H
#define MUSTER_MUSTERD_RELOAD_H

#include "musterd/serve.h"

/* One that comes while a gateway is being replaced is done afterwards. */
void reload(struct serve *s);
/* What is due; after every event. */
void reload_continue(struct serve *s);
/* A successor has ended without having served. */
void reload_failed(struct serve *s);
/* When something is due by the clock, monotonic, ms; INT64_MAX: nothing. */
int64_t reload_due(const struct serve *s);

#endif
