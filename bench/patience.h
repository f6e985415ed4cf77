/* patience: operations that were told to come later, by the time at which they come again. */
#ifndef MUSTER_BENCH_PATIENCE_H
#define MUSTER_BENCH_PATIENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* due: nanoseconds, monotonic. */
void patience_put(size_t number, int64_t due);
/* The one that is due first, if it is due by now. */
bool patience_take(int64_t now, size_t *number);
size_t patience_times(void);   /* that an operation was put off */
size_t patience_busiest(void); /* the most that came again within one second */

#endif
