/* landlock: which files a process may still reach, by the kernel's Landlock (landlock(7)), level of ABI 3 where the kernel has it.
 *
 * A ruleset forbids every right over files that this kernel's Landlock knows; each landlock_allow_* gives some back.  A rule holds
 * for the inode that is there when it is added, and for a directory for everything beneath it.  landlock_enter concerns the calling
 * thread and those that it starts later, so it is called while there is one thread. */
#ifndef MUSTER_MUSTERD_LANDLOCK_H
#define MUSTER_MUSTERD_LANDLOCK_H

#include "base/cleanup.h"
#include "base/err.h"

enum landlock_what {
    LANDLOCK_READ,      /* files: read */
    LANDLOCK_WRITE,     /* files: read, write, truncate; none is made or removed */
    LANDLOCK_READ_TREE, /* a directory: list it, read the files in it */
    LANDLOCK_OWN_TREE,  /* a directory: besides, write, make, rename and remove plain files in it */
};

/* The kernel's ABI; 0: no Landlock. */
int landlock_abi(void);
/* The level of it that is made use of. */
int landlock_level(void);
/* *ruleset: a descriptor. MUSTER_ESANDBOX. */
int landlock_new(int *ruleset, struct err *err) MUSTER_MUST_CHECK;
/* path absolute, symbolic links followed.  An absent one is passed over: what is not there cannot be reached either. */
int landlock_allow(int ruleset, enum landlock_what what, const char *path, struct err *err) MUSTER_MUST_CHECK;
int landlock_allow_fd(int ruleset, enum landlock_what what, int fd, const char *name, struct err *err) MUSTER_MUST_CHECK;
int landlock_enter(int ruleset, struct err *err) MUSTER_MUST_CHECK;

#endif
