/* http: see http.h. */
#include "agent/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "json/json.h"
#include "keyring/keyring.h"

#define HEAD_MAX (64u << 10) /* bytes of all header fields */
#define CONNECT_SECONDS 20L
#define ALL_SECONDS 60L

struct exchange {
    const struct http_request *rq;
    struct http_answer *answer;
    size_t head; /* bytes of it so far */
    int64_t began; /* the gateway's certificate */
    bool too_large, untrusted;
    char tls[240]; /* what is wrong with the gateway's certificates */
};

DEFINE_CLEANUP(GENERAL_NAMES_free, GENERAL_NAMES *)

static char proxy_now[256]; /* "": none */

void http_through(const char *proxy) { snprintf(proxy_now, sizeof proxy_now, "%s", proxy); }

static int exchange_at = -1; /* where an SSL has its exchange */

void http_answer_fini(struct http_answer *a) { buf_wipe(&a->body); }

/* --- TLS ------------------------------------------------------------------------------------------------------------------------------------- */

static void say_dates(struct exchange *e, const struct cert *c, bool ended) {
    CLEANUP(buf_fini) struct buf subject = BUF_INIT(128);
    char when[CLOCK_RFC3339_LEN + 1], now[CLOCK_RFC3339_LEN + 1];
    cert_subject_text(c, &subject);
    clock_rfc3339(ended ? c->not_after : c->not_before, when);
    clock_rfc3339(e->rq->now, now);
    e->answer->dates = true;
    snprintf(e->tls, sizeof e->tls, "the gateway's certificate %s %s at %s; by this device's clock it is %s", buf_str(&subject), ended ? "ended" : "begins", when, now);
}

/* In so many words, and by the name in its subjectAltName: under a CA of devices too, one of those is no gateway. */
static bool is_server(const X509 *x) {
    CLEANUP(GENERAL_NAMES_free) GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    uint32_t eku = X509_get_extended_key_usage((X509 *)(uintptr_t)x);
    bool host = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        host = host || sk_GENERAL_NAME_value(names, i)->type == GEN_DNS || sk_GENERAL_NAME_value(names, i)->type == GEN_IPADD;
    return host && eku != UINT32_MAX && (eku & XKU_SSL_SERVER);
}

static int judge(int good, X509_STORE_CTX *ctx) {
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct exchange *e = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), exchange_at);
    CLEANUP(cert_free) struct cert *c = NULL;
    if (!good) {
        snprintf(e->tls, sizeof e->tls, "the gateway's certificate is not accepted: %s", X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
        e->answer->dates = false;
        e->untrusted = true;
        return 0;
    }
    X509 *x = X509_STORE_CTX_get_current_cert(ctx);
    if (x && X509_STORE_CTX_get_error_depth(ctx) == 0 && !is_server(x)) {
        snprintf(e->tls, sizeof e->tls, "the gateway's certificate is not accepted: it is not for TLS servers (EKU serverAuth), or names no host in its subjectAltName");
        X509_STORE_CTX_set_error(ctx, X509_V_ERR_INVALID_PURPOSE);
        e->untrusted = true;
        return 0;
    }
    if (!e->rq->now || !x)
        return 1;
    if (cert_from_x509(x, &c, NULL)) {
        snprintf(e->tls, sizeof e->tls, "the gateway's certificate cannot be read");
        return 0;
    }
    if (c->not_before <= e->rq->now && e->rq->now <= c->not_after) {
        e->began = X509_STORE_CTX_get_error_depth(ctx) == 0 ? c->not_before : e->began;
        return 1;
    }
    say_dates(e, c, e->rq->now > c->not_after);
    X509_STORE_CTX_set_error(ctx, e->rq->now > c->not_after ? X509_V_ERR_CERT_HAS_EXPIRED : X509_V_ERR_CERT_NOT_YET_VALID);
    return 0;
}

static CURLcode prepare(CURL *curl, void *ssl_ctx, void *arg) {
    SSL_CTX *ctx = ssl_ctx;
    struct exchange *e = arg;
    X509_STORE *store = X509_STORE_new();
    if (!store)
        return CURLE_OUT_OF_MEMORY;
    for (size_t i = 0; i < e->rq->anchors->n; i++)
        X509_STORE_add_cert(store, e->rq->anchors->cert[i]->x);
    X509_STORE_set_flags(store, X509_V_FLAG_NO_CHECK_TIME | X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_cert_store(ctx, store); /* in the place of curl's, whatever that has */
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, judge);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_set_ex_data(ctx, exchange_at, e) != 1)
        return CURLE_OUT_OF_MEMORY;
    if (e->rq->key && (SSL_CTX_use_certificate(ctx, e->rq->cert->x) != 1 || SSL_CTX_use_PrivateKey(ctx, e->rq->key) != 1)) {
        snprintf(e->tls, sizeof e->tls, "this device's certificate or key cannot be used for TLS");
        return CURLE_SSL_CERTPROBLEM;
    }
    for (size_t i = 0; e->rq->key && e->rq->above && i < e->rq->above->n; i++)
        SSL_CTX_add1_chain_cert(ctx, e->rq->above->cert[i]->x);
    return CURLE_OK;
}

