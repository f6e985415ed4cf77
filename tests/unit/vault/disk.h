/* disk: records every step that base/file.h takes, and makes of them the states of the disk that a power cut can leave behind.  Included by one
 * test file a program. */
#ifndef MUSTER_TESTS_VAULT_DISK_H
#define MUSTER_TESTS_VAULT_DISK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>

#include "base/file.h"
#include "base/log.h"
#include "vault/records.h"

struct dir {
    char path[64];
    int fd;
};

static inline struct dir dir_new(void) {
    struct dir d = {.path = "/tmp/test_vault_disk.XXXXXX"};
    assert_non_null(mkdtemp(d.path));
    d.fd = open(d.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(d.fd >= 0);
    return d;
}

static inline void dir_empty(struct dir *d) {
    DIR *list = opendir(d->path);
    for (struct dirent *e; (e = readdir(list));)
        if (e->d_name[0] != '.')
            assert_int_equal(unlinkat(d->fd, e->d_name, 0), 0);
    closedir(list);
}

static inline void dir_end(struct dir *d) {
    dir_empty(d);
    close(d->fd);
    assert_int_equal(rmdir(d->path), 0);
}

/* --- recording --------------------------------------------------------------------------------------------------------------------- */

#define STEPS_MAX 600
#define FILES_MAX 64
#define NAME_MAX_ 96

struct step {
    enum file_step step;
    char name[NAME_MAX_], to[NAME_MAX_];
    struct buf content;
    uint64_t done; /* version that had been reported before this step */
};

static struct step steps[STEPS_MAX];
static size_t n_steps;
static uint64_t done;

static inline void seen(void *arg, enum file_step step, const char *name, const char *to, struct span content) {
    assert_true(n_steps < STEPS_MAX);
    struct step *s = &steps[n_steps++];
    *s = (struct step){.step = step, .content = BUF_INIT(1 << 20), .done = done};
    snprintf(s->name, sizeof s->name, "%s", name);
    snprintf(s->to, sizeof s->to, "%s", to ? to : "");
    buf_add(&s->content, content);
}

static inline void store(struct records *r, const char *name, const char *text) {
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    assert_int_equal(records_new_key(&key), 0);
    assert_int_equal(records_store(r, name, secret_span(&key), span_str(text), NULL), 0);
    done = records_version(r);
}

static inline void forget_history(void) {
    for (size_t i = 0; i < n_steps; i++)
        buf_fini(&steps[i].content);
    n_steps = 0;
}

/* --- replaying ----------------------------------------------------------------------------------------------------------------------- */

struct image {
    struct {
        char name[NAME_MAX_];
        struct span content;
        bool synced;
    } files[FILES_MAX];
    size_t n;
};

static inline size_t image_find(const struct image *m, const char *name) {
    size_t i = 0;
    while (i < m->n && strcmp(m->files[i].name, name))
        i++;
    return i;
}

static inline void image_drop(struct image *m, const char *name) {
    size_t i = image_find(m, name);
    if (i < m->n)
        m->files[i] = m->files[--m->n];
}

/* A change of the directory: a file that appears, moves or goes. */
static inline void image_apply(struct image *m, const struct step *s) {
    if (s->step == FILE_STEP_UNLINK) {
        image_drop(m, s->name);
        return;
    }
    if (s->step == FILE_STEP_RENAME) {
        size_t from = image_find(m, s->name);
        assert_true(from < m->n);
        __auto_type file = m->files[from];
        image_drop(m, s->name);
        image_drop(m, s->to);
        snprintf(file.name, sizeof file.name, "%s", s->to);
        m->files[m->n++] = file;
        return;
    }
    assert_true(m->n < FILES_MAX);
    m->files[m->n].content = buf_span(&s->content);
    m->files[m->n].synced = false;
    snprintf(m->files[m->n++].name, NAME_MAX_, "%s", s->name);
}

static inline bool changes_directory(const struct step *s) { return s->step == FILE_STEP_WRITE || s->step == FILE_STEP_RENAME || s->step == FILE_STEP_UNLINK; }

/* The disk after a cut behind step `cut`: of the changes of the directory since its last sync the first `pending` have reached it, and of
 * the contents all, or (`lossy`) those that were synced. */
static inline void image_at(struct image *m, size_t cut, size_t pending, bool lossy) {
    size_t last_sync = 0, taken = 0;
    for (size_t i = 0; i < cut; i++)
        if (steps[i].step == FILE_STEP_SYNC_DIR)
            last_sync = i + 1;
    m->n = 0;
    for (size_t i = 0; i < cut; i++) {
        if (changes_directory(&steps[i]) && (i < last_sync || taken++ < pending))
            image_apply(m, &steps[i]);
        if (steps[i].step == FILE_STEP_SYNC) {
            size_t at = image_find(m, steps[i].name);
            if (at < m->n)
                m->files[at].synced = true;
        }
    }
    for (size_t i = 0; i < m->n && lossy; i++)
        if (!m->files[i].synced)
            m->files[i].content.n = 0;
}

static inline size_t pending_at(size_t cut) {
    size_t n = 0;
    for (size_t i = 0; i < cut; i++)
        n = steps[i].step == FILE_STEP_SYNC_DIR ? 0 : n + changes_directory(&steps[i]);
    return n;
}

static inline void image_write(const struct image *m, struct dir *d) {
    dir_empty(d);
    for (size_t i = 0; i < m->n; i++) {
        CLEANUP(fd_close) int fd = openat(d->fd, m->files[i].name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, m->files[i].content.p, m->files[i].content.n), m->files[i].content.n);
    }
}

static inline void has(struct records *r, const char *name, const char *text) {
    CLEANUP(secret_fini) struct secret key = SECRET_INIT, body = SECRET_INIT;
    int rc = records_load(r, name, &key, &body, NULL);
    assert_int_equal(rc, text ? 0 : MUSTER_ENOTFOUND);
    if (text)
        assert_true(span_eq_str(secret_span(&body), text));
}

#endif
