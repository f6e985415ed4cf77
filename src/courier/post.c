/* courier/post: see post.h.  What comes back is hostile: its head is bounded, its body is thrown away, nothing is followed, and the verdict
 * is a number. */
#include "courier/post.h"

#include <curl/curl.h>
#include <event2/event.h>
#include <sys/socket.h>

#include "base/log.h"
#include "courier/address.h"

#define CONNECT_MS 5000L
#define TOTAL_MS 10000L
#define HEAD_MAX 32768    /* bytes of an answer's head */
#define DISCARD_MAX 65536 /* bytes of its body that are read, so that the connection can be used again */
#define CONNECTIONS 256L
#define RETRY_AFTER_MAX 86400

struct post {
    struct post *next, **at;
    struct posts *posts;
    CURL *easy;
    struct curl_slist *fields;
    struct buf body, ca;
    uint32_t id;
    size_t head_n, body_n;
    bool enough;                     /* of the body */
    char refused[ADDRESS_TEXT_MAX];  /* the address that was not to be reached */
    char error[CURL_ERROR_SIZE];
};

struct posts {
    struct loop *loop;
    CURLM *multi;
    struct loop_timer *timer;
    const char *networks;
    posts_fn done;
    void *arg;
    struct post *first;
};

/* --- the loop -------------------------------------------------------------------------------------------------------------------------- */

static void post_free(struct post *p) {
    if (p->at)
        *p->at = p->next;
    if (p->at && p->next)
        p->next->at = p->at;
    if (p->easy) {
        curl_multi_remove_handle(p->posts->multi, p->easy);
        curl_easy_cleanup(p->easy);
    }
    curl_slist_free_all(p->fields);
    buf_fini(&p->body);
    buf_fini(&p->ca);
    free(p);
}
DEFINE_CLEANUP(post_free, struct post *)

static void report(struct post *p, CURLcode code) {
    char text[COURIER_TEXT_MAX + 1] = "";
    long status = 0;
    curl_off_t wait = 0;
    curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(p->easy, CURLINFO_RETRY_AFTER, &wait);
    if (code != CURLE_OK && !p->enough)
        status = 0; /* a head that was cut off is no answer */
    if (status < 100 || status > 599)
        status = 0;
    if (!status && p->refused[0])
        snprintf(text, sizeof text, "The address %s may not be reached.", p->refused);
    else if (!status)
        snprintf(text, sizeof text, "%.*s", COURIER_TEXT_MAX, p->error[0] ? p->error : curl_easy_strerror(code == CURLE_OK ? CURLE_WEIRD_SERVER_REPLY : code));
    for (char *c = text; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    const struct courier_report r = {.id = p->id, .status = (uint16_t)status, .retry_after = (uint32_t)(wait < 0 ? 0 : wait > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : wait),
                                     .text = span_str(text)};
    struct posts *posts = p->posts;
    post_free(p);
    posts->done(posts->arg, &r);
}

static void finish_some(struct posts *p) {
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(p->multi, &left))) {
        struct post *post = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &post);
        report(post, code);
    }
}

static void socket_ready(evutil_socket_t fd, short what, void *arg) {
    struct posts *p = arg;
    int running;
    curl_multi_socket_action(p->multi, fd, (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0), &running);
    finish_some(p);
}

static void timer_due(void *arg) {
    struct posts *p = arg;
    int running;
    curl_multi_socket_action(p->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    finish_some(p);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *assigned) {
    struct posts *p = arg;
    if (assigned)
        event_free(assigned);
    struct event *e = NULL;
    if (what != CURL_POLL_REMOVE) {
        short wanted = (short)(EV_PERSIST | (what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0));
        e = event_new(loop_base(p->loop), fd, wanted, socket_ready, p);
        if (!e || event_add(e, NULL))
            log_event(LOG_ERROR, "courier_socket_lost", NULL);
    }
    curl_multi_assign(p->multi, fd, e);
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *arg) {
    struct posts *p = arg;
    if (ms < 0)
        loop_timer_clear(p->timer);
    else
        loop_timer_set(p->timer, ms);
    return 0;
}

/* --- one request -------------------------------------------------------------------------------------------------------------------------- */

static size_t take_head(char *bytes, size_t size, size_t n, void *arg) {
    struct post *p = arg;
    p->head_n += size * n;
    return p->head_n > HEAD_MAX ? 0 : size * n;
}

static size_t throw_away(char *bytes, size_t size, size_t n, void *arg) {
    struct post *p = arg;
    p->body_n += size * n;
    p->enough = p->body_n > DISCARD_MAX;
    return p->enough ? 0 : size * n;
}

/* Whatever the name resolved to. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *at) {
    struct post *p = arg;
    char address[ADDRESS_TEXT_MAX];
    address_text(&at->addr, address);
    if (!address_allowed(p->posts->networks, address)) {
        snprintf(p->refused, sizeof p->refused, "%s", address[0] ? address : "?");
        return CURL_SOCKET_BAD;
    }
    return socket(at->family, at->socktype | SOCK_CLOEXEC, at->protocol);
}

static bool add_field(struct post *p, const char *name, struct span value) {
    CLEANUP(buf_fini) struct buf line = BUF_INIT(1024);
    buf_addf(&line, "%s:%s%.*s", name, value.n ? " " : "", SPAN_FMT(value));
    struct curl_slist *longer = buf_ok(&line) ? curl_slist_append(p->fields, buf_str(&line)) : NULL;
    if (longer)
        p->fields = longer;
    return longer != NULL;
}

static bool set_fields(struct post *p, const struct courier_order *o) {
    return add_field(p, "Content-Type", SPAN_LIT("application/json")) && add_field(p, "Muster-Event", o->type) && add_field(p, "Muster-Event-Id", o->event) &&
           add_field(p, "Muster-Signature", o->signature) && add_field(p, "Expect", SPAN_NONE) && add_field(p, "Accept", SPAN_LIT("*/*"));
}

