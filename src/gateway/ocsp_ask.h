/* ocsp_ask: a worker's channel to control, which answers what OCSP is asked: control looks into the registry itself and has the answer signed, so that nothing
 * that this process says can have another one signed.  All on the worker's loop. */
#ifndef MUSTER_GATEWAY_OCSP_ASK_H
#define MUSTER_GATEWAY_OCSP_ASK_H

#include "base/cleanup.h"
#include "loop/loop.h"
#include "registry/ocsp_ask.h"

#define OCSP_ASK_OUTSTANDING 64 /* at control: an operator waits behind all of them for a few milliseconds */

struct ocsp_asker;
struct ocsp_asker *ocsp_asker_new(struct loop *l, struct err *err);
void ocsp_asker_free(struct ocsp_asker *k); /* NULL accepted; nobody is called any more */
/* The channel is given up: what is outstanding is told OCSP_LATER now.  NULL accepted. */
void ocsp_asker_end(struct ocsp_asker *k);
/* A channel in the place of the one before; takes fd over.  What was asked over that one is told OCSP_LATER. */
void ocsp_asker_attach(struct ocsp_asker *k, int fd);

/* t's spans live until it returns. */
typedef void (*ocsp_told_fn)(void *arg, const struct ocsp_told *t);
/* done is called later, exactly once: with OCSP_LATER where there is no answer within ten seconds, or the channel has ended.  MUSTER_EUNAVAILABLE (there is no channel),
 * _EBUSY: it is never called. */
int ocsp_ask(struct ocsp_asker *k, struct span account, struct span der, ocsp_told_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(ocsp_asker_free, struct ocsp_asker *)

#endif
