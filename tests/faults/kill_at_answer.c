/* kill_at_answer: a library for LD_PRELOAD that ends a process of musterd at one exact instant, for tests/integration: behind the durable
 * commit of what a request did, and before a byte of its answer leaves.
 *
 * It stands in front of SSL_write() and SSL_write_ex().  While the file that MUSTER_TEST_KILL names exists, a write whose plain text begins
 * with "HTTP/1.1 200" and has "application/x-pkcs12" in it, the answer of an enrolment, ends the process.  The test takes the file away.
 * It is a part of no program that is installed. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct ssl_st SSL;

int SSL_write(SSL *ssl, const void *data, int n);
int SSL_write_ex(SSL *ssl, const void *data, size_t n, size_t *written);

static void look(const void *data, size_t n) {
    static const char status[] = "HTTP/1.1 200", type[] = "application/x-pkcs12";
    const char *mark = getenv("MUSTER_TEST_KILL");
    if (mark && n > sizeof status && memcmp(data, status, sizeof status - 1) == 0 && memmem(data, n, type, sizeof type - 1) && access(mark, F_OK) == 0)
        _exit(1); /* at once, with nothing flushed: the sandbox lets no process signal, so SIGKILL is not to be had */
}

__attribute__((visibility("default"))) int SSL_write(SSL *ssl, const void *data, int n) {
    static int (*real)(SSL *, const void *, int);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "SSL_write");
    look(data, n > 0 ? (size_t)n : 0);
    return real(ssl, data, n);
}

__attribute__((visibility("default"))) int SSL_write_ex(SSL *ssl, const void *data, size_t n, size_t *written) {
    static int (*real)(SSL *, const void *, size_t, size_t *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "SSL_write_ex");
    look(data, n);
    return real(ssl, data, n, written);
}
