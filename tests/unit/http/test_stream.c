/* Bodies and answers piece by piece, and their ends in every phase. */
#include "http/stream.h"
#include "rig.h"

#include <fcntl.h>

/* What the handler was told, and what it does.  Of the server's loop; tests read it by on_loop(), or once a semaphore says so. */
static struct {
    struct http_exchange *x;
    sem_t gone;
    atomic_int bodies, lasts, errs, drains, gones;
    atomic_size_t bytes;
    bool start, pause, reply_in_body, drop_in_body, drop_in_drained, end_in_drained, begin_in_body;
} st;

static void on_body(struct http_exchange *x, struct span part, bool last, const struct err *err, void *arg) {
    st.bodies++;
    st.bytes += part.n;
    st.lasts += last;
    if (err) {
        st.errs++;
        http_reply_err(x, err);
    } else if (st.drop_in_body) {
        http_exchange_drop(x);
    } else if (st.reply_in_body) {
        http_reply(x, 200, "text/plain", SPAN_LIT("enough"));
    } else if (st.begin_in_body) {
        http_stream_begin(x, 200, 4, false);
        http_stream_add(x, SPAN_LIT("abcd"));
        http_stream_end(x);
    } else if (st.pause && !last) {
        http_body_pause(x);
    } else if (last) {
        http_reply(x, 200, "text/plain", SPAN_LIT("all"));
    }
}
static void on_drained(struct http_exchange *x, void *arg) {
    st.drains++;
    if (st.drop_in_drained)
        http_exchange_drop(x);
    else if (st.end_in_drained)
        http_stream_end(x);
}
static void on_gone(struct http_exchange *x, void *arg) {
    st.gones++;
    st.x = NULL;
    http_exchange_drop(x);
    sem_post(&st.gone);
}
static const struct http_stream_ops OPS = {on_body, on_drained, on_gone};

static void on_stream(struct http_exchange *x, void *arg) {
    st.x = x;
    http_stream_ops_set(x, &OPS, NULL);
    if (st.start)
        http_body_start(x);
    sem_post(&((struct rig *)arg)->got);
}
static const struct http_route FALLBACK = {"*", "/{*rest}", 0, NULL, on_stream, true};
static void with_stream(struct http_server_options *o) { o->fallback = &FALLBACK; }

static struct rig *r;
static struct client c;

static int open_with(const struct http_limits *limits) {
    st = (typeof(st)){0};
    sem_init(&st.gone, 0, 0);
    rig_adjust = with_stream;
    r = rig_open(limits, false);
    client_open(r, &c, (struct client_options){0});
    return 0;
}
static int open_rig(void **state) { return open_with(NULL); }
static int open_impatient(void **state) {
    struct http_limits l = HTTP_LIMITS_DEFAULT;
    l.body_ms = l.write_ms = 300;
    l.idle_ms = 500;
    return open_with(&l);
}
static int close_rig(void **state) {
    if (c.ssl)
        client_close(&c);
    c = (struct client){0};
    rig_close(r);
    sem_destroy(&st.gone);
    return 0;
}
static void vanish(void) {
    client_vanish(&c);
    c = (struct client){0};
}
static void wait_gone(void) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    assert_int_equal(sem_timedwait(&st.gone, &until), 0);
    assert_int_equal(st.gones, 1);
}
static bool eventually(atomic_int *n, int least) {
    for (int64_t end = clock_mono_ms() + 10000; *n < least && clock_mono_ms() < end;)
        poll(NULL, 0, 2);
    return *n >= least;
}

/* --- on the loop ----------------------------------------------------------------------------------------------------- */

