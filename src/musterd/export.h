/* export: `musterd vault export`. */
#ifndef MUSTER_MUSTERD_EXPORT_H
#define MUSTER_MUSTERD_EXPORT_H

#include "musterd/options.h"

int export_run(const struct options *o, struct err *err);

#endif
