/* data: see data.h. */
#include "musterd/data.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/un.h>

#include "base/file.h"
#include "base/log.h"
#include "pki/server_cas.h"

int data_open(struct data *d, const char *dir, struct err *err) {
    *d = DATA_NONE;
    CLEANUP(fd_close) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, errno == ENOENT || errno == ENOTDIR ? MUSTER_EDATADIR : MUSTER_EIO, "The data directory %s cannot be opened: %s.", dir, strerror(errno));
    if (!realpath(dir, d->path))
        return err_set(err, MUSTER_EIO, "The path of the data directory %s cannot be found out: %s.", dir, strerror(errno));
    d->fd = TAKE_FD(fd);
    return 0;
}

int data_open_ready(struct data *d, const char *dir, struct err *err) {
    int rc = data_open(d, dir, err);
    if (rc)
        return rc;
    if (faccessat(d->fd, DATA_INIT_MARK, F_OK, 0) == 0)
        return err_set(err, MUSTER_ESTATE, "%s was not set up to the end; run `musterd init` again.", dir);
    if (faccessat(d->fd, DATA_RESTORE_MARK, F_OK, 0) == 0)
        return err_set(err, MUSTER_ESTATE, "%s was not restored to the end; run `musterd restore` again.", dir);
    if (faccessat(d->fd, DATA_CONFIG, F_OK, 0))
        return err_set(err, MUSTER_EDATADIR, "%s is not a data directory of Muster.", dir);
    return 0;
}

int data_lock(struct data *d, struct err *err) {
    CLEANUP(fd_close) int fd = openat(d->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_set(err, MUSTER_EIO, "%s/lock cannot be opened: %s.", d->path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB))
        return errno == EWOULDBLOCK ? err_set(err, MUSTER_ELOCKED, "Another musterd is running on %s.", d->path)
                                    : err_set(err, MUSTER_EIO, "%s/lock cannot be locked: %s.", d->path, strerror(errno));
    d->lock_fd = TAKE_FD(fd);
    return 0;
}

void data_close(struct data *d) {
    fd_close(TAKE_FD(d->lock_fd));
    fd_close(TAKE_FD(d->fd));
}

int data_path(const struct data *d, const char *name, char path[PATH_MAX], struct err *err) {
    if (snprintf(path, PATH_MAX, "%s/%s", d->path, name) >= PATH_MAX)
        return err_set(err, MUSTER_EINVALID, "The path of the data directory is too long.");
    return 0;
}

int data_vault_socket(const struct data *d, char path[PATH_MAX], struct err *err) {
    int rc = data_path(d, "vault.sock", path, err);
    if (!rc && strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
        snprintf(path, PATH_MAX, "/proc/self/fd/%d/vault.sock", d->fd);
    return rc;
}

int data_server_cas(const struct data *d, struct span own, struct err *err) {
    CLEANUP(buf_fini) struct buf file = BUF_INIT(256 * 1024), merged = BUF_INIT(256 * 1024);
    int rc = file_read(d->fd, "server-ca.pem", &file, err);
    if (rc && rc != MUSTER_ENOTFOUND)
        return rc;
    rc = server_cas_merge(buf_span(&file), own, &merged, err);
    if (rc <= 0)
        return rc;
    log_event(LOG_WARN, "server_ca_file_written", "file", "server-ca.pem", NULL);
    return file_replace(d->fd, "server-ca.pem", buf_span(&merged), 0644, err);
}

int data_write_line(const struct data *d, const char *name, const char *line, mode_t mode, struct err *err) {
    CLEANUP(buf_wipe) struct buf text = BUF_INIT(4096);
    buf_adds(&text, line);
    buf_addc(&text, '\n');
    int rc = buf_check(&text, err);
    return rc ? rc : file_replace(d->fd, name, buf_span(&text), mode, err);
}
