/* sandbox: the files of each kind of process; see sandbox.h.  The system calls are in sandbox_calls.c.
 *
 * SQLite's files are granted one by one: they are there before the children are (store_sqlite.c keeps -wal and -shm for good), so
 * that none has to make or remove a file in DIR.  SQLite would also like to open DIR to sync it; it goes on without. */
#include "musterd/sandbox.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "musterd/landlock.h"

#define ON(kind) (1U << (kind))

/* Files under DIR, and who may do what with them.  DIR/vault is not here: the vault has it as a descriptor. */
static const struct {
    const char *name;
    unsigned kinds;
    enum landlock_what what;
} FILES[] = {
    {"registry.db", ON(SANDBOX_CONTROL) | ON(SANDBOX_GATEWAY), LANDLOCK_WRITE},
    {"registry.db-wal", ON(SANDBOX_CONTROL) | ON(SANDBOX_GATEWAY), LANDLOCK_WRITE},
    {"registry.db-shm", ON(SANDBOX_CONTROL) | ON(SANDBOX_GATEWAY), LANDLOCK_WRITE},
    {"control.db", ON(SANDBOX_CONTROL), LANDLOCK_WRITE},
    {"control.db-wal", ON(SANDBOX_CONTROL), LANDLOCK_WRITE},
    {"control.db-shm", ON(SANDBOX_CONTROL), LANDLOCK_WRITE},
    {"tls", ON(SANDBOX_CONTROL), LANDLOCK_OWN_TREE},
    {"tls", ON(SANDBOX_GATEWAY), LANDLOCK_READ_TREE},
    {"crl", ON(SANDBOX_CONTROL), LANDLOCK_OWN_TREE},
    {"crl", ON(SANDBOX_GATEWAY), LANDLOCK_READ_TREE},
    {"server-ca.pem", ON(SANDBOX_CONTROL) | ON(SANDBOX_GATEWAY), LANDLOCK_READ},
};

/* What resolving a name and judging a receiver's certificate takes.  Files that are replaced while it runs are another inode, which it may
 * not read: SIGHUP makes the supervisor start it anew. */
static const struct {
    const char *path;
    enum landlock_what what;
} COURIER_FILES[] = {
    {"/etc/resolv.conf", LANDLOCK_READ}, {"/etc/hosts", LANDLOCK_READ},   {"/etc/nsswitch.conf", LANDLOCK_READ},
    {"/etc/host.conf", LANDLOCK_READ},   {"/etc/gai.conf", LANDLOCK_READ}, {"/etc/ssl/certs", LANDLOCK_READ_TREE},
};

/* A module is somebody else's code, and finds the parts of its library and its configuration by itself: what a system holds for everybody, and
 * no more of /etc and /run than that.  All else that it needs stands in pkcs11_files. */
static const struct {
    const char *path;
    enum landlock_what what;
} TOKEN_FILES[] = {
    {"/usr", LANDLOCK_READ_TREE},        {"/lib", LANDLOCK_READ_TREE},          {"/lib64", LANDLOCK_READ_TREE},        {"/sys/bus", LANDLOCK_READ_TREE},
    {"/sys/devices", LANDLOCK_READ_TREE}, {"/etc/ld.so.cache", LANDLOCK_READ},  {"/etc/softhsm", LANDLOCK_READ_TREE},  {"/etc/opensc", LANDLOCK_READ_TREE},
    {"/etc/pkcs11", LANDLOCK_READ_TREE}, {"/etc/ssl", LANDLOCK_READ_TREE},      {"/etc/resolv.conf", LANDLOCK_READ},   {"/etc/hosts", LANDLOCK_READ},
    {"/etc/nsswitch.conf", LANDLOCK_READ}, {"/etc/localtime", LANDLOCK_READ},   {"/dev/urandom", LANDLOCK_READ},       {"/dev/null", LANDLOCK_WRITE},
};

const char *sandbox_name(enum sandbox_kind kind) {
    static const char *const names[SANDBOX_KINDS] = {"vault", "control", "gateway", "courier", "token"};
    return names[kind];
}

static int allow_in_dir(int ruleset, enum sandbox_kind kind, const char *dir, struct err *err) {
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        char path[4096];
        if (!(FILES[i].kinds & ON(kind)))
            continue;
        if (snprintf(path, sizeof path, "%s/%s", dir, FILES[i].name) >= (int)sizeof path)
            return err_set(err, MUSTER_ESANDBOX, "The path of the data directory is too long.");
        int rc = landlock_allow(ruleset, FILES[i].what, path, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int allow_own_certificate(int ruleset, const struct sandbox_paths *p, struct err *err) {
    int rc = 0;
    for (size_t i = 0; !rc && p->own && i < p->own->n; i++)
        rc = landlock_allow(ruleset, p->own->at[i].tree ? LANDLOCK_READ_TREE : LANDLOCK_READ, p->own->at[i].path, err);
    return rc;
}

static int allow_courier(int ruleset, struct err *err) {
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof COURIER_FILES / sizeof *COURIER_FILES; i++)
        rc = landlock_allow(ruleset, COURIER_FILES[i].what, COURIER_FILES[i].path, err);
    return rc;
}

static int allow_token(int ruleset, const struct sandbox_paths *p, struct err *err) {
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof TOKEN_FILES / sizeof *TOKEN_FILES; i++)
        rc = landlock_allow(ruleset, TOKEN_FILES[i].what, TOKEN_FILES[i].path, err);
    if (!rc && p->token_module)
        rc = landlock_allow(ruleset, LANDLOCK_READ, p->token_module, err);
    for (const char *at = p->token_files; !rc && at && *at; at += strspn(at, " ")) {
        char path[PATH_MAX];
        size_t n = strcspn(at, " ");
        struct stat st;
        snprintf(path, sizeof path, "%.*s", (int)n, at);
        if (stat(path, &st))
            return err_set(err, MUSTER_ESANDBOX, "pkcs11_files: %s is not there, or may not be looked at.", path);
        rc = landlock_allow(ruleset, S_ISDIR(st.st_mode) ? LANDLOCK_OWN_TREE : LANDLOCK_WRITE, path, err);
        at += n;
    }
    return rc;
}

int sandbox_files(enum sandbox_kind kind, const struct sandbox_paths *paths, struct err *err) {
    CLEANUP(fd_close) int ruleset = -1;
    int rc = landlock_new(&ruleset, err);
    if (!rc)
        rc = allow_in_dir(ruleset, kind, paths->dir, err);
    if (!rc && kind == SANDBOX_VAULT)
        rc = landlock_allow_fd(ruleset, LANDLOCK_OWN_TREE, paths->vault_fd, "the vault's directory", err);
    if (!rc && kind == SANDBOX_GATEWAY)
        rc = allow_own_certificate(ruleset, paths, err);
    if (!rc && kind == SANDBOX_COURIER)
        rc = allow_courier(ruleset, err);
    if (!rc && kind == SANDBOX_TOKEN)
        rc = allow_token(ruleset, paths, err);
    return rc ? rc : landlock_enter(ruleset, err);
}
