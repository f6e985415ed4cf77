/* bench_attack: clients that do a gateway no good, in one thread: up to --connections at a time, at most --rate new ones a second, from --sources
 * addresses of 127.0.0.0/8, each going --as far as it is told and no further.  It measures nothing; bench/attack looks at the others meanwhile.
 *
 * What it opened, what was closed on it and what it was answered is one JSON object on stdout. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"
#include "identities.h"

#define SENDS_MAX 64
#define SEND_BYTES (1024 * 1024)
#define HELLO_MAX 2048
#define TURN_MS 5

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

/* How far a connection goes, and what it does there until it is closed. */
static const struct how {
    const char *name;
    bool hello;   /* bytes of a ClientHello, and nothing that the server says is looked at */
    bool tls;     /* a whole handshake */
    bool request; /* one of the --send files */
    bool drip;    /* a byte every --every ms: of the hello, or of what follows --at-once bytes of the request */
    enum { READ, STARE, SIP, LEAVE, RENEGOTIATE, GO_ON } then;
} HOWS[] = {
    {"silent", .then = READ},                                    /* connects and says nothing */
    {"visit", .then = LEAVE},                                    /* connects and goes */
    {"drip-hello", .hello = true, .drip = true, .then = STARE},
    {"half", .hello = true, .then = STARE},                  /* lets the server sign, and says no more */
    {"mute", .tls = true, .then = READ},                         /* a handshake, and nothing */
    {"drip", .tls = true, .request = true, .drip = true, .then = READ},
    {"ask", .tls = true, .request = true, .then = LEAVE},        /* until the answer begins, or the end */
    {"stare", .tls = true, .request = true, .then = STARE},  /* asks and does not read */
    {"sip", .tls = true, .request = true, .then = SIP},          /* reads a byte every --every ms */
    {"renegotiate", .tls = true, .then = RENEGOTIATE},
    {"pipeline", .tls = true, .request = true, .then = GO_ON},   /* asks again and again without waiting for an answer, and reads them all */
};

static struct options {
    const struct how *how;
    int port, seconds, every;
    size_t connections, sources, n_sends, n_pairs, at_once;
    double rate;
    const char *chain, *sni, *first_sni;
    bool tls12;
    char *sends[SENDS_MAX], *pairs[16];
} o = {.seconds = 10, .every = 1000, .connections = 100, .sources = 1, .rate = 1000, .sni = "localhost"};

struct payload {
    unsigned char *p;
    size_t n;
};

struct conn {
    enum { FREE, CONNECTING, SHAKING, SPEAKING, THERE } state;
    int fd;
    SSL *ssl;
    const struct payload *says;
    size_t at;
    int64_t next; /* byte */
};

static SSL_CTX *context;
static struct identity *identities;
static SSL_SESSION *session;
static struct payload sends[SENDS_MAX], hello;
static struct conn *conns, **unused;
static size_t n_unused;
static int epoll_fd;
static size_t opened, handshakes, resumed, closed, unreachable, statuses[600];

/* --- one connection ------------------------------------------------------------------------------------------------------------- */

static struct sockaddr_in source_of(size_t i) {
    uint32_t address = o.sources == 1 ? 0x7f000002 : 0x7f010001 + (uint32_t)(i % o.sources);
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
}

static void end(struct conn *c) {
    SSL_free(c->ssl);
    c->ssl = NULL;
    close(c->fd);
    c->state = FREE;
    unused[n_unused++] = c;
    ERR_clear_error();
}

static SSL *new_ssl(const char *sni) {
    SSL *ssl = SSL_new(context);
    const struct identity *who = o.n_pairs ? &identities[opened % o.n_pairs] : NULL;
    BENCH_NEED(ssl && SSL_set_tlsext_host_name(ssl, sni) == 1);
    BENCH_NEED(!who || SSL_use_cert_and_key(ssl, who->leaf, who->key, who->chain, 1) == 1);
    SSL_set_connect_state(ssl);
    return ssl;
}

