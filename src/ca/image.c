/* image: see image.h. */
#include "ca/image.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"

#define DEPTH_MAX 40
#define LINKS_MAX 40
#define PATH_LONGEST 4096

int image_open(const char *path, struct image *out, struct err *err) {
    struct stat own, st;
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        return err_set(err, MUSTER_EIMAGE, "%s cannot be opened as the root of an image: %s.", path, strerror(errno));
    if (stat("/", &own) == 0 && own.st_dev == st.st_dev && own.st_ino == st.st_ino)
        return err_set(err, MUSTER_EIMAGE, "%s is the root of this machine and not of an image.", path);
    *out = IMAGE_NONE;
    out->fd = TAKE_FD(fd);
    return 0;
}

void image_close(struct image *i) {
    fd_close(i->fd);
    *i = IMAGE_NONE;
}

/* --- walking ---------------------------------------------------------------------------------------------------------------- */

struct walk {
    const struct image *image;
    const char *path;         /* as it was asked for */
    mode_t mode;              /* of what is made; 0: nothing is */
    int fds[DEPTH_MAX];       /* from below the root down to where the walk stands */
    int depth, links;
    char rest[PATH_LONGEST];  /* still to be walked */
    size_t own;               /* its last bytes, which are of the path that was asked for and of no link */
};

static void walk_fini(struct walk *w) {
    while (w->depth)
        fd_close(w->fds[--w->depth]);
}
DEFINE_CLEANUP_FINI(walk_fini, struct walk)

static int here(const struct walk *w) { return w->depth ? w->fds[w->depth - 1] : w->image->fd; }

static int unfit(const struct walk *w, struct err *err, const char *what) { return err_set(err, MUSTER_EIMAGE, "/%s of the image cannot be used: %s.", w->path, what); }

static int push(struct walk *w, int fd, struct err *err) {
    if (w->depth == DEPTH_MAX) {
        fd_close(fd);
        return unfit(w, err, "it is too deep");
    }
    w->fds[w->depth++] = fd;
    return 0;
}

/* The link's text takes the place of its name; an absolute one begins at the image's root. */
static int follow(struct walk *w, const char *target, struct err *err) {
    char joined[2 * PATH_LONGEST + 2];
    if (++w->links > LINKS_MAX)
        return unfit(w, err, "its symbolic links lead in a circle");
    if (strlen(w->rest) < w->own)
        w->own = strlen(w->rest);
    int n = snprintf(joined, sizeof joined, "%s/%s", target, w->rest);
    if (n >= PATH_LONGEST)
        return unfit(w, err, "its symbolic links are too long");
    memcpy(w->rest, joined, (size_t)n + 1);
    if (target[0] == '/')
        walk_fini(w);
    return 0;
}

static int give(const struct image *i, int fd, const char *what, struct err *err) {
    if (i->chown && fchown(fd, i->uid, i->gid))
        return err_set(err, MUSTER_EIMAGE, "%s cannot be given to %u:%u: %s. Only root can; build under fakeroot, or leave --owner out.", what, (unsigned)i->uid, (unsigned)i->gid,
                       strerror(errno));
    return 0;
}

static int make_here(struct walk *w, const char *name, struct err *err) {
    int at = here(w);
    if (strlen(w->rest) >= w->own)
        return unfit(w, err, "a symbolic link leads to a directory that the image does not have; make it, where the device has it too");
    if (mkdirat(at, name, 0700) && errno != EEXIST)
        return unfit(w, err, strerror(errno));
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return unfit(w, err, strerror(errno));
    int rc = push(w, fd, err);
    if (rc || (rc = give(w->image, fd, name, err)))
        return rc;
    return fchmod(fd, w->mode) || fsync(fd) || fsync(at) ? unfit(w, err, strerror(errno)) : 0;
}

