/* report: what a command of the operator's says on stdout. */
#ifndef MUSTER_MUSTERD_REPORT_H
#define MUSTER_MUSTERD_REPORT_H

#include <jansson.h>

#include "base/err.h"

/* One JSON object, indented, a newline behind. */
int report_json(const json_t *doc, struct err *err) MUSTER_MUST_CHECK;
/* Whether all that was printed has arrived: MUSTER_EIO. */
int report_flush(struct err *err) MUSTER_MUST_CHECK;

#endif
