/* gather: see gather.h.
 *
 * A file of such a VFS is the underlying VFS's own, with room for a struct held behind it.  Only the WAL's methods are replaced. */
#include "store/gather.h"

#include <pthread.h>
#include <stddef.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELD_MAX (128 * 1024) /* bytes */
#define OVER_MAX 4            /* underlying VFSs */

struct held {
    const sqlite3_io_methods *real;
    sqlite3_io_methods methods; /* the real ones, but for those below */
    unsigned char *bytes;       /* NULL until something is written */
    sqlite3_int64 at;           /* where in the file they go */
    int n;
};

struct over {
    sqlite3_vfs vfs;
    sqlite3_vfs *under;
    char name[64];
};

/* The methods are a member of what is looked for, and the first member of the file points to them. */
static struct held *held_of(sqlite3_file *f) { return (struct held *)((char *)f->pMethods - offsetof(struct held, methods)); }

/* What cannot be written is dropped: the transaction that it is part of fails. */
static int write_held(sqlite3_file *f, struct held *h) {
    int rc = h->n ? h->real->xWrite(f, h->bytes, h->n, h->at) : SQLITE_OK;
    h->n = 0;
    return rc;
}

static int on_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) {
    struct held *h = held_of(f);
    if (h->n && (at != h->at + h->n || h->n + n > HELD_MAX)) {
        int rc = write_held(f, h);
        if (rc != SQLITE_OK)
            return rc;
    }
    if (!h->bytes)
        h->bytes = malloc(HELD_MAX);
    if (!h->bytes || n > HELD_MAX)
        return h->real->xWrite(f, p, n, at);
    if (!h->n)
        h->at = at;
    memcpy(h->bytes + h->n, p, (size_t)n);
    h->n += n;
    return SQLITE_OK;
}

static int on_sync(sqlite3_file *f, int flags) {
    struct held *h = held_of(f);
    int rc = write_held(f, h);
    return rc != SQLITE_OK ? rc : h->real->xSync(f, flags);
}

static int on_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at) {
    struct held *h = held_of(f);
    int rc = write_held(f, h);
    return rc != SQLITE_OK ? rc : h->real->xRead(f, p, n, at);
}

static int on_truncate(sqlite3_file *f, sqlite3_int64 size) {
    struct held *h = held_of(f);
    int rc = write_held(f, h);
    return rc != SQLITE_OK ? rc : h->real->xTruncate(f, size);
}

static int on_size(sqlite3_file *f, sqlite3_int64 *size) {
    struct held *h = held_of(f);
    int rc = write_held(f, h);
    return rc != SQLITE_OK ? rc : h->real->xFileSize(f, size);
}

static int on_control(sqlite3_file *f, int op, void *arg) {
    struct held *h = held_of(f);
    int rc = write_held(f, h);
    return rc != SQLITE_OK ? rc : h->real->xFileControl(f, op, arg);
}

static int on_close(sqlite3_file *f) {
    struct held *h = held_of(f);
    int rc = write_held(f, h);
    f->pMethods = h->real;
    int closed = h->real->xClose(f);
    free(h->bytes);
    return rc != SQLITE_OK ? rc : closed;
}

void gather_forget(sqlite3 *db) {
    sqlite3_file *wal = NULL;
    if (sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal) == SQLITE_OK && wal && wal->pMethods && wal->pMethods->xWrite == on_write)
        held_of(wal)->n = 0;
}

static int on_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out) {
    struct over *o = vfs->pAppData;
    int rc = o->under->xOpen(o->under, name, f, flags, out);
    if (rc != SQLITE_OK || !(flags & SQLITE_OPEN_WAL) || !f->pMethods)
        return rc;
    struct held *h = (struct held *)((char *)f + vfs->szOsFile - sizeof *h);
    *h = (struct held){.real = f->pMethods, .methods = *f->pMethods};
    h->methods.xWrite = on_write;
    h->methods.xSync = on_sync;
    h->methods.xRead = on_read;
    h->methods.xTruncate = on_truncate;
    h->methods.xFileSize = on_size;
    h->methods.xFileControl = on_control;
    h->methods.xClose = on_close;
    f->pMethods = &h->methods;
    return SQLITE_OK;
}

/* --- everything else is the underlying VFS's -------------------------------------------------------------------------------------- */

static sqlite3_vfs *under(sqlite3_vfs *vfs) { return ((struct over *)vfs->pAppData)->under; }
static int on_delete(sqlite3_vfs *v, const char *name, int sync) { return under(v)->xDelete(under(v), name, sync); }
static int on_access(sqlite3_vfs *v, const char *name, int flags, int *out) { return under(v)->xAccess(under(v), name, flags, out); }
static int on_full_name(sqlite3_vfs *v, const char *name, int n, char *out) { return under(v)->xFullPathname(under(v), name, n, out); }
static int on_random(sqlite3_vfs *v, int n, char *out) { return under(v)->xRandomness(under(v), n, out); }
static int on_sleep(sqlite3_vfs *v, int us) { return under(v)->xSleep(under(v), us); }
static int on_time(sqlite3_vfs *v, double *out) { return under(v)->xCurrentTime(under(v), out); }
static int on_time_ms(sqlite3_vfs *v, sqlite3_int64 *out) { return under(v)->xCurrentTimeInt64(under(v), out); }
static int on_last_error(sqlite3_vfs *v, int n, char *out) { return under(v)->xGetLastError(under(v), n, out); }

static struct over overs[OVER_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const char *make_over(sqlite3_vfs *u) {
    struct over *o = overs;
    while (o < overs + OVER_MAX && o->under && o->under != u)
        o++;
    if (o == overs + OVER_MAX)
        return NULL;
    if (o->under)
        return o->name;
    const int size = (u->szOsFile + 15) / 16 * 16 + (int)sizeof(struct held);
    o->vfs = (sqlite3_vfs){.iVersion = u->iVersion < 2 ? u->iVersion : 2, .szOsFile = size, .mxPathname = u->mxPathname, .zName = o->name, .pAppData = o, .xOpen = on_open, .xDelete = on_delete,
                           .xAccess = on_access, .xFullPathname = on_full_name, .xRandomness = on_random, .xSleep = on_sleep, .xCurrentTime = on_time, .xGetLastError = on_last_error,
                           .xCurrentTimeInt64 = on_time_ms};
    snprintf(o->name, sizeof o->name, "gather over %.40s", u->zName);
    if (sqlite3_vfs_register(&o->vfs, 0) != SQLITE_OK)
        return NULL;
    o->under = u;
    return o->name;
}

const char *gather_over(const char *name) {
    sqlite3_vfs *u = sqlite3_vfs_find(name);
    pthread_mutex_lock(&lock);
    const char *over = u ? make_over(u) : NULL;
    pthread_mutex_unlock(&lock);
    return over;
}
