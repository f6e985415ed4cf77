/* operator: what the server's operator does to a data directory besides serving it. */
#ifndef MUSTER_MUSTERD_OPERATOR_H
#define MUSTER_MUSTERD_OPERATOR_H

#include "musterd/options.h"

int operator_token_reset(const struct options *o, struct err *err);
int operator_clock_accept(const struct options *o, struct err *err);

#endif
