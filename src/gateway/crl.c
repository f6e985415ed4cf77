/* crl: see crl.h. */
#include "gateway/crl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "gateway/ocsp.h"
#include "http/stream.h"
#include "metrics/metrics.h"
#include "pki/ocsp_read.h"

#define BEGINNING 2048        /* bytes in which the dates stand */
#define PIECE (32 * 1024)
#define KEY_DIGITS 40
#define AGE_MAX CLOCK_HOUR    /* seconds that a cache may keep a list: a revocation is on the next one */

/* --- its dates --------------------------------------------------------------------------------------------------------------------------- */

/* The content of the element at the front of *rest, of which only the beginning may be there; *rest goes on behind it. */
static bool element(struct span *rest, uint8_t tag, bool enter, struct span *content) {
    size_t n = 0, head = 2;
    if (rest->n < 2 || rest->p[0] != tag)
        return false;
    if (rest->p[1] & 0x80) {
        size_t bytes = rest->p[1] & 0x7f;
        if (bytes < 1 || bytes > 4 || rest->n < 2 + bytes)
            return false;
        for (size_t i = 0; i < bytes; i++)
            n = n << 8 | rest->p[2 + i];
        head += bytes;
    } else {
        n = rest->p[1];
    }
    if (!enter && rest->n - head < n)
        return false;
    *content = span_sub(*rest, head, n);
    *rest = span_sub(*rest, head + n, rest->n);
    return true;
}

static bool two_digits(const uint8_t *p, int *out) {
    *out = (p[0] - '0') * 10 + (p[1] - '0');
    return p[0] >= '0' && p[0] <= '9' && p[1] >= '0' && p[1] <= '9';
}

/* RFC 5280, 5.1.2.4: UTCTime or GeneralizedTime, each to the second and with Z. */
static bool take_time(struct span *rest, int64_t *out) {
    struct span text;
    int part[7] = {20}, first = 0;
    const uint8_t tag = rest->n ? rest->p[0] : 0;
    if ((tag != 0x17 && tag != 0x18) || !element(rest, tag, false, &text) || text.n != (tag == 0x17 ? 13u : 15u) || text.p[text.n - 1] != 'Z')
        return false;
    first = tag == 0x17 ? 1 : 0;
    for (int i = first; i < 7; i++)
        if (!two_digits(text.p + 2 * (i - first), &part[i]))
            return false;
    if (tag == 0x17)
        part[0] = part[1] >= 50 ? 19 : 20;
    char iso[32];
    snprintf(iso, sizeof iso, "%02d%02d-%02d-%02dT%02d:%02d:%02dZ", part[0], part[1], part[2], part[3], part[4], part[5], part[6]);
    return clock_parse_rfc3339(span_str(iso), out) == 0;
}

bool crl_dates(struct span beginning, int64_t *this_update, int64_t *next_update) {
    struct span whole, tbs, field;
    return element(&beginning, 0x30, true, &whole) && element(&whole, 0x30, true, &tbs) && element(&tbs, 0x02, false, &field) && element(&tbs, 0x30, false, &field) &&
           element(&tbs, 0x30, false, &field) && take_time(&tbs, this_update) && take_time(&tbs, next_update);
}

/* --- a file -------------------------------------------------------------------------------------------------------------------------------- */

struct download {
    int fd;
    off_t at, size;
    bool sending, gone; /* gone: the client was cut off while send_more() has hold of it */
};

static void end(struct download *d) {
    fd_close(d->fd);
    free(d);
}

/* "ACCOUNT.KEY.crl", where both are what they should be: what it opens is a file of DIR/crl. */
static bool name_of(const struct http_exchange *x, char out[128]) {
    struct span account = http_param(x, "account"), file = http_param(x, "file");
    if (account_name_check(account, NULL) || file.n != KEY_DIGITS + 4 || !span_ends(file, SPAN_LIT(".crl")))
        return false;
    for (size_t i = 0; i < KEY_DIGITS; i++)
        if (!((file.p[i] >= '0' && file.p[i] <= '9') || (file.p[i] >= 'a' && file.p[i] <= 'f')))
            return false;
    snprintf(out, 128, "%.*s.%.*s", SPAN_FMT(account), SPAN_FMT(file));
    return true;
}

