/* init: `musterd init`. */
#ifndef MUSTER_MUSTERD_INIT_H
#define MUSTER_MUSTERD_INIT_H

#include "musterd/options.h"

int init_run(const struct options *o, struct err *err);

#endif
