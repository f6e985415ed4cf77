/* play: the fleet at work: step after step, each device when it is due, and those that misbehave beside them. */
#ifndef MUSTER_SIM_PLAY_H
#define MUSTER_SIM_PLAY_H

#include "sim/client.h"
#include "sim/tally.h"

struct played {
    struct tally *steps[STEPS_MAX]; /* owned */
    size_t n_steps;
    struct tally *manners[MANNERS]; /* owned; NULL: nobody did that */
    bool cut_short;
};
/* Plays all of it.  What devices have got is saved behind each step.  A signal (SIGINT, SIGTERM) ends it early, with what came of it so far. */
int play_run(const struct sim_options *o, struct fleet *f, struct loop *l, struct client *c, struct played *out, struct err *err) MUSTER_MUST_CHECK;
bool played_well(const struct played *p);
void played_fini(struct played *p);

DEFINE_CLEANUP_FINI(played_fini, struct played)

#endif
