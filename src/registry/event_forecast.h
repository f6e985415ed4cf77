/* event_forecast: webhooks are told of the days ahead on which devices stop connecting.
 *
 * Each day is announced once for each number of days, account and kind of end: the table event_swept holds up to which day that was done, as it
 * does for what ends (event_sweep.h).  What comes up with less time than that is announced at the next smaller number. */
#ifndef MUSTER_REGISTRY_EVENT_FORECAST_H
#define MUSTER_REGISTRY_EVENT_FORECAST_H

#include "registry/event.h"

#define EVENT_FORECAST_DAYS 30

struct event_forecast_row {
    int kind;            /* a number that tells kinds of ends apart, below 16 */
    const char *cause;   /* its word; static */
    int64_t account;     /* row; 0: the server's */
    struct uuid id;      /* of the root or key; nil: none */
    const char *subject; /* the caller's, until the operation is done */
    int code;
    int64_t day, stops, renews;
};
struct event_forecast {
    int64_t now;
    struct event_forecast_row *at;
    size_t n, cap;
};
int event_forecast_add(struct event_forecast *e, const struct event_forecast_row *row) MUSTER_MUST_CHECK; /* MUSTER_ENOMEM */
int event_forecast_run(struct store_tx *registry, void *arg, struct err *err);
void event_forecast_fini(struct event_forecast *e);

#endif