static void do_begin(struct rig *rig) {
    http_stream_begin(st.x, 200, 10, false);
    http_stream_add(st.x, SPAN_LIT("half "));
    http_stream_flush(st.x);
}
static void do_begin_chunks(struct rig *rig) {
    http_reply_field(st.x, "Server", "behind");
    http_stream_begin(st.x, 200, -1, false);
    http_stream_add(st.x, SPAN_LIT("one"));
    http_stream_flush(st.x);
}
static void do_add(struct rig *rig) {
    http_stream_add(st.x, SPAN_LIT("whole"));
    http_stream_flush(st.x);
}
static void do_add_too_much(struct rig *rig) { http_stream_add(st.x, SPAN_LIT("whole and more")); }
static void do_end(struct rig *rig) { http_stream_end(TAKE(st.x)); }
static void do_drop(struct rig *rig) { http_exchange_drop(TAKE(st.x)); }
static void do_resume(struct rig *rig) { http_body_resume(st.x); }
static bool room;
/* As much as there is room for, into kernels too. */
static void do_fill(struct rig *rig) {
    static const uint8_t bytes[16384];
    for (int i = 0; st.x && (room = http_stream_room(st.x)) && i < 64; i++) {
        http_stream_add(st.x, span_of(bytes, sizeof bytes));
        http_stream_flush(st.x);
    }
}
static void fill(void) {
    do {
        on_loop(r, do_fill);
    } while (room);
}
static void do_begin_endless(struct rig *rig) { http_stream_begin(st.x, 200, 1ll << 40, false); }
static void do_early(struct rig *rig) {
    const struct err err = {.code = MUSTER_EHTTPBODY};
    http_reply_err(TAKE(st.x), &err);
}
static void drained(void *arg) { sem_post(arg); }
static void do_drain(struct rig *rig) { http_server_drain(rig->server, 10000, drained, &st.gone); }

static void ask(const char *request) {
    client_send(&c, request);
    wait_held(r);
}
static void read_until(const char *end) {
    while (!c.in.n || !strstr((const char *)c.in.p, end))
        assert_true(client_more(&c));
}
#define PUT "PUT /any" H "Content-Length: 10\r\n\r\n"

/* --- answers ---------------------------------------------------------------------------------------------------------- */

static void an_answer_comes_piece_by_piece(void **state) {
    ask(GET("/any"));
    on_loop(r, do_begin);
    read_until("half ");
    on_loop(r, do_add);
    on_loop(r, do_end);
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "half whole");
    assert_int_equal(client_ask(&c, GET("/hello")), 200); /* the connection goes on */
}

static void of_unknown_length_it_comes_in_chunks(void **state) {
    ask(GET("/any"));
    on_loop(r, do_begin_chunks);
    on_loop(r, do_add);
    on_loop(r, do_end);
    read_until("0\r\n\r\n");
    assert_non_null(strstr((const char *)c.in.p, "\r\n\r\n3\r\none\r\n5\r\nwhole\r\n0\r\n\r\n"));
    assert_non_null(strstr((const char *)c.in.p, "Transfer-Encoding: chunked\r\n"));
    assert_null(strstr((const char *)c.in.p, "Content-Length"));
    assert_null(strstr((const char *)c.in.p, "Server: rig"));
}

static void one_that_is_shorter_than_it_says_cuts_the_connection(void **state) {
    ask(GET("/any"));
    on_loop(r, do_begin);
    on_loop(r, do_end);
    while (client_more(&c))
        continue;
    assert_true(span_ends(buf_span(&c.in), SPAN_LIT("half ")));
    assert_int_equal(st.gones, 0);
}

static void one_that_is_longer_stops_at_its_length(void **state) {
    ask(GET("/any"));
    on_loop(r, do_begin);
    on_loop(r, do_add_too_much);
    on_loop(r, do_end);
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "half whole");
    assert_int_equal(client_ask(&c, GET("/hello")), 200);
}

static void head_has_no_body(void **state) {
    ask("HEAD /any" H "\r\n");
    on_loop(r, do_begin);
    on_loop(r, do_add);
    on_loop(r, do_end);
    read_until("\r\n\r\n");
    assert_non_null(strstr((const char *)c.in.p, "Content-Length: 10\r\n"));
    assert_true(span_ends(buf_span(&c.in), SPAN_LIT("\r\n\r\n")));
    buf_clear(&c.in);
    assert_int_equal(client_ask(&c, GET("/hello")), 200);
}

static void a_client_that_does_not_read_makes_no_room(void **state) {
    ask(GET("/any"));
    on_loop(r, do_begin_endless);
    int drains, fills = 0;
    do { /* the kernels' own buffers may still grow, which is room */
        assert_true(fills++ < 100);
        drains = st.drains;
        fill();
        poll(NULL, 0, 50);
    } while (st.drains != drains);
    for (int64_t end = clock_mono_ms() + 30000; st.drains == drains && clock_mono_ms() < end;)
        if (SSL_pending(c.ssl) || poll(&(struct pollfd){.fd = c.fd, .events = POLLIN}, 1, 20) == 1) { /* all may have come before the source hears that there is room */
            assert_true(client_more(&c));
            buf_clear(&c.in);
        }
    assert_int_equal(st.drains, drains + 1);
    on_loop(r, do_drop);
}

