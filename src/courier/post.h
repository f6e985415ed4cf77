/* courier/post: one request over libcurl's multi interface on the loop. */
#ifndef MUSTER_COURIER_POST_H
#define MUSTER_COURIER_POST_H

#include "courier/wire.h"
#include "loop/loop.h"

struct posts;
/* The report's text lives until fn returns. */
typedef void (*posts_fn)(void *arg, const struct courier_report *report);

struct posts *posts_new(struct loop *l, const char *networks, posts_fn done, void *arg, struct err *err);
void posts_free(struct posts *p);
/* The order is copied.  Every order is reported once, also one that could not be begun, unless posts_drop comes first. */
void posts_send(struct posts *p, const struct courier_order *order);
void posts_drop(struct posts *p); /* all that are under way */

#endif
