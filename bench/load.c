/* bench_load: clients of a gateway, in one thread.  Each operation is a request over TLS 1.3 whose answer is looked at; everything that can be
 * made before (keys, certificates, sessions, connections) is made before "ready" is printed, and the clock starts with a line on stdin.
 *
 * The result is one JSON object on stdout.  An answer that is not the expected one ends the program with status 1. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/pkcs12.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench.h"
#include "est.h"
#include "identities.h"

#define ANSWER_MAX 65536
#define EST_PATH "/.well-known/est/"
#define REQUEST_MAX 2048
#define OPENING_MAX 64 /* connections that are made at once before the clock starts: a busy server has deadlines */

enum mode {
    MODE_NEW,    /* a connection and a full handshake an operation */
    MODE_RESUME, /* a connection that resumes the session of the one before */
    MODE_KEEP,   /* requests on connections that are there */
    MODE_HOLD,   /* connections that are there and say nothing */
};

static struct options {
    enum mode mode;
    int port, status;
    size_t ops, concurrency, clients, n_pairs;
    size_t every;  /* of the PKCS#12s of so many answers one is opened and looked through */
    double rate; /* operations a second, open loop; 0: closed */
    const char *ca, *issuer, *issuer_key, *prefix, *method, *path, *devices, *csr, *save, *host;
    bool renew; /* the devices of the requests enrol and are there once before the clock starts; an operation renews */
    bool intermediate, no_certificate, any_end, warm; /* warm: each client has been there once before the clock starts */
    bool tolerant; /* an operation that fails is counted, and the others go on */
    char *pairs[16];
} o = {.status = 200, .ops = 1000, .concurrency = 1, .every = 1, .prefix = "device", .method = "GET", .path = "/", .host = "localhost"};

enum state { CLOSED, CONNECTING, SHAKING, WRITING, READING, HELD };

struct slot {
    enum state state;
    int fd;
    SSL *ssl;
    struct identity *who;
    size_t number;   /* of the operation */
    int64_t due;     /* when it should have begun */
    char request[REQUEST_MAX];
    size_t request_n, n, body_at, body_n;
    bool broken;     /* by an error of the operation under way */
    unsigned char answer[ANSWER_MAX];
};

/* An enrolment's answer, kept until the clock has stopped. */
struct kept {
    unsigned char *body;
    size_t n;
};

static SSL_CTX *context;
static struct identity *identities;
static struct slot *slots;
static struct kept *kept;
static struct est_request *requests; /* EST: one an operation */
static int64_t *latencies;
static int epoll_fd, slot_index;
static size_t started, finished, resumed, errors, lost; /* lost: connections that were ended between two requests */
static bool preparing; /* connections or sessions are being made; nothing counts */
static bool keeping;   /* answers */

/* --- one operation ----------------------------------------------------------------------------------------------------------- */

static int on_session(SSL *ssl, SSL_SESSION *session) {
    struct slot *s = SSL_get_ex_data(ssl, slot_index);
    if (o.mode != MODE_RESUME)
        return 0;
    SSL_SESSION_free(s->who->session);
    s->who->session = session;
    return 1;
}

static void make_request(struct slot *s) {
    char json[256] = "";
    const char *body = requests ? requests[s->number].body : json;
    int n = o.devices ? snprintf(json, sizeof json, "{\"deviceId\":\"%s-%zu\",\"ttl\":\"36000\"}", o.devices, s->number + 1) : (int)strlen(body);
    int all = snprintf(s->request, sizeof s->request, "%s %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: Aktualizr/2025.10\r\nAccept: */*\r\n", o.method, o.path, o.host, o.port);
    if (n)
        all += snprintf(s->request + all, sizeof s->request - (size_t)all, "Content-Type: %s\r\nContent-Length: %d\r\n", requests ? "application/pkcs10" : "application/json", n);
    all += snprintf(s->request + all, sizeof s->request - (size_t)all, "\r\n%s", body);
    s->request_n = (size_t)all;
    BENCH_NEED(s->request_n < sizeof s->request);
}