static void begin(void) {
    struct conn *c = unused[--n_unused];
    struct sockaddr_in from = source_of(opened), to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
    int on = 1, small = 4096;
    *c = (struct conn){.state = CONNECTING, .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    BENCH_NEED(c->fd >= 0 && setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) == 0 && bind(c->fd, (struct sockaddr *)&from, sizeof from) == 0);
    if (o.how->then == STARE || o.how->then == SIP)
        BENCH_NEED(setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    c->says = o.how->hello ? &hello : o.how->request ? &sends[opened % o.n_sends] : NULL;
    opened++;
    BENCH_NEED(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e) == 0);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
        unreachable++;
        end(c);
        return;
    }
    if (o.how->tls) {
        c->ssl = new_ssl(o.sni);
        BENCH_NEED(SSL_set_fd(c->ssl, c->fd) == 1 && (!session || SSL_set_session(c->ssl, session) == 1));
    }
}

static void watch(struct conn *c, uint32_t events) {
    struct epoll_event e = {.events = events | EPOLLRDHUP, .data.ptr = c};
    BENCH_NEED(epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e) == 0);
}

static void cut_off(struct conn *c) {
    closed++;
    end(c);
}

/* Where it cannot go on now, the event is awaited with which it can. */
static void wait_or_end(struct conn *c, int result) {
    int why = c->ssl ? SSL_get_error(c->ssl, result) : result < 0 && errno == EAGAIN ? SSL_ERROR_WANT_READ : SSL_ERROR_SYSCALL;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        watch(c, why == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT);
    else
        cut_off(c);
}

static void due_after(struct conn *c) { c->next = bench_now() + (int64_t)o.every * 1000000; }

/* It has come as far as it wants; what is left is to wait, and to do every now and then what its kind does. */
static void stay(struct conn *c) {
    c->state = THERE;
    due_after(c);
    watch(c, o.how->then == STARE || o.how->then == SIP ? 0 : EPOLLIN);
}

static int put(struct conn *c, size_t n) {
    const unsigned char *from = c->says->p + c->at;
    return c->ssl ? SSL_write(c->ssl, from, (int)n) : (int)send(c->fd, from, n, MSG_NOSIGNAL);
}

static void speak(struct conn *c) {
    size_t whole = !c->says ? 0 : !o.how->drip ? c->says->n : o.how->hello ? 1 : o.at_once;
    while (c->at < whole) {
        int n = put(c, whole - c->at);
        if (n <= 0) {
            wait_or_end(c, n);
            return;
        }
        c->at += (size_t)n;
    }
    if (o.how->then == LEAVE && !c->says)
        end(c);
    else
        stay(c);
}

static void listen_to(struct conn *c, int most) {
    char bytes[16384];
    int n, status;
    while ((n = c->ssl ? SSL_read(c->ssl, bytes, most) : (int)recv(c->fd, bytes, (size_t)most, 0)) > 0) {
        if (n >= 12 && sscanf(bytes, "HTTP/1.1 %d", &status) == 1 && status < 600)
            statuses[status]++;
        if (o.how->then == LEAVE) {
            end(c);
            return;
        }
        if (most == 1)
            return;
    }
    wait_or_end(c, n);
}

static void drive(struct conn *c, uint32_t events) {
    int result, failed = 0;
    socklen_t size = sizeof failed;
    ERR_clear_error();
    if (c->state == CONNECTING) {
        if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failed, &size) || failed) {
            unreachable++;
            end(c);
            return;
        }
        c->state = c->ssl ? SHAKING : SPEAKING;
    }
    if (c->state == SHAKING) {
        if ((result = SSL_do_handshake(c->ssl)) != 1) {
            wait_or_end(c, result);
            return;
        }
        handshakes++;
        resumed += (size_t)SSL_session_reused(c->ssl);
        c->state = SPEAKING;
    }
    if (c->state == SPEAKING)
        speak(c);
    else if (c->state == THERE && (events & (EPOLLHUP | EPOLLERR) || (events & EPOLLRDHUP && o.how->then == STARE)))
        cut_off(c);
    else if (c->state == THERE)
        listen_to(c, 16384);
}

