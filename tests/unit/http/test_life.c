/* Who outlives whom: exchanges their connections, connections their server's drain, peers both. */
#include "rig.h"

static struct rig *r;
static struct client c;

static int open_rig(void **state) {
    r = rig_open(NULL, false);
    client_open(r, &c, (struct client_options){0});
    return 0;
}
static int close_rig(void **state) {
    if (c.ssl)
        client_close(&c);
    c = (struct client){0};
    rig_close(r);
    return 0;
}

static void vanish(void) {
    client_vanish(&c);
    c = (struct client){0};
}

static void do_check_alive(struct rig *rig) { assert_non_null(http_exchange_peer(rig->held)); }
static void do_check_gone(struct rig *rig) {
    assert_null(http_exchange_conn(rig->held));
    /* All of this stays valid as long as it is held. */
    assert_string_equal(((struct peer *)http_exchange_peer(rig->held))->sni, "");
    assert_ptr_equal(http_exchange_arg(rig->held), rig);
    assert_true(span_eq_str(http_host(rig->held), "a.test"));
    assert_non_null(arena_alloc(http_exchange_arena(rig->held), 1000));
}
/* The answer leaves; the exchange is looked at once more before it is let go. */
static void do_reply_then_look(struct rig *rig) {
    http_reply(rig->held, 200, "text/plain", SPAN_LIT("late"));
    do_check_alive(rig);
    http_exchange_unref(TAKE(rig->held));
}
static void do_reply_err(struct rig *rig) {
    const struct err err = {.code = MUSTER_EUNAVAILABLE, .retry_after = 3};
    struct http_exchange *x = TAKE(rig->held);
    http_reply_field(x, "X-A", "b");
    http_reply_err(x, &err);
    http_exchange_unref(x);
}
static void do_reply_secret(struct rig *rig) {
    struct http_exchange *x = TAKE(rig->held);
    struct buf b = BUF_INIT(8);
    buf_adds(&b, "secret");
    http_reply_buf(x, 200, "text/plain", &b, true);
    http_exchange_unref(x);
}

static void the_client_goes_while_a_handler_holds(void **state) {
    client_send(&c, GET("/hold"));
    wait_held(r);
    vanish();
    poll(NULL, 0, 50);
    assert_int_equal(r->gone, 0);
    on_loop(r, do_reply_then_look);
    wait_connections(r, 0);
    assert_int_equal(r->gone, 1);
}

static void the_client_goes_while_admit_holds(void **state) {
    client_send(&c, "POST /park" H "Content-Length: 3\r\n\r\n");
    wait_held(r);
    vanish();
    poll(NULL, 0, 50);
    on_loop(r, do_admit);
    wait_connections(r, 0);
    assert_int_equal(r->handled, 0);
    assert_int_equal(r->gone, 1);
}

