/* reach: what the gateway may read besides what is in DIR: the operator's own certificate and key; and where it
 * has routes, what a resolver reads.
 *
 * Landlock's rules hold for inodes, and a renewed certificate is usually a new file that is renamed into the old one's place.  So the
 * gateway gets the directories of the two files, and of what they are links to, where nothing else is to be feared there: a directory
 * with directories in it, one at the root, one that lies in DIR or holds it or holds the master key stays out of reach.  Where the
 * files are renamed in such a place, a new gateway is needed to read them (reload.h). */
#ifndef MUSTER_MUSTERD_REACH_H
#define MUSTER_MUSTERD_REACH_H

#include <limits.h>
#include <sys/types.h>

#include "config/settings.h"

#define REACH_MAX 8 /* two files, and two directories of each; two for the resolver */

struct reach {
    size_t n;
    struct {
        char path[PATH_MAX];
        bool tree; /* a directory */
        dev_t dev;
        ino_t ino;
    } at[REACH_MAX];
};

/* As it is now.  dir: DIR, absolute.  An absent file gives nothing: reading it fails with a text of its own. */
void reach_find(struct reach *out, const struct settings *s, const char *dir);
/* Whether the certificate and key that are there now can be read by whoever got this reach. */
bool reach_covers(const struct reach *r, const struct settings *s);

#endif
