/* Every phase ends, whatever a client does; and the bounds on connections and descriptors. */
#include "rig.h"

#include <signal.h>
#include <sys/resource.h>

#define SOON 250
#define LATE 5000 /* a machine under load */

static struct rig *r;
static struct client c;

static void start(const struct http_limits *l) {
    r = rig_open(l, false);
    client_open(r, &c, (struct client_options){0});
}
static void stop(void) {
    client_close(&c);
    rig_close(r);
}

static void assert_took(int64_t from, int at_least) {
    int64_t ms = clock_mono_ms() - from;
    if (ms < at_least - 20 || ms > LATE)
        fail_msg("%lld ms instead of %d", (long long)ms, at_least);
}

static void a_handshake_that_never_comes(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.handshake_ms = SOON;
    r = rig_open(&l, false);
    int64_t from = clock_mono_ms();
    int fd = client_connect(r);
    char byte;
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    assert_took(from, SOON);
    close(fd);
    assert_int_equal(r->identified, 0);
    rig_close(r);
}

static void a_first_request_that_never_comes(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.head_ms = SOON;
    start(&l);
    int64_t from = clock_mono_ms();
    assert_true(client_closed(&c)); /* without an answer: nothing was asked */
    assert_took(from, SOON);
    stop();
}

/* No byte restarts the deadline. */
static void a_slow_head(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.head_ms = 2 * SOON;
    r = rig_open(&l, false);
    client_open(r, &c, (struct client_options){.version = TLS1_2_VERSION}); /* 1.3 has tickets to read besides the answer */
    int64_t from = clock_mono_ms();
    client_send(&c, "GET /hello" H);
    struct pollfd answer = {.fd = c.fd, .events = POLLIN};
    do
        client_send(&c, "X");
    while (poll(&answer, 1, 50) == 0);
    assert_int_equal(client_answer(&c, false), 408);
    assert_took(from, 2 * SOON);
    assert_field(&c, "Connection", "close");
    stop();
}

static void a_slow_second_head(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.head_ms = SOON;
    start(&l);
    assert_int_equal(client_ask(&c, GET("/hello")), 200);
    poll(NULL, 0, 2 * SOON); /* between requests it is idle_ms that counts */
    int64_t from = clock_mono_ms();
    client_send(&c, "G");
    assert_int_equal(client_answer(&c, false), 408);
    assert_took(from, SOON);
    stop();
}

static void an_idle_connection(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.idle_ms = SOON;
    start(&l);
    assert_int_equal(client_ask(&c, GET("/hello")), 200);
    int64_t from = clock_mono_ms();
    assert_true(client_closed(&c));
    assert_true(SSL_get_shutdown(c.ssl) & SSL_RECEIVED_SHUTDOWN); /* in order */
    assert_took(from, SOON);
    stop();
}

static void a_slow_body(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.body_ms = SOON;
    l.body_rate = 1000000;
    start(&l);
    int64_t from = clock_mono_ms();
    client_send(&c, "POST /echo" H "Content-Length: 100\r\n\r\nabc");
    assert_int_equal(client_answer(&c, false), 408);
    assert_took(from, SOON);
    assert_int_equal(r->handled, 0);
    stop();
}

/* Past body_ms, but at the rate. */
static void a_long_but_steady_body(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.body_ms = SOON;
    l.body_rate = 10;
    start(&l);
    client_send(&c, "POST /echo" H "Content-Length: 100\r\n\r\n");
    for (int i = 0; i < 10; i++) {
        client_send(&c, "0123456789");
        poll(NULL, 0, 60);
    }
    assert_int_equal(client_answer(&c, false), 200);
    stop();
}

static void an_answer_that_nobody_reads(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.write_ms = SOON;
    l.body_rate = INT32_MAX;
    start(&l);
    int64_t from = clock_mono_ms();
    client_send(&c, GET("/big"));
    wait_connections(r, 0);
    assert_took(from, SOON);
    stop();
}

/* Who neither closes nor reads after the last answer is waited for only so long. */
static void a_client_that_lingers(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.linger_ms = SOON;
    start(&l);
    int64_t from = clock_mono_ms();
    client_send(&c, GET("/last"));
    wait_connections(r, 0);
    assert_took(from, SOON);
    stop();
}

