/* api: one client of the operators' API; see api.h.  Used by every command that talks to a server. */
#include "muster/api.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/secret.h"
#include "json/json.h"

#define API_BODY_MAX (256u << 20)
#define API_TOKEN_MAX 512
#define LONG_SECONDS (4 * 3600L)
#define PROGRESS_SECONDS 5L

struct api {
    CURL *curl;
    struct buf url;
    struct buf ca;
    const char *waits_for; /* api_wait_long() */
    struct buf progress;   /* path of what says how far it is */
    long seconds_max;      /* that an answer may take; 0: 300 */
    api_say_fn say;
    int64_t began, shown;  /* monotonic, ms; seconds that were shown */
    struct secret authorization; /* "Authorization: Bearer …", NUL-terminated */
};

static void curl_headers_free(struct curl_slist *l) { curl_slist_free_all(l); }
DEFINE_CLEANUP(curl_headers_free, struct curl_slist *)

static int read_line(const char *path, struct buf *out, struct err *err) {
    out->max = 4096;
    int rc = file_read(AT_FDCWD, path, out, err);
    if (rc)
        return rc;
    while (out->n && (out->p[out->n - 1] == '\n' || out->p[out->n - 1] == '\r' || out->p[out->n - 1] == ' '))
        out->p[--out->n] = '\0';
    return 0;
}

static int read_token(struct api *a, const char *path, struct err *err) {
    CLEANUP(secret_fini) struct secret file = SECRET_INIT;
    int rc = secret_read_file(&file, path, API_TOKEN_MAX, err);
    if (rc)
        return rc;
    struct span token = secret_span(&file);
    while (token.n && (token.p[token.n - 1] == '\n' || token.p[token.n - 1] == '\r'))
        token.n--;
    for (size_t i = 0; i < token.n; i++)
        if (token.p[i] <= ' ' || token.p[i] > '~')
            return err_set(err, MUSTER_EINVALID, "%s does not hold a token on one line.", path);
    static const char field[] = "Authorization: Bearer ";
    if (secret_alloc(&a->authorization, sizeof field + token.n))
        return err_set(err, MUSTER_ENOMEM, NULL);
    memcpy(a->authorization.p, field, sizeof field - 1);
    memcpy(a->authorization.p + sizeof field - 1, token.p, token.n);
    return 0;
}

static const char *join(struct buf *b, const char *dir, const char *name) {
    buf_clear(b);
    b->max = 4096;
    buf_addf(b, "%s/%s", dir, name);
    return buf_str(b);
}

static int open_data(struct api *a, const char *data, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    int rc = read_line(join(&path, data, "admin.url"), &a->url, err);
    if (rc)
        return err_prefix(err, "%s is not the data directory of a musterd that has been started", data);
    rc = read_token(a, join(&path, data, "admin.token"), err);
    if (rc)
        return rc;
    buf_adds(&a->ca, join(&path, data, "server-ca.pem"));
    return 0;
}

static int open_environment(struct api *a, struct err *err) {
    const char *url = getenv("MUSTER_URL"), *token = getenv("MUSTER_TOKEN_FILE"), *ca = getenv("MUSTER_CA");
    if (!url || !token)
        return err_set(err, MUSTER_EUSAGE, "No server is named: give --data DIR on the server, or set MUSTER_URL, MUSTER_TOKEN_FILE and MUSTER_CA.");
    if (strncmp(url, "https://", 8))
        return err_set(err, MUSTER_EUSAGE, "MUSTER_URL does not begin with https://.");
    buf_adds(&a->url, url);
    if (ca)
        buf_adds(&a->ca, ca);
    return read_token(a, token, err);
}

