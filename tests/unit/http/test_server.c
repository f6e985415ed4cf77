/* Requests and answers over real TLS. */
#include "rig.h"

static struct rig *r;
static struct client c;

static int open_rig(void **state) {
    r = rig_open(NULL, false);
    client_open(r, &c, (struct client_options){0});
    return 0;
}
static int close_rig(void **state) {
    client_close(&c);
    rig_close(r);
    return 0;
}

static void an_answer_has_its_fields(void **state) {
    assert_int_equal(client_ask(&c, GET("/hello")), 200);
    assert_body(&c, "hello");
    assert_field(&c, "Content-Length", "5");
    assert_field(&c, "Content-Type", "text/plain");
    assert_field(&c, "Cache-Control", "no-store");
    assert_field(&c, "Server", "rig");
    assert_null(client_field(&c, "Connection"));
    int day, year, h, m, s;
    char weekday[8], month[8];
    assert_int_equal(sscanf(client_field(&c, "Date"), "%3s, %2d %3s %4d %2d:%2d:%2d GMT", weekday, &day, month, &year, &h, &m, &s), 7);
    char today[64];
    time_t now = time(NULL);
    strftime(today, sizeof today, "%a, %d %b %Y", gmtime(&now));
    assert_int_equal(strncmp(client_field(&c, "Date"), today, strlen(today)), 0);
}

static void connections_are_kept(void **state) {
    for (int i = 0; i < 20; i++) {
        assert_int_equal(client_ask(&c, GET("/hello")), 200);
        poll(NULL, 0, i % 3);
    }
    assert_int_equal(r->identified, 1);
    assert_int_equal(client_ask(&c, "GET /hello" H "Connection: close\r\n\r\n"), 200);
    assert_field(&c, "Connection", "close");
    assert_true(client_closed(&c));
}

static void a_handler_may_close(void **state) {
    assert_int_equal(client_ask(&c, GET("/last")), 200);
    assert_field(&c, "Connection", "close");
    assert_true(client_closed(&c));
}

static void requests_are_pipelined(void **state) {
    client_send(&c, GET("/hello") "POST /echo" H "Content-Length: 3\r\n\r\nabc" GET("/item/1") "POST /echo" H
                    "Transfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n" GET("/empty") GET("/hel"));
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "hello");
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "abc");
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "1|-||/item/1|a.test");
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "de");
    assert_int_equal(client_answer(&c, false), 204);
    assert_int_equal(client_answer(&c, false), 404);
    /* More than one turn of the loop takes. */
    struct buf many = BUF_INIT(65536);
    for (int i = 0; i < 400; i++)
        buf_adds(&many, GET("/hello"));
    client_send_n(&c, buf_span(&many));
    buf_fini(&many);
    for (int i = 0; i < 400; i++) {
        assert_int_equal(client_answer(&c, false), 200);
        assert_body(&c, "hello");
    }
    assert_int_equal(c.in.n, 0);
}

/* The next request begins in the middle of what is read as a body. */
static void a_request_behind_a_late_body(void **state) {
    static const char *const heads[] = {"Content-Length: 3\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"};
    static const char *const rests[] = {"abc" GET("/item/2") "GET /", "3\r\nabc\r\n0\r\n\r\n" GET("/item/2") "GET /"};
    for (int i = 0; i < 2; i++) {
        client_send(&c, "POST /echo" H);
        client_send(&c, heads[i]);
        poll(NULL, 0, 30);
        client_send(&c, rests[i]);
        assert_int_equal(client_answer(&c, false), 200);
        assert_body(&c, "abc");
        assert_int_equal(client_answer(&c, false), 200);
        assert_body(&c, "2|-||/item/2|a.test");
        client_send(&c, "hello" H "\r\n");
        assert_int_equal(client_answer(&c, false), 200);
        assert_body(&c, "hello");
    }
}

/* One after the other: the second is not begun while the first is held. */
static void pipelined_requests_wait(void **state) {
    client_send(&c, GET("/hold") GET("/hello"));
    wait_held(r);
    poll(NULL, 0, 50);
    assert_int_equal(r->handled, 0);
    on_loop(r, do_release);
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "released");
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "hello");
}

static void requests_arrive_in_pieces(void **state) {
    static const char text[] = "POST /echo" H "Content-Length: 3\r\n\r\nabc" "POST /echo" H "Transfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n";
    for (size_t i = 0; i < sizeof text - 1; i++)
        client_send_n(&c, span_of(text + i, 1));
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "abc");
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "de");
}

