/* webhook_lane: the conversation with the courier: each webhook has a lane, in which what is due in its queue is taken out, signed, sent, and
 * what became of it is written down.  What is put into the queues, and when a lane looks, is webhook_run's.
 *
 * One batch of a lane is under way at a time, so that a slow receiver holds up nobody but itself.  On control's loop alone. */
#ifndef MUSTER_ADMIN_WEBHOOK_LANE_H
#define MUSTER_ADMIN_WEBHOOK_LANE_H

#include "admin/internal.h"
#include "courier/client.h"
#include "registry/delivery.h"
#include "registry/hook.h"

struct lane;
struct lanes {
    struct control *c;
    struct courier_client *courier; /* the owner's; NULL once it has stopped, with c->draining set before */
    struct delivery_policy policy;
    loop_fn changed;                /* a receiver ended its webhook: the webhooks have to be read again */
    void *arg;
    struct lane *first;             /* a lane each; NULL: there are no webhooks */
};

/* The webhooks as they are now.  Certificates are taken out of `load`; the lane of one that is gone ends with its batch. */
void lanes_take_over(struct lanes *all, struct webhook_load *load);
/* Something was put into the queues: every lane looks again. */
void lanes_wake(struct lanes *all);
/* Begins what is due. */
void lanes_go(struct lanes *all);
/* Whoever was first is last the next time: where the courier is full, each has its turn. */
void lanes_turn(struct lanes *all);
/* webhooks_test of webhook_run.h. */
int lanes_test(struct lanes *all, const struct uuid *webhook, const char *account, struct uuid *event, courier_fn fn, void *arg, struct err *err) MUSTER_MUST_CHECK;
/* webhooks_ask of webhook_run.h. */
int lanes_ask(struct lanes *all, const char *account, enum hook_trial trial, const struct uuid *id, struct span payload, courier_fn fn, void *arg, struct err *err) MUSTER_MUST_CHECK;
/* Nothing is under way any more. */
void lanes_fini(struct lanes *all);

#endif