int api_open(const char *data, struct api **out, struct err *err) {
    CLEANUP(api_free) struct api *a = calloc(1, sizeof *a);
    if (!a || curl_global_init(CURL_GLOBAL_DEFAULT))
        return err_set(err, MUSTER_ENOMEM, NULL);
    a->url = BUF_INIT(4096);
    a->ca = BUF_INIT(4096);
    int rc = data ? open_data(a, data, err) : open_environment(a, err);
    if (rc)
        return rc;
    while (a->url.n && a->url.p[a->url.n - 1] == '/')
        a->url.p[--a->url.n] = '\0';
    if (a->ca.n && access(buf_str(&a->ca), R_OK))
        return err_set(err, MUSTER_EINVALID, "The CA file %s cannot be read: %s.", buf_str(&a->ca), strerror(errno));
    a->curl = curl_easy_init();
    if (!a->curl)
        return err_set(err, MUSTER_ENOMEM, NULL);
    *out = TAKE(a);
    return 0;
}

void api_free(struct api *a) {
    if (!a)
        return;
    if (a->curl)
        curl_easy_cleanup(a->curl);
    buf_fini(&a->url);
    buf_fini(&a->ca);
    buf_fini(&a->progress);
    secret_fini(&a->authorization);
    free(a);
}

void api_answer_fini(struct api_answer *r) { buf_wipe(&r->body); }

void api_encode(struct buf *out, const char *text) {
    bool dots = !strcmp(text, ".") || !strcmp(text, ".."); /* bare, they would be steps in the path */
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (strchr("-._~", c) && !dots))
            buf_addc(out, c);
        else
            buf_addf(out, "%%%02X", c);
    }
}

static size_t take_body(char *p, size_t size, size_t n, void *arg) {
    struct api_answer *r = arg;
    buf_add(&r->body, span_of(p, size * n));
    return buf_ok(&r->body) ? size * n : 0;
}

static void take_named(struct span line, const char *name, char *out, size_t cap) {
    size_t n = strlen(name);
    if (line.n <= n || line.p[n] != ':' || !span_eq_nocase(span_sub(line, 0, n), span_str(name)))
        return;
    struct span value = span_sub(line, n + 1, line.n);
    while (value.n && (value.p[value.n - 1] == '\r' || value.p[value.n - 1] == '\n'))
        value.n--;
    value = span_trim(value);
    if (value.n < cap) {
        memcpy(out, value.p, value.n);
        out[value.n] = '\0';
    }
}

static size_t take_field(char *p, size_t size, size_t n, void *arg) {
    struct api_answer *r = arg;
    struct span line = span_of(p, size * n);
    take_named(line, "X-Muster-Key", r->key_id, sizeof r->key_id);
    take_named(line, "X-Muster-Key-Name", r->key_name, sizeof r->key_name);
    return size * n;
}

/* The server's refusal as an error of ours, with its code where we know it. */
static int refusal(const struct api_answer *r, json_t **problem, struct err *err) {
    CLEANUP_JSON json_t *doc = json_parse(buf_span(&r->body), NULL);
    const char *code = json_string_value(json_object_get(doc, "code"));
    const char *detail = json_string_value(json_object_get(doc, "detail"));
    int known = code ? err_from_code(code) : 0;
    if (problem && doc)
        *problem = json_incref(doc);
    if (detail)
        return err_set(err, known ? known : MUSTER_ENETWORK, "%s", detail);
    return err_set(err, known ? known : MUSTER_ENETWORK, "The server answered with status %d and nothing that explains it.", r->status);
}

void api_wait_long(struct api *a, const char *what, const char *path, api_say_fn say) {
    a->waits_for = what;
    a->seconds_max = LONG_SECONDS;
    a->say = say;
    a->progress.max = 4096;
    buf_clear(&a->progress);
    buf_adds(&a->progress, path);
}

/* Where that cannot be learned, the seconds alone are shown. */
static void add_progress(const struct api *a, struct buf *line) {
    CLEANUP_JSON json_t *said = NULL;
    struct api other = {.url = a->url, .ca = a->ca, .authorization = a->authorization, .seconds_max = PROGRESS_SECONDS, .curl = curl_easy_init()};
    struct err err = ERR_INIT;
    if (other.curl && api_json(&other, "GET", buf_str(&a->progress), NULL, &said, NULL, &err) == 0)
        a->say(line, said);
    curl_easy_cleanup(other.curl);
}