/* The 100 Continue is what fails. */
static void the_client_goes_before_it_is_invited(void **state) {
    client_send(&c, "POST /park" H "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    wait_held(r);
    vanish();
    poll(NULL, 0, 50);
    on_loop(r, do_admit);
    wait_connections(r, 0);
    assert_int_equal(r->handled, 0);
    assert_int_equal(r->gone, 1);
}

static void the_client_goes_in_the_middle(void **state) {
    static const char *const texts[] = {"", "GET /he", "POST /echo" H "Content-Length: 3\r\n\r\na", "POST /echo" H "Transfer-Encoding: chunked\r\n\r\n3\r\na", GET("/big"),
                                        "POST /echo" H "Content-Length: 300\r\n\r\na"};
    for (size_t i = 0; i < 2 * sizeof texts / sizeof *texts; i++) {
        client_send(&c, texts[i / 2]);
        poll(NULL, 0, 20);
        if (i % 2)
            client_vanish(&c);
        else
            client_close(&c);
        wait_connections(r, 0);
        client_open(r, &c, (struct client_options){0});
    }
    assert_int_equal(r->handled, 0);
}

/* A client that has said its last may still listen. */
static void half_closed_clients_are_answered(void **state) {
    client_send(&c, GET("/hold"));
    SSL_shutdown(c.ssl);
    shutdown(c.fd, SHUT_WR);
    wait_held(r);
    on_loop(r, do_release);
    assert_int_equal(client_answer(&c, false), 200);
    assert_true(client_closed(&c));
}

/* --- abort ------------------------------------------------------------------------------------------------------------ */

static int seen;
static void abort_it(struct http_conn *conn, void *peer, void *arg) {
    assert_non_null(peer);
    assert_ptr_equal(arg, r);
    seen++;
    http_conn_abort(conn);
}
static void do_abort_all(struct rig *rig) {
    seen = 0;
    http_server_each(rig->server, abort_it, rig);
}

static void abort_while_a_handler_holds(void **state) {
    void (*const replies[])(struct rig *) = {do_release, do_reply_err, do_reply_secret};
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        client_send(&c, GET("/hold"));
        wait_held(r);
        assert_int_equal(tls_server_sessions(r->tls), 1);
        on_loop(r, do_abort_all);
        assert_int_equal(seen, 1);
        assert_int_equal(tls_server_sessions(r->tls), 0); /* and is not to be resumed */
        assert_int_equal(client_answer(&c, false), 0);
        on_loop(r, do_check_gone);
        assert_int_equal(r->gone, (int)i);
        on_loop(r, replies[i]);
        assert_int_equal(r->gone, (int)i + 1);
        client_close(&c);
        client_open(r, &c, (struct client_options){0});
    }
}

static void abort_while_admit_holds(void **state) {
    client_send(&c, "POST /park" H "Content-Length: 3\r\n\r\nabc");
    wait_held(r);
    on_loop(r, do_abort_all);
    on_loop(r, do_admit);
    assert_int_equal(r->handled, 0);
    assert_int_equal(r->gone, 1);
    assert_int_equal(client_answer(&c, false), 0);
}

static void abort_in_every_other_phase(void **state) {
    struct client one, two, three;
    client_open(r, &one, (struct client_options){0});
    client_open(r, &two, (struct client_options){0});
    client_open(r, &three, (struct client_options){0});
    assert_int_equal(client_ask(&c, GET("/hello")), 200);
    client_send(&one, "GET /he");
    client_send(&two, "POST /echo" H "Content-Length: 3\r\n\r\na");
    client_send(&three, GET("/big"));
    int raw = client_connect(r); /* has no peer yet */
    wait_connections(r, 5);
    while (r->identified < 4)
        poll(NULL, 0, 5);
    poll(NULL, 0, 50);
    on_loop(r, do_abort_all);
    assert_int_equal(seen, 4);
    wait_connections(r, 1);
    assert_true(client_closed(&c));
    client_close(&one);
    client_close(&two);
    client_close(&three);
    close(raw);
}

static void abort_from_within(void **state) {
    assert_int_equal(client_ask(&c, GET("/abort")), 0);
    wait_connections(r, 0);
    r->abort_in_identify = true;
    struct client other;
    (void)!client_try(r, &other, (struct client_options){0}); /* in TLS 1.3 the client may be done before the server */
    assert_true(client_closed(&other));
    client_close(&other);
    wait_connections(r, 0);
    assert_int_equal(tls_server_sessions(r->tls), 0);
    assert_int_equal(r->gone, 2);
}

/* --- the end of a server ------------------------------------------------------------------------------------------------- */

static void on_drained(void *arg) { ((struct rig *)arg)->drained++; }
static void on_drained_free(void *arg) {
    do_free(arg);
    on_drained(arg);
}
static void do_drain(struct rig *rig) { http_server_drain(rig->server, 60000, on_drained, rig); }
static void do_drain_free(struct rig *rig) { http_server_drain(rig->server, 60000, on_drained_free, rig); }
static void do_drain_quickly(struct rig *rig) { http_server_drain(rig->server, 200, on_drained_free, rig); }
static void wait_drained(void) {
    for (int64_t end = clock_mono_ms() + 10000; !r->drained && clock_mono_ms() < end;)
        poll(NULL, 0, 5);
    on_loop(r, do_nothing);
    assert_int_equal(r->drained, 1);
}

