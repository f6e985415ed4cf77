/* reach: see reach.h. */
#include "musterd/reach.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"

DEFINE_CLEANUP(closedir, DIR *)

/* Whether path is dir, or lies in it; both without links. */
static bool lies_in(const char *path, const char *dir) {
    size_t n = strlen(dir);
    return !strncmp(path, dir, n) && (path[n] == '\0' || path[n] == '/' || (n && dir[n - 1] == '/'));
}

/* Whether it holds files alone.  Those that are links are no way out: what they lead to has to be in reach itself. */
static bool is_leaf(const char *dir) {
    CLEANUP(closedir) DIR *d = opendir(dir);
    struct stat st;
    if (!d)
        return false;
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) || S_ISDIR(st.st_mode)))
            return false;
    return true;
}

static bool is_harmless(const char *dir, const struct settings *s, const char *data) {
    char real[PATH_MAX];
    const char *const credentials = s->master_key == SETTINGS_MASTER_CREDENTIAL ? getenv("CREDENTIALS_DIRECTORY") : NULL;
    const char *const apart[] = {data, s->master_key_file, credentials};
    if (strrchr(dir, '/') == dir || lies_in(dir, data))
        return false;
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++)
        if (apart[i] && apart[i][0] && (!realpath(apart[i], real) || lies_in(real, dir)))
            return false;
    return is_leaf(dir);
}

static void add(struct reach *r, const char *path, bool tree) {
    struct stat st;
    if (stat(path, &st) || S_ISDIR(st.st_mode) != tree)
        return;
    for (size_t i = 0; i < r->n; i++)
        if (r->at[i].ino == st.st_ino && r->at[i].dev == st.st_dev)
            return;
    snprintf(r->at[r->n].path, PATH_MAX, "%s", path);
    r->at[r->n].tree = tree;
    r->at[r->n].dev = st.st_dev;
    r->at[r->n++].ino = st.st_ino;
}

static void add_parent(struct reach *r, const char *file, const struct settings *s, const char *data) {
    char parent[PATH_MAX], real[PATH_MAX];
    const char *slash = strrchr(file, '/');
    if (!slash || snprintf(parent, sizeof parent, "%.*s", slash == file ? 1 : (int)(slash - file), file) >= (int)sizeof parent)
        return;
    if (realpath(parent, real) && is_harmless(real, s, data))
        add(r, real, true);
}

void reach_find(struct reach *out, const struct settings *s, const char *dir) {
    const char *const files[] = {s->server_certificate, s->server_key};
    char real[PATH_MAX];
    out->n = 0;
    for (size_t i = 0; s->n_routes && i < 2; i++)
        add(out, i ? "/etc/hosts" : "/etc/resolv.conf", false);
    for (size_t i = 0; i < 2; i++) {
        if (!files[i][0] || !realpath(files[i], real))
            continue;
        add(out, real, false);
        add_parent(out, real, s, dir);
        add_parent(out, files[i], s, dir);
    }
}

/* The file itself, or a directory above it. */
static bool covers(const struct reach *r, const char *file) {
    char real[PATH_MAX];
    struct stat st;
    if (!realpath(file, real))
        return true; /* nobody can read it: the one that runs may say so */
    for (char *end = real + strlen(real); end > real; end = strrchr(real, '/')) {
        *end = '\0';
        if (stat(real, &st))
            return false;
        for (size_t i = 0; i < r->n; i++)
            if (r->at[i].ino == st.st_ino && r->at[i].dev == st.st_dev)
                return true;
    }
    return false;
}

bool reach_covers(const struct reach *r, const struct settings *s) {
    return !s->sandbox || !s->server_certificate[0] || (covers(r, s->server_certificate) && covers(r, s->server_key));
}
