/* keep: what a stock device sends after provisioning (/director/ecus, system_info, installed packages, configuration, events), checked,
 * bounded and kept in the registry.  In two halves, for those paths may be another server's as well: keep_start() keeps and says what
 * came of it, keep_answer() answers the device with that.  The plain handler is both of them; whoever passes the request on takes the
 * first and answers with what the upstream said. */
#ifndef MUSTER_GATEWAY_KEEP_H
#define MUSTER_GATEWAY_KEEP_H

#include "http/server.h"
#include "store/store.h"

struct keeping;
struct worker;

/* What came of it, exactly once, on the worker's loop, now or later.  rc 0: it is kept (or was kept before, or is of no use to anybody)
 * and durable; status and body are the answer that a device expects, body lives until this returns.  Else err has the reason: nothing
 * was kept.  The exchange is held until this returns; it still owes its answer. */
typedef void (*keep_fn)(struct http_exchange *x, int rc, const struct err *err, int status, struct span body);

struct keep {
    const char *method, *path;
    size_t body_max;                                                          /* bytes; above it nothing is kept and the answer is 413 */
    int status;                                                               /* of a good answer */
    int (*take)(struct span body, struct keeping *k, struct err *err);        /* checks and makes k->op of it */
    store_run_fn run;                                                         /* on the store's thread; given the keeping */
};
extern const struct keep KEEPS[];
extern const size_t KEEPS_N;

/* The row of a method and path, or NULL.  Paths are compared as they stand in requests: none of them has anything to decode. */
const struct keep *keep_of(struct span method, struct span path);
/* Keeps http_body(x), whose peer was admitted as a device; `done` is called in any case.  On the worker's loop. */
void keep_start(const struct keep *keep, struct http_exchange *x, struct worker *w, keep_fn done);
void keep_answer(struct http_exchange *x, int rc, const struct err *err, int status, struct span body);
/* The handler of every row: keeps, then passes the request on where a route covers its path, or answers.  arg is the worker. */
void keep_handle(struct http_exchange *x, void *arg);

#endif
