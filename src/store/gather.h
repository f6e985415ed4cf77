/* gather: a VFS of SQLite that writes the frames of a commit to the WAL at once.
 *
 * SQLite writes each frame in two calls, 24 bytes and a page; in a process that a seccomp filter watches they cost as much as the rest of a small
 * commit.  Here they are held until the WAL is synced, read or cut, or the memory for them is full.  Nothing is promised or seen before it
 * is on the disk as it was before: with synchronous=FULL every commit syncs the WAL before anybody can find its frames.  With anything less, or where
 * the cache may spill within a transaction (PRAGMA cache_spill), this must not be used. */
#ifndef MUSTER_STORE_GATHER_H
#define MUSTER_STORE_GATHER_H

struct sqlite3;
/* What is held for the WAL of a connection that has rolled back; nothing where its VFS is another. */
void gather_forget(struct sqlite3 *db);

/* The name of the VFS over `under` (NULL: the default one), or NULL where there is none of that name or no memory.  From any thread. */
const char *gather_over(const char *under);

#endif