static void head_is_answered_without_a_body(void **state) {
    client_send(&c, "HEAD /hello" H "\r\n");
    assert_int_equal(client_answer(&c, true), 200);
    assert_field(&c, "Content-Length", "5");
    client_send(&c, "HEAD /secret" H "\r\n");
    assert_int_equal(client_answer(&c, true), 200);
    assert_field(&c, "Content-Length", "6");
    client_send(&c, "HEAD /nothing" H "\r\n");
    assert_int_equal(client_answer(&c, true), 404);
    assert_int_equal(client_ask(&c, GET("/hello")), 200); /* right behind */
    assert_body(&c, "hello");
}

static void what_handlers_read(void **state) {
    assert_int_equal(client_ask(&c, "GET /item/a%20%C3%A4?x=1&q=b+c%26 HTTP/1.1\r\nHost: A.test:8443\r\nX-Many: 1\r\nx-MANY:\r\nX-many: 3\r\n\r\n"), 200);
    assert_body(&c, "a \xc3\xa4|=b c&|1, , 3|/item/a%20%C3%A4?x=1&q=b+c%26|A.test");
    assert_int_equal(client_ask(&c, GET("/item/1?q")), 200);
    assert_body(&c, "1|=||/item/1?q|a.test");
}

static void errors_are_problems(void **state) {
    assert_int_equal(client_ask(&c, GET("/nothing")), 404);
    assert_field(&c, "Content-Type", "application/problem+json");
    assert_non_null(strstr(buf_str(&c.body), "\"code\":\"not_found\""));
    assert_non_null(strstr(buf_str(&c.body), "\"status\":404"));
    assert_non_null(strstr(buf_str(&c.body), "\"fix\":"));
    assert_null(strstr(buf_str(&c.body), "retry_after"));
    assert_int_equal(client_ask(&c, "DELETE /hello" H "\r\n"), 405);
    assert_field(&c, "Allow", "GET, HEAD");
    assert_int_equal(client_ask(&c, GET("/busy")), 503);
    assert_field(&c, "Retry-After", "7");
    assert_non_null(strstr(buf_str(&c.body), "\"retry_after\":7"));
    /* Whoever is refused does not learn what there is. */
    assert_int_equal(client_ask(&c, GET("/refused/post")), 403);
    assert_non_null(strstr(buf_str(&c.body), "\"code\":\"device_revoked\""));
    assert_null(client_field(&c, "Allow"));
    assert_null(client_field(&c, "Connection"));
    assert_int_equal(client_ask(&c, GET("/split")), 500);
    assert_null(strstr(c.head, "Set-Cookie"));
    assert_null(client_field(&c, "Location"));
    assert_body(&c, "");
    assert_true(client_closed(&c));
}

static void malformed_requests_end_the_connection(void **state) {
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"GET /hello HTTP/1.1\r\n\r\n", 400}, {"GET /hello HTTP/1.0\r\nHost: a\r\n\r\n", 505}, {"\r\n", 400}, {"GET /hello\n", 400},
        {"POST /echo" H "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400}, {"POST /echo" H "Transfer-Encoding: xchunked\r\n\r\n", 501},
        {"POST /echo" H "Transfer-Encoding: chunked\r\n\r\nz\r\n", 400}, {"GET /a/../b" H "\r\n", 400}, {"GET /hello" H "Expect: x\r\n\r\n", 417},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        client_close(&c);
        client_open(r, &c, (struct client_options){0});
        client_send(&c, cases[i].text);
        client_send(&c, GET("/hello")); /* is not answered: nobody knows where it begins */
        if (client_answer(&c, false) != cases[i].status)
            fail_msg("%s: %d", cases[i].text, c.status);
        assert_field(&c, "Connection", "close");
        assert_true(client_closed(&c));
    }
    assert_int_equal(r->handled, 0);
}

static void a_long_head_is_refused(void **state) {
    struct buf b = BUF_INIT(65536);
    buf_adds(&b, "GET /hello" H "X: ");
    memset(buf_extend(&b, 30000), 'x', 30000);
    client_send_n(&c, buf_span(&b));
    buf_fini(&b);
    assert_int_equal(client_answer(&c, false), 431);
    assert_true(client_closed(&c));
}

