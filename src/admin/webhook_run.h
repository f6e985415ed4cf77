/* webhook_run: control's schedule of webhooks: takes events from the registry's outbox into each webhook's queue, looks at what ends soon,
 * holds the webhooks as they are now, and has each one's lane (webhook_lane.h) deliver what is due.  Nothing here blocks, and nothing is
 * lost with the process: a step that was not finished is done again. */
#ifndef MUSTER_ADMIN_WEBHOOK_RUN_H
#define MUSTER_ADMIN_WEBHOOK_RUN_H

#include "admin/internal.h"
#include "courier/client.h"
#include "registry/delivery.h"
#include "registry/hook.h"

struct webhooks *webhooks_new(struct control *c, struct err *err);
/* Before the stores end: whoever waits for the courier is told that it has gone. */
void webhooks_stop(struct webhooks *w);
void webhooks_free(struct webhooks *w);
/* The channel to the courier, taken over. */
void webhooks_attach(struct webhooks *w, int fd);
/* Webhooks were changed: reads them again, and tells the registry what they want; then fn(arg), also where that failed (it is tried again). */
void webhooks_reload(struct webhooks *w, loop_fn fn, void *arg);
/* One event of the kind webhook.test, at once and past the queue. MUSTER_ENOTFOUND, MUSTER_EUNAVAILABLE, MUSTER_EBUSY. */
int webhooks_test(struct webhooks *w, const struct uuid *webhook, const char *account, struct uuid *event, courier_fn fn, void *arg, struct err *err) MUSTER_MUST_CHECK;

/* Asks whoever is told of certificate.ask: the account's own webhook, or the server's; on trial of certificate.try before (registry/hook.h).  MUSTER_ENOTFOUND: there is none; MUSTER_EUNAVAILABLE, MUSTER_EBUSY. */
int webhooks_ask(struct webhooks *w, const char *account, enum hook_trial trial, const struct uuid *id, struct span payload, courier_fn fn, void *arg, struct err *err) MUSTER_MUST_CHECK;

#endif
