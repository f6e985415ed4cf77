/* disk: see disk.h. */
#include "disk.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MUST(x) do { if (!(x)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); abort(); } } while (0)

static void *grow(void *p, size_t n, size_t *cap, size_t size) {
    if (n < *cap)
        return p;
    *cap = *cap ? 2 * *cap : 64;
    p = realloc(p, *cap * size);
    MUST(p);
    return p;
}

/* --- recording ------------------------------------------------------------------------------------------------------------------- */

void disk_log_init(struct disk_log *l) {
    *l = (struct disk_log){0};
    pthread_mutex_init(&l->lock, NULL);
}

void disk_log_fini(struct disk_log *l) {
    for (size_t i = 0; i < l->n; i++)
        free(l->ops[i].bytes);
    free(l->ops);
    free(l->names);
    pthread_mutex_destroy(&l->lock);
    *l = (struct disk_log){0};
}

static void add(struct disk_log *l, struct disk_op op, const char *name, const char *to) {
    snprintf(op.name, sizeof op.name, "%s", name ? name : "");
    snprintf(op.to, sizeof op.to, "%s", to ? to : "");
    l->ops = grow(l->ops, l->n, &l->cap, sizeof *l->ops);
    l->ops[l->n++] = op;
}

static struct disk_name *find(struct disk_log *l, enum disk_dir dir, const char *name) {
    for (size_t i = 0; i < l->n_names; i++)
        if (l->names[i].dir == dir && strcmp(l->names[i].name, name) == 0)
            return &l->names[i];
    return NULL;
}

static void forget(struct disk_log *l, struct disk_name *n) { *n = l->names[--l->n_names]; }

static void remember(struct disk_log *l, enum disk_dir dir, const char *name, int inode) {
    l->names = grow(l->names, l->n_names, &l->cap_names, sizeof *l->names);
    l->names[l->n_names] = (struct disk_name){.dir = dir, .inode = inode};
    snprintf(l->names[l->n_names++].name, DISK_NAME_MAX, "%s", name);
}

int disk_find(struct disk_log *l, enum disk_dir dir, const char *name) {
    pthread_mutex_lock(&l->lock);
    const struct disk_name *n = find(l, dir, name);
    int inode = n ? n->inode : -1;
    pthread_mutex_unlock(&l->lock);
    return inode;
}

int disk_create(struct disk_log *l, enum disk_dir dir, const char *name) {
    pthread_mutex_lock(&l->lock);
    const struct disk_name *n = find(l, dir, name);
    int inode = n ? n->inode : l->inodes;
    if (!n) {
        l->inodes++;
        remember(l, dir, name, inode);
        add(l, (struct disk_op){.kind = DISK_CREATE, .dir = dir, .inode = inode}, name, NULL);
    }
    pthread_mutex_unlock(&l->lock);
    return inode;
}

void disk_write(struct disk_log *l, int inode, int64_t offset, struct span bytes) {
    struct disk_op op = {.kind = DISK_WRITE, .inode = inode, .offset = offset, .n = bytes.n, .bytes = malloc(bytes.n + 1)};
    MUST(op.bytes);
    if (bytes.n)
        memcpy(op.bytes, bytes.p, bytes.n);
    pthread_mutex_lock(&l->lock);
    add(l, op, NULL, NULL);
    pthread_mutex_unlock(&l->lock);
}

void disk_truncate(struct disk_log *l, int inode, int64_t size) {
    pthread_mutex_lock(&l->lock);
    add(l, (struct disk_op){.kind = DISK_TRUNCATE, .inode = inode, .offset = size}, NULL, NULL);
    pthread_mutex_unlock(&l->lock);
}

void disk_sync(struct disk_log *l, int inode, const char *name) {
    pthread_mutex_lock(&l->lock);
    add(l, (struct disk_op){.kind = DISK_SYNC, .inode = inode}, name, NULL);
    pthread_mutex_unlock(&l->lock);
}

void disk_sync_dir(struct disk_log *l, enum disk_dir dir, const char *name) {
    pthread_mutex_lock(&l->lock);
    add(l, (struct disk_op){.kind = DISK_SYNC_DIR, .dir = dir, .inode = -1}, name, NULL);
    pthread_mutex_unlock(&l->lock);
}