/* What its kind does every now and then. */
static void act(struct conn *c) {
    int n;
    ERR_clear_error();
    due_after(c);
    if (o.how->drip && c->at < c->says->n) {
        if ((n = put(c, 1)) > 0)
            c->at++;
        else
            wait_or_end(c, n);
    } else if (o.how->then == SIP) {
        listen_to(c, 1);
    } else if (o.how->then == GO_ON) {
        do {
            c->at %= c->says->n;
            n = put(c, c->says->n - c->at);
            c->at += n > 0 ? (size_t)n : 0;
        } while (n > 0);
        if (SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_WRITE || SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ)
            listen_to(c, 16384);
        else
            cut_off(c);
    } else if (o.how->then == RENEGOTIATE) {
        if (SSL_renegotiate(c->ssl) != 1 || (n = SSL_do_handshake(c->ssl)) == 1)
            return;
        wait_or_end(c, n);
    }
}

/* --- the run ------------------------------------------------------------------------------------------------------------------------ */

static void run(void) {
    struct epoll_event events[256];
    int64_t began = bench_now(), until = began + (int64_t)o.seconds * 1000000000, looked = began;
    for (int64_t now = began; now < until; now = bench_now()) {
        while (n_unused && (double)opened < (double)(now - began) * o.rate / 1e9)
            begin();
        int n = epoll_wait(epoll_fd, events, 256, TURN_MS);
        BENCH_NEED(n >= 0 || errno == EINTR);
        for (int i = 0; i < n; i++)
            if (((struct conn *)events[i].data.ptr)->state != FREE)
                drive(events[i].data.ptr, events[i].events);
        if (now - looked < (int64_t)TURN_MS * 1000000)
            continue;
        looked = now;
        for (size_t i = 0; i < o.connections; i++)
            if (conns[i].state == THERE && conns[i].next <= now)
                act(&conns[i]);
    }
}

static void report(void) {
    printf("{\"opened\": %zu, \"open\": %zu, \"closed\": %zu, \"unreachable\": %zu, \"handshakes\": %zu, \"resumed\": %zu, \"answers\": {", opened, o.connections - n_unused, closed, unreachable,
           handshakes, resumed);
    const char *comma = "";
    for (int i = 0; i < 600; i++)
        if (statuses[i]) {
            printf("%s\"%d\": %zu", comma, i, statuses[i]);
            comma = ", ";
        }
    printf("}}\n");
}

/* --- before ------------------------------------------------------------------------------------------------------------------------ */

/* One ClientHello does for all who never come further. */
static void make_hello(void) {
    SSL *ssl = new_ssl(o.sni);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    BENCH_NEED(in && out);
    SSL_set_bio(ssl, in, out);
    BENCH_NEED(SSL_do_handshake(ssl) != 1);
    hello.p = malloc(HELLO_MAX);
    BENCH_NEED(hello.p);
    int n = BIO_read(out, hello.p, HELLO_MAX);
    BENCH_NEED(n > 0 && n < HELLO_MAX);
    hello.n = (size_t)n;
    SSL_free(ssl);
    ERR_clear_error();
}

static void read_send(const char *path, struct payload *into) {
    FILE *f = fopen(path, "r");
    into->p = malloc(SEND_BYTES);
    BENCH_NEED(f && into->p && (into->n = fread(into->p, 1, SEND_BYTES, f)) > 0);
    fclose(f);
}

static STACK_OF(X509) *read_chain(const char *path) {
    STACK_OF(X509) *chain = sk_X509_new_null();
    BIO *f = BIO_new_file(path, "r");
    BENCH_NEED(chain && f);
    for (X509 *x; (x = PEM_read_bio_X509(f, NULL, NULL, NULL));)
        BENCH_NEED(sk_X509_push(chain, x) > 0);
    BIO_free(f);
    ERR_clear_error();
    return chain;
}

static int on_session(SSL *ssl, SSL_SESSION *s) {
    if (session)
        return 0;
    session = s;
    return 1;
}

