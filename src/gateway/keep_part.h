/* keep_part: what the files behind keep.h share: one body on its way into the registry. */
#ifndef MUSTER_GATEWAY_KEEP_PART_H
#define MUSTER_GATEWAY_KEEP_PART_H

#include "gateway/internal.h"
#include "gateway/keep.h"
#include "registry/device.h"
#include "registry/report.h"

struct keeping {
    union {
        struct device_ecus ecus;
        struct report_put report;
        struct said_put events;
    } op; /* first: what the operation is given */
    const struct keep *keep;
    struct http_exchange *x; /* held */
    keep_fn done;
    int status;
    struct buf body, summary; /* what op points into */
    struct said *events;     /* likewise, owned */
    char name[256];           /* likewise */
};

/* One row of KEEPS each: `take`, and `run` where the registry's own does not do. */
int ecus_take(struct span body, struct keeping *k, struct err *err) MUSTER_MUST_CHECK;
int ecus_run(struct store_tx *tx, void *keeping, struct err *err) MUSTER_MUST_CHECK;
int system_take(struct span body, struct keeping *k, struct err *err) MUSTER_MUST_CHECK;
int network_take(struct span body, struct keeping *k, struct err *err) MUSTER_MUST_CHECK;
int installed_take(struct span body, struct keeping *k, struct err *err) MUSTER_MUST_CHECK;
int config_take(struct span body, struct keeping *k, struct err *err) MUSTER_MUST_CHECK;
int events_take(struct span body, struct keeping *k, struct err *err) MUSTER_MUST_CHECK;

/* A member that is a text of least to most bytes without control characters. */
int take_text(json_t *from, const char *key, size_t least, size_t most, const char **out, struct err *err) MUSTER_MUST_CHECK;
/* Makes the report of a finished summary and body (both written sorted, both taken over); name is copied. */
int report_take(struct keeping *k, enum report_kind kind, const char *name, json_t *summary, json_t *body, struct err *err) MUSTER_MUST_CHECK;

#endif