/* --- HTTP ------------------------------------------------------------------------------------------------------------------------------------ */

static size_t take_body(char *p, size_t size, size_t n, void *arg) {
    struct exchange *e = arg;
    buf_add(&e->answer->body, span_of(p, size * n));
    e->too_large = e->too_large || !buf_ok(&e->answer->body);
    return e->too_large ? 0 : size * n;
}

/* IMF-fixdate (RFC 9110, 5.6.7), which is what servers send; not by libcurl, whose time_t may be another than ours.  -1: it is none. */
static int64_t date_of(const char *text) {
    struct tm t = {0};
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &t);
    return end && !*end ? (int64_t)timegm(&t) : -1;
}

int http_retry_after(struct span value, int64_t now) {
    uint64_t seconds = 0;
    char text[64];
    bool digits = value.n > 0;
    for (size_t i = 0; i < value.n; i++)
        digits = digits && value.p[i] >= '0' && value.p[i] <= '9';
    if (digits)
        return !span_to_u64(value, &seconds) || seconds > HTTP_RETRY_MAX ? HTTP_RETRY_MAX : seconds ? (int)seconds : 1;
    snprintf(text, sizeof text, "%.*s", SPAN_FMT(value));
    int64_t at = now ? date_of(text) : -1;
    return at < 0 ? 0 : at <= now ? 1 : at - now > HTTP_RETRY_MAX ? HTTP_RETRY_MAX : (int)(at - now);
}

static bool is_field(struct span line, struct span name, struct span *value) {
    bool is = line.n > name.n && span_eq_nocase(span_sub(line, 0, name.n), name);
    *value = is ? span_trim(span_sub(line, name.n, line.n)) : SPAN_NONE;
    return is;
}

bool http_names_post(struct span list) {
    for (size_t i = 0; i < list.n;) {
        struct span rest = span_sub(list, i, list.n);
        long comma = span_index(rest, ',');
        struct span one = comma < 0 ? rest : span_sub(rest, 0, (size_t)comma);
        if (span_eq(span_trim(one), SPAN_LIT("POST")))
            return true;
        i += one.n + 1;
    }
    return false;
}

static size_t take_field(char *p, size_t size, size_t n, void *arg) {
    struct exchange *e = arg;
    struct span line = span_of(p, size * n), value;
    e->head += line.n;
    e->too_large = e->too_large || e->head > HEAD_MAX;
    if (line.n > 5 && !memcmp(line.p, "HTTP/", 5))
        e->answer->retry_after = e->answer->allows_post = 0; /* a further answer begins */
    while (line.n && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
        line.n--;
    if (is_field(line, SPAN_LIT("Retry-After:"), &value))
        e->answer->retry_after = http_retry_after(value, e->rq->now);
    if (is_field(line, SPAN_LIT("Allow:"), &value))
        e->answer->allows_post = e->answer->allows_post || http_names_post(value);
    return e->too_large ? 0 : size * n;
}

static void curl_headers_free(struct curl_slist *l) { curl_slist_free_all(l); }
DEFINE_CLEANUP(curl_headers_free, struct curl_slist *)
static inline void curl_free_easy(CURL *c) { curl_easy_cleanup(c); }
DEFINE_CLEANUP(curl_free_easy, CURL *)

static void set_options(CURL *curl, struct exchange *e, struct curl_slist *fields, char *why) {
    const struct http_request *rq = e->rq;
    curl_easy_setopt(curl, CURLOPT_URL, rq->url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, proxy_now); /* "": none, whatever the environment says */
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "");
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, rq->method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "muster-agent/" MUSTER_VERSION);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, ALL_SECONDS);
    curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 16384L);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    curl_easy_setopt(curl, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, prepare);
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, e);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, e);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_field);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, e);
    if (rq->media) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body.n);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, (const char *)rq->body.p);
    }
}

/* What libcurl and the other side have found wrong, where it is about certificates. */
static void explain_tls(struct exchange *e, CURLcode done, const char *why) {
    static const char *const ALERTS[] = {"unknown ca",          "bad certificate", "certificate unknown", "certificate expired", "certificate revoked",
                                         "unsupported certificate", "access denied"};
    const char *alert = strstr(why, " alert ");
    if (done == CURLE_PEER_FAILED_VERIFICATION) {
        e->untrusted = true;
        snprintf(e->tls, sizeof e->tls, "the gateway's certificate is not accepted: %.150s", why);
    }
    for (size_t i = 0; e->rq->key && alert && i < sizeof ALERTS / sizeof *ALERTS; i++) {
        if (strncmp(alert + 7, ALERTS[i], strlen(ALERTS[i])) != 0)
            continue;
        e->answer->refused = true;
        snprintf(e->tls, sizeof e->tls, "what answers there refuses this device's certificate in TLS (%s)", ALERTS[i]);
        return;
    }
}