static void watch(struct slot *s, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = s};
    BENCH_NEED(epoll_ctl(epoll_fd, EPOLL_CTL_MOD, s->fd, &e) == 0);
}

static void open_slot(struct slot *s) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = s};
    int one = 1;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    BENCH_NEED(s->fd >= 0 && setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
    BENCH_NEED(connect(s->fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS);
    s->ssl = SSL_new(context);
    BENCH_NEED(s->ssl && SSL_set_fd(s->ssl, s->fd) == 1 && SSL_set_tlsext_host_name(s->ssl, o.host) == 1 && SSL_set_ex_data(s->ssl, slot_index, s) == 1);
    if (!o.no_certificate)
        BENCH_NEED(SSL_use_cert_and_key(s->ssl, s->who->leaf, s->who->key, s->who->chain, 1) == 1);
    if (o.mode == MODE_RESUME && s->who->session)
        BENCH_NEED(SSL_set_session(s->ssl, s->who->session) == 1);
    SSL_set_connect_state(s->ssl);
    s->state = CONNECTING;
    BENCH_NEED(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &e) == 0);
}

static void close_slot(struct slot *s) {
    SSL_shutdown(s->ssl);
    ERR_clear_error();
    SSL_free(s->ssl);
    close(s->fd);
    s->state = CLOSED;
}

static void begin(struct slot *s, size_t number, int64_t due) {
    s->number = number;
    s->due = due;
    s->broken = false;
    s->n = s->body_at = 0;
    if (s->state == CLOSED)
        s->who = &identities[o.no_certificate ? 0 : s->number % o.clients];
    make_request(s);
    if (s->state == CLOSED) {
        open_slot(s);
    } else {
        s->state = WRITING;
        watch(s, EPOLLOUT | EPOLLIN);
    }
}

static void keep_answer(const struct slot *s) {
    struct kept *k = &kept[s->number];
    k->n = s->body_n;
    free(k->body);
    k->body = malloc(s->body_n);
    BENCH_NEED(k->body);
    memcpy(k->body, s->answer + s->body_at, s->body_n);
}

static void finish(struct slot *s, int64_t now) {
    int status = 0;
    if (s->n) {
        BENCH_NEED(sscanf((char *)s->answer, "HTTP/1.1 %d", &status) == 1);
        if (status != o.status) {
            fprintf(stderr, "operation %zu: %d instead of %d: %.*s\n", s->number, status, o.status, (int)s->n, (char *)s->answer);
            if (!o.tolerant || preparing)
                exit(1);
            errors++;
        }
    }
    if (kept && keeping)
        keep_answer(s);
    if (!preparing) {
        latencies[finished] = now - s->due;
        resumed += (size_t)SSL_session_reused(s->ssl);
    }
    finished++;
    if (o.mode == MODE_NEW || o.mode == MODE_RESUME || s->broken)
        close_slot(s);
    else
        s->state = HELD;
}

/* The whole answer is there. */
static bool complete(struct slot *s) {
    s->answer[s->n] = '\0';
    if (!s->body_at) {
        char *end = strstr((char *)s->answer, "\r\n\r\n"), *length = strcasestr((char *)s->answer, "\r\nContent-Length:");
        if (!end)
            return false;
        s->body_at = (size_t)(end + 4 - (char *)s->answer);
        s->body_n = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
    }
    return s->n >= s->body_at + s->body_n;
}

/* Where TLS says what it waits for; false: the connection has come to its end. */
static bool wait_for(struct slot *s, int result) {
    int why = SSL_get_error(s->ssl, result);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        watch(s, why == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT);
        return true;
    }
    if (!o.any_end) {
        fprintf(stderr, "operation %zu: TLS ends with %d in state %d after %.1f ms\n", s->number, why, s->state, (double)(bench_now() - s->due) / 1e6);
        ERR_print_errors_fp(stderr);
        if (!o.tolerant || preparing)
            exit(1);
        errors++;
        s->broken = true;
    }
    ERR_clear_error();
    return false;
}

