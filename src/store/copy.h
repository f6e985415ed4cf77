/* copy: databases as they were at one moment, while other processes go on writing them.
 *
 * For that moment the write locks of all of them are held together, so that what one database says of another holds: it is what a power cut
 * at that instant would have left.  Nobody waits for a lock longer than COPY_HOLD_MS.  From then on writers go on; what is read stays as it was,
 * and until it was copied the WAL grows by what is written.  Blocks; from one thread. */
#ifndef MUSTER_STORE_COPY_H
#define MUSTER_STORE_COPY_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

#define COPY_MAX 4
#define COPY_HOLD_MS 250
#define COPY_SPARE (1ULL << 30) /* bytes that a copy leaves to the server, whose disk it shares */

struct copies;
/* n (1..COPY_MAX) databases that exist.  MUSTER_EBUSY where the moment did not come in half a minute. */
int copies_begin(const char *const *paths, size_t n, struct copies **out, struct err *err) MUSTER_MUST_CHECK;
/* Number i, once, as a file without a name in `dir`, at its beginning; *fd is the caller's, and nothing of the database is held any more.
 * progress (NULL accepted) is told pages now and then.  MUSTER_EIO before anything is written where less than `spare` bytes would be left. */
typedef void (*copy_progress_fn)(void *arg, int64_t done, int64_t all);
int copies_take(struct copies *c, size_t i, const char *dir, uint64_t spare, int *fd, int64_t *size, copy_progress_fn progress, void *arg, struct err *err) MUSTER_MUST_CHECK;
void copies_end(struct copies *c); /* NULL accepted */

/* Whether a database that nobody uses is whole: MUSTER_ECORRUPT. */
int copy_check(const char *path, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(copies_end, struct copies *)

#endif
