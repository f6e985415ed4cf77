/* report: what devices say of themselves after provisioning: a report of each kind, the newest, and a ring of events.  The gateway
 * keeps them as it got them, checked and bounded; operators read them.  Nothing is judged by them. */
#ifndef MUSTER_REGISTRY_REPORT_H
#define MUSTER_REGISTRY_REPORT_H

#include "registry/registry.h"

#define EVENTS_KEPT 200       /* of a device */
#define EVENT_ID_MAX 64       /* bytes */
#define EVENTS_SHOWN 10       /* with the device itself */

enum report_kind { REPORT_SYSTEM = 1, REPORT_NETWORK = 2, REPORT_INSTALLED = 3, REPORT_CONFIG = 4 }; /* numbers stand in the database */

/* One report in place of the one before; what is unchanged is not written.  Texts are bounded by the caller. MUSTER_ENOTFOUND: the
 * device is deleted, or another account's. */
struct report_put {
    int64_t account, device;
    enum report_kind kind;
    struct span name;    /* what the kind is searched by: product, host name; may be empty */
    struct span summary; /* a JSON object, shown with the device */
    struct span body;    /* JSON, shown on demand */
    bool unchanged;      /* out */
};
int report_put_run(struct store_tx *tx, void *arg, struct err *err);

/* Events, oldest first.  One whose id the ring holds already is passed over: the client sends again what was not answered. */
struct said {
    struct span id, body; /* body: a JSON object */
};
struct said_put {
    int64_t account, device;
    const struct said *at;
    size_t n;
};
int said_put_run(struct store_tx *tx, void *arg, struct err *err); /* MUSTER_ENOTFOUND, likewise */

/* Newest first; the cursor is the seq of the last one of the page before (0: from the newest). */
struct said_list {
    struct span account, device;
    struct page page;
};
int said_list_run(struct store_tx *tx, void *arg, struct err *err);

/* Adds hardware, network, installed, config and the newest events to what is shown of a device; whole: and reports, the bodies. */
int report_add_json(struct store_tx *tx, int64_t account, int64_t device, bool whole, json_t *o, struct err *err) MUSTER_MUST_CHECK;
/* Removes everything of one device. */
int report_drop(struct store_tx *tx, int64_t account, int64_t device, struct err *err) MUSTER_MUST_CHECK;
/* Removes a bounded number of what deleted accounts left; again while `more`. */
struct report_sweep {
    bool more;
};
int report_sweep_run(struct store_tx *tx, void *arg, struct err *err);

#endif