static void drive(struct slot *s) {
    int result;
    if (s->state == CONNECTING)
        s->state = SHAKING;
    if (s->state == SHAKING) {
        if ((result = SSL_do_handshake(s->ssl)) != 1) {
            if (!wait_for(s, result))
                finish(s, bench_now());
            return;
        }
        s->state = WRITING;
    }
    if (s->state == WRITING) {
        if ((result = SSL_write(s->ssl, s->request, (int)s->request_n)) <= 0) {
            if (!wait_for(s, result))
                finish(s, bench_now());
            return;
        }
        s->state = READING;
        watch(s, EPOLLIN);
        return;
    }
    while (s->state == READING) {
        result = SSL_read(s->ssl, s->answer + s->n, (int)(ANSWER_MAX - 1 - s->n));
        if (result <= 0) {
            if (!wait_for(s, result))
                finish(s, bench_now());
            return;
        }
        s->n += (size_t)result;
        if (complete(s))
            finish(s, bench_now());
    }
    if (s->state == HELD) { /* a ticket, or the end */
        bool is_there = (result = SSL_read(s->ssl, s->answer, 1)) <= 0 && SSL_get_error(s->ssl, result) == SSL_ERROR_WANT_READ;
        BENCH_NEED(is_there || o.tolerant);
        if (!is_there) {
            lost++;
            close_slot(s);
        }
    }
}

/* --- the run ------------------------------------------------------------------------------------------------------------------ */

/* Closed loop: each slot begins its next operation when the last one is done.  Open loop: by the clock, whatever is still under way; an
 * operation that finds no slot begins late and counts from when it was due. */
static void start_due(size_t ops, size_t n_slots, int64_t began) {
    for (size_t i = 0; i < n_slots && started < ops; i++) {
        int64_t now = bench_now(), due = o.rate > 0 && !preparing ? began + (int64_t)((double)started * 1e9 / o.rate) : now;
        if (due > now || (preparing && started - finished >= OPENING_MAX))
            return;
        if (slots[i].state == CLOSED || (slots[i].state == HELD && !preparing))
            begin(&slots[i], started++, due);
    }
}

static void run(size_t ops, size_t n_slots) {
    struct epoll_event events[256];
    int64_t began = bench_now();
    started = finished = 0;
    while (finished < ops) {
        start_due(ops, n_slots, began);
        int n = epoll_wait(epoll_fd, events, 256, o.rate > 0 && !preparing && started < ops ? 1 : 10000);
        BENCH_NEED(n >= 0 || errno == EINTR);
        BENCH_NEED(n != 0 || o.rate > 0);
        for (int i = 0; i < n; i++)
            drive(events[i].data.ptr);
    }
}

static void wait_for_line(const char *say) {
    char line[16];
    printf("%s\n", say);
    fflush(stdout);
    BENCH_NEED(fgets(line, sizeof line, stdin));
}

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* --- what enrolments answered ------------------------------------------------------------------------------------------------------ */

static void check_p12(size_t i) {
    const unsigned char *p = kept[i].body;
    char wanted[128], got[128] = "";
    EVP_PKEY *key = NULL;
    X509 *leaf = NULL;
    STACK_OF(X509) *cas = NULL;
    PKCS12 *p12 = d2i_PKCS12(NULL, &p, (long)kept[i].n);
    snprintf(wanted, sizeof wanted, "%s-%zu", o.devices, i + 1);
    BENCH_NEED(p12 && p == kept[i].body + kept[i].n && PKCS12_verify_mac(p12, "", 0) == 1 && PKCS12_parse(p12, "", &key, &leaf, &cas) == 1);
    BENCH_NEED(key && leaf && sk_X509_num(cas) > 0 && X509_check_private_key(leaf, key) == 1);
    BENCH_NEED(X509_NAME_get_text_by_NID(X509_get_subject_name(leaf), NID_commonName, got, sizeof got) > 0 && strcmp(got, wanted) == 0);
    BENCH_NEED(X509_check_purpose(leaf, X509_PURPOSE_SSL_CLIENT, 0) == 1);
    if (o.save && i + 1 == o.ops) {
        FILE *f = fopen(o.save, "w");
        BENCH_NEED(f && fwrite(kept[i].body, 1, kept[i].n, f) == kept[i].n && fclose(f) == 0);
    }
    sk_X509_pop_free(cas, X509_free);
    X509_free(leaf);
    EVP_PKEY_free(key);
    PKCS12_free(p12);
}

