/* ocsp: answers what the gateway's process is asked of OCSP.  What is said comes from the registry as control reads it, and is signed by the vault, which takes it from nobody
 * else: a captured gateway can ask what strangers can ask, and no more.
 *
 * Bounded: so many at a time, and beyond tryLater; a channel that carries what is no question is given up. */
#ifndef MUSTER_ADMIN_OCSP_H
#define MUSTER_ADMIN_OCSP_H

#include "admin/internal.h"

struct ocsp_desk;
struct ocsp_desk *ocsp_desk_new(struct control *c, struct err *err);
/* After the stores and the vault's client are ended: nothing is under way any more. */
void ocsp_desk_free(struct ocsp_desk *d); /* NULL accepted */
/* A loop of a gateway; takes fd over. */
void ocsp_desk_attach(struct ocsp_desk *d, int fd);

#endif
