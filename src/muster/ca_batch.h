/* ca_batch: `muster ca issue` for more than one device. */
#ifndef MUSTER_MUSTER_CA_BATCH_H
#define MUSTER_MUSTER_CA_BATCH_H

#include "ca/ca.h"
#include "ca/server.h"
#include "muster/command.h"

struct ca_batch {
    const struct ca_server *server;
    enum key_kind kind; /* of devices that the list says nothing else of */
    int bits;
    int64_t life;       /* likewise */
};
/* For those on the command line and those of --from, below --output.  The CA is unlocked. */
int ca_batch_issue(const struct invocation *in, struct ca *ca, const struct ca_batch *rq, struct err *err) MUSTER_MUST_CHECK;

#endif