/* Called by curl about once a second. */
static int show_waiting(void *arg, curl_off_t down_all, curl_off_t down, curl_off_t up_all, curl_off_t up) {
    struct api *a = arg;
    int64_t seconds = (clock_mono_ms() - a->began) / 1000;
    if (seconds > a->shown) {
        CLEANUP(buf_fini) struct buf line = BUF_INIT(1024);
        a->shown = seconds;
        add_progress(a, &line);
        fprintf(stderr, "\r\033[K%s%s, %lld s so far", a->waits_for, buf_str(&line), (long long)seconds);
    }
    return 0;
}

int api_call(struct api *a, const char *method, const char *path, const json_t *body, struct api_answer *answer, json_t **problem, struct err *err) {
    CLEANUP(buf_fini) struct buf url = BUF_INIT(16384);
    CLEANUP(buf_wipe) struct buf sent = BUF_INIT(API_BODY_MAX);
    CLEANUP(curl_headers_free) struct curl_slist *fields = NULL;
    char why[CURL_ERROR_SIZE] = "";
    answer->body.max = API_BODY_MAX;
    buf_addf(&url, "%s%s", buf_str(&a->url), path);
    if (body && json_write(&sent, body))
        return err_set(err, MUSTER_EINVALID, "The request is too large to send.");
    int rc = buf_check(&url, err);
    if (rc)
        return rc;
    fields = curl_slist_append(fields, (const char *)a->authorization.p);
    fields = curl_slist_append(fields, body ? "Content-Type: application/json" : "Content-Type:");
    fields = curl_slist_append(fields, "Expect:");
    curl_easy_reset(a->curl);
    curl_easy_setopt(a->curl, CURLOPT_URL, buf_str(&url));
    curl_easy_setopt(a->curl, CURLOPT_PATH_AS_IS, 1L); /* curl takes %2E for a step as well, and would walk it */
    curl_easy_setopt(a->curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(a->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(a->curl, CURLOPT_HTTPHEADER, fields);
    curl_easy_setopt(a->curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(a->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(a->curl, CURLOPT_NOPROXY, "*"); /* the token goes to the server that was named, and nowhere else */
    curl_easy_setopt(a->curl, CURLOPT_CONNECTTIMEOUT, 20L);
    curl_easy_setopt(a->curl, CURLOPT_TIMEOUT, a->seconds_max ? a->seconds_max : 300L);
    if (a->waits_for && isatty(STDERR_FILENO)) {
        a->began = clock_mono_ms();
        curl_easy_setopt(a->curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(a->curl, CURLOPT_XFERINFOFUNCTION, show_waiting);
        curl_easy_setopt(a->curl, CURLOPT_XFERINFODATA, a);
    }
    curl_easy_setopt(a->curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(a->curl, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(a->curl, CURLOPT_HEADERFUNCTION, take_field);
    curl_easy_setopt(a->curl, CURLOPT_HEADERDATA, answer);
    curl_easy_setopt(a->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (a->ca.n) {
        curl_easy_setopt(a->curl, CURLOPT_CAINFO, buf_str(&a->ca));
        curl_easy_setopt(a->curl, CURLOPT_CAPATH, NULL);
    }
    if (body) {
        curl_easy_setopt(a->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)sent.n);
        curl_easy_setopt(a->curl, CURLOPT_POSTFIELDS, buf_str(&sent));
    }
    CURLcode done = curl_easy_perform(a->curl);
    if (a->shown)
        fputs("\r\033[K", stderr);
    a->shown = 0;
    if (done != CURLE_OK)
        return err_set(err, MUSTER_ENETWORK, "%s could not be reached: %s.", buf_str(&a->url), why[0] ? why : curl_easy_strerror(done));
    long status = 0;
    curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
    answer->status = (int)status;
    return status >= 200 && status < 300 ? 0 : refusal(answer, problem, err);
}

int api_json(struct api *a, const char *method, const char *path, const json_t *body, json_t **out, json_t **problem, struct err *err) {
    CLEANUP(api_answer_fini) struct api_answer answer = {0};
    int rc = api_call(a, method, path, body, &answer, problem, err);
    if (rc)
        return rc;
    *out = json_parse(buf_span(&answer.body), err);
    return *out ? 0 : MUSTER_EJSON;
}