/* A session, of a connection under another name, with which all later ones come. */
static void take_session(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SSL *ssl = new_ssl(o.first_sni);
    char bytes[4096];
    BENCH_NEED(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && SSL_set_fd(ssl, fd) == 1 && SSL_do_handshake(ssl) == 1);
    BENCH_NEED(SSL_write(ssl, sends[0].p, (int)sends[0].n) == (int)sends[0].n && SSL_read(ssl, bytes, sizeof bytes) > 0 && session);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
}

static void prepare(void) {
    struct rlimit files;
    BENCH_NEED(getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max >= o.connections + 32);
    files.rlim_cur = files.rlim_max;
    BENCH_NEED(setrlimit(RLIMIT_NOFILE, &files) == 0);
    context = SSL_CTX_new(TLS_client_method());
    BENCH_NEED(context && SSL_CTX_set_max_proto_version(context, o.tls12 ? TLS1_2_VERSION : TLS1_3_VERSION) == 1);
    SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_session);
    identities = o.n_pairs ? identities_read(o.pairs, o.n_pairs) : NULL;
    for (size_t i = 0; o.chain && i < o.n_pairs; i++)
        identities[i].chain = read_chain(o.chain);
    for (size_t i = 0; i < o.n_sends; i++)
        read_send(o.sends[i], &sends[i]);
    make_hello();
    if (o.first_sni)
        take_session();
    else
        SSL_CTX_sess_set_new_cb(context, NULL);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc(o.connections, sizeof *conns);
    unused = calloc(o.connections, sizeof(struct conn *));
    BENCH_NEED(epoll_fd >= 0 && conns && unused);
    for (size_t i = o.connections; i--;)
        unused[n_unused++] = &conns[i];
}

static const struct option LONG[] = {
    {"as", 1, NULL, 'a'},    {"port", 1, NULL, 'p'},     {"seconds", 1, NULL, 's'}, {"connections", 1, NULL, 'c'}, {"rate", 1, NULL, 'r'},      {"sources", 1, NULL, 'k'}, {"every", 1, NULL, 'e'},
    {"send", 1, NULL, 'S'},  {"identity", 1, NULL, 'y'}, {"chain", 1, NULL, 'C'},   {"at-once", 1, NULL, 'o'},     {"sni", 1, NULL, 'n'},       {"first-sni", 1, NULL, 'f'},
    {"tls12", 0, NULL, '2'}, {NULL, 0, NULL, 0},
};

static void read_options(int argc, char **argv) {
    for (int c; (c = getopt_long(argc, argv, "", LONG, NULL)) != -1;)
        switch (c) {
        case 'a':
            for (size_t i = 0; i < sizeof HOWS / sizeof *HOWS; i++)
                if (strcmp(HOWS[i].name, optarg) == 0)
                    o.how = &HOWS[i];
            break;
        case 'p': o.port = (int)strtol(optarg, NULL, 10); break;
        case 's': o.seconds = (int)strtol(optarg, NULL, 10); break;
        case 'c': o.connections = strtoul(optarg, NULL, 10); break;
        case 'r': o.rate = strtod(optarg, NULL); break;
        case 'k': o.sources = strtoul(optarg, NULL, 10); break;
        case 'e': o.every = (int)strtol(optarg, NULL, 10); break;
        case 'o': o.at_once = strtoul(optarg, NULL, 10); break;
        case 'C': o.chain = optarg; break;
        case 'n': o.sni = optarg; break;
        case 'f': o.first_sni = optarg; break;
        case '2': o.tls12 = true; break;
        case 'S':
            BENCH_NEED(o.n_sends < SENDS_MAX);
            o.sends[o.n_sends++] = optarg;
            break;
        case 'y':
            BENCH_NEED(o.n_pairs < sizeof o.pairs / sizeof *o.pairs);
            o.pairs[o.n_pairs++] = optarg;
            break;
        default: exit(2);
        }
    if (!o.how || !o.port || !o.connections || !o.sources || (o.how->request && !o.n_sends)) {
        fprintf(stderr, "usage: bench_attack --port P --as KIND [--connections N] [--rate N] [--sources N] [--seconds N] [--send FILE …] [--identity CERT,KEY …] …\n");
        exit(2);
    }
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    prepare();
    printf("ready\n");
    fflush(stdout);
    run();
    report();
    return 0;
}