static int step(struct walk *w, const char *name, struct err *err) {
    char target[PATH_LONGEST];
    if (strcmp(name, "..") == 0) {
        if (w->depth)
            fd_close(w->fds[--w->depth]);
        return 0;
    }
    int fd = openat(here(w), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        return push(w, fd, err);
    if (errno == ENOENT)
        return w->mode ? make_here(w, name, err) : unfit(w, err, "it is not there");
    int why = errno;
    ssize_t n = readlinkat(here(w), name, target, sizeof target);
    if (n < 0)
        return unfit(w, err, strerror(why));
    if (n == 0 || (size_t)n >= sizeof target)
        return unfit(w, err, "its symbolic links are too long");
    target[n] = '\0';
    return follow(w, target, err);
}

static int run(struct walk *w, struct err *err) {
    while (w->rest[0]) {
        char name[256];
        size_t n = strcspn(w->rest, "/");
        if (n >= sizeof name)
            return unfit(w, err, "a name in it is too long");
        memcpy(name, w->rest, n);
        name[n] = '\0';
        size_t behind = n + strspn(w->rest + n, "/");
        memmove(w->rest, w->rest + behind, strlen(w->rest + behind) + 1);
        int rc = n == 0 || strcmp(name, ".") == 0 ? 0 : step(w, name, err);
        if (rc)
            return rc;
    }
    return 0;
}

int image_dir(const struct image *i, const char *path, mode_t mode, bool exact, int *out, struct err *err) {
    CLEANUP(walk_fini) struct walk w = {.image = i, .path = path, .mode = mode};
    if (snprintf(w.rest, sizeof w.rest, "%s", path) >= (int)sizeof w.rest)
        return unfit(&w, err, "it is too long");
    w.own = strlen(w.rest);
    int rc = run(&w, err);
    if (rc)
        return rc;
    CLEANUP(fd_close) int fd = openat(here(&w), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return unfit(&w, err, strerror(errno));
    if (exact && ((rc = give(i, fd, path, err)) || (fchmod(fd, mode) && (rc = unfit(&w, err, strerror(errno))))))
        return rc;
    *out = TAKE_FD(fd);
    return 0;
}

bool image_has(const struct image *i, const char *dir, const char *name) {
    CLEANUP(fd_close) int fd = -1;
    return image_dir(i, dir, 0, false, &fd, NULL) == 0 && faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* --- files ------------------------------------------------------------------------------------------------------------------ */

/* Whether a file is there, and whether its content is this one. */
static int look(int dir, const char *name, struct span content, bool *there, bool *same, struct err *err) {
    struct stat st;
    CLEANUP(buf_wipe) struct buf old = BUF_INIT(content.n + 1);
    *there = *same = false;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? 0 : err_set(err, MUSTER_EIMAGE, "%s cannot be examined: %s.", name, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(err, MUSTER_EIMAGE, "%s is in the image already, and is not a file.", name);
    *there = true;
    if ((size_t)st.st_size != content.n)
        return 0;
    int rc = file_read(dir, name, &old, err);
    *same = !rc && span_eq(buf_span(&old), content);
    return rc;
}

static int settle(const struct image *i, int dir, const char *name, mode_t mode, struct err *err) {
    CLEANUP(fd_close) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, MUSTER_EIMAGE, "%s cannot be opened: %s.", name, strerror(errno));
    int rc = give(i, fd, name, err);
    if (!rc && (fchmod(fd, mode) || fsync(fd)))
        rc = err_set(err, MUSTER_EIMAGE, "%s cannot be given its mode: %s.", name, strerror(errno));
    return rc;
}

int image_put(const struct image *i, int dir, const char *name, struct span content, mode_t mode, enum image_over over, struct err *err) {
    bool there, same;
    int rc = look(dir, name, content, &there, &same, err);
    if (rc)
        return rc;
    if (there && !same && over == IMAGE_KEEP_OTHER)
        return err_set(err, MUSTER_EKEYINPLACE, "The image has another %s already.", name);
    if (!same && (rc = file_replace(dir, name, content, mode, err)))
        return rc;
    return settle(i, dir, name, mode, err);
}
