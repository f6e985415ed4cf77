/* cleanup: the one cleanup idiom.  Owned locals carry an attribute; ownership is handed on with TAKE(); failures return
 * early.  A module that defines a type with x_free() adds its own line DEFINE_CLEANUP(x_free, struct x *). */
#ifndef MUSTER_BASE_CLEANUP_H
#define MUSTER_BASE_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn##_cleanup__)))

/* For functions that take the pointer itself: defines fn_cleanup__(T *p), which calls fn(*p) unless it is NULL. */
#define DEFINE_CLEANUP(fn, T)                                                                                                  \
    static inline __attribute__((unused)) void fn##_cleanup__(T *p) {                                                          \
        if (*p)                                                                                                                \
            fn(*p);                                                                                                            \
    }
/* For x_fini() functions over embedded structs: `CLEANUP(buf_fini) struct buf b = …`. */
#define DEFINE_CLEANUP_FINI(fn, T)                                                                                             \
    static inline __attribute__((unused)) void fn##_cleanup__(T *p) { fn(p); }

/* Hands the value on and leaves NULL behind.  What stands there is looked at once. */
#define TAKE(p)                                                                                                                \
    ({                                                                                                                         \
        __auto_type place__ = &(p);                                                                                            \
        __auto_type taken__ = *place__;                                                                                        \
        *place__ = NULL;                                                                                                       \
        taken__;                                                                                                               \
    })
#define TAKE_FD(fd)                                                                                                            \
    ({                                                                                                                         \
        int *place__ = &(fd), taken__ = *place__;                                                                              \
        *place__ = -1;                                                                                                         \
        taken__;                                                                                                               \
    })

DEFINE_CLEANUP(free, char *)
DEFINE_CLEANUP(fclose, FILE *)
static inline void fd_close(int fd) {
    if (fd >= 0)
        close(fd);
}
static inline __attribute__((unused)) void fd_close_cleanup__(int *fd) { fd_close(*fd); }
struct buf;
void buf_fini(struct buf *b);
void buf_wipe(struct buf *b);
DEFINE_CLEANUP_FINI(buf_fini, struct buf)
DEFINE_CLEANUP_FINI(buf_wipe, struct buf)
struct arena;
void arena_free(struct arena *a);
DEFINE_CLEANUP(arena_free, struct arena *)

#endif
