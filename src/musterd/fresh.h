/* fresh: a data directory that is being made, by `musterd init` or `musterd restore`.
 *
 * The first thing that is made in it is a mark, and the last is that the mark goes: a directory with the mark is the remains of a making that
 * was cut off, which nothing serves; what is in it is cleared and made anew.  Any other directory that is not empty is never touched, so that no
 * mistake destroys a vault. */
#ifndef MUSTER_MUSTERD_FRESH_H
#define MUSTER_MUSTERD_FRESH_H

#include "musterd/data.h"

/* Makes the directory where it is absent, locks it, and puts the mark into it.  MUSTER_EEXISTS: it is not empty, and has another mark or none. */
int fresh_begin(struct data *d, const char *dir, const char *mark, struct err *err) MUSTER_MUST_CHECK;
/* Whether fresh_begin() would: nothing is made or changed. */
int fresh_look(const char *dir, const char *mark, struct err *err) MUSTER_MUST_CHECK;
int fresh_end(const struct data *d, const char *mark, struct err *err) MUSTER_MUST_CHECK;

#endif
