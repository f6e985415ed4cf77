/* Versions, identities by SNI, sessions: what the layer above is told of a connection, new or resumed. */
#include "rig.h"

static struct rig *r;
static struct made device;

static int open_rig(void **state) {
    r = rig_open(NULL, false);
    device = make_cert("device-1");
    return 0;
}
static int close_rig(void **state) {
    made_free(&device);
    rig_close(r);
    return 0;
}

static const int VERSIONS[] = {TLS1_2_VERSION, TLS1_3_VERSION};
#define EACH_VERSION(v) for (const int *v = VERSIONS; v < VERSIONS + 2; v++)

static void both_versions(void **state) {
    EACH_VERSION(v) {
        struct client c;
        client_open(r, &c, (struct client_options){.version = *v, .sni = "A.test", .cert = &device});
        assert_int_equal(SSL_version(c.ssl), *v);
        assert_int_equal(client_ask(&c, GET("/who")), 200);
        assert_body(&c, "a.test device-1 full IPv4");
        client_close(&c);
        client_open(r, &c, (struct client_options){.version = *v});
        assert_int_equal(client_ask(&c, GET("/who")), 200);
        assert_body(&c, "- - full IPv4"); /* neither name nor certificate: not this layer's to refuse */
        client_close(&c);
    }
    struct client old;
    assert_false(client_try(r, &old, (struct client_options){.version = TLS1_1_VERSION}));
    client_close(&old);
}

static void what_was_read_is_wiped_for_whoever_hears_tokens(void **state) {
    for (int cleanse = 0; cleanse <= 1; cleanse++) {
        struct err err = ERR_INIT;
        struct tls_server *t = tls_server_new(&(struct tls_options){.cleanse = cleanse}, &err);
        SSL *ssl = tls_server_accept(t);
        assert_int_equal((SSL_get_options(ssl) & SSL_OP_CLEANSE_PLAINTEXT) != 0, cleanse);
        SSL_free(ssl);
        tls_server_free(t);
    }
}

static void served_by(const char *sni, const char *cn) {
    struct client c;
    char name[64];
    client_open(r, &c, (struct client_options){.sni = sni});
    cn_of(SSL_get0_peer_certificate(c.ssl), name);
    assert_string_equal(name, cn);
    client_close(&c);
}

static void the_name_chooses_the_identity(void **state) {
    served_by("a.test", "a.test");
    served_by("B.TEST", "b.test");
    served_by("c.test", "default");
    served_by(NULL, "default");
    /* Replaced whole, and without a change where one of them is at fault. */
    struct client c;
    client_open(r, &c, (struct client_options){.sni = "a.test"});
    assert_int_equal(set_identities(r->tls, (const char *const[]){"c.test"}, 1), MUSTER_EINVALID);
    assert_int_equal(set_identities(r->tls, (const char *const[]){"", "C.test"}, 2), MUSTER_EINVALID);
    assert_int_equal(set_identities(r->tls, (const char *const[]){"", "c.test", "c.test"}, 3), MUSTER_EINVALID);
    served_by("a.test", "a.test");
    assert_int_equal(set_identities(r->tls, (const char *const[]){"", "c.test"}, 2), 0);
    served_by("a.test", "default");
    served_by("c.test", "c.test");
    assert_int_equal(client_ask(&c, GET("/who")), 200); /* an open connection does not notice */
    assert_body(&c, "a.test - full IPv4");
    client_close(&c);
}

