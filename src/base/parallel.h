/* parallel: the same work on many things, on several threads at once: for programs that do one job and end.  No loop's thread calls this. */
#ifndef MUSTER_BASE_PARALLEL_H
#define MUSTER_BASE_PARALLEL_H

#include <stddef.h>

#define PARALLEL_THREADS_MAX 256

/* Cores that this process may use, at least 1. */
unsigned parallel_cores(void);
/* Calls fn(arg, thread, i) once for each i in [0, n), in any order, on at most so many threads (the caller's is one of them; `thread` counts them from 0).
 * Returns when all calls have returned.  Where a thread cannot be started the others do its part. */
typedef void (*parallel_fn)(void *arg, unsigned thread, size_t i);
void parallel_run(unsigned threads, size_t n, parallel_fn fn, void *arg);

#endif