void disk_rename(struct disk_log *l, enum disk_dir dir, const char *from, const char *to) {
    pthread_mutex_lock(&l->lock);
    struct disk_name *n = find(l, dir, from);
    MUST(n);
    int inode = n->inode;
    forget(l, n);
    if ((n = find(l, dir, to)))
        forget(l, n);
    remember(l, dir, to, inode);
    add(l, (struct disk_op){.kind = DISK_RENAME, .dir = dir, .inode = inode}, from, to);
    pthread_mutex_unlock(&l->lock);
}

void disk_unlink(struct disk_log *l, enum disk_dir dir, const char *name) {
    pthread_mutex_lock(&l->lock);
    struct disk_name *n = find(l, dir, name);
    if (n) {
        add(l, (struct disk_op){.kind = DISK_UNLINK, .dir = dir, .inode = n->inode}, name, NULL);
        forget(l, n);
    }
    pthread_mutex_unlock(&l->lock);
}

/* --- playing --------------------------------------------------------------------------------------------------------------------- */

struct content {
    uint8_t *p;
    size_t n, cap;
};

struct entries {
    struct disk_name at[256];
    size_t n;
};

struct disk {
    const struct disk_log *log;
    size_t at;
    struct content *files; /* by inode: what is durable */
    struct entries names;
    size_t *pending, n_pending, cap_pending;
};

struct disk *disk_new(const struct disk_log *l) {
    struct disk *d = calloc(1, sizeof *d);
    MUST(d);
    d->log = l;
    d->files = calloc((size_t)l->inodes + 1, sizeof *d->files);
    MUST(d->files);
    return d;
}

void disk_free(struct disk *d) {
    for (int i = 0; i < d->log->inodes; i++)
        free(d->files[i].p);
    free(d->files);
    free(d->pending);
    free(d);
}

size_t disk_at(const struct disk *d) { return d->at; }
size_t disk_pending(const struct disk *d) { return d->n_pending; }

static void resize(struct content *c, size_t n) {
    if (n > c->cap) {
        c->cap = n + n / 2 + 4096;
        c->p = realloc(c->p, c->cap);
        MUST(c->p);
    }
    if (n > c->n)
        memset(c->p + c->n, 0, n - c->n);
    c->n = n;
}

/* `keep` says which of the sectors that a write touches have reached the disk. */
static void apply_content(struct content *c, const struct disk_op *op, uint64_t torn_by) {
    if (op->kind == DISK_TRUNCATE) {
        resize(c, (size_t)op->offset);
        return;
    }
    for (size_t done = 0; done < op->n;) {
        size_t at = (size_t)op->offset + done, sector = at / DISK_SECTOR, n = (sector + 1) * DISK_SECTOR - at;
        if (n > op->n - done)
            n = op->n - done;
        if (!torn_by || (torn_by >> (sector % 61)) & 1) {
            if (at + n > c->n)
                resize(c, at + n);
            memcpy(c->p + at, op->bytes + done, n);
        }
        done += n;
    }
}

static void entry_drop(struct entries *e, enum disk_dir dir, const char *name) {
    for (size_t i = 0; i < e->n; i++)
        if (e->at[i].dir == dir && strcmp(e->at[i].name, name) == 0) {
            e->at[i] = e->at[--e->n];
            return;
        }
}

static void entry_set(struct entries *e, enum disk_dir dir, const char *name, int inode) {
    entry_drop(e, dir, name);
    MUST(e->n < sizeof e->at / sizeof *e->at);
    e->at[e->n] = (struct disk_name){.dir = dir, .inode = inode};
    snprintf(e->at[e->n++].name, DISK_NAME_MAX, "%s", name);
}

static void apply_entry(struct entries *e, const struct disk_op *op) {
    if (op->kind == DISK_CREATE)
        entry_set(e, op->dir, op->name, op->inode);
    else
        entry_drop(e, op->dir, op->name);
    if (op->kind == DISK_RENAME)
        entry_set(e, op->dir, op->to, op->inode);
}

