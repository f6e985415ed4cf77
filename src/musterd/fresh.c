/* fresh: see fresh.h. */
#include "musterd/fresh.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

DEFINE_CLEANUP(closedir, DIR *)

static DIR *list(int dirfd, const char *name) {
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        fd_close(fd);
    return d;
}

/* Besides the mark itself, what base/file.c names it before the rename. */
static bool counts(const char *name, const char *mark) {
    size_t n = strlen(mark);
    bool own = strncmp(name, mark, n) == 0 && (name[n] == '\0' || strncmp(name + n, ".tmp-", 5) == 0);
    return strcmp(name, ".") && strcmp(name, "..") && strcmp(name, "lock") && strcmp(name, "lost+found") && !own; /* a file system's own */
}

static int check_empty(const struct data *d, const char *mark, struct err *err) {
    CLEANUP(closedir) DIR *all = list(d->fd, ".");
    if (!all)
        return err_set(err, MUSTER_EIO, "%s cannot be listed: %s.", d->path, strerror(errno));
    for (struct dirent *e; (e = readdir(all));)
        if (counts(e->d_name, mark))
            return faccessat(d->fd, DATA_CONFIG, F_OK, 0) == 0
                       ? err_set(err, MUSTER_EEXISTS, "%s is a data directory already; nothing was changed. If it is not in use (a package makes one when it is installed), stop the service and move the directory away.", d->path)
                       : err_set(err, MUSTER_EEXISTS, "%s is not empty and not a data directory; nothing was changed.", d->path);
    return 0;
}

static int clear_files(const struct data *d, const char *dir, const char *mark, struct err *err) {
    CLEANUP(closedir) DIR *all = list(d->fd, dir);
    if (!all)
        return errno == ENOENT ? 0 : err_set(err, MUSTER_EIO, "%s/%s cannot be listed: %s.", d->path, dir, strerror(errno));
    for (struct dirent *e; (e = readdir(all));) {
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || !strcmp(e->d_name, "lock") || !strcmp(e->d_name, mark))
            continue;
        if (fstatat(dirfd(all), e->d_name, &st, AT_SYMLINK_NOFOLLOW) || S_ISDIR(st.st_mode))
            continue;
        int rc = file_remove(dirfd(all), e->d_name, err);
        if (rc)
            return err_prefix(err, "%s/%s, left by a making that was cut off", d->path, dir);
    }
    return 0;
}

static int plain_path(const char *dir, char path[PATH_MAX], struct err *err) {
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        n--;
    if (snprintf(path, PATH_MAX, "%.*s", (int)n, dir) >= PATH_MAX)
        return err_set(err, MUSTER_EINVALID, "The path of the data directory is too long.");
    return 0;
}

static bool has_mark(const struct data *d, const char *mark) { return faccessat(d->fd, mark, F_OK, 0) == 0; }

int fresh_look(const char *dir, const char *mark, struct err *err) {
    CLEANUP(data_close) struct data d = DATA_NONE;
    char path[PATH_MAX];
    struct stat st;
    int rc = plain_path(dir, path, err);
    if (rc || (lstat(path, &st) && errno == ENOENT))
        return rc;
    rc = data_open(&d, path, err);
    return rc || has_mark(&d, mark) ? rc : check_empty(&d, mark, err);
}

static int make_dir(struct data *d, const char *dir, struct err *err) {
    char path[PATH_MAX];
    struct stat st;
    int rc = plain_path(dir, path, err);
    if (rc)
        return rc;
    if (lstat(path, &st) && errno == ENOENT) { /* one that is there keeps its mode until it is known to be ours */
        rc = file_make_dir(AT_FDCWD, path, 0700, err);
        if (rc)
            return rc;
    }
    rc = data_open(d, path, err);
    return rc ? rc : data_lock(d, err);
}

int fresh_begin(struct data *d, const char *dir, const char *mark, struct err *err) {
    int rc = make_dir(d, dir, err);
    if (rc)
        return rc;
    if (has_mark(d, mark)) {
        if ((rc = clear_files(d, ".", mark, err)) || (rc = clear_files(d, "vault", mark, err)))
            return rc;
        if ((rc = clear_files(d, "tls", mark, err)))
            return rc;
        return clear_files(d, "crl", mark, err);
    }
    if ((rc = check_empty(d, mark, err)) || (rc = clear_files(d, ".", mark, err))) /* what is left of the mark */
        return rc;
    if (fchmod(d->fd, 0700))
        return err_set(err, MUSTER_EIO, "%s cannot be closed to others: %s.", d->path, strerror(errno));
    return file_replace(d->fd, mark, SPAN_NONE, 0600, err);
}

int fresh_end(const struct data *d, const char *mark, struct err *err) { return file_remove(d->fd, mark, err); }
