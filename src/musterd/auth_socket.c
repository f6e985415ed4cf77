/* auth_socket: see auth_socket.h. */
#include "musterd/auth_socket.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/span.h"

#define BACKLOG 128

static int find_users(const struct settings *s, struct auth_socket *out, struct err *err) {
    for (const char *at = s->auth_users + strspn(s->auth_users, " "); *at; at += strspn(at, " ")) {
        char name[64];
        uint64_t number;
        size_t n = strcspn(at, " ");
        snprintf(name, sizeof name, "%.*s", (int)n, at);
        const struct passwd *p = n < sizeof name ? getpwnam(name) : NULL;
        bool is_number = !p && span_to_u64(span_of(at, n), &number) && number < (uid_t)-1;
        if (!p && !is_number)
            return err_set(err, MUSTER_ECONFIG, "auth_users: there is no user %.*s.", (int)n, at);
        if (out->n_uids == AUTH_USERS_MAX)
            return err_set(err, MUSTER_ECONFIG, "auth_users: more than %d.", AUTH_USERS_MAX);
        out->uids[out->n_uids++] = p ? p->pw_uid : (uid_t)number;
        at += n;
    }
    return 0;
}

static int find_group(const struct settings *s, gid_t *gid, struct err *err) {
    *gid = (gid_t)-1;
    if (!s->auth_socket_group[0])
        return 0;
    const struct group *g = getgrnam(s->auth_socket_group);
    if (!g)
        return err_set(err, MUSTER_ECONFIG, "auth_socket_group: there is no group %s.", s->auth_socket_group);
    *gid = g->gr_gid;
    return 0;
}

/* A socket on which nobody listens is what a server left that was killed. */
static int remove_stale(const struct sockaddr_un *at, struct err *err) {
    struct stat st;
    if (lstat(at->sun_path, &st))
        return errno == ENOENT ? 0 : err_set(err, MUSTER_ELISTEN, "auth_socket: %s: %s.", at->sun_path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, MUSTER_ELISTEN, "auth_socket: %s is there and no socket.", at->sun_path);
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)at, sizeof *at) == 0 || errno != ECONNREFUSED)
        return err_set(err, MUSTER_ELISTEN, "auth_socket: somebody listens on %s.", at->sun_path);
    unlink(at->sun_path);
    return 0;
}

/* Nobody can connect before it has its group and mode: it does not listen yet. */
static int make(const char *path, gid_t gid, int *out, struct err *err) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    int rc = remove_stale(&at, err);
    if (rc)
        return rc;
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0177);
    bool ok = fd >= 0 && bind(fd, (const struct sockaddr *)&at, sizeof at) == 0;
    int code = errno;
    umask(old);
    if (!ok)
        return err_set(err, MUSTER_ELISTEN, "auth_socket: %s cannot be made: %s.", path, strerror(code));
    if ((gid != (gid_t)-1 && (lchown(path, (uid_t)-1, gid) || chmod(path, 0660))) || listen(fd, BACKLOG)) {
        code = errno;
        unlink(path);
        return err_set(err, MUSTER_ELISTEN, "auth_socket: %s cannot be given to its group: %s.", path, strerror(code));
    }
    *out = TAKE_FD(fd);
    return 0;
}

int auth_socket_open(const struct settings *s, struct auth_socket *out, struct err *err) {
    gid_t gid;
    *out = (struct auth_socket){.fd = -1};
    int rc = find_users(s, out, err);
    if (rc || (rc = find_group(s, &gid, err)) || !s->auth_socket[0])
        return rc;
    if (s->auth_socket[0] != '/' || strlen(s->auth_socket) >= sizeof out->path)
        return err_set(err, MUSTER_ECONFIG, "auth_socket: `%s` is not an absolute path of at most %zu bytes.", s->auth_socket, sizeof out->path - 1);
    rc = make(s->auth_socket, gid, &out->fd, err);
    if (!rc)
        snprintf(out->path, sizeof out->path, "%s", s->auth_socket);
    return rc;
}

void auth_socket_close(struct auth_socket *a) {
    if (a->fd >= 0)
        unlink(a->path);
    fd_close(TAKE_FD(a->fd));
}
