/* run_part: what run.c and commands of their own share. */
#ifndef MUSTER_MUSTER_RUN_PART_H
#define MUSTER_MUSTER_RUN_PART_H

#include "muster/command.h"

/* Shows the reach; true with --yes, or where somebody at the terminal types yes. */
bool run_agreed(const struct invocation *in, const char *reach);

#endif
