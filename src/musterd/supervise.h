/* supervise: the supervisor's loop, from the first child to the last. */
#ifndef MUSTER_MUSTERD_SUPERVISE_H
#define MUSTER_MUSTERD_SUPERVISE_H

#include "musterd/serve.h"

/* Starts vault, control and gateway in that order, prints the ready line, restarts what dies, and returns once everything has ended:
 * 0 after SIGTERM or SIGINT, negative where the start failed. */
int supervise(struct serve *s, struct err *err) MUSTER_MUST_CHECK;
/* Kills what is left. */
void supervise_end(struct serve *s);

#endif
