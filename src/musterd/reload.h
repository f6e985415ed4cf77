/* reload: what SIGHUP does.  Certificates are read again by the processes that use them; where the operator's own certificate is another
 * file now, the confined processes cannot open it, and successors take over that may. */
#ifndef MUSTER_MUSTERD_RELOAD_H
#define MUSTER_MUSTERD_RELOAD_H

#include "musterd/serve.h"

/* Which files the operator's certificate and key are now; kept as a process starts. */
void reload_remember(const struct serve *s);
/* until: monotonic, ms, when processes that are replaced have to be done. */
void reload(struct serve *s, int64_t until);

#endif
