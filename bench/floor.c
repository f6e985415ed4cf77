/* bench_floor: the least that a server could do for the same clients: TLS 1.3 with a client certificate that libssl verifies, stateful
 * sessions, for POST /devices a key, a certificate and a PKCS#12, and for EST a request and a certificate.  No storage, no other process, no rule, hardly any HTTP: one thread, one
 * read and one write a request.  What Muster's gateway costs is compared with this; it must not be used for anything else.
 *
 * Usage: bench_floor CERT KEY CLIENT-CA ISSUING-CA ISSUING-KEY SERVER-CA ANSWER-BYTES; prints its port. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench.h"
#include "floor_issue.h"

struct conn {
    int fd;
    SSL *ssl;
    bool shaken;
    size_t n;
    char request[4096];
};

static SSL_CTX *context;
static int epoll_fd, listener;
static char answer[8192], out[16384];
static size_t answer_n;

static void set_up(char **argv) {
    context = SSL_CTX_new(TLS_server_method());
    BENCH_NEED(context && SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 && SSL_CTX_use_certificate_chain_file(context, argv[1]) == 1);
    BENCH_NEED(SSL_CTX_use_PrivateKey_file(context, argv[2], SSL_FILETYPE_PEM) == 1 && SSL_CTX_load_verify_file(context, argv[3]) == 1);
    BENCH_NEED(SSL_CTX_load_verify_file(context, argv[4]) == 1); /* devices that renew */
    BENCH_NEED(SSL_CTX_set1_groups_list(context, "X25519:P-256") == 1 && SSL_CTX_set_session_id_context(context, (const unsigned char *)"floor", 5) == 1);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    BENCH_NEED(SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") == 1); /* what musterd chooses, and a client would not */
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_sess_set_cache_size(context, 20000);
    floor_issue_init(argv[4], argv[5], argv[6]);
    floor_csr_init();
    size_t body = strtoul(argv[7], NULL, 10);
    BENCH_NEED(body < 4096);
    answer_n = (size_t)snprintf(answer, sizeof answer, "HTTP/1.1 404 Not Found\r\nServer: floor\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%0*d", body, (int)body, 0);
}

static void listen_on(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    struct epoll_event e = {.events = EPOLLIN};
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    BENCH_NEED(listener >= 0 && bind(listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(listener, 1024) == 0 && getsockname(listener, (struct sockaddr *)&at, &n) == 0);
    BENCH_NEED(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e) == 0);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
}

static void accept_one(void) {
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct conn *c = calloc(1, sizeof *c);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    BENCH_NEED(c && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
    c->fd = fd;
    c->ssl = SSL_new(context);
    BENCH_NEED(c->ssl && SSL_set_fd(c->ssl, fd) == 1 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0);
    SSL_set_accept_state(c->ssl);
}

static void close_conn(struct conn *c) {
    SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* the session stays */
    SSL_free(c->ssl);
    close(c->fd);
    free(c);
    ERR_clear_error();
}

static bool waits(struct conn *c, int result) {
    int why = SSL_get_error(c->ssl, result);
    if (why == SSL_ERROR_WANT_READ) /* writes here are small enough for any socket */
        return true;
    BENCH_NEED(why != SSL_ERROR_WANT_WRITE);
    return false;
}

static size_t good(const char *type, const unsigned char *body, size_t body_n) {
    size_t n = (size_t)snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\nServer: floor\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", type, body_n);
    BENCH_NEED(body_n <= sizeof out - n);
    memcpy(out + n, body, body_n);
    return n + body_n;
}

static size_t certify(const char *csr, size_t n) {
    struct floor_csr request;
    floor_csr_read(csr, n, &request);
    const unsigned char *p7 = floor_certify(&request, &n);
    return good("application/pkcs7-mime; smime-type=certs-only", p7, n);
}

static void reply(struct conn *c) {
    static const char est[] = "POST /.well-known/est/";
    char *id = strstr(c->request, "\"deviceId\":\""), *end = id ? strchr(id + 12, '"') : NULL, *body = strstr(c->request, "\r\n\r\n") + 4;
    size_t n = answer_n;
    const char *p = answer;
    if (end) {
        const unsigned char *p12 = floor_issue(id + 12, (size_t)(end - id - 12), &n);
        n = good("application/x-pkcs12", p12, n);
        p = out;
    } else if (strncmp(c->request, est, sizeof est - 1) == 0) {
        n = certify(body, c->n - (size_t)(body - c->request));
        p = out;
    }
    BENCH_NEED(SSL_write(c->ssl, p, (int)n) == (int)n);
    c->n = 0;
}

/* Head and body; a stock client sends them at once, but it may be otherwise. */
static bool whole(struct conn *c) {
    c->request[c->n] = '\0';
    char *end = strstr(c->request, "\r\n\r\n"), *length = strstr(c->request, "Content-Length: ");
    return end && (!length || c->n >= (size_t)(end + 4 - c->request) + strtoul(length + 16, NULL, 10));
}

static void drive(struct conn *c) {
    int result;
    if (!c->shaken && (result = SSL_do_handshake(c->ssl)) != 1) {
        if (!waits(c, result))
            close_conn(c);
        return;
    }
    c->shaken = true;
    for (;;) {
        result = SSL_read(c->ssl, c->request + c->n, (int)(sizeof c->request - 1 - c->n));
        if (result <= 0) {
            if (!waits(c, result))
                close_conn(c);
            return;
        }
        c->n += (size_t)result;
        if (whole(c))
            reply(c);
    }
}

int main(int argc, char **argv) {
    if (argc != 8) {
        fprintf(stderr, "usage: bench_floor CERT KEY CLIENT-CA ISSUING-CA ISSUING-KEY SERVER-CA ANSWER-BYTES\n");
        return 2;
    }
    set_up(argv);
    listen_on();
    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll_fd, events, 64, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr)
                drive(events[i].data.ptr);
            else
                accept_one();
        }
    }
}
