/* courier/client: control's half of the channel to the courier.  All calls on the loop's thread.
 *
 * What the courier says is the word of a process that reads the open network: anything out of shape ends the channel, and with it the
 * courier, for which the supervisor starts another. */
#ifndef MUSTER_COURIER_CLIENT_H
#define MUSTER_COURIER_CLIENT_H

#include "courier/wire.h"
#include "loop/loop.h"

#define COURIER_OUTSTANDING 256

struct courier_client;
/* report NULL: the courier has gone, and nobody knows what became of the order. */
typedef void (*courier_fn)(void *arg, const struct courier_report *report);

struct courier_client *courier_client_new(struct loop *l, struct err *err);
void courier_client_free(struct courier_client *c); /* tells everybody who waits */
/* A new channel, taken over; one that was there is given up. */
int courier_client_attach(struct courier_client *c, int fd, struct err *err) MUSTER_MUST_CHECK;
bool courier_client_ready(const struct courier_client *c); /* there is a channel, and room for an order */
/* order->id is set here.  fn is called once, never from within.  MUSTER_EUNAVAILABLE: no courier; MUSTER_EBUSY: too many under way. */
int courier_client_send(struct courier_client *c, struct courier_order *order, courier_fn fn, void *arg, struct err *err) MUSTER_MUST_CHECK;

#endif
