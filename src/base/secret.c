/* secret: see secret.h.  libsodium's guarded allocator underneath. */
#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>

int secret_init(void) { return sodium_init() < 0 ? MUSTER_EINTERNAL : 0; }

int secret_alloc(struct secret *s, size_t n) {
    *s = SECRET_INIT;
    if (n == 0)
        return 0;
    s->p = sodium_malloc(n);
    if (!s->p)
        return MUSTER_ENOMEM;
    sodium_memzero(s->p, n);
    s->n = n;
    return 0;
}

int secret_copy(struct secret *s, struct span from) {
    int rc = secret_alloc(s, from.n);
    if (!rc && from.n)
        memcpy(s->p, from.p, from.n);
    return rc;
}

int secret_random(struct secret *s, size_t n) {
    int rc = secret_alloc(s, n);
    if (!rc && n)
        randombytes_buf(s->p, n);
    return rc;
}

void secret_fini(struct secret *s) {
    if (s->p)
        sodium_free(s->p);
    *s = SECRET_INIT;
}

bool secret_eq(struct span a, struct span b) { return a.n == b.n && (a.n == 0 || sodium_memcmp(a.p, b.p, a.n) == 0); }
void secret_wipe(void *p, size_t n) { sodium_memzero(p, n); }
void secret_random_bytes(void *p, size_t n) { randombytes_buf(p, n); }

static int check_mode(int fd, const char *path, size_t max, size_t *size, struct err *err) {
    struct stat st;
    if (fstat(fd, &st))
        return err_set(err, MUSTER_EIO, "%s cannot be examined: %s.", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(err, MUSTER_EINVALID, "%s is not a regular file.", path);
    if (st.st_mode & 077)
        return err_set(err, MUSTER_EINVALID, "%s holds a secret but its mode is %04o; make it 0600.", path, (unsigned)(st.st_mode & 07777));
    if (st.st_size < 0 || (size_t)st.st_size > max)
        return err_set(err, MUSTER_EINVALID, "%s is longer than %zu bytes.", path, max);
    *size = (size_t)st.st_size;
    return 0;
}

int secret_read_file(struct secret *s, const char *path, size_t max, struct err *err) {
    *s = SECRET_INIT;
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, errno == ENOENT ? MUSTER_ENOTFOUND : MUSTER_EIO, "%s cannot be opened: %s.", path, strerror(errno));
    size_t size = 0, got = 0;
    int rc = check_mode(fd, path, max, &size, err);
    if (rc)
        return rc;
    CLEANUP(secret_fini) struct secret content = SECRET_INIT;
    if (secret_alloc(&content, size))
        return err_set(err, MUSTER_ENOMEM, NULL);
    while (got < size) {
        ssize_t n = read(fd, content.p + got, size - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, MUSTER_EIO, "%s cannot be read whole.", path);
        got += (size_t)n;
    }
    *s = content;
    content = SECRET_INIT;
    return 0;
}