static X509 *certificate(size_t i) {
    char id[128];
    snprintf(id, sizeof id, "%s-%zu", o.csr, i + 1);
    return est_certificate(kept[i].body, kept[i].n, requests[i].key, id);
}

static void check_answer(size_t i) {
    if (requests)
        X509_free(certificate(i));
    else
        check_p12(i);
}

static void report(int64_t took) {
    for (size_t i = o.every - 1; kept && i < o.ops; i += o.every)
        check_answer(i);
    BENCH_NEED(o.mode != MODE_RESUME || resumed == o.ops);
    BENCH_NEED(o.mode != MODE_NEW || resumed == 0);
    qsort(latencies, o.ops, sizeof *latencies, by_size);
    printf("{\"ops\": %zu, \"seconds\": %.3f, \"answer\": %zu, \"p50_us\": %.0f, \"p99_us\": %.0f, \"max_us\": %.0f, \"errors\": %zu, \"lost\": %zu}\n", o.ops, (double)took / 1e9,
           slots[0].n, (double)latencies[o.ops / 2] / 1e3, (double)latencies[o.ops * 99 / 100] / 1e3, (double)latencies[o.ops - 1] / 1e3, errors, lost);
    fflush(stdout);
}

/* Devices that have what simpleenroll gave them, and have used it. */
static void enrol_all(void) {
    const int status = o.status;
    struct identity *all = calloc(o.ops, sizeof *all);
    BENCH_NEED(all && o.mode == MODE_NEW);
    preparing = keeping = true;
    o.path = EST_PATH "simpleenroll";
    run(o.ops, o.concurrency);
    keeping = false;
    for (size_t i = 0; i < o.ops; i++)
        all[i] = (struct identity){.leaf = certificate(i), .key = requests[i].key};
    free(requests); /* their keys are the devices' */
    requests = NULL;
    identities = all;
    o.clients = o.ops;
    o.method = "GET", o.path = "/", o.status = 404;
    run(o.ops, o.concurrency);
    o.method = "POST", o.path = EST_PATH "simplereenroll", o.status = status;
    requests = est_requests_make(o.csr, o.ops);
}

static void prepare(void) {
    context = SSL_CTX_new(TLS_client_method());
    BENCH_NEED(context && SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 && SSL_CTX_load_verify_file(context, o.ca) == 1);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_session);
    slot_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    identities = o.n_pairs ? identities_read(o.pairs, o.clients = o.n_pairs)
                 : o.no_certificate ? calloc(1, sizeof *identities)
                                    : identities_make(o.issuer, o.issuer_key, o.prefix, o.clients, o.intermediate);
    slots = calloc(o.concurrency, sizeof *slots);
    latencies = calloc(o.ops, sizeof *latencies);
    kept = o.devices || o.csr ? calloc(o.ops, sizeof *kept) : NULL;
    requests = o.csr ? est_requests_make(o.csr, o.ops) : NULL;
    BENCH_NEED(epoll_fd >= 0 && slot_index >= 0 && identities && slots && latencies && (kept || !(o.devices || o.csr)));
    if (o.renew)
        enrol_all();
    preparing = true;
    if (o.mode == MODE_RESUME || o.warm)
        run(o.clients, o.concurrency);
    if (o.mode == MODE_KEEP || o.mode == MODE_HOLD)
        run(o.concurrency, o.concurrency);
    preparing = false;
    keeping = true;
}

