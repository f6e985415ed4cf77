/* restore: `musterd restore`: an empty directory becomes the data directory that a backup holds.
 *
 * The whole file is read and checked once before anything is written, and once more while it is.  Until all is done the directory has a mark
 * (fresh.h), and no server starts on it.  What it becomes opens in recovery (registry/recovery.h). */
#ifndef MUSTER_MUSTERD_RESTORE_H
#define MUSTER_MUSTERD_RESTORE_H

#include "musterd/options.h"

int restore_run(const struct options *o, struct err *err);

#endif