/* NULL: there is none (MUSTER_ENOTFOUND in *code), or it cannot be read now. */
static struct download *open_file(const struct worker *w, const char *name, struct stat *st, uint8_t beginning[BEGINNING], size_t *n, int *code) {
    struct download *d = calloc(1, sizeof *d);
    *code = MUSTER_EUNAVAILABLE;
    if (!d)
        return NULL;
    d->fd = openat(w->gateway->crls_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t got = d->fd >= 0 && fstat(d->fd, st) == 0 && S_ISREG(st->st_mode) ? pread(d->fd, beginning, BEGINNING, 0) : -1;
    if (got <= 0) {
        if (d->fd < 0 ? errno == ENOENT || errno == ELOOP : got == 0 || !S_ISREG(st->st_mode))
            *code = MUSTER_ENOTFOUND;
        end(d);
        return NULL;
    }
    d->size = st->st_size;
    *n = (size_t)got;
    return d;
}

/* --- the answer ---------------------------------------------------------------------------------------------------------------------------- */

/* Up to where the client has no room. */
static void send_more(struct http_exchange *x, struct download *d) {
    static _Thread_local uint8_t piece[PIECE];
    ssize_t n = 1;
    http_exchange_ref(x); /* adding cuts the client off where memory runs out */
    d->sending = true;
    while (!d->gone && d->at < d->size && http_stream_room(x)) {
        if ((n = pread(d->fd, piece, sizeof piece, d->at)) <= 0)
            break;
        d->at += n;
        http_stream_add(x, span_of(piece, (size_t)n));
    }
    d->sending = false;
    if (d->gone) {
        end(d);
    } else if (n <= 0) { /* the connection is cut, so that the client sees that something is missing */
        end(d);
        http_exchange_drop(x);
    } else if (d->at < d->size) {
        http_stream_flush(x);
    } else {
        end(d);
        http_stream_end(x);
    }
    http_exchange_unref(x);
}

static void body(struct http_exchange *x, struct span part, bool last, const struct err *err, void *arg) {}
static void drained(struct http_exchange *x, void *arg) { send_more(x, arg); }
static void gone(struct http_exchange *x, void *arg) {
    struct download *d = arg;
    d->gone = true;
    if (!d->sending)
        end(d);
    http_exchange_drop(x);
}
static const struct http_stream_ops OPS = {body, drained, gone};

/* RFC 9110, 13.1.2 and 13.1.3, by the text that this listener gave out: any other means the whole list. */
static bool has_it(const struct http_exchange *x, const char *tag, const char *modified) {
    struct span match = http_field(x, "If-None-Match"), since = http_field(x, "If-Modified-Since");
    if (match.n)
        return span_eq_str(span_trim(match), "*") || span_find(match, span_str(tag)) >= 0;
    return since.n && span_eq_str(span_trim(since), modified);
}

static void serve(struct http_exchange *x, void *arg) {
    struct worker *w = arg;
    uint8_t beginning[BEGINNING];
    char name[128], tag[80], modified[HTTP_DATE_MAX], expires[HTTP_DATE_MAX], age[64];
    struct stat st;
    size_t n;
    int code = MUSTER_ENOTFOUND;
    int64_t made, due, now = clock_now();
    struct download *d = name_of(x, name) ? open_file(w, name, &st, beginning, &n, &code) : NULL;
    if (!d || !crl_dates(span_of(beginning, n), &made, &due)) {
        const struct err err = {.code = d ? MUSTER_ENOTFOUND : code};
        if (d)
            end(d);
        http_reply_err(x, &err);
        return;
    }
    int64_t left = due > now ? due - now : 0;
    snprintf(tag, sizeof tag, "\"%llx-%llx-%llx\"", (unsigned long long)st.st_ino, (unsigned long long)st.st_mtim.tv_sec * 1000000000ULL + (unsigned long long)st.st_mtim.tv_nsec, (unsigned long long)st.st_size);
    http_date(made, modified);
    http_date(due, expires);
    snprintf(age, sizeof age, "public, max-age=%lld, must-revalidate", (long long)(left < AGE_MAX ? left : AGE_MAX));
    http_reply_field(x, "ETag", tag);
    http_reply_field(x, "Last-Modified", modified);
    http_reply_field(x, "Cache-Control", age);
    http_reply_field(x, "Expires", expires);
    if (has_it(x, tag, modified)) {
        end(d);
        http_stream_begin(x, 304, 0, false);
        http_stream_end(x);
        return;
    }
    http_reply_field(x, "Content-Type", "application/pkix-crl");
    http_stream_ops_set(x, &OPS, d);
    http_stream_begin(x, 200, d->size, false);
    if (span_eq_str(http_method(x), "HEAD"))
        d->at = d->size;
    send_more(x, d);
}

const struct http_route CRL_ROUTES[] = {
    {.method = "GET", .path = "/crl/{account}/{file}", .handler = serve, .stream = true},
    {.method = "GET", .path = "/ocsp/{account}/{*request}", .handler = ocsp_get, .stream = true},
    {.method = "POST", .path = "/ocsp/{account}", .handler = ocsp_post, .body_max = OCSP_REQUEST_MAX, .media = "application/ocsp-request"},
};
const size_t CRL_ROUTES_N = sizeof CRL_ROUTES / sizeof *CRL_ROUTES;

static void error_body(struct http_exchange *x, const struct err *err, struct buf *out, const char **content_type) {
    *content_type = "text/plain";
    buf_addf(out, "%s\n", err_what(err->code));
}

static void answered(struct http_exchange *x, int status, uint64_t bytes, const struct err *refusal) {
    metrics_count(METRIC_CRL_REQUESTS, metrics_status(status), 0);
}

int crl_open(struct worker *w, int listen_fd, struct err *err) {
    struct http_server_options o = {.loop = w->loop, .listen_fd = listen_fd, .router = w->gateway->crl_router, .limits = HTTP_LIMITS_DEFAULT, .arg = w, .server_name = "muster",
                                    .error_body = error_body, .answered = answered};
    o.limits.connections = CRL_CONNECTIONS;
    o.limits.idle_ms = 30000;
    o.limits.names_in_path = true; /* an OCSP request in base64 has slashes, encoded */
    o.limits.old_version = true;
    w->crl = http_server_new(&o, err);
    return w->crl ? 0 : err->code;
}
