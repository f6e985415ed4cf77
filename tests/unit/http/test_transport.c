/* Connections that are not simply TLS from the client: behind a balancer of ours, and plain on a Unix socket. */
#include "rig.h"

#include <sys/un.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define FROM_7 SIGNATURE "\x21\x11\x00\x0c\xc0\x00\x02\x07\x7f\x00\x00\x01\x30\x39\x01\xbb"
#define FROM_V6 SIGNATURE "\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x30\x39\x01\xbb"
#define FROM_MAPPED SIGNATURE "\x21\x21\x00\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x30\x39\x01\xbb"
#define LOCAL SIGNATURE "\x20\x00\x00\x00"
#define SOON 250

static struct rig *r;

static bool yes(const struct sockaddr *from, void *arg) { return true; }
static bool no(const struct sockaddr *from, void *arg) { return false; }
static void behind_balancer(struct http_server_options *o) { o->is_balancer = yes; }
static void behind_another(struct http_server_options *o) { o->is_balancer = no; }

static void start(void (*adjust)(struct http_server_options *o), const struct http_limits *l) {
    rig_adjust = adjust;
    r = rig_open(l, false);
    rig_adjust = NULL;
}

/* TLS begins behind the bytes in front; false where the handshake fails. */
static bool tls_behind(struct span front, struct client *c, size_t step) {
    *c = (struct client){.fd = client_connect(r), .in = BUF_INIT(BIG), .body = BUF_INIT(BIG)};
    for (size_t at = 0; at < front.n; at += step) {
        struct span piece = span_sub(front, at, step);
        if (send(c->fd, piece.p, piece.n, MSG_NOSIGNAL) < 0)
            break;
        if (step < front.n)
            poll(NULL, 0, 2);
    }
    c->ctx = SSL_CTX_new(TLS_client_method());
    c->ssl = SSL_new(c->ctx);
    SSL_set_fd(c->ssl, c->fd);
    return SSL_connect(c->ssl) == 1;
}

static void assert_seen_from(struct span front, size_t step, const char *address) {
    struct client c;
    char expected[128];
    assert_true(tls_behind(front, &c, step));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(client_ask(&c, GET("/address")), 200);
        snprintf(expected, sizeof expected, "%s 0", address);
        assert_body(&c, expected);
    }
    client_close(&c);
}

static void assert_refused(struct span front) {
    struct client c;
    int before = r->identified;
    assert_false(tls_behind(front, &c, front.n));
    client_close(&c);
    wait_connections(r, 0);
    assert_int_equal(r->identified, before);
}

static void a_balancer_names_the_client(void **state) {
    start(behind_balancer, NULL);
    assert_seen_from(SPAN_LIT(FROM_7), 1000, "192.0.2.7");
    assert_seen_from(SPAN_LIT(FROM_7), 1, "192.0.2.7");
    assert_seen_from(SPAN_LIT(FROM_V6), 1000, "2001:db8::9");
    assert_seen_from(SPAN_LIT(FROM_MAPPED), 1000, "192.0.2.8"); /* as `--source` rules have it */
    assert_seen_from(SPAN_LIT(LOCAL), 1000, "127.0.0.1");
    rig_close(r);
}

static void a_balancer_that_does_not(void **state) {
    start(behind_balancer, NULL);
    assert_refused(SPAN_LIT("PROXY TCP4 192.0.2.7 127.0.0.1 12345 443\r\n"));
    assert_refused(SPAN_LIT(SIGNATURE "\x21\x00\x00\x00"));
    assert_refused(SPAN_LIT(SIGNATURE "\x21\x11\x00\x04\xc0\x00\x02\x07"));
    assert_refused(SPAN_LIT(SIGNATURE "\x21\x11\xff\xff"));
    assert_refused(SPAN_LIT("")); /* TLS at once */
    assert_refused(SPAN_LIT(FROM_7 FROM_7)); /* one header, then TLS */
    rig_close(r);
}

/* Nobody else may say who he is. */
static void anybody_else(void **state) {
    for (int i = 0; i < 2; i++) {
        start(i ? behind_another : NULL, NULL);
        assert_refused(SPAN_LIT(FROM_7));
        assert_seen_from(SPAN_LIT(""), 1, "127.0.0.1");
        rig_close(r);
    }
}

static void a_header_that_drips(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.handshake_ms = SOON;
    start(behind_balancer, &l);
    int fd = client_connect(r);
    char byte;
    int64_t from = clock_mono_ms();
    for (size_t i = 0; i < 27 && send(fd, FROM_7 + i, 1, MSG_NOSIGNAL) == 1; i++) {
        struct pollfd end = {.fd = fd, .events = POLLIN};
        if (poll(&end, 1, 30) > 0)
            break;
    }
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    assert_true(clock_mono_ms() - from >= SOON - 20);
    close(fd);
    wait_connections(r, 0);
    /* The deadline is the handshake's: what the header took is not given back. */
    fd = client_connect(r);
    from = clock_mono_ms();
    poll(NULL, 0, SOON / 2);
    assert_int_equal(send(fd, FROM_7, sizeof FROM_7 - 1, MSG_NOSIGNAL), sizeof FROM_7 - 1);
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    assert_true(clock_mono_ms() - from < 5000);
    close(fd);
    wait_connections(r, 0);
    assert_int_equal(r->identified, 0);
    rig_close(r);
}