static bool is_content(const struct disk_op *op) { return op->kind == DISK_WRITE || op->kind == DISK_TRUNCATE; }

static bool covers(const struct disk_op *sync, const struct disk_op *op) {
    return sync->kind == DISK_SYNC ? is_content(op) && op->inode == sync->inode : !is_content(op) && op->dir == sync->dir;
}

void disk_step(struct disk *d, bool swallow) {
    const struct disk_op *op = &d->log->ops[d->at];
    if (op->kind == DISK_SYNC || op->kind == DISK_SYNC_DIR) {
        size_t left = 0;
        for (size_t i = 0; !swallow && i < d->n_pending; i++) {
            const struct disk_op *old = &d->log->ops[d->pending[i]];
            if (!covers(op, old))
                d->pending[left++] = d->pending[i];
            else if (is_content(old))
                apply_content(&d->files[old->inode], old, 0);
            else
                apply_entry(&d->names, old);
        }
        d->n_pending = swallow ? d->n_pending : left;
    } else {
        d->pending = grow(d->pending, d->n_pending, &d->cap_pending, sizeof *d->pending);
        d->pending[d->n_pending++] = d->at;
    }
    d->at++;
}

/* --- cutting --------------------------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x) { /* splitmix64 */
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Whether the i-th pending operation survives; *torn_by: 0 whole. */
static bool survives(const struct disk_op *op, size_t i, struct cut cut, uint64_t *torn_by) {
    uint64_t chance = mix(cut.seed ^ mix(i + 1));
    uint64_t whose = is_content(op) ? (uint64_t)op->inode : 1000000 + (uint64_t)op->dir;
    *torn_by = 0;
    switch (cut.kind) {
    case CUT_LOST:
        return false;
    case CUT_KEPT:
        return true;
    case CUT_LATE:
        return i >= cut.seed;
    case CUT_FILES:
        return mix(cut.seed ^ mix(whose)) & 1;
    case CUT_MIXED:
        return chance & 1;
    case CUT_TORN:
        *torn_by = op->kind == DISK_WRITE && (chance & 6) == 6 ? mix(chance) | (1ULL << 63) : 0;
        return (chance & 9) != 0;
    }
    return false;
}

static void write_file(const char *root, const struct disk_name *name, const struct content *c) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s%s", root, name->dir == DISK_VAULT ? "vault/" : "", name->name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(fd >= 0);
    for (size_t done = 0; done < c->n;) {
        ssize_t n = write(fd, c->p + done, c->n - done);
        MUST(n > 0);
        done += (size_t)n;
    }
    close(fd);
}

static void empty_folder(const char *path) {
    DIR *d = opendir(path);
    MUST(d);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.' && e->d_type != DT_DIR)
            MUST(unlinkat(dirfd(d), e->d_name, 0) == 0);
    closedir(d);
}

void disk_empty(const char *root) {
    char vault[512];
    snprintf(vault, sizeof vault, "%s/vault", root);
    mkdir(vault, 0700);
    empty_folder(vault);
    empty_folder(root);
}

void disk_cut(const struct disk *d, struct cut cut, const char *root) {
    struct entries names = d->names;
    disk_empty(root);
    for (size_t i = 0; i < d->n_pending; i++) {
        const struct disk_op *op = &d->log->ops[d->pending[i]];
        uint64_t torn_by;
        if (!is_content(op) && survives(op, i, cut, &torn_by))
            apply_entry(&names, op);
    }
    for (size_t k = 0; k < names.n; k++) {
        const struct content *durable = &d->files[names.at[k].inode];
        struct content c = {0};
        resize(&c, durable->n);
        if (durable->n)
            memcpy(c.p, durable->p, durable->n);
        for (size_t i = 0; i < d->n_pending; i++) {
            const struct disk_op *op = &d->log->ops[d->pending[i]];
            uint64_t torn_by;
            if (is_content(op) && op->inode == names.at[k].inode && survives(op, i, cut, &torn_by))
                apply_content(&c, op, torn_by);
        }
        write_file(root, &names.at[k], &c);
        free(c.p);
    }
}
