/* syncs: what each sync of a log is for, and for each kind whether a promise rests on it.
 *
 * S(NAME, rests, reason).  SOME: left out by itself, the promise is lost behind some of its instances (where the next commit needs it);
 * EVERY: behind each one; NONE: redundant, and why. */
#ifndef MUSTER_TESTS_POWERCUT_SYNCS_H
#define MUSTER_TESTS_POWERCUT_SYNCS_H

#include "work.h"

#define SYNC_TABLE(S)                                                                                                                          \
    S(WAL_COMMIT, EVERY, "The frames of a commit that is answered before the WAL is synced again.")                                            \
    S(WAL_TOGETHER, SOME, "The same while several threads write; which of their notes belongs to which commit is not known here.")             \
    S(WAL_COMMIT_UNAWAITED, NONE, "Nobody was answered between this commit and the next one, whose sync covers the same file.")                \
    S(WAL_HEADER, SOME, "A WAL begins anew: without it the old header with old frames could be valid again before new ones, an old state.")    \
    S(WAL_BEFORE_CHECKPOINT, NONE, "Every frame was synced at its commit (synchronous=FULL); SQLite needs this one for NORMAL alone.")         \
    S(DB_CHECKPOINT, SOME, "Pages that the checkpoint wrote, before a new beginning of the WAL overwrites their only other copy.")             \
    S(DB_MADE, EVERY, "The first page of a new database: without it the database is empty, and SQLite deletes the WAL of an empty database.")  \
    S(JOURNAL, NONE, "It would undo the first page of a new database, which holds nothing yet; it is deleted before the first promise.")       \
    S(DIR_JOURNAL, NONE, "Names in the directory; the WAL's sync of the same directory follows before the first promise.")                     \
    S(DIR_WAL, EVERY, "The names of a new database and of its WAL, and that the journal is gone.")                                             \
    S(DIR_WAL_AGAIN, NONE, "SQLite syncs the directory once after each opening of a WAL; the name was durable since it was made.")             \
    S(FILE_CONTENT, EVERY, "The content of a file that a rename puts in place: durable before its name, or the name would show a part of it.") \
    S(DIR_FILE, EVERY, "The name of a file that was replaced or made.")                                                                        \
    S(DIR_FILE_GONE, EVERY, "That a file which was removed is gone.")                                                                          \
    S(DIR_RECORD, EVERY, "The name of a record's file, before the index that refers to it.")                                                   \
    S(DIR_INDEX, EVERY, "The vault's change itself, before it is reported and before the file of the record's old version goes.")              \
    S(DIR_INDEX_AGAIN, EVERY, "Opening writes the index again: the process before may have been killed before its sync, and here it was.")     \
    S(DIR_VAULT_BEGUN, NONE, "Master key and head of a vault; the sync for the first record follows before the first index.")                  \
    S(DIR_RECORD_OLD, NONE, "An old record's file that comes back is removed at the next opening.")

enum sync_use {
#define S(name, rests, reason) SYNC_##name,
    SYNC_TABLE(S)
#undef S
    SYNC_USES
};
enum sync_rests { SYNC_NONE, SYNC_SOME, SYNC_EVERY };
struct sync_fact {
    const char *name;
    enum sync_rests rests;
    const char *reason;
};
extern const struct sync_fact SYNC_FACTS[SYNC_USES];

/* Sets `use` of each sync in the log. */
void syncs_classify(struct work *w);
/* The next sync of the same file or directory; log.n where there is none.  What the first one leaves undone, this one does. */
size_t syncs_next(const struct disk_log *l, size_t at);

#endif