static void a_body_is_invited(void **state) {
    client_send(&c, "POST /echo" H "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_int_equal(client_answer(&c, false), 100);
    client_send(&c, "abc");
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "abc");
    /* Somebody who did not wait needs no invitation. */
    client_send(&c, "POST /echo" H "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc");
    assert_int_equal(client_answer(&c, false), 200);
    /* Not before admit() has spoken. */
    client_send(&c, "POST /park" H "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    wait_held(r);
    struct pollfd quiet = {.fd = c.fd, .events = POLLIN};
    assert_int_equal(poll(&quiet, 1, 50), 0);
    on_loop(r, do_admit);
    assert_int_equal(client_answer(&c, false), 100);
    client_send(&c, "def");
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "def");
}

static void a_refused_body_is_not_invited(void **state) {
    static const char *const paths[] = {"refused", "nothing", "hello", "echo", "json"};
    static const int statuses[] = {403, 404, 405, 413, 415};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char text[256];
        snprintf(text, sizeof text, "POST /%s" H "Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", paths[i], i == 3 ? BODY_MAX + 1 : 3);
        assert_int_equal(client_ask(&c, text), statuses[i]);
        assert_field(&c, "Connection", "close"); /* the body may come or not */
        assert_true(client_closed(&c));
        client_close(&c);
        client_open(r, &c, (struct client_options){0});
    }
}

static void media_types_are_checked(void **state) {
    assert_int_equal(client_ask(&c, "POST /json" H "Content-Type: Application/JSON ; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}"), 200);
    assert_int_equal(client_ask(&c, "POST /json" H "Content-Length: 0\r\n\r\n"), 200);
    assert_int_equal(client_ask(&c, "POST /json" H "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}"), 415);
}

static void bodies_up_to_the_limit(void **state) {
    char text[512], body[BODY_MAX + 1];
    memset(body, 'x', BODY_MAX);
    body[BODY_MAX] = '\0';
    snprintf(text, sizeof text, "POST /echo" H "Content-Length: %d\r\n\r\n%s", BODY_MAX, body);
    assert_int_equal(client_ask(&c, text), 200);
    assert_body(&c, body);
    snprintf(text, sizeof text, "POST /echo" H "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", BODY_MAX, body);
    assert_int_equal(client_ask(&c, text), 200);
    assert_body(&c, body);
    snprintf(text, sizeof text, "POST /echo" H "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n1\r\nx\r\n0\r\n\r\n", BODY_MAX, body);
    assert_int_equal(client_ask(&c, text), 413);
    assert_true(client_closed(&c));
}

/* Who sends all of a body before looking for an answer gets to see it. */
static void a_refusal_survives_a_long_body(void **state) {
    static uint8_t body[500000];
    client_send(&c, "POST /echo" H "Content-Length: 500000\r\n\r\n");
    client_send_n(&c, span_of(body, sizeof body));
    assert_int_equal(client_answer(&c, false), 413);
    assert_field(&c, "Connection", "close");
    assert_true(client_closed(&c));
}

static void large_answers_are_whole(void **state) {
    for (int i = 0; i < 2; i++) {
        assert_int_equal(client_ask(&c, GET("/big")), 200);
        assert_int_equal(c.body.n, BIG);
    }
    client_close(&c);
    client_open(r, &c, (struct client_options){.version = TLS1_2_VERSION});
    assert_int_equal(client_ask(&c, "GET /big" H "Connection: close\r\n\r\n"), 200);
    assert_int_equal(c.body.n, BIG);
    assert_true(client_closed(&c));
}

static void small_answers_are_one_record(void **state) {
    client_close(&c);
    client_open(r, &c, (struct client_options){.version = TLS1_2_VERSION});
    assert_int_equal(client_ask(&c, GET("/hello")), 200);
    assert_int_equal(c.records, 1);
    assert_int_equal(client_ask(&c, GET("/secret")), 200);
    assert_body(&c, "secret");
    assert_int_equal(c.records, 2);
    assert_int_equal(client_ask(&c, GET("/nothing")), 404);
    assert_int_equal(c.records, 3);
}

#define T(f) cmocka_unit_test_setup_teardown(f, open_rig, close_rig)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(an_answer_has_its_fields), T(connections_are_kept), T(a_handler_may_close), T(requests_are_pipelined), T(a_request_behind_a_late_body), T(pipelined_requests_wait),
        T(requests_arrive_in_pieces), T(head_is_answered_without_a_body), T(what_handlers_read), T(errors_are_problems),
        T(malformed_requests_end_the_connection), T(a_long_head_is_refused), T(a_body_is_invited), T(a_refused_body_is_not_invited),
        T(media_types_are_checked), T(bodies_up_to_the_limit), T(a_refusal_survives_a_long_body), T(large_answers_are_whole),
        T(small_answers_are_one_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
