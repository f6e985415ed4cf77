/* loop: one event loop a thread (libevent underneath), timers, and posts between threads.
 *
 * Loops share nothing and talk by posts.  Unless a function says otherwise it is called on the loop's own thread. */
#ifndef MUSTER_LOOP_LOOP_H
#define MUSTER_LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

struct event_base;
struct loop;
struct loop_timer;
struct loop_watch;

typedef void (*loop_fn)(void *arg);

struct loop *loop_new(struct err *err);
void loop_free(struct loop *l); /* after loop_run has returned; posts not yet run are dropped */
/* Runs until loop_stop. */
void loop_run(struct loop *l);
/* From any thread, and from a post. */
void loop_stop(struct loop *l);
/* Queues fn(arg) to run on the loop's thread, in order of posting.  From any thread.  Never blocks; MUSTER_ENOMEM is the only
 * failure.  Posts before loop_run are kept. */
int loop_post(struct loop *l, loop_fn fn, void *arg) MUSTER_MUST_CHECK;
/* Queues fn of each of n arguments, in their order, and wakes the loop once.  How many it queued, from the first on: fewer where memory is short. */
size_t loop_post_all(struct loop *l, loop_fn fn, void *const *args, size_t n) MUSTER_MUST_CHECK;
/* Runs what was posted, and what that posts, without waiting for anything else: once loop_run has returned, so that nobody's answer is lost
 * with its memory.  On any one thread. */
void loop_flush(struct loop *l);
/* For layers that speak libevent themselves (http). */
struct event_base *loop_base(struct loop *l);
/* The loop that runs on this thread, or NULL. */
struct loop *loop_current(void);

/* One-shot timers with absolute meaning: loop_timer_set replaces what was set; never restarted by anything else. */
struct loop_timer *loop_timer_new(struct loop *l, loop_fn fn, void *arg);
void loop_timer_set(struct loop_timer *t, int64_t after_ms);
void loop_timer_clear(struct loop_timer *t);
void loop_timer_free(struct loop_timer *t); /* clears; NULL accepted */

/* Calls fn(arg) whenever fd is readable (level-triggered). */
struct loop_watch *loop_watch_new(struct loop *l, int fd, loop_fn fn, void *arg);
void loop_watch_free(struct loop_watch *w); /* does not close fd */

DEFINE_CLEANUP(loop_free, struct loop *)

#endif
