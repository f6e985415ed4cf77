/* act: what a device says for a step, or for a kind of misbehaviour, and what it makes of the answer. */
#ifndef MUSTER_SIM_ACT_H
#define MUSTER_SIM_ACT_H

#include "sim/client.h"

struct act {
    const struct sim_options *o;
    struct fleet *fleet;
    const char *host;
};

/* The request of a device for the step.  `uses`: the second half of a renewal, the first use of what came of it. */
int act_ask(const struct act *a, enum step step, bool uses, struct device *d, struct ask *out, struct err *err) MUSTER_MUST_CHECK;
int act_misbehave(const struct act *a, enum manner manner, struct device *d, struct ask *out, struct err *err) MUSTER_MUST_CHECK;

enum came { CAME_DONE, CAME_USE, CAME_LATER, CAME_FAILED };
/* Takes what the answer brings into the device.  CAME_USE: there is a second half; CAME_LATER: it is to come again. */
enum came act_take(const struct act *a, enum step step, bool uses, struct device *d, const struct answer *answer);
/* As the report counts it: "403 device_pending". */
void act_name(const struct answer *answer, enum came came, char out[80]);
bool act_told_to_wait(const struct answer *answer);

#endif
