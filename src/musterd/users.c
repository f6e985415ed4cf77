/* users: see users.h. */
#include "musterd/users.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

DEFINE_CLEANUP(closedir, DIR *)

int users_find(const struct settings *s, struct users *out, struct err *err) {
    const char *const names[SANDBOX_KINDS] = {[SANDBOX_VAULT] = s->vault_user, [SANDBOX_CONTROL] = s->control_user, [SANDBOX_GATEWAY] = s->gateway_user,
                                              [SANDBOX_COURIER] = s->courier_user, [SANDBOX_TOKEN] = s->token_user[0] ? s->token_user : s->vault_user};
    *out = (struct users){0};
    if (!names[0][0] && !names[1][0] && !names[2][0] && !names[3][0] && !s->token_user[0])
        return s->pkcs11_network ? err_set(err, MUSTER_ECONFIG, "pkcs11_network needs a token_user of its own, and so vault_user, control_user and gateway_user, and musterd started as root.") : 0;
    if (geteuid() != 0)
        return err_set(err, MUSTER_ECONFIG, "vault_user, control_user, gateway_user and courier_user need musterd to be started as root.");
    for (int i = 0; i < SANDBOX_KINDS; i++) {
        const char *name = names[i][0] || i != SANDBOX_COURIER ? names[i] : "nobody";
        if (!name[0])
            return err_set(err, MUSTER_ECONFIG, "%s_user is missing: give vault_user, control_user and gateway_user, or none.", sandbox_name(i));
        const struct passwd *p = getpwnam(name);
        if (!p)
            return err_set(err, MUSTER_ECONFIG, "%s_user: there is no user %s.", sandbox_name(i), name);
        out->of[i] = (struct user){p->pw_uid, p->pw_gid};
    }
    out->change = true;
    if (s->pkcs11_network && out->of[SANDBOX_TOKEN].uid == out->of[SANDBOX_VAULT].uid)
        return err_set(err, MUSTER_ECONFIG, "pkcs11_network needs a token_user other than the vault's.");
    return 0;
}

/* --- files ---------------------------------------------------------------------------------------------------------------- */

static int own(int dirfd, const char *name, uid_t uid, gid_t gid, mode_t mode, struct err *err) {
    CLEANUP(fd_close) int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, MUSTER_EIO, "%s in the data directory cannot be opened: %s.", name, strerror(errno));
    if (fchown(fd, uid, gid) || fchmod(fd, mode))
        return err_set(err, MUSTER_EIO, "%s in the data directory cannot be given to its user: %s.", name, strerror(errno));
    return 0;
}

/* A directory and the plain files in it. */
static int own_tree(int dirfd, const char *name, struct user u, gid_t gid, mode_t dir_mode, struct err *err) {
    int rc = own(dirfd, name, u.uid, gid, dir_mode, err);
    if (rc)
        return rc;
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    CLEANUP(closedir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return err_set(err, MUSTER_EIO, "%s in the data directory cannot be listed: %s.", name, strerror(errno));
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.' && fchownat(fd, e->d_name, u.uid, gid, AT_SYMLINK_NOFOLLOW))
            return err_set(err, MUSTER_EIO, "%s/%s cannot be given to its user: %s.", name, e->d_name, strerror(errno));
    return 0;
}

/* A confined process cannot make it, and SQLite takes an empty one. */
static int make_companion(const struct data *d, const char *name, struct err *err) {
    CLEANUP(fd_close) int fd = openat(d->fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660);
    return fd < 0 ? err_set(err, MUSTER_EIO, "%s/%s cannot be made: %s.", d->path, name, strerror(errno)) : 0;
}

int users_own_files(const struct users *u, const struct data *d, struct err *err) {
    static const char *const registry[] = {"registry.db-wal", "registry.db-shm", "registry.db"};
    static const char *const control[] = {"control.db-wal", "control.db-shm", "control.db"};
    const struct user vault = u->of[SANDBOX_VAULT], ctl = u->of[SANDBOX_CONTROL];
    gid_t gateway = u->of[SANDBOX_GATEWAY].gid;
    int rc = 0;
    for (int i = 0; !rc && i < 2; i++)
        if (!(rc = make_companion(d, registry[i], err)))
            rc = make_companion(d, control[i], err);
    if (rc || !u->change)
        return rc;
    if ((rc = own(d->fd, ".", 0, gateway, 0750, err)) || (rc = own_tree(d->fd, "vault", vault, vault.gid, 0700, err)) ||
        (rc = own_tree(d->fd, "tls", ctl, gateway, 02750, err)) || (rc = own_tree(d->fd, "crl", ctl, gateway, 02755, err)) || (rc = own(d->fd, "server-ca.pem", 0, 0, 0644, err)))
        return rc;
    for (int i = 0; !rc && i < 3; i++)
        if (!(rc = own(d->fd, registry[i], ctl.uid, gateway, 0660, err)))
            rc = own(d->fd, control[i], ctl.uid, ctl.gid, 0600, err);
    return rc;
}

/* --- the process ------------------------------------------------------------------------------------------------------------ */

static int drop_capabilities(bool root) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {{0}, {0}};
    if (root)
        sets[0].effective = sets[0].permitted = 1U << CAP_DAC_OVERRIDE;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    struct __user_cap_data_struct now[2];
    if (syscall(SYS_capget, &head, now))
        return -1;
    for (int i = 0; i < 2; i++) {
        sets[i].effective &= now[i].permitted;
        sets[i].permitted &= now[i].permitted;
    }
    return (int)syscall(SYS_capset, &head, sets);
}

int users_become(const struct users *u, enum sandbox_kind kind, struct err *err) {
    if (u->change) {
        struct user me = u->of[kind];
        gid_t shared = u->of[SANDBOX_GATEWAY].gid;
        if (setgroups(kind == SANDBOX_CONTROL ? 1 : 0, &shared) || setresgid(me.gid, me.gid, me.gid) || setresuid(me.uid, me.uid, me.uid))
            return err_set(err, MUSTER_ESANDBOX, "The process cannot become its user: %s.", strerror(errno));
    }
    if (drop_capabilities(geteuid() == 0))
        return err_set(err, MUSTER_ESANDBOX, "The process cannot give up its capabilities: %s.", strerror(errno));
    return 0;
}