static void its_source_may_end_it_when_there_is_room_again(void **state) {
    for (int i = 0; i < 2; i++) {
        if (i)
            open_rig(NULL);
        st.drop_in_drained = i;
        st.end_in_drained = !i;
        ask(GET("/any"));
        on_loop(r, do_begin_endless);
        fill();
        do {
            buf_clear(&c.in);
        } while (client_more(&c)); /* shorter than announced, or dropped: cut */
        assert_int_equal(st.drains, 1);
        assert_int_equal(st.gones, 0);
        if (!i)
            close_rig(NULL);
    }
}

/* --- bodies ------------------------------------------------------------------------------------------------------------- */

static void a_body_comes_piece_by_piece(void **state) {
    st.start = true;
    ask(PUT "01234");
    assert_true(eventually(&st.bodies, 1));
    client_send(&c, "56789" GET("/hello"));
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "all");
    assert_int_equal(client_answer(&c, false), 200); /* the next request was not taken for a part of it */
    assert_body(&c, "hello");
    assert_int_equal(st.bytes, 10);
    assert_int_equal(st.lasts, 1);
}

static void a_body_waits_while_it_is_paused(void **state) {
    static uint8_t bytes[4 * 1024 * 1024];
    st.start = st.pause = true;
    ask("PUT /any" H "Content-Length: 4194304\r\n\r\n");
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    size_t sent = 0, n;
    SSL_set_mode(c.ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    while (sent < sizeof bytes) {
        if (SSL_write_ex(c.ssl, bytes + sent, sizeof bytes - sent, &n) == 1) {
            sent += n;
            continue;
        }
        int before = st.bodies;
        poll(NULL, 0, 10);
        assert_true(st.bodies - before <= 1); /* each piece pauses */
        on_loop(r, do_resume);
    }
    for (int64_t end = clock_mono_ms() + 10000; !st.lasts && clock_mono_ms() < end; poll(NULL, 0, 1))
        on_loop(r, do_resume);
    assert_int_equal(st.bytes, sizeof bytes);
    assert_int_equal(st.lasts, 1);
    fcntl(c.fd, F_SETFL, 0);
    assert_int_equal(client_answer(&c, false), 200);
}

static void an_answer_may_come_within_a_piece(void **state) {
    st.start = st.reply_in_body = true;
    ask(PUT "01234");
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "enough");
    assert_field(&c, "Connection", "close");
    client_close(&c);
    client_open(r, &c, (struct client_options){0});
    st.reply_in_body = false;
    st.begin_in_body = true;
    ask(PUT "01234");
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "abcd");
}

static void an_answer_may_come_before_the_body(void **state) {
    ask(PUT "01");
    on_loop(r, do_early);
    assert_int_equal(client_answer(&c, false), 413);
    assert_field(&c, "Connection", "close");
}

