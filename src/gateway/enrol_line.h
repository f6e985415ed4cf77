/* enrol_line: so many enrolments are under way at a time, and who comes then is told when to come again.
 *
 * Devices that were admitted before go on meanwhile: an enrolment costs many times what their requests do.  Where a whole fleet wakes at
 * once, the time that the line will take is reckoned from how many were sent away and how many a second are served; each device's own
 * time lies in it by a hash of its ID, so that they come spread out, and the same device is given the same place.  From any thread. */
#ifndef MUSTER_GATEWAY_ENROL_LINE_H
#define MUSTER_GATEWAY_ENROL_LINE_H

#include <stdbool.h>

#include "base/span.h"

#define ENROL_LINE_WAIT_MAX 3600 /* seconds: the longest that anybody is told to wait */

struct enrol_line;
struct enrol_line *enrol_line_new(size_t most); /* at a time, at least 1; NULL: out of memory */
void enrol_line_free(struct enrol_line *l);     /* NULL accepted */
/* Who comes: a renewal has room that no new enrolment takes, a quarter as much again, so that a device whose certificate ends does not wait
 * behind a fleet that is new. */
enum enrol_line_who { ENROL_LINE_NEW, ENROL_LINE_RENEWAL };
/* True: one more is under way, until enrol_line_leave().  False: not now; *wait: seconds until `device_id` should come again.  now:
 * microseconds, monotonic. */
bool enrol_line_enter(struct enrol_line *l, enum enrol_line_who who, struct span device_id, int64_t now, int *wait);
void enrol_line_leave(struct enrol_line *l, int64_t now);
/* A place of `device_id` in [from, from + width), always the same one. */
int64_t enrol_line_place(struct span device_id, int64_t from, int64_t width);

#endif
