/* file_arg: files that a user names; see file_arg.h. */
#include "muster/file_arg.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"

#define ON_TERMINAL "A credential is not written to a terminal; name a file with -o FILE."

int file_arg_read(const char *path, struct buf *out, struct err *err) {
    if (strcmp(path, "-"))
        return file_read(AT_FDCWD, path, out, err);
    char piece[65536];
    size_t n;
    while ((n = fread(piece, 1, sizeof piece, stdin)) > 0)
        buf_add(out, span_of(piece, n));
    if (ferror(stdin))
        return err_set(err, MUSTER_EIO, "Standard input cannot be read: %s.", strerror(errno));
    return buf_check(out, err);
}

int file_arg_may_write(const char *path, struct err *err) {
    char dir[4096] = ".";
    const char *slash = strrchr(path, '/');
    if (!strcmp(path, "-"))
        return isatty(STDOUT_FILENO) ? err_set(err, MUSTER_EUSAGE, ON_TERMINAL) : 0;
    if (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return err_set(err, MUSTER_EEXISTS, "%s exists already; a credential is not overwritten.", path);
    if (slash)
        snprintf(dir, sizeof dir, "%.*s", (int)(slash - path + 1), path);
    if (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS))
        return err_set(err, MUSTER_EINVALID, "%s cannot be written: %s. Nothing was made.", path, strerror(errno));
    return 0;
}

int file_arg_write(const char *path, struct span content, bool secret, struct err *err) {
    if (strcmp(path, "-"))
        return file_replace(AT_FDCWD, path, content, secret ? 0600 : 0644, err);
    if (secret && isatty(STDOUT_FILENO))
        return err_set(err, MUSTER_EUSAGE, ON_TERMINAL);
    if (fwrite(content.p, 1, content.n, stdout) != content.n || fflush(stdout))
        return err_set(err, MUSTER_EIO, "Standard output cannot be written: %s.", strerror(errno));
    return 0;
}
