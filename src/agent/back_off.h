/* back_off: how long somebody who does not answer, or cannot, is left alone, so that a fleet does not come back on one moment after an outage.
 *
 * The time grows with each failure and differs from device to device and from failure to failure; it is remembered in state.json and so outlasts restarts and
 * power cuts.  What a gateway says itself (Retry-After) is no matter of this. */
#ifndef MUSTER_AGENT_BACK_OFF_H
#define MUSTER_AGENT_BACK_OFF_H

#include "agent/certs.h"

struct back_off {
    int64_t what;     /* of whom it is remembered: back_off_what(); 0: of nobody */
    int64_t failures; /* in a row */
    int64_t at, wait; /* the last one, by the device's clock, and the seconds from then on */
};

/* A gateway as it is known here: another URL, or another anchor, is another one, which is asked at once. */
int64_t back_off_what(const char *url, const struct certs *anchors);
/* Seconds that it is left alone for; 0: it may be asked. */
int64_t back_off_left(const struct back_off *b, int64_t what);
/* One more failure.  most: the mean of the waits does not grow beyond it; grows false: nothing has left this device, and nobody was burdened.  Returns the seconds. */
int64_t back_off_failed(struct back_off *b, int64_t what, const char *device_id, int64_t most, bool grows);

#endif
