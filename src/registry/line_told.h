/* line_told: what a factory line has told by its manifests, so that what it tells now can be held against it.
 *
 * A manifest is a chain of hashes, signed at its end: that end's hash speaks for every entry before it.  Of each manifest that is told the registry keeps the number of
 * entries and that hash, and a later one has to have the same hash at that number.  Two that have not are a fork: the line's directory or key was copied, or an
 * old copy of it was put back.  Whichever comes first, both are kept, and every one that comes then contradicts the other, until an operator takes one for the line's word.
 * What that sets aside, and what goes on from it, is a contradiction whenever it is told, also where it is just longer than the line's word. */
#ifndef MUSTER_REGISTRY_LINE_TOLD_H
#define MUSTER_REGISTRY_LINE_TOLD_H

#include "registry/line.h"

#define LINE_TOLD_MAX 1000 /* of what was told, the newest that a manifest is held against */
#define LINE_ENTRIES_MAX 1000000000
#define LINE_TOLD_NAMED_MAX 200 /* of those that contradicted what an operator took for the line's word, as many are named in the log */

/* What a manifest is to those before it. */
enum line_verdict { LINE_CONTINUES = 1, LINE_SHORTER = 2, LINE_CONTRADICTS = 3 };
extern const struct words WORDS_LINE_VERDICT;

/* The end of a manifest.  MUSTER_EMANIFEST: not signed by the line; _ESTATE: it was told something that `digests` does not say, so read that again; _EINVALID. */
struct line_tell {
    struct actor actor;
    struct span account, line;
    bool look;              /* nothing is written: for a reading transaction */
    bool accept;            /* it is the line's word whatever was told before: what contradicts it, or is longer, is set aside */
    int64_t entries;
    char at[CLOCK_RFC3339_LEN + 1];
    struct hash chain;
    struct buf signature;   /* the caller's */
    json_t *digests;        /* array of {"entries", "digest"}: the manifest's hash at the numbers that were told, also of what was set aside; the caller's */
    json_t *out;
};
int line_tell_run(struct store_tx *tx, void *arg, struct err *err);

/* What was told, newest first; what was set aside too. */
struct line_told_list {
    struct span account, line;
    struct page page;
};
int line_told_list_run(struct store_tx *tx, void *arg, struct err *err);

#endif
