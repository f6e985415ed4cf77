/* device_id: what this device is called, by what the options name: an ID, a file, a command, or what the machine has of its own.
 *
 * The first that is set of device_id, device_id_file, device_id_command counts, else device_id_from.  Asked once, at the first attempt to
 * enrol; from then on the ID stands in the agent's directory. */
#ifndef MUSTER_AGENT_DEVICE_ID_H
#define MUSTER_AGENT_DEVICE_ID_H

#include "agent/options.h"
#include "base/buf.h"

#define DEVICE_ID_MAX 128 /* bytes */

/* Appends 1 to DEVICE_ID_MAX bytes of UTF-8 without control characters; MUSTER_EINVALID with what is wrong with the source. */
int device_id_find(const struct options *o, struct buf *id, struct err *err) MUSTER_MUST_CHECK;
/* Whether it can be one. */
int device_id_accept(struct span id, const char *source, struct err *err) MUSTER_MUST_CHECK;

#endif
