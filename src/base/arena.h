/* arena: memory that ends all at once, one per request.  Not thread-safe.  Memory is zeroed and aligned for any type. */
#ifndef MUSTER_BASE_ARENA_H
#define MUSTER_BASE_ARENA_H

#include <stdarg.h>

#include "base/span.h"

struct arena;

struct arena *arena_new(size_t max); /* bytes that it may hold in all; NULL when out of memory */
void arena_free(struct arena *a);    /* NULL accepted */
void *arena_alloc(struct arena *a, size_t n); /* NULL: out of memory or over the maximum */
char *arena_strdup(struct arena *a, struct span s); /* NUL-terminated copy, or NULL */
struct span arena_copy(struct arena *a, struct span s); /* .p NULL on failure of a non-empty copy */
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
