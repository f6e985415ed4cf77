/* record_api: a library for LD_PRELOAD that writes down what `muster` and a server say to each other, for tests/integration: the answers
 * that the command line gets are held against the OpenAPI document as those of the tests' own client are.
 *
 * It stands in front of SSL_read() and SSL_write(), and of their newer forms, and appends the plain text of each connection to two files in
 * the directory that RECORD_API names: PROCESS-CONNECTION.sent and .got.  A connection is named by where it lies in memory, which another gets
 * when it has ended: SSL_free() gives the files of one that ends a number.  It is a part of no program that is installed. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct ssl_st SSL;

void SSL_free(SSL *ssl);
int SSL_read(SSL *ssl, void *data, int n);
int SSL_read_ex(SSL *ssl, void *data, size_t n, size_t *done);
int SSL_write(SSL *ssl, const void *data, int n);
int SSL_write_ex(SSL *ssl, const void *data, size_t n, size_t *done);

static int name_file(char path[static PATH_MAX], const SSL *ssl, unsigned number, const char *way) {
    const char *dir = getenv("RECORD_API");
    return dir && snprintf(path, PATH_MAX, "%s/%d-%p-%u.%s", dir, (int)getpid(), (const void *)ssl, number, way) < PATH_MAX;
}

static void record(const SSL *ssl, const char *way, const void *data, size_t n) {
    char path[PATH_MAX];
    if (!name_file(path, ssl, 0, way))
        return;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n)
        abort(); /* what is not recorded would look as if it had not been said */
    close(fd);
}

#define REAL(name) (*(void **)&real = real ? *(void **)&real : dlsym(RTLD_NEXT, name))

__attribute__((visibility("default"))) void SSL_free(SSL *ssl) {
    static void (*real)(SSL *);
    static _Atomic unsigned ended;
    char path[PATH_MAX], kept[PATH_MAX];
    unsigned number = ++ended;
    REAL("SSL_free");
    for (const char **way = (const char *[]){"got", "sent", NULL}; *way; way++)
        if (name_file(path, ssl, 0, *way) && name_file(kept, ssl, number, *way) && rename(path, kept) && errno != ENOENT)
            abort();
    real(ssl);
}

__attribute__((visibility("default"))) int SSL_read(SSL *ssl, void *data, int n) {
    static int (*real)(SSL *, void *, int);
    REAL("SSL_read");
    int got = real(ssl, data, n);
    if (got > 0)
        record(ssl, "got", data, (size_t)got);
    return got;
}

__attribute__((visibility("default"))) int SSL_read_ex(SSL *ssl, void *data, size_t n, size_t *done) {
    static int (*real)(SSL *, void *, size_t, size_t *);
    REAL("SSL_read_ex");
    int ok = real(ssl, data, n, done);
    if (ok > 0)
        record(ssl, "got", data, *done);
    return ok;
}

__attribute__((visibility("default"))) int SSL_write(SSL *ssl, const void *data, int n) {
    static int (*real)(SSL *, const void *, int);
    REAL("SSL_write");
    int sent = real(ssl, data, n);
    if (sent > 0)
        record(ssl, "sent", data, (size_t)sent);
    return sent;
}

__attribute__((visibility("default"))) int SSL_write_ex(SSL *ssl, const void *data, size_t n, size_t *done) {
    static int (*real)(SSL *, const void *, size_t, size_t *);
    REAL("SSL_write_ex");
    int ok = real(ssl, data, n, done);
    if (ok > 0)
        record(ssl, "sent", data, *done);
    return ok;
}
