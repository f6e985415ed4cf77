/* The client, against a server that says exactly what a test wants, byte by byte: both on this thread, so that nothing is left to chance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>

#include "base/buf.h"
#include "base/clock.h"
#include "http/client.h"
#include "http/tls_client.h"

#define LONG_MS 10000

static struct loop *loop;
static struct http_client *client;
static int listener;
static struct http_origin origin;

enum where { NOWHERE, IN_HEAD, IN_BODY, IN_TURN, IN_ROOM };

/* What a call did, and what it is to do. */
struct seen {
    struct http_call *call;
    int heads, turns, rooms, ends, fails, code, status;
    struct buf body;
    enum where cancel;
    bool pause; /* after each piece */
    char text[512];
};

static void maybe_cancel(struct seen *s, enum where here) {
    if (s->cancel == here)
        http_call_cancel(TAKE(s->call));
}
static void on_head(struct http_call *call, const struct http_response *head, void *arg) {
    struct seen *s = arg;
    s->heads++;
    s->status = head->status;
    maybe_cancel(s, IN_HEAD);
}
static void on_body(struct http_call *call, struct span part, void *arg) {
    struct seen *s = arg;
    buf_add(&s->body, part);
    if (s->pause)
        http_call_pause(call);
    maybe_cancel(s, IN_BODY);
}
static void on_turn(struct http_call *call, void *arg) {
    ((struct seen *)arg)->turns++;
    maybe_cancel(arg, IN_TURN);
}
static void on_room(struct http_call *call, void *arg) {
    ((struct seen *)arg)->rooms++;
    maybe_cancel(arg, IN_ROOM);
}
static void on_end(void *arg) {
    struct seen *s = arg;
    s->ends++;
    s->call = NULL;
}
static void on_failed(const struct err *err, void *arg) {
    struct seen *s = arg;
    s->fails++;
    s->code = err->code;
    snprintf(s->text, sizeof s->text, "%s", err_text(err));
    s->call = NULL;
}
static const struct http_call_ops OPS = {on_head, on_body, on_turn, on_room, on_end, on_failed};

static void pump(void) {
    event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
    poll(NULL, 0, 1);
}
static void pump_ms(int ms) {
    for (int64_t end = clock_mono_ms() + ms; clock_mono_ms() < end;)
        pump();
}
#define pump_until(cond)                                                  \
    do {                                                                  \
        int64_t end_ = clock_mono_ms() + LONG_MS;                         \
        while (!(cond) && clock_mono_ms() < end_)                         \
            pump();                                                       \
        assert_true(cond);                                                \
    } while (0)
static bool over(const struct seen *s) { return s->ends + s->fails > 0; }

static int start(void **state) {
    struct err err = ERR_INIT;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &n), 0);
    origin = (struct http_origin){.host = "127.0.0.1", .port = ntohs(at.sin_port), .connect_ms = LONG_MS, .response_ms = LONG_MS, .idle_ms = LONG_MS, .connections = 4};
    loop = loop_new(&err);
    client = http_client_new(loop, false, &err);
    assert_non_null(client);
    return 0;
}
static int stop(void **state) {
    http_client_free(TAKE(client));
    pump_ms(5); /* what was freed is closed by the loop */
    loop_free(TAKE(loop));
    close(listener);
    return 0;
}

static struct seen *ask_as(const struct http_request *rq) {
    struct seen *s = calloc(1, sizeof *s);
    struct err err = ERR_INIT;
    s->body = BUF_INIT(16 * 1024 * 1024);
    s->call = http_call_new(client, &origin, rq, &OPS, s, &err);
    if (!s->call)
        on_failed(&err, s);
    return s;
}
static struct seen *ask(void) { return ask_as(&(struct http_request){.head = SPAN_LIT("GET / HTTP/1.1\r\n\r\n"), .repeatable = true}); }
static struct seen *put(bool chunked) {
    return ask_as(&(struct http_request){.head = SPAN_LIT("PUT / HTTP/1.1\r\n\r\n"), .body = true, .chunked = chunked});
}
static void done(struct seen *s) {
    http_call_cancel(s->call);
    buf_fini(&s->body);
    free(s);
}