static const struct option LONG[] = {
    {"mode", 1, NULL, 'm'},       {"port", 1, NULL, 'p'},        {"status", 1, NULL, 's'},         {"ops", 1, NULL, 'n'},      {"concurrency", 1, NULL, 'c'},
    {"clients", 1, NULL, 'k'},    {"rate", 1, NULL, 'r'},        {"ca", 1, NULL, 'a'},             {"issuer", 1, NULL, 'i'},   {"issuer-key", 1, NULL, 'I'},
    {"prefix", 1, NULL, 'x'},     {"path", 1, NULL, 'u'},        {"devices", 1, NULL, 'd'},        {"save", 1, NULL, 'S'},     {"intermediate", 0, NULL, 't'},
    {"identity", 1, NULL, 'y'},   {"no-certificate", 0, NULL, 'N'}, {"any-end", 0, NULL, 'e'},     {"host", 1, NULL, 'h'},     {"warm", 0, NULL, 'w'},
    {"tolerant", 0, NULL, 'T'},   {"every", 1, NULL, 'E'},          {"csr", 1, NULL, 'q'},
    {"renew", 0, NULL, 'R'},
    {NULL, 0, NULL, 0},
};

static enum mode mode_of(const char *name) {
    static const char *const names[] = {"new", "resume", "keep", "hold"};
    for (int i = 0; i < 4; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum mode)i;
    fprintf(stderr, "no such mode: %s\n", name);
    exit(2);
}

static void read_options(int argc, char **argv) {
    for (int c; (c = getopt_long(argc, argv, "", LONG, NULL)) != -1;)
        switch (c) {
        case 'm': o.mode = mode_of(optarg); break;
        case 'p': o.port = (int)strtol(optarg, NULL, 10); break;
        case 's': o.status = (int)strtol(optarg, NULL, 10); break;
        case 'n': o.ops = strtoul(optarg, NULL, 10); break;
        case 'c': o.concurrency = strtoul(optarg, NULL, 10); break;
        case 'k': o.clients = strtoul(optarg, NULL, 10); break;
        case 'r': o.rate = strtod(optarg, NULL); break;
        case 'a': o.ca = optarg; break;
        case 'i': o.issuer = optarg; break;
        case 'I': o.issuer_key = optarg; break;
        case 'x': o.prefix = optarg; break;
        case 'u': o.path = optarg; break;
        case 'h': o.host = optarg; break;
        case 'd': o.devices = optarg, o.method = "POST", o.path = "/devices"; break;
        case 'q': o.csr = optarg, o.method = "POST", o.path = EST_PATH "simpleenroll"; break;
        case 'R': o.renew = true; break;
        case 'S': o.save = optarg; break;
        case 't': o.intermediate = true; break;
        case 'N': o.no_certificate = true; break;
        case 'e': o.any_end = true; break;
        case 'w': o.warm = true; break;
        case 'T': o.tolerant = true; break;
        case 'E': o.every = strtoul(optarg, NULL, 10); break;
        case 'y':
            BENCH_NEED(o.n_pairs < sizeof o.pairs / sizeof *o.pairs);
            o.pairs[o.n_pairs++] = optarg;
            break;
        default: exit(2);
        }
    if (!o.clients)
        o.clients = o.ops;
    if (!o.port || !o.ca || !o.ops || !o.concurrency || !o.every || (o.csr && o.devices) || (o.renew && !o.csr) || (!o.n_pairs && !o.no_certificate && (!o.issuer || !o.issuer_key))) {
        fprintf(stderr, "usage: bench_load --port P --ca SERVER-CA.pem (--issuer CA.pem --issuer-key CA.key | --identity CERT,KEY … | --no-certificate) ...\n");
        exit(2);
    }
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    prepare();
    wait_for_line("ready");
    int64_t began = bench_now();
    if (o.mode != MODE_HOLD)
        run(o.ops, o.concurrency);
    else
        o.ops = 1;
    report(bench_now() - began);
    wait_for_line("done"); /* what is held stays so until then */
    return 0;
}