/* A client sends the whole body before it reads: it hears why it was refused, however much there is and however long that takes. */
static void a_refused_body_is_taken_to_its_end(void **state) {
    static uint8_t piece[256 * 1024];
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.linger_ms = SOON;
    start(&l);
    client_send(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2097160\r\n\r\n");
    for (int i = 0; i < 8; i++) {
        client_send_n(&c, span_of(piece, sizeof piece));
        poll(NULL, 0, SOON / 2);
    }
    client_send(&c, "the rest");
    assert_int_equal(client_answer(&c, false), 413);
    assert_true(client_closed(&c));
    stop();
}

/* And who never comes to the end is not waited for without end. */
static void a_refused_body_without_end(void **state) {
    static const uint8_t piece[1024];
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.linger_ms = SOON;
    l.body_ms = 3 * SOON;
    start(&l);
    signal(SIGPIPE, SIG_IGN);
    int64_t from = clock_mono_ms();
    client_send(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n");
    size_t n;
    while (SSL_write_ex(c.ssl, piece, sizeof piece, &n) == 1 && clock_mono_ms() - from < 2 * LATE)
        poll(NULL, 0, 5);
    assert_took(from, 3 * SOON);
    wait_connections(r, 0);
    stop();
}

static void a_held_request_has_no_deadline(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.head_ms = l.body_ms = l.idle_ms = l.write_ms = 50;
    start(&l);
    client_send(&c, GET("/hold"));
    wait_held(r);
    poll(NULL, 0, 200);
    on_loop(r, do_release);
    assert_int_equal(client_answer(&c, false), 200);
    stop();
}

/* --- numbers -------------------------------------------------------------------------------------------------------- */

static void above_the_limit_the_oldest_idle_one_goes(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.connections = 2;
    start(&l);
    struct client second, third;
    assert_int_equal(client_ask(&c, GET("/hello")), 200);
    client_open(r, &second, (struct client_options){0});
    assert_int_equal(client_ask(&second, GET("/hello")), 200);
    assert_int_equal(client_ask(&c, GET("/hello")), 200); /* now the second is the oldest */
    client_open(r, &third, (struct client_options){0});
    assert_int_equal(client_ask(&third, GET("/hello")), 200);
    assert_true(client_closed(&second));
    assert_int_equal(client_ask(&c, GET("/hello")), 200);
    client_close(&second);
    client_close(&third);
    stop();
}

static void above_the_limit_the_new_one_is_refused(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.connections = 1;
    start(&l);
    struct client second;
    client_send(&c, GET("/hold"));
    wait_held(r);
    assert_false(client_try(r, &second, (struct client_options){0}));
    client_close(&second);
    on_loop(r, do_release);
    assert_int_equal(client_answer(&c, false), 200);
    stop();
}

static void descriptors_run_out(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    start(&l);
    assert_int_equal(client_ask(&c, GET("/hello")), 200);
    int fd = client_socket();
    struct rlimit was, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    int next = dup(fd);
    close(next);
    few = was;
    few.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    char byte;
    /* The new one learns at once; those that are there do not notice. */
    int64_t from = clock_mono_ms();
    int connected = connect(fd, (const struct sockaddr *)&r->at, sizeof r->at);
    ssize_t got = recv(fd, &byte, 1, 0);
    int64_t took = clock_mono_ms() - from;
    int still = client_ask(&c, GET("/hello"));
    setrlimit(RLIMIT_NOFILE, &was);
    assert_int_equal(connected, 0);
    assert_true(got <= 0 && took < LATE);
    assert_int_equal(still, 200);
    close(fd);
    struct client later;
    client_open(r, &later, (struct client_options){0});
    assert_int_equal(client_ask(&later, GET("/hello")), 200);
    client_close(&later);
    stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_handshake_that_never_comes), cmocka_unit_test(a_first_request_that_never_comes), cmocka_unit_test(a_slow_head),
        cmocka_unit_test(a_slow_second_head), cmocka_unit_test(an_idle_connection), cmocka_unit_test(a_slow_body), cmocka_unit_test(a_long_but_steady_body),
        cmocka_unit_test(an_answer_that_nobody_reads), cmocka_unit_test(a_client_that_lingers),
        cmocka_unit_test(a_refused_body_is_taken_to_its_end), cmocka_unit_test(a_refused_body_without_end), cmocka_unit_test(a_held_request_has_no_deadline),
        cmocka_unit_test(above_the_limit_the_oldest_idle_one_goes), cmocka_unit_test(above_the_limit_the_new_one_is_refused),
        cmocka_unit_test(descriptors_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
