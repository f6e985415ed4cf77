/* landlock: see landlock.h.  Raw system calls: the C library has no wrappers. */
#include "musterd/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* ABI 3 (Linux 6.2); Debian 12's header stops at ABI 2. */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

#define RIGHTS_ABI_1 (LANDLOCK_ACCESS_FS_REFER - 1)
#define FILE_WRITE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)

static const uint64_t RIGHTS[] = {
    [LANDLOCK_READ] = LANDLOCK_ACCESS_FS_READ_FILE,
    [LANDLOCK_WRITE] = FILE_WRITE,
    [LANDLOCK_READ_TREE] = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
    [LANDLOCK_OWN_TREE] = FILE_WRITE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE,
};

int landlock_abi(void) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return abi > 0 ? (int)abi : 0;
}

int landlock_level(void) { return landlock_abi() < 3 ? landlock_abi() : 3; }

/* Every right that this kernel can take away and that is known here. */
static uint64_t handled(void) {
    int abi = landlock_abi();
    uint64_t rights = RIGHTS_ABI_1;
    if (abi >= 2)
        rights |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3)
        rights |= LANDLOCK_ACCESS_FS_TRUNCATE;
    return rights;
}

int landlock_new(int *ruleset, struct err *err) {
    struct landlock_ruleset_attr attr = {.handled_access_fs = handled()};
    if (!landlock_abi())
        return err_set(err, MUSTER_ESANDBOX, "This kernel offers no Landlock: %s.", strerror(errno));
    long fd = syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (fd < 0)
        return err_set(err, MUSTER_ESANDBOX, "No Landlock ruleset can be made: %s.", strerror(errno));
    *ruleset = (int)fd;
    return 0;
}

int landlock_allow_fd(int ruleset, enum landlock_what what, int fd, const char *name, struct err *err) {
    struct landlock_path_beneath_attr attr = {.allowed_access = RIGHTS[what] & handled(), .parent_fd = fd};
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &attr, 0))
        return err_set(err, MUSTER_ESANDBOX, "Landlock takes no rule for %s: %s.", name, strerror(errno));
    return 0;
}

int landlock_allow(int ruleset, enum landlock_what what, const char *path, struct err *err) {
    CLEANUP(fd_close) int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return err_set(err, MUSTER_ESANDBOX, "%s cannot be opened for Landlock: %s.", path, strerror(errno));
    return landlock_allow_fd(ruleset, what, fd, path, err);
}

int landlock_enter(int ruleset, struct err *err) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_landlock_restrict_self, ruleset, 0))
        return err_set(err, MUSTER_ESANDBOX, "Landlock cannot be entered: %s.", strerror(errno));
    return 0;
}
