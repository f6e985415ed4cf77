/* event_sweep: what comes from time passing: certificates and provisioning keys that are near their end.
 *
 * Each is announced once for each number of days, by the index over ends: the table event_swept holds, for an account and a number of days,
 * up to which end that was done.  What is made with less time than that is announced at the next smaller number. */
#ifndef MUSTER_REGISTRY_EVENT_SWEEP_H
#define MUSTER_REGISTRY_EVENT_SWEEP_H

#include "registry/event.h"

/* One account a run; again while `more`. */
struct event_sweep {
    int64_t now;
    int64_t server_end; /* of the gateway's own certificate; 0: unknown */
    int64_t server_ca_end, former_ca_end; /* of the server CA, and of the first to end of the former ones that are kept beside it; 0: unknown, or none */
    int64_t after;      /* account; start with -1: the server's own */
    bool more;          /* out */
    int64_t said;       /* out: events, over all runs */
};
int event_sweep_run(struct store_tx *registry, void *arg, struct err *err);

#endif
