/* keyring/bounded: calls that may never come back.  A PKCS#11 module, or a TPM's driver, that hangs must not hang whoever asked it: not a pass with its lock, not a
 * program of somebody else's with the library.
 *
 * Each call runs in a thread of its own for as long as keyring_patience() allows.  One that is not back by then is given up: its thread goes on by itself with what it
 * works on, and nothing else is asked before it is back, since modules are called by one at a time. */
#ifndef MUSTER_KEYRING_BOUNDED_H
#define MUSTER_KEYRING_BOUNDED_H

#include <stdbool.h>

#include "base/err.h"

/* work(job) and 0; or MUSTER_EKEYTIME, and then the job is the thread's, which calls drop(job) once work is back. */
int bounded_run(void (*work)(void *job), void (*drop)(void *job), void *job, struct err *err) MUSTER_MUST_CHECK;
/* From within work: until bounded_leave() nobody gives it up; false: somebody has, and what belongs to the caller must not be touched any more. */
bool bounded_enter(void);
void bounded_leave(void);

#endif