static void a_body_that_is_at_fault_is_told(void **state) {
    st.start = true;
    ask("PUT /any" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nrubbish");
    assert_int_equal(client_answer(&c, false), 400);
    assert_int_equal(st.errs, 1);
    assert_int_equal(st.lasts, 0);
}

static void a_body_that_does_not_come_is_told(void **state) {
    st.start = true;
    ask(PUT "01234");
    assert_int_equal(client_answer(&c, false), 408);
    assert_int_equal(st.errs, 1);
}

static void who_stands_still_is_refused_whatever_he_sent_before(void **state) {
    static const uint8_t bytes[BIG]; /* hours of the least rate */
    st.start = true;
    ask("PUT /any" H "Content-Length: 1000000000\r\n\r\n");
    client_send_n(&c, span_of(bytes, sizeof bytes));
    int64_t began = clock_mono_ms();
    assert_int_equal(client_answer(&c, false), 408);
    assert_true(clock_mono_ms() - began < 8000);
    assert_int_equal(st.errs, 1);
}

/* --- ends ---------------------------------------------------------------------------------------------------------------- */

static void the_client_goes_while_it_waits(void **state) {
    ask(GET("/any"));
    vanish();
    wait_gone();
}
static void the_client_goes_before_its_body_is_wanted(void **state) {
    ask(PUT "01");
    vanish();
    wait_gone();
}
static void the_client_goes_in_its_body(void **state) {
    st.start = true;
    ask(PUT "01");
    assert_true(eventually(&st.bodies, 1));
    vanish();
    wait_gone();
    assert_int_equal(st.errs, 0);
}
static void the_client_goes_while_its_body_is_paused(void **state) {
    st.start = st.pause = true;
    ask(PUT "01");
    assert_true(eventually(&st.bodies, 1));
    vanish();
    wait_gone();
}
static void the_client_goes_in_the_answer(void **state) {
    ask(GET("/any"));
    on_loop(r, do_begin);
    read_until("half ");
    vanish();
    wait_gone();
}
static void the_client_goes_while_it_makes_no_room(void **state) {
    ask(GET("/any"));
    on_loop(r, do_begin_endless);
    fill();
    vanish();
    wait_gone();
}

static void the_source_drops_it(void **state) {
    for (int phase = 0; phase < 6; phase++) {
        if (phase)
            open_rig(NULL);
        st.start = phase == 1 || phase == 2 || phase == 5;
        st.pause = phase == 2;
        st.drop_in_body = phase == 5;
        ask(phase == 0 || phase > 2 ? phase == 5 ? PUT "01" : GET("/any") : PUT "01");
        if (st.start)
            assert_true(eventually(&st.bodies, 1));
        if (phase == 3 || phase == 4)
            on_loop(r, phase == 3 ? do_begin : do_begin_endless);
        if (phase == 4)
            fill();
        if (phase != 5)
            on_loop(r, do_drop);
        while (client_more(&c))
            continue;
        assert_int_equal(st.gones, 0);
        wait_connections(r, 0);
        if (phase < 5)
            close_rig(NULL);
    }
}

static void the_server_is_freed(void **state) {
    for (int phase = 0; phase < 4; phase++) {
        if (phase)
            open_rig(NULL);
        st.start = st.pause = phase == 1;
        ask(phase == 1 ? PUT "01" : GET("/any"));
        if (phase == 1)
            assert_true(eventually(&st.bodies, 1));
        if (phase > 1)
            on_loop(r, phase == 2 ? do_begin : do_begin_endless);
        if (phase == 3)
            fill();
        on_loop(r, do_free);
        assert_int_equal(st.gones, 1);
        if (phase < 3)
            close_rig(NULL);
    }
}

static void a_drain_lets_an_answer_end(void **state) {
    ask(GET("/any"));
    on_loop(r, do_begin);
    on_loop(r, do_drain);
    poll(NULL, 0, 50);
    on_loop(r, do_add);
    on_loop(r, do_end);
    assert_int_equal(client_answer(&c, false), 200);
    assert_body(&c, "half whole");
    assert_true(client_closed(&c));
    client_close(&c);
    c = (struct client){0};
    while (sem_wait(&st.gone)) /* drained */
        continue;
    assert_int_equal(st.gones, 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, open_rig, close_rig)
#define IMPATIENT(fn) cmocka_unit_test_setup_teardown(fn, open_impatient, close_rig)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(an_answer_comes_piece_by_piece),
        T(of_unknown_length_it_comes_in_chunks),
        T(one_that_is_shorter_than_it_says_cuts_the_connection),
        T(one_that_is_longer_stops_at_its_length),
        T(head_has_no_body),
        T(a_client_that_does_not_read_makes_no_room),
        T(its_source_may_end_it_when_there_is_room_again),
        T(a_body_comes_piece_by_piece),
        T(a_body_waits_while_it_is_paused),
        T(an_answer_may_come_within_a_piece),
        T(an_answer_may_come_before_the_body),
        T(a_body_that_is_at_fault_is_told),
        IMPATIENT(a_body_that_does_not_come_is_told),
        IMPATIENT(who_stands_still_is_refused_whatever_he_sent_before),
        T(the_client_goes_while_it_waits),
        T(the_client_goes_before_its_body_is_wanted),
        T(the_client_goes_in_its_body),
        T(the_client_goes_while_its_body_is_paused),
        T(the_client_goes_in_the_answer),
        T(the_client_goes_while_it_makes_no_room),
        T(the_source_drops_it),
        T(the_server_is_freed),
        T(a_drain_lets_an_answer_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
