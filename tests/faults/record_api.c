/* record_api: a library for LD_PRELOAD that writes down what `muster` and a server say to each other, for tests/integration: the answers
 * that the command line gets are held against the OpenAPI document as those of the tests' own client are.
 *
 * It stands in front of SSL_read() and SSL_write(), and of their newer forms, and appends the plain text of each connection to two files in
 * the directory that RECORD_API names: PROCESS-CONNECTION.sent and .got.  It is a part of no program that is installed. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct ssl_st SSL;

int SSL_read(SSL *ssl, void *data, int n);
int SSL_read_ex(SSL *ssl, void *data, size_t n, size_t *done);
int SSL_write(SSL *ssl, const void *data, int n);
int SSL_write_ex(SSL *ssl, const void *data, size_t n, size_t *done);

static void record(const SSL *ssl, const char *way, const void *data, size_t n) {
    const char *dir = getenv("RECORD_API");
    char path[4096];
    if (!dir || snprintf(path, sizeof path, "%s/%d-%p.%s", dir, (int)getpid(), (const void *)ssl, way) >= (int)sizeof path)
        return;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n)
        abort(); /* what is not recorded would look as if it had not been said */
    close(fd);
}

#define REAL(name) (*(void **)&real = real ? *(void **)&real : dlsym(RTLD_NEXT, name))

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
