/* sweep: removes what devices of deleted accounts had said of themselves, a bounded number of rows a transaction, so that deleting a
 * large account holds nobody up; see internal.h. */
#include "admin/internal.h"
#include "base/log.h"

static void swept(void *arg, int rc, const struct err *err);

static void go_on(struct control *c) {
    struct err err = ERR_INIT;
    if (store_write(c->registry, c->loop, report_sweep_run, swept, c, &err)) {
        log_err(LOG_WARN, "sweep_failed", &err, NULL); /* the next look comes within the hour */
        c->sweeping = false;
    }
}

static void swept(void *arg, int rc, const struct err *err) {
    struct control *c = arg;
    if (!rc && c->sweep.more) {
        go_on(c);
        return;
    }
    if (rc)
        log_err(LOG_WARN, "sweep_failed", err, NULL);
    c->sweeping = false;
}

void sweep_start(struct control *c) {
    if (c->sweeping)
        return;
    c->sweeping = true;
    go_on(c);
}