static bool never_left(CURL *curl, CURLcode done) {
    static const int NO_WAY[] = {ENETUNREACH, EHOSTUNREACH, ENETDOWN, EADDRNOTAVAIL};
    long error = 0;
    bool way = true;
    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &error);
    for (size_t i = 0; i < sizeof NO_WAY / sizeof *NO_WAY; i++)
        way = way && error != NO_WAY[i];
    return done == CURLE_COULDNT_RESOLVE_HOST || done == CURLE_COULDNT_RESOLVE_PROXY || (done == CURLE_COULDNT_CONNECT && !way);
}

int http_ask(const struct http_request *rq, struct http_answer *answer, struct err *err) {
    CLEANUP(curl_free_easy) CURL *curl = curl_easy_init();
    CLEANUP(curl_headers_free) struct curl_slist *fields = NULL;
    struct exchange e = {.rq = rq, .answer = answer};
    char why[CURL_ERROR_SIZE] = "", type[128];
    if (!curl)
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (rq->anchors->n == 0)
        return err_set(err, MUSTER_EINVALID, "There is no anchor by which the gateway could be known.");
    if (exchange_at < 0)
        exchange_at = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    snprintf(type, sizeof type, rq->media ? "Content-Type: %s" : "Content-Type:", rq->media);
    fields = curl_slist_append(fields, type);
    fields = curl_slist_append(fields, "Expect:");
    buf_clear(&answer->body);
    answer->dates = answer->allows_post = answer->refused = answer->unsent = false;
    answer->retry_after = answer->status = 0;
    answer->since = 0;
    set_options(curl, &e, fields, why);
    CURLcode done = curl_easy_perform(curl);
    if (e.too_large)
        return err_set(err, MUSTER_ENETWORK, "%s sent an answer of more than %u bytes.", rq->url, HTTP_BODY_MAX);
    if (done != CURLE_OK && keyring_fault(rq->key, err))
        return err ? err->code : MUSTER_EKEYAWAY;
    answer->unsent = never_left(curl, done);
    if (done != CURLE_OK && !e.tls[0])
        explain_tls(&e, done, why);
    if (done != CURLE_OK)
        return err_set(err, e.untrusted && !answer->dates ? MUSTER_ETLSREJECTED : MUSTER_ENETWORK, "%s could not be asked: %s.", rq->url, e.tls[0] ? e.tls : why[0] ? why : curl_easy_strerror(done));
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    answer->status = (int)status;
    answer->since = e.began;
    return 0;
}

/* What an answer comes to that says nothing but its status.  One that sends elsewhere is of something in between, which may be gone the next time. */
static int bare(int status) {
    return status == 429 ? MUSTER_ETOOMANY : status == 202 ? MUSTER_EAPPROVAL : status >= 500 || status / 100 == 3 ? MUSTER_ENETWORK : MUSTER_EINVALID;
}

int http_refusal(const struct http_answer *a, char code[64], char fix[HTTP_FIX_MAX], struct err *err) {
    CLEANUP_JSON json_t *doc = json_parse(buf_span(&a->body), NULL);
    const char *said = json_string_value(json_object_get(doc, "code")), *what = json_string_value(json_object_get(doc, "description"));
    const char *cause = json_string_value(json_object_get(doc, "cause")), *advice = json_string_value(json_object_get(doc, "fix"));
    int known = said ? err_from_code(said) : 0;
    snprintf(code, 64, "%s", said && strlen(said) < 64 ? said : "");
    snprintf(fix, HTTP_FIX_MAX, "%s", advice && strlen(advice) < HTTP_FIX_MAX ? advice : "");
    bool usage = known && err_exit(known) == 2; /* of a command line, which is here */
    bool waits = a->status == 202 || a->status == 429 || a->status == 503;
    int rc = known && !usage ? known : bare(a->status);
    if (what || cause)
        err_set(err, rc, "The gateway says: %.300s%s%.140s", what ? what : "", what && cause ? " " : "", cause ? cause : "");
    else
        err_set(err, rc, "The gateway answered with status %d and nothing that explains it%s.", a->status, waits ? "" : ": look at its URL, and for a proxy or a portal in between");
    if (err)
        err->retry_after = a->retry_after ? a->retry_after : waits ? 300 : 0;
    return rc;
}
