/* image: writes into the root file system of an image that is being built.
 *
 * Such a tree is full of symbolic links that mean the device's own root: /var/sota may lead to /data/sota, which is the image's and never this
 * machine's.  Paths are walked one component at a time, links are followed as a device would follow them, and nothing outside is touched. */
#ifndef MUSTER_CA_IMAGE_H
#define MUSTER_CA_IMAGE_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/cleanup.h"

struct image {
    int fd;     /* the root; -1: not open */
    bool chown; /* give what is written to uid and gid; else it is the caller's own */
    uid_t uid;
    gid_t gid;
};
#define IMAGE_NONE ((struct image){.fd = -1})

/* MUSTER_EIMAGE where there is no directory.  The machine's own "/" is refused: that is a device and no image. */
int image_open(const char *path, struct image *out, struct err *err) MUSTER_MUST_CHECK;
void image_close(struct image *i);

/* The directory `path` ("var/sota/import") inside, opened.  What is missing is made with `mode`, unless a symbolic link leads there: what a
 * link leads to may be a file system of the device's that hides what an image has in that place.  exact: an existing one gets the mode too. */
int image_dir(const struct image *i, const char *path, mode_t mode, bool exact, int *fd, struct err *err) MUSTER_MUST_CHECK;
/* Whether there is anything of that name; links in `path` but not the last one are followed. */
bool image_has(const struct image *i, const char *dir, const char *name);

enum image_over { IMAGE_REPLACE, IMAGE_KEEP_OTHER /* MUSTER_EKEYINPLACE where there is one with another content */ };
/* A file in an open directory: whole or not at all, durable, with mode and owner.  MUSTER_EIMAGE where something else than a file is there. */
int image_put(const struct image *i, int dir, const char *name, struct span content, mode_t mode, enum image_over over, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP_FINI(image_close, struct image)

#endif