/* One request; the session of the connection, to be resumed. */
static SSL_SESSION *visit(const int *v, const char *sni, SSL_SESSION *session, const char *expected, bool vanish) {
    struct client c;
    client_open(r, &c, (struct client_options){.version = *v, .sni = sni, .cert = &device, .session = session});
    SSL_SESSION_free(session);
    assert_int_equal(client_ask(&c, GET("/who")), 200);
    assert_body(&c, expected);
    SSL_SESSION *next = SSL_get1_session(c.ssl);
    if (!vanish)
        SSL_shutdown(c.ssl);
    else
        SSL_set_shutdown(c.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* the client keeps its session as well */
    vanish ? client_vanish(&c) : client_close(&c);
    wait_connections(r, 0);
    return next;
}

/* The certificate is the session's, the name the connection's: judged again by both. */
static void a_resumed_connection_is_identified_again(void **state) {
    EACH_VERSION(v) {
        int before = r->identified;
        SSL_SESSION *s = visit(v, "a.test", NULL, "a.test device-1 full IPv4", false);
        s = visit(v, "a.test", s, "a.test device-1 resumed IPv4", false);
        s = visit(v, "b.test", s, "b.test device-1 resumed IPv4", false);
        s = visit(v, NULL, s, "- device-1 resumed IPv4", false);
        assert_int_equal(r->identified, before + 4);
        SSL_SESSION_free(s);
    }
}

/* A network that fails is no reason for a full handshake. */
static void a_session_survives_a_lost_connection(void **state) {
    EACH_VERSION(v) {
        SSL_SESSION *s = visit(v, "a.test", NULL, "a.test device-1 full IPv4", true);
        s = visit(v, "a.test", s, "a.test device-1 resumed IPv4", true);
        SSL_SESSION_free(s);
    }
}

static void abort_it(struct http_conn *conn, void *peer, void *arg) { http_conn_abort(conn); }
static void do_abort_all(struct rig *rig) { http_server_each(rig->server, abort_it, NULL); }

static void an_aborted_connection_is_not_resumed(void **state) {
    EACH_VERSION(v) {
        struct client c;
        client_open(r, &c, (struct client_options){.version = *v, .sni = "a.test", .cert = &device});
        assert_int_equal(client_ask(&c, GET("/who")), 200);
        SSL_SESSION *s = SSL_get1_session(c.ssl);
        on_loop(r, do_abort_all);
        assert_true(client_closed(&c));
        client_close(&c);
        s = visit(v, "a.test", s, "a.test device-1 full IPv4", false);
        SSL_SESSION_free(s);
    }
}

static void sessions_are_bounded(void **state) {
    SSL_SESSION *first = visit(&VERSIONS[1], "a.test", NULL, "a.test device-1 full IPv4", false);
    for (int i = 0; i < 200; i++) {
        struct client c;
        client_open(r, &c, (struct client_options){.sni = "a.test"});
        client_close(&c);
    }
    wait_connections(r, 0);
    assert_true(tls_server_sessions(r->tls) <= 64);
    first = visit(&VERSIONS[1], "a.test", first, "a.test device-1 full IPv4", false); /* a full handshake, and nothing worse */
    SSL_SESSION_free(first);
}

/* Another that connects without end does not push a device's session out. */
static void a_client_holds_a_few_sessions(void **state) {
    SSL_SESSION *session = visit(&VERSIONS[1], "a.test", NULL, "a.test device-1 full IPv4", false);
    struct made other = make_cert("device-2");
    for (int i = 0; i < 200; i++) {
        struct client c;
        client_open(r, &c, (struct client_options){.sni = "a.test", .cert = &other});
        assert_int_equal(client_ask(&c, GET("/who")), 200);
        client_close(&c);
    }
    wait_connections(r, 0);
    session = visit(&VERSIONS[1], "a.test", session, "a.test device-1 resumed IPv4", false);
    SSL_SESSION_free(session);
    made_free(&other);
}

/* The client says the hello of a name with a byte that no host name has. */
static void bad_names_end_the_handshake(void **state) {
    static const char *const names[] = {"a b", "a\nb", "\xc3\xa4.test", "a/b"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct client c;
        assert_false(client_try(r, &c, (struct client_options){.sni = names[i]}));
        client_close(&c);
    }
    assert_int_equal(r->identified, 0);
}

static void mapped_addresses_are_ipv4(void **state) {
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any) == 0;
    fd_close(fd);
    if (!has)
        skip(); /* a machine without IPv6 */
    struct rig *v4 = r;
    r = rig_open(NULL, true);
    struct client c;
    client_open(r, &c, (struct client_options){0});
    assert_int_equal(client_ask(&c, GET("/who")), 200);
    assert_body(&c, "- - full IPv4");
    client_close(&c);
    rig_close(r);
    r = v4;
}

#define T(f) cmocka_unit_test_setup_teardown(f, open_rig, close_rig)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(both_versions), T(what_was_read_is_wiped_for_whoever_hears_tokens), T(the_name_chooses_the_identity), T(a_resumed_connection_is_identified_again), T(a_session_survives_a_lost_connection),
        T(an_aborted_connection_is_not_resumed), T(sessions_are_bounded), T(a_client_holds_a_few_sessions), T(bad_names_end_the_handshake), T(mapped_addresses_are_ipv4),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
