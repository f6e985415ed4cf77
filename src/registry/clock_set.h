/* clock_set: that the server's clock was set while it ran, by more than clocks are kept right by: what it issued or signed meanwhile bears a wrong time, by the old
 * clock or by the new one, and only an operator knows which.  Control looks (admin/clock_watch.c); the rows of meta are kept until an operator says that the clock is right. */
#ifndef MUSTER_REGISTRY_CLOCK_SET_H
#define MUSTER_REGISTRY_CLOCK_SET_H

#include "registry/registry.h"

#define CLOCK_SET_LEAST 60 /* seconds; several that are less count once they come to as much */

struct clock_set {
    int64_t net;  /* seconds that it is ahead of what it was (behind: below 0), as long as nobody said that it is right; under CLOCK_SET_LEAST: it was set back */
    int64_t last; /* by how much the last time; 0: it was not set */
    int64_t at;   /* when that was noticed, by the new clock */
};
int clock_set_get(struct store_tx *registry, struct clock_set *out, struct err *err) MUSTER_MUST_CHECK;
/* The clock is right, an operator says. */
int clock_set_forget(struct store_tx *registry, struct err *err) MUSTER_MUST_CHECK;

/* One look: what the wall clock is ahead of the time since the machine was started changes only where somebody sets it, so it is held against what was written
 * down of this start of the machine, by this process or by one before it.  Where it was set this and the event clock.was_set are written, once; the event alone
 * where it was known to be behind the log, so that nothing was issued by it, and was set ahead. */
struct clock_look {
    int64_t boot;     /* which start of the machine */
    int64_t now;      /* seconds */
    int64_t ahead_ms; /* in: the wall clock before the time since the machine was started; out: the one that counts */
    int64_t by;       /* out: seconds; 0: it was not set */
};
int clock_look_run(struct store_tx *registry, void *arg /* struct clock_look */, struct err *err);
/* The same without the registry: whether there is something to be written. */
static inline bool clock_look_differs(int64_t ahead_ms, int64_t known_ms) { return ahead_ms - known_ms >= CLOCK_SET_LEAST * 1000 || known_ms - ahead_ms >= CLOCK_SET_LEAST * 1000; }

#endif