static void drain_of_nothing(void **state) {
    client_close(&c);
    c = (struct client){0};
    wait_connections(r, 0);
    on_loop(r, do_drain_free);
    wait_drained();
    assert_null(r->server);
}

static void drain_closes_the_idle_and_answers_the_rest(void **state) {
    struct client idle, fresh, half;
    int raw = client_connect(r);
    client_open(r, &idle, (struct client_options){0});
    client_open(r, &fresh, (struct client_options){0});
    client_open(r, &half, (struct client_options){0});
    assert_int_equal(client_ask(&idle, GET("/hello")), 200);
    client_send(&half, "POST /echo" H "Content-Length: 3\r\n\r\na");
    client_send(&c, GET("/hold"));
    wait_held(r);
    wait_connections(r, 5);
    while (r->identified < 4)
        poll(NULL, 0, 5);
    on_loop(r, do_drain);
    assert_true(client_closed(&idle));
    assert_true(client_closed(&fresh));
    char byte;
    assert_true(recv(raw, &byte, 1, 0) <= 0);
    /* Nobody listens any more: a new client goes elsewhere at once. */
    int fd = client_socket();
    assert_int_equal(connect(fd, (const struct sockaddr *)&r->at, sizeof r->at), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(fd);
    close(raw);
    assert_int_equal(r->drained, 0);
    client_send(&half, "bc");
    assert_int_equal(client_answer(&half, false), 200);
    assert_field(&half, "Connection", "close");
    on_loop(r, do_release);
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "released");
    assert_field(&c, "Connection", "close");
    assert_true(client_closed(&c));
    client_close(&idle);
    client_close(&fresh);
    client_close(&half);
    client_close(&c);
    c = (struct client){0};
    wait_drained();
}

/* An answer that was promised before the drain began does not go idle behind it. */
static void drain_while_an_answer_leaves(void **state) {
    client_send(&c, GET("/big"));
    while (!client_more(&c) || c.in.n < 1000)
        continue;
    on_loop(r, do_drain);
    assert_int_equal(client_answer(&c, false), 200);
    assert_int_equal(c.body.n, BIG);
    assert_true(client_closed(&c));
    client_close(&c);
    c = (struct client){0};
    wait_drained();
}

/* after_ms is over; the server is freed while somebody holds an exchange. */
static void drain_is_bounded(void **state) {
    client_send(&c, GET("/hold"));
    wait_held(r);
    on_loop(r, do_drain_quickly);
    assert_int_equal(client_answer(&c, false), 0);
    wait_drained();
    assert_null(r->server);
    on_loop(r, do_check_gone);
    assert_int_equal(r->gone, 0);
    on_loop(r, do_reply_err);
    assert_int_equal(r->gone, 1);
}

static void free_in_every_phase(void **state) {
    struct client one, two, three;
    client_open(r, &one, (struct client_options){0});
    client_open(r, &two, (struct client_options){0});
    client_open(r, &three, (struct client_options){0});
    int raw = client_connect(r);
    assert_int_equal(client_ask(&one, GET("/hello")), 200);
    client_send(&two, "POST /echo" H "Content-Length: 3\r\n\r\na");
    client_send(&three, "POST /park" H "Content-Length: 3\r\n\r\n");
    wait_held(r);
    wait_connections(r, 5);
    poll(NULL, 0, 50);
    on_loop(r, do_free);
    on_loop(r, do_check_gone);
    on_loop(r, do_admit);
    assert_int_equal(r->handled, 1); /* one's /hello */
    client_close(&one);
    client_close(&two);
    client_close(&three);
    close(raw);
}

#define T(f) cmocka_unit_test_setup_teardown(f, open_rig, close_rig)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(the_client_goes_while_a_handler_holds), T(the_client_goes_while_admit_holds), T(the_client_goes_before_it_is_invited),
        T(the_client_goes_in_the_middle), T(half_closed_clients_are_answered), T(abort_while_a_handler_holds), T(abort_while_admit_holds),
        T(abort_in_every_other_phase), T(abort_from_within), T(drain_of_nothing), T(drain_closes_the_idle_and_answers_the_rest),
        T(drain_while_an_answer_leaves), T(drain_is_bounded), T(free_in_every_phase),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
