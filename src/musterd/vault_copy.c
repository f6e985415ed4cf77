/* vault_copy: see vault_copy.h. */
#include "musterd/vault_copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "keys/master.h"
#include "vault/process.h"

#define HEAD "vault/head"
#define INDEX "vault/index"

DEFINE_CLEANUP(closedir, DIR *)

void vault_copy_fini(struct vault_copy *v) {
    for (size_t i = 0; i < v->n; i++)
        buf_wipe(&v->at[i].bytes);
    free(v->at);
    buf_fini(&v->index);
    buf_fini(&v->head);
    *v = (struct vault_copy){0};
}

static int read_one(const struct data *d, const char *name, struct buf *out, struct err *err) {
    char path[PATH_MAX];
    uint64_t max = 0;
    int rc = data_path(d, name, path, err);
    if (rc || !content_may_hold(name, &max))
        return rc ? rc : MUSTER_EINTERNAL;
    *out = BUF_INIT(max);
    return file_read(AT_FDCWD, path, out, err);
}

/* Both are replaced, and never with the same bytes. */
static int read_both(const struct data *d, struct buf *head, struct buf *index, struct err *err) {
    int rc = read_one(d, HEAD, head, err);
    return rc ? rc : read_one(d, INDEX, index, err);
}

int vault_copy_begin(struct vault_copy *v, const struct data *d, struct err *err) {
    vault_copy_fini(v);
    return read_both(d, &v->head, &v->index, err);
}

/* Temporary files of base/file.c, and whatever else is no file of the vault's, stay out. */
static bool is_file(const char *name, uint64_t *max) { return !strstr(name, ".tmp-") && content_may_hold(name, max); }

static int add(struct vault_copy *v, int dir_fd, const char *name, uint64_t max, size_t *all, struct err *err) {
    if ((v->n & (v->n - 1)) == 0) { /* room doubles at each power of two */
        void *more = realloc(v->at, (v->n ? 2 * v->n : 1) * sizeof *v->at);
        if (!more)
            return err_set(err, MUSTER_ENOMEM, NULL);
        v->at = more;
    }
    struct vault_file *f = &v->at[v->n];
    *f = (struct vault_file){.bytes = BUF_INIT(max)};
    memcpy(f->name, name, strlen(name)); /* as content_may_hold() says */
    v->n++;
    int rc = file_read(dir_fd, name + sizeof CONTENT_VAULT - 1, &f->bytes, err);
    *all += f->bytes.n;
    return rc || *all <= VAULT_COPY_MAX ? rc : err_set(err, MUSTER_EINVALID, "The vault has more than %u MiB.", VAULT_COPY_MAX >> 20);
}

/* head and index first, then by name. */
static int rank(const char *name) { return strcmp(name, CONTENT_VAULT "head") == 0 ? 0 : strcmp(name, INDEX) == 0 ? 1 : 2; }
static int in_order(const void *a, const void *b) {
    const struct vault_file *x = a, *y = b;
    int order = rank(x->name) - rank(y->name);
    return order ? order : strcmp(x->name, y->name);
}

static int open_vault(const struct data *d) { return openat(d->fd, "vault", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW); }

/* 1: it is; 0: it is not, or is no key. */
static int is_in_force(int vault_fd, bool next, struct err *err) {
    const struct key_master_options o = {.kind = KEY_MASTER_FILE, .next = next};
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    struct err why = ERR_INIT;
    int rc = key_master_load(vault_fd, &o, NULL, false, &key, &why);
    if (rc == MUSTER_ENOTFOUND || rc == MUSTER_EINVALID)
        return 0;
    return rc ? err_set(err, rc, "%s", err_text(&why)) : vault_is_opened_by(vault_fd, secret_span(&key), err);
}

/* The next one first: it takes the other one's place, and never the other way round, so that none is missed between the two looks. */
int vault_copy_key(const struct data *d, const char **name, struct err *err) {
    CLEANUP(fd_close) int fd = open_vault(d);
    *name = NULL;
    if (fd < 0)
        return err_set(err, MUSTER_EIO, "%s/vault cannot be opened: %s.", d->path, strerror(errno));
    int is = is_in_force(fd, true, err);
    if (is > 0)
        *name = KEY_MASTER_FILE_NAME KEY_MASTER_NEXT;
    else if (!is && (is = is_in_force(fd, false, err)) > 0)
        *name = KEY_MASTER_FILE_NAME;
    return is < 0 ? is : 0;
}

/* MUSTER_ENOTFOUND: a file went while it was listed. */
static int read_all(struct vault_copy *v, const struct data *d, const char *key, struct err *err) {
    int fd = open_vault(d);
    CLEANUP(closedir) DIR *all = fd < 0 ? NULL : fdopendir(fd);
    size_t bytes = 0;
    if (!all) {
        fd_close(fd);
        return err_set(err, MUSTER_EIO, "%s/vault cannot be listed: %s.", d->path, strerror(errno));
    }
    for (struct dirent *e; (errno = 0, e = readdir(all));) {
        char name[sizeof CONTENT_VAULT + sizeof e->d_name];
        uint64_t max;
        snprintf(name, sizeof name, CONTENT_VAULT "%s", e->d_name);
        bool is_master = strcmp(e->d_name, KEY_MASTER_FILE_NAME) == 0 || strcmp(e->d_name, KEY_MASTER_FILE_NAME KEY_MASTER_NEXT) == 0;
        if (!is_file(name, &max) || (is_master && !(key && strcmp(e->d_name, key) == 0)))
            continue;
        int rc = add(v, fd, name, max, &bytes, err);
        if (rc)
            return rc;
        v->master_key = v->master_key || is_master;
    }
    if (errno)
        return err_set(err, MUSTER_EIO, "%s/vault cannot be read: %s.", d->path, strerror(errno));
    return key && !v->master_key ? MUSTER_ENOTFOUND : 0;
}

int vault_copy_end(struct vault_copy *v, const struct data *d, bool master_key, struct err *err) {
    CLEANUP(buf_fini) struct buf head = BUF_INIT(0);
    CLEANUP(buf_fini) struct buf index = BUF_INIT(0);
    struct err why = ERR_INIT;
    const char *key = NULL;
    int rc = master_key ? vault_copy_key(d, &key, &why) : 0;
    if (!rc)
        rc = read_all(v, d, key, &why);
    int again = read_both(d, &head, &index, err);
    if (again)
        return again;
    if (!span_eq(buf_span(&head), buf_span(&v->head)) || !span_eq(buf_span(&index), buf_span(&v->index)) || rc == MUSTER_ENOTFOUND)
        return 0;
    if (rc)
        return err_set(err, rc, "%s", err_text(&why));
    qsort(v->at, v->n, sizeof *v->at, in_order);
    return 1;
}
