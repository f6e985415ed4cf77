/* rate: how often each of very many may do something, in a table of fixed size.
 *
 * The generic cell rate algorithm: of each one the time is kept at which all that it did would have been due at the even rate, 16 bytes a
 * one.  Who is further ahead than a minute's worth waits.  Where the table is full, the one goes that is least ahead: who floods stays.
 * From any thread. */
#ifndef MUSTER_GATEWAY_RATE_H
#define MUSTER_GATEWAY_RATE_H

#include "base/span.h"

struct rate;
/* per_minute 0: no limit.  NULL: out of memory. */
struct rate *rate_new(size_t entries, int64_t per_minute);
void rate_free(struct rate *r); /* NULL accepted */
/* Counts one more of `who`, where it may: 0; else the microseconds until it may, and nothing is counted.  now: microseconds, monotonic. */
int64_t rate_take(struct rate *r, struct span who, int64_t now);
/* Counts whatever the limit says: for what has happened already. */
void rate_add(struct rate *r, struct span who, int64_t now);
/* What rate_take() counted does not count after all. */
void rate_give_back(struct rate *r, struct span who, int64_t now);
/* The same answer as rate_take(), nothing counted. */
int64_t rate_wait(struct rate *r, struct span who, int64_t now);

#endif