#define SET(option, value) (curl_easy_setopt(p->easy, option, value) == CURLE_OK)

static bool set_tls(struct post *p) {
    struct curl_blob blob = {p->ca.p, p->ca.n, CURL_BLOB_NOCOPY};
    bool ok = SET(CURLOPT_SSL_VERIFYPEER, 1L) && SET(CURLOPT_SSL_VERIFYHOST, 2L) && SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    /* A CA of its own is the only one then. */
    return ok && (!p->ca.n || (SET(CURLOPT_CAPATH, NULL) && SET(CURLOPT_CAINFO, NULL) && SET(CURLOPT_CAINFO_BLOB, &blob)));
}

static bool set_up(struct post *p, const char *url) {
    return SET(CURLOPT_URL, url) && SET(CURLOPT_PROTOCOLS_STR, "https,http") && SET(CURLOPT_FOLLOWLOCATION, 0L) && SET(CURLOPT_NOSIGNAL, 1L) &&
           SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) && SET(CURLOPT_HTTP09_ALLOWED, 0L) && SET(CURLOPT_PROXY, "") && SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) &&
           SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L) && SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS) && SET(CURLOPT_TIMEOUT_MS, TOTAL_MS) && SET(CURLOPT_USERAGENT, "Muster/" MUSTER_VERSION) &&
           SET(CURLOPT_POST, 1L) && SET(CURLOPT_POSTFIELDSIZE, (long)p->body.n) && SET(CURLOPT_POSTFIELDS, buf_str(&p->body)) && SET(CURLOPT_HTTPHEADER, p->fields) &&
           SET(CURLOPT_HEADERFUNCTION, take_head) && SET(CURLOPT_HEADERDATA, p) && SET(CURLOPT_WRITEFUNCTION, throw_away) && SET(CURLOPT_WRITEDATA, p) &&
           SET(CURLOPT_OPENSOCKETFUNCTION, open_socket) && SET(CURLOPT_OPENSOCKETDATA, p) && SET(CURLOPT_ERRORBUFFER, p->error) && SET(CURLOPT_PRIVATE, p) && set_tls(p);
}

static bool begin(struct posts *posts, const struct courier_order *o) {
    CLEANUP(buf_fini) struct buf url = BUF_INIT(2048);
    CLEANUP(post_free) struct post *p = calloc(1, sizeof *p);
    if (!p)
        return false;
    *p = (struct post){.posts = posts, .id = o->id, .body = BUF_INIT(COURIER_BODY_MAX), .ca = BUF_INIT(COURIER_CA_MAX)};
    buf_add(&url, o->url);
    buf_add(&p->body, o->body);
    buf_add(&p->ca, o->ca);
    p->easy = curl_easy_init();
    if (!p->easy || !buf_ok(&url) || !buf_ok(&p->body) || !buf_ok(&p->ca) || !set_fields(p, o) || !set_up(p, buf_str(&url)))
        return false;
    p->next = posts->first;
    p->at = &posts->first;
    if (p->next)
        p->next->at = &p->next;
    posts->first = p;
    if (curl_multi_add_handle(posts->multi, p->easy) != CURLM_OK)
        return false;
    (void)TAKE(p);
    return true;
}

void posts_send(struct posts *p, const struct courier_order *order) {
    if (begin(p, order))
        return;
    const struct courier_report r = {.id = order->id, .text = SPAN_LIT("The request could not be begun: out of memory, or of what libcurl can do.")};
    p->done(p->arg, &r);
}

void posts_drop(struct posts *p) {
    while (p->first)
        post_free(p->first);
}

struct posts *posts_new(struct loop *l, const char *networks, posts_fn done, void *arg, struct err *err) {
    struct posts *p = calloc(1, sizeof *p);
    if (p) {
        *p = (struct posts){.loop = l, .networks = networks, .done = done, .arg = arg};
        p->multi = curl_multi_init();
        p->timer = loop_timer_new(l, timer_due, p);
    }
    if (!p || !p->multi || !p->timer || curl_multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION, on_socket) || curl_multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p) ||
        curl_multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, on_timer) || curl_multi_setopt(p->multi, CURLMOPT_TIMERDATA, p) ||
        curl_multi_setopt(p->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS) || curl_multi_setopt(p->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, CONNECTIONS)) {
        posts_free(p);
        err_set(err, MUSTER_ENOMEM, "libcurl cannot be set up.");
        return NULL;
    }
    return p;
}

void posts_free(struct posts *p) {
    if (!p)
        return;
    posts_drop(p);
    if (p->multi)
        curl_multi_cleanup(p->multi);
    loop_timer_free(p->timer);
    free(p);
}