/* A health check, and a header that is cut off. */
static void a_balancer_that_goes(void **state) {
    start(behind_balancer, NULL);
    for (size_t n = 0; n < sizeof FROM_7 - 1; n += 9) {
        int fd = client_connect(r);
        assert_int_equal(send(fd, FROM_7, n, MSG_NOSIGNAL), n);
        close(fd);
        wait_connections(r, 0);
    }
    rig_close(r);
}

/* --- plain -------------------------------------------------------------------------------------------------------------------------- */

static char path[64];

static void on_unix(struct http_server_options *o) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(path, sizeof path, "/tmp/muster-test-%d.sock", (int)getpid());
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    unlink(path);
    close(o->listen_fd);
    o->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(o->listen_fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(o->listen_fd, 8), 0);
    o->tls = NULL;
}

static int plain_connect(void) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = 20};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static void plain_send(int fd, const char *text) { assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text)); }

/* All until `end` has come n times, or the server has closed. */
static size_t plain_read(int fd, struct buf *in, const char *end, int n) {
    for (;;) {
        const char *at = buf_str(in);
        int found = 0;
        for (; n && (at = strstr(at, end)); at += strlen(end))
            found++;
        if (n && found == n)
            return in->n;
        uint8_t piece[65536];
        ssize_t got = recv(fd, piece, sizeof piece, 0);
        assert_true(got >= 0);
        if (got == 0)
            return in->n;
        buf_add(in, span_of(piece, (size_t)got));
    }
}

static void plain_requests(void **state) {
    CLEANUP(buf_fini) struct buf in = BUF_INIT(BIG + 65536);
    char expected[64];
    start(on_unix, NULL);
    int fd = plain_connect();
    plain_send(fd, GET("/hello"));
    plain_read(fd, &in, "hello", 1);
    plain_send(fd, GET("/hello") GET("/address")); /* pipelined, and who is there */
    snprintf(expected, sizeof expected, "- uid %u", getuid());
    plain_read(fd, &in, expected, 1);
    plain_send(fd, "POST /echo" H "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    plain_read(fd, &in, "100 Continue\r\n\r\n", 1);
    buf_clear(&in);
    plain_send(fd, "echo");
    plain_read(fd, &in, "echo", 1);
    close(fd);
    wait_connections(r, 0);
    rig_close(r);
    unlink(path);
}

/* The same bounds as elsewhere, and an answer that does not fit the socket at once. */
static void plain_bounds(void **state) {
    CLEANUP(buf_fini) struct buf in = BUF_INIT(BIG + 65536);
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.head_ms = SOON;
    l.idle_ms = SOON;
    start(on_unix, &l);
    int fd = plain_connect();
    plain_send(fd, "GET /big" H "Connection: close\r\n\r\n");
    poll(NULL, 0, 50);
    assert_true(plain_read(fd, &in, "", 0) > BIG);
    close(fd);
    buf_clear(&in);
    fd = plain_connect(); /* no request */
    assert_int_equal(plain_read(fd, &in, "", 0), 0);
    close(fd);
    fd = plain_connect(); /* half a head */
    plain_send(fd, "GET /he");
    plain_read(fd, &in, "", 0);
    assert_non_null(strstr(buf_str(&in), "HTTP/1.1 408 "));
    close(fd);
    buf_clear(&in);
    fd = plain_connect(); /* a TLS client */
    assert_int_equal(send(fd, "\x16\x03\x01\x00\x05hello", 10, MSG_NOSIGNAL), 10);
    plain_read(fd, &in, "", 0);
    assert_non_null(strstr(buf_str(&in), "HTTP/1.1 400 "));
    close(fd);
    fd = plain_connect(); /* one that goes before its answer */
    plain_send(fd, GET("/hold"));
    wait_held(r);
    close(fd);
    on_loop(r, do_release);
    wait_connections(r, 0);
    r->abort_in_identify = true;
    fd = plain_connect();
    buf_clear(&in);
    assert_int_equal(plain_read(fd, &in, "", 0), 0);
    close(fd);
    rig_close(r);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_balancer_names_the_client), cmocka_unit_test(a_balancer_that_does_not), cmocka_unit_test(anybody_else),
        cmocka_unit_test(a_header_that_drips), cmocka_unit_test(a_balancer_that_goes), cmocka_unit_test(plain_requests), cmocka_unit_test(plain_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