/* The server's side: the next connection, with what came on it up to the empty line. */
static int take(void) {
    struct pollfd p = {.fd = listener, .events = POLLIN};
    pump_until(poll(&p, 1, 0) > 0);
    int fd = accept(listener, NULL, NULL);
    struct timeval patience = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}
static bool none_waits(void) {
    struct pollfd p = {.fd = listener, .events = POLLIN};
    pump_ms(30);
    return poll(&p, 1, 0) == 0;
}
static void hear(int fd) {
    char text[4096];
    size_t n = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (n < 4 || memcmp(text + n - 4, "\r\n\r\n", 4) != 0) {
        pump_until(poll(&p, 1, 0) > 0);
        assert_int_equal(recv(fd, text + n, 1, 0), 1);
        n++;
    }
}
static void say(int fd, const char *text) { assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text)); }
/* Everything, while the client runs. */
static void say_much(int fd, size_t n) {
    static const uint8_t bytes[4096];
    while (n) {
        ssize_t sent = send(fd, bytes, n < sizeof bytes ? n : sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0)
            n -= (size_t)sent;
        else
            pump();
    }
}
static bool is_closed(int fd) {
    char c[4096];
    pump();
    ssize_t n = recv(fd, c, sizeof c, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}
static void hang_up(int fd) {
    const struct linger at_once = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

#define OK "HTTP/1.1 200 OK\r\n"

/* --- answers ------------------------------------------------------------------------------------------------------------ */

static void an_answer_may_come_byte_by_byte(void **state) {
    static const char *const answers[] = {
        OK "Content-Length: 5\r\n\r\nhello", OK "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 5\r\n\r\nhello",
    };
    for (size_t i = 0; i < 3; i++) {
        struct seen *s = ask();
        int fd = i ? -1 : take();
        static int kept;
        kept = i ? kept : fd; /* one connection carries all three */
        hear(kept);
        for (const char *c = answers[i]; *c; c++) {
            assert_int_equal(send(kept, c, 1, MSG_NOSIGNAL), 1);
            pump();
        }
        pump_until(over(s));
        assert_int_equal(s->ends, 1);
        assert_int_equal(s->heads, 1);
        assert_string_equal(buf_str(&s->body), "hello");
        done(s);
        if (i == 2)
            close(kept);
    }
}

static void what_had_come_before_the_end_is_given_to_a_slow_reader(void **state) {
    static const struct {
        const char *head;
        bool whole; /* the end is where it has to be */
    } row[] = {{OK "Content-Length: 60000\r\nConnection: close\r\n\r\n", true}, {OK "Connection: close\r\n\r\n", true}, {OK "Content-Length: 60001\r\n\r\n", false}};
    for (size_t i = 0; i < 3; i++) {
        struct seen *s = ask();
        int fd = take();
        s->pause = true;
        hear(fd);
        say(fd, row[i].head);
        say_much(fd, 60000);
        close(fd);
        pump_ms(50); /* the end is there, and the reader stands still */
        assert_false(over(s));
        assert_true(s->body.n <= 16384);
        while (!over(s)) {
            size_t before = s->body.n;
            http_call_resume(s->call);
            pump_until(over(s) || s->body.n > before || s->body.n == 60000);
            assert_true(s->body.n - before <= 16384); /* a piece at a time */
            if (s->body.n == 60000 && !over(s)) {
                http_call_resume(s->call);
                pump_until(over(s));
            }
        }
        assert_int_equal(s->body.n, 60000);
        assert_int_equal(s->ends, row[i].whole);
        assert_int_equal(s->code, row[i].whole ? 0 : MUSTER_EUPSTREAM);
        done(s);
    }
}

static void a_pause_holds_the_source_and_its_clock(void **state) {
    origin.idle_ms = 150;
    struct seen *s = ask();
    int fd = take();
    s->pause = true;
    hear(fd);
    say(fd, OK "Content-Length: 100000000\r\n\r\n");
    ssize_t n, sent = 0;
    static const uint8_t bytes[65536];
    for (int i = 0; i < 300; i++) {
        if ((n = send(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
            sent += n;
        pump();
    }
    assert_false(over(s)); /* 300 ms and more */
    assert_true(s->body.n <= 16384);
    int turns = s->turns;
    pump_ms(50);
    assert_true(s->turns - turns <= 1); /* and the loop has its rest */
    s->pause = false;
    http_call_resume(s->call);
    pump_until(s->body.n > 100000);
    pump_until(over(s)); /* now it is the server that does not go on */
    assert_int_equal(s->code, MUSTER_EUPSTREAMTIME);
    close(fd);
    done(s);
}

static void a_head_has_one_deadline(void **state) {
    origin.response_ms = 300;
    struct seen *s = ask();
    int fd = take();
    hear(fd);
    int64_t began = clock_mono_ms();
    for (const char *c = OK "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"; *c && !over(s); c++) {
        (void)!send(fd, c, 1, MSG_NOSIGNAL);
        pump_ms(30);
    }
    assert_int_equal(s->code, MUSTER_EUPSTREAMTIME);
    assert_true(clock_mono_ms() - began < 1500);
    close(fd);
    done(s);
}

/* --- connections that are used again -------------------------------------------------------------------------------------- */

/* One request answered; the connection that is kept. */
static int warm(void) {
    struct seen *s = ask();
    int fd = take();
    hear(fd);
    say(fd, OK "Content-Length: 0\r\n\r\n");
    pump_until(over(s));
    assert_int_equal(s->ends, 1);
    done(s);
    return fd;
}

static void a_kept_connection_that_has_ended_is_replaced(void **state) {
    int old = warm();
    close(old);
    struct seen *s = ask(); /* nobody has noticed yet */
    int fd = take();
    hear(fd);
    say(fd, OK "Content-Length: 0\r\n\r\n");
    pump_until(over(s));
    assert_int_equal(s->ends, 1);
    done(s);
    /* It ends while the request is on its way. */
    s = ask();
    hear(fd);
    hang_up(fd);
    fd = take();
    hear(fd);
    say(fd, OK "Content-Length: 0\r\n\r\n");
    pump_until(over(s));
    assert_int_equal(s->ends, 1);
    done(s);
    close(fd);
}

static void it_is_tried_once_more_and_not_twice(void **state) {
    int fd = warm();
    struct seen *s = ask();
    hear(fd);
    close(fd);
    fd = take();
    hear(fd);
    close(fd);
    pump_until(over(s));
    assert_int_equal(s->code, MUSTER_EUPSTREAM);
    assert_true(none_waits());
    done(s);
}

static void nothing_is_tried_again_once_an_answer_has_begun(void **state) {
    int fd = warm();
    struct seen *s = ask();
    hear(fd);
    say(fd, "H");
    close(fd);
    pump_until(over(s));
    assert_int_equal(s->code, MUSTER_EUPSTREAM);
    assert_true(none_waits());
    done(s);
}

static void what_may_not_be_repeated_is_not(void **state) {
    int kept = warm();
    struct seen *s = put(false);
    int fd = take(); /* a connection of its own */
    http_call_body(s->call, SPAN_LIT("x"));
    http_call_body_end(s->call);
    hear(fd);
    hang_up(fd);
    pump_until(over(s));
    assert_int_equal(s->code, MUSTER_EUPSTREAM);
    assert_true(none_waits());
    done(s);
    close(kept);
}

static void bytes_that_nobody_asked_for_are_no_answer(void **state) {
    int old = warm();
    say(old, OK "Content-Length: 6\r\n\r\nstolen");
    struct seen *s = ask();
    int fd = take();
    hear(fd);
    assert_true(is_closed(old));
    say(fd, OK "Content-Length: 2\r\n\r\nok");
    pump_until(over(s));
    assert_string_equal(buf_str(&s->body), "ok");
    done(s);
    close(old);
    close(fd);
}

static void an_answer_that_is_longer_than_it_says_is_the_last_of_its_connection(void **state) {
    static const char *const said[] = {OK "Content-Length: 2\r\n\r\nok" OK, "HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
                                       OK "Connection: close\r\nContent-Length: 0\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        struct seen *s = ask();
        int fd = take();
        hear(fd);
        say(fd, said[i]);
        pump_until(over(s));
        assert_int_equal(s->ends, 1);
        pump_until(is_closed(fd));
        close(fd);
        done(s);
    }
}

static void there_are_no_more_connections_than_allowed(void **state) {
    struct seen *s[5];
    int fd[4];
    for (int i = 0; i < 5; i++)
        s[i] = ask();
    assert_int_equal(s[4]->code, MUSTER_EBUSY);
    for (int i = 0; i < 4; i++)
        fd[i] = take();
    assert_true(none_waits());
    for (int i = 0; i < 5; i++)
        done(s[i]);
    for (int i = 0; i < 4; i++) {
        pump_until(is_closed(fd[i])); /* a call that is cancelled takes its connection with it */
        close(fd[i]);
    }
}

/* --- requests with a body ---------------------------------------------------------------------------------------------------- */

/* Until kernels take no more either. */
static void fill(struct seen *s) {
    static const uint8_t bytes[16384];
    do {
        while (s->call && http_call_room(s->call))
            http_call_body(s->call, span_of(bytes, sizeof bytes));
        pump_ms(30);
    } while (s->call && http_call_room(s->call));
    s->rooms = 0;
}

static void a_server_that_does_not_read_makes_no_room(void **state) {
    struct seen *s = put(true);
    int fd = take();
    hear(fd);
    fill(s);
    pump_ms(50);
    assert_int_equal(s->rooms, 0);
    char bytes[65536];
    for (int64_t end = clock_mono_ms() + LONG_MS; !s->rooms && clock_mono_ms() < end; pump())
        (void)!recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    assert_int_equal(s->rooms, 1);
    close(fd);
    done(s);
}

static void a_server_that_never_reads_is_given_up(void **state) {
    origin.idle_ms = 200;
    struct seen *s = put(false);
    int fd = take();
    hear(fd);
    fill(s);
    pump_until(over(s));
    assert_int_equal(s->code, MUSTER_EUPSTREAMTIME);
    close(fd);
    done(s);
}

static void the_refusal_of_a_request_that_is_still_being_sent_is_heard(void **state) {
    struct seen *s = put(false);
    int fd = take();
    hear(fd);
    fill(s);
    static const uint8_t much[40000]; /* more than is read at a time: the failure to write comes in between */
    say(fd, "HTTP/1.1 413 No\r\nContent-Length: 40000\r\n\r\n");
    assert_int_equal(send(fd, much, sizeof much, MSG_DONTWAIT | MSG_NOSIGNAL), sizeof much);
    close(fd); /* with much unread: a RST */
    pump_until(over(s));
    assert_int_equal(s->status, 413);
    assert_int_equal(s->ends, 1);
    assert_int_equal(s->body.n, sizeof much);
    done(s);
}

static void a_server_that_goes_while_a_request_is_sent(void **state) {
    struct seen *s = put(false);
    int fd = take();
    hear(fd);
    fill(s);
    hang_up(fd);
    pump_until(over(s));
    assert_int_equal(s->code, MUSTER_EUPSTREAM);
    assert_int_equal(s->heads, 0);
    done(s);
}

static void an_answer_ahead_of_its_request_ends_the_connection(void **state) {
    struct seen *s = put(false);
    int fd = take();
    hear(fd);
    http_call_body(s->call, SPAN_LIT("half"));
    say(fd, OK "Content-Length: 2\r\n\r\nok");
    pump_until(over(s));
    assert_int_equal(s->ends, 1);
    pump_until(is_closed(fd));
    close(fd);
    done(s);
}

/* --- ends ------------------------------------------------------------------------------------------------------------------------ */

static void a_call_may_be_cancelled_anywhere(void **state) {
    for (enum where w = IN_HEAD; w <= IN_TURN; w++)
        for (int chunked = 0; chunked < 2; chunked++) {
            struct seen *s = ask();
            int fd = take();
            s->cancel = w;
            hear(fd);
            say(fd, chunked ? OK "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n" : OK "Content-Length: 9\r\n\r\nab");
            pump_until(!s->call);
            pump_ms(5);
            assert_false(over(s)); /* nothing is heard afterwards */
            pump_until(is_closed(fd));
            close(fd);
            done(s);
        }
    struct seen *s = put(false);
    int fd = take();
    hear(fd);
    fill(s);
    s->cancel = IN_ROOM;
    char bytes[65536];
    for (int64_t end = clock_mono_ms() + LONG_MS; s->call && clock_mono_ms() < end; pump())
        (void)!recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    assert_null(s->call);
    assert_int_equal(s->rooms, 1);
    close(fd);
    done(s);
    s = ask(); /* before there is a connection */
    done(s);
}

static void a_call_may_be_cancelled_while_it_is_paused_and_its_end_has_come(void **state) {
    struct seen *s = ask();
    int fd = take();
    s->pause = true;
    hear(fd);
    say(fd, OK "Content-Length: 60000\r\n\r\n");
    say_much(fd, 60000);
    close(fd);
    pump_ms(30);
    http_call_resume(s->call); /* with a turn owed */
    done(s);
    pump_ms(5);
}

/* --- TLS ---------------------------------------------------------------------------------------------------------------------------- */

struct secure {
    SSL_CTX *ctx;
    SSL *ssl;
    struct buf pem;
};

/* A certificate of its own. */
static void secure_new(struct secure *t, const char *cn, const char *san, long from, long until) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    BIO *out = BIO_new(BIO_s_mem());
    char *p;
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), from);
    X509_gmtime_adj(X509_getm_notAfter(x), until);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_set_pubkey(x, key);
    if (san) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    PEM_write_bio_X509(out, x);
    long n = BIO_get_mem_data(out, &p);
    *t = (struct secure){.ctx = SSL_CTX_new(TLS_server_method()), .pem = BUF_INIT(8192)};
    buf_add(&t->pem, span_of(p, (size_t)n));
    assert_int_equal(SSL_CTX_use_cert_and_key(t->ctx, x, key, NULL, 1), 1);
    BIO_free(out);
    X509_free(x);
    EVP_PKEY_free(key);
}

static bool secure_accept(struct secure *t, int fd, const struct seen *s) {
    t->ssl = SSL_new(t->ctx);
    SSL_set_fd(t->ssl, fd);
    evutil_make_socket_nonblocking(fd);
    int rc = 0;
    for (int64_t end = clock_mono_ms() + LONG_MS; (rc = SSL_accept(t->ssl)) != 1 && !over(s) && clock_mono_ms() < end;)
        pump();
    return rc == 1;
}

static void secure_free(struct secure *t) {
    SSL_free(t->ssl);
    SSL_CTX_free(t->ctx);
    buf_fini(&t->pem);
}

static void a_server_is_who_its_certificate_says(void **state) {
    static const struct {
        const char *cn, *san, *asked;
        long from, until;
        bool good;
    } row[] = {
        {"x", "DNS:a.test", "a.test", -9, 99, true},     {"a.test", NULL, "a.test", -9, 99, false},          {"a.test", "DNS:b.test", "a.test", -9, 99, false},
        {"a.test", "IP:127.0.0.1", "a.test", -9, 99, false}, {"x", "DNS:*.test", "a.test", -9, 99, false}, {"x", "DNS:a.test", "a.test", -99, -9, false},
        {"x", "DNS:a.test", "a.test", 99, 999, false},   {"x", "IP:127.0.0.1", "127.0.0.1", -9, 99, true},   {"127.0.0.1", NULL, "127.0.0.1", -9, 99, false},
        {"127.0.0.1", "DNS:127.0.0.1", "127.0.0.1", -9, 99, false},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct secure t;
        struct err err = ERR_INIT;
        secure_new(&t, row[i].cn, row[i].san, row[i].from, row[i].until);
        assert_int_equal(tls_client_new(buf_span(&t.pem), SPAN_NONE, SPAN_NONE, &origin.tls, &err), 0);
        origin.tls_name = row[i].asked;
        struct seen *s = ask();
        int fd = take();
        bool accepted = secure_accept(&t, fd, s);
        size_t n = 0;
        if (row[i].good) {
            assert_true(accepted);
            assert_int_equal(SSL_write_ex(t.ssl, OK "Content-Length: 2\r\n\r\nok", 40, &n), 1);
        }
        pump_until(over(s));
        if (s->ends != row[i].good)
            fail_msg("row %zu: %s", i, s->text);
        done(s);
        pump_ms(3);
        close(fd);
        SSL_CTX_free(TAKE(origin.tls));
        secure_free(&t);
    }
}

static void an_answer_until_the_end_is_not_cut_off_by_anybody_on_the_way(void **state) {
    for (int in_order = 0; in_order < 2; in_order++) {
        struct secure t;
        struct err err = ERR_INIT;
        size_t n;
        secure_new(&t, "x", "DNS:a.test", -9, 99);
        assert_int_equal(tls_client_new(buf_span(&t.pem), SPAN_NONE, SPAN_NONE, &origin.tls, &err), 0);
        origin.tls_name = "a.test";
        struct seen *s = ask();
        int fd = take();
        s->pause = true;
        assert_true(secure_accept(&t, fd, s));
        assert_int_equal(SSL_write_ex(t.ssl, OK "\r\nhalf", 23, &n), 1);
        if (in_order)
            SSL_shutdown(t.ssl);
        shutdown(fd, SHUT_WR);
        pump_ms(30);
        assert_int_equal(s->body.n, 4);
        assert_false(over(s)); /* its reader stands still */
        http_call_resume(s->call);
        pump_until(over(s));
        assert_int_equal(s->ends, in_order);
        assert_int_equal(s->code, in_order ? 0 : MUSTER_EUPSTREAM);
        done(s);
        pump_ms(3);
        close(fd);
        SSL_CTX_free(TAKE(origin.tls));
        secure_free(&t);
    }
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, start, stop)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(an_answer_may_come_byte_by_byte),
        T(what_had_come_before_the_end_is_given_to_a_slow_reader),
        T(a_pause_holds_the_source_and_its_clock),
        T(a_head_has_one_deadline),
        T(a_kept_connection_that_has_ended_is_replaced),
        T(it_is_tried_once_more_and_not_twice),
        T(nothing_is_tried_again_once_an_answer_has_begun),
        T(what_may_not_be_repeated_is_not),
        T(bytes_that_nobody_asked_for_are_no_answer),
        T(an_answer_that_is_longer_than_it_says_is_the_last_of_its_connection),
        T(there_are_no_more_connections_than_allowed),
        T(a_server_that_does_not_read_makes_no_room),
        T(a_server_that_never_reads_is_given_up),
        T(the_refusal_of_a_request_that_is_still_being_sent_is_heard),
        T(a_server_that_goes_while_a_request_is_sent),
        T(an_answer_ahead_of_its_request_ends_the_connection),
        T(a_call_may_be_cancelled_anywhere),
        T(a_call_may_be_cancelled_while_it_is_paused_and_its_end_has_come),
        T(a_server_is_who_its_certificate_says),
        T(an_answer_until_the_end_is_not_cut_off_by_anybody_on_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
