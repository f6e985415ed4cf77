/* record: the two ways by which something reaches the disk, written into a log (disk.h): a VFS under SQLite, and the file layer's tap. */
#ifndef MUSTER_TESTS_POWERCUT_RECORD_H
#define MUSTER_TESTS_POWERCUT_RECORD_H

#include "disk.h"

#define RECORD_VFS "powercut"

/* Registers the VFS, a shim over SQLite's own one for Unix, and sets the file layer's tap.  What runs from here on is recorded into *l;
 * databases have to be opened with vfs RECORD_VFS and to stand in the directory `root`. */
void record_begin(struct disk_log *l, const char *root);
void record_end(void);
/* Where the file layer works from now on.  The VFS knows by itself. */
void record_files_in(enum disk_dir dir);
/* The sync of the directory for the file of this name does not happen from now on, as if the process had been killed before it; NULL ends it. */
void record_killed_before_sync(const char *name);

#endif
