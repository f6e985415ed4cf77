/* rekey: `musterd vault rekey` and `musterd vault status`. */
#ifndef MUSTER_MUSTERD_REKEY_H
#define MUSTER_MUSTERD_REKEY_H

#include "musterd/options.h"

int rekey_run(const struct options *o, struct err *err);
int rekey_status_run(const struct options *o, struct err *err);

#endif
