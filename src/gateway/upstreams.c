/* upstreams: see upstreams.h. */
#include "gateway/upstreams.h"

#include <arpa/inet.h>
#include <fcntl.h>

#include "base/file.h"
#include "http/tls_client.h"
#include "http/uri.h"

#define SYSTEM_CAS "/etc/ssl/certs/ca-certificates.crt"
#define PEM_MAX (4 * 1024 * 1024)

struct upstreams {
    struct route *at;
    size_t n;
};

/* What Muster keeps to itself, whatever the configuration says. */
static const char *const OWN[] = {"/devices", "/.well-known/est", "/time"};

static bool lies_under(struct span path, struct span prefix) {
    return span_starts(path, prefix) && (path.n == prefix.n || path.p[prefix.n] == '/');
}

/* --- templates of paths ---------------------------------------------------------------------------------------------------------- */

/* The next piece of a template: a text, or the name of a placeholder. */
static bool next_piece(struct span *template, struct span *piece, bool *placeholder) {
    if (template->n == 0)
        return false;
    *placeholder = template->p[0] == '{';
    long end = span_index(*template, *placeholder ? '}' : '{');
    size_t n = end < 0 ? template->n : (size_t)end;
    *piece = *placeholder ? span_sub(*template, 1, n - 1) : span_sub(*template, 0, n);
    *template = span_sub(*template, n + (*placeholder && end >= 0), template->n);
    return true;
}

static struct span value_of(struct span name, struct span rest, const struct route_device *d) {
    return span_eq_str(name, "rest") ? rest : span_eq_str(name, "account") ? d->account : span_eq_str(name, "uuid") ? d->uuid : span_eq_str(name, "device_id") ? d->device_id : SPAN_NONE;
}

static void compose(const struct route *r, struct span path, const struct route_device *d, struct buf *out) {
    struct span template = span_str(r->settings->path), piece;
    size_t before = out->n;
    bool placeholder;
    if (template.n == 0)
        buf_add(out, path);
    while (next_piece(&template, &piece, &placeholder))
        buf_add(out, placeholder ? value_of(piece, span_sub(path, r->prefix.n, path.n), d) : piece);
    if (out->n == before)
        buf_adds(out, "/");
}

int route_path(const struct route *r, struct span path, const struct route_device *d, struct buf *out, struct err *err) {
    size_t before = out->n;
    struct err why = ERR_INIT;
    compose(r, path, d, out);
    /* Devices may choose their own IDs: "..", or one with a slash, must not make one device's path another's. */
    if (buf_ok(out) && uri_check_path(span_sub(buf_span(out), before, out->n), &why))
        return err_set(err, MUSTER_EHTTPMALFORMED, "The device's ID cannot stand in the path behind: %s", err_text(&why));
    return 0;
}

/* With anything in the places of the placeholders it has to be a path. */
static int check_template(const struct route *r, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    struct span template = span_str(r->settings->path), piece;
    const struct route_device d = {SPAN_LIT("a"), SPAN_LIT("u"), SPAN_LIT("d")};
    bool placeholder;
    while (next_piece(&template, &piece, &placeholder))
        if (placeholder && value_of(piece, SPAN_LIT("/"), &d).n == 0)
            return err_set(err, MUSTER_ECONFIG, "path has {%.*s}, which is none of {rest}, {account}, {uuid} and {device_id}.", SPAN_FMT(piece));
    buf_add(&path, r->prefix);
    for (int i = 0; i < 2; i++) { /* the prefix itself, and something below it */
        CLEANUP(buf_fini) struct buf there = BUF_INIT(4096);
        struct err why = ERR_INIT;
        compose(r, buf_span(&path), &d, &there);
        if (uri_check_path(buf_span(&there), &why))
            return err_set(err, MUSTER_ECONFIG, "path does not make a path: %s", err_text(&why));
        buf_adds(&path, "/x");
    }
    return 0;
}

/* --- upstreams ------------------------------------------------------------------------------------------------------------------------ */

static int bad_upstream(struct err *err) {
    return err_set(err, MUSTER_ECONFIG, "upstream is http://HOST[:PORT] or https://HOST[:PORT], without a path; an IPv6 address stands in brackets.");
}

static int read_upstream(struct route *r, bool *tls, struct err *err) {
    struct span url = span_str(r->settings->upstream);
    *tls = span_starts(url, SPAN_LIT("https://"));
    if (!*tls && !span_starts(url, SPAN_LIT("http://")))
        return bad_upstream(err);
    struct span rest = span_sub(url, *tls ? 8 : 7, url.n), host = rest, port = SPAN_NONE;
    if (span_index(rest, '/') >= 0 || span_index(rest, '@') >= 0 || span_index(rest, ' ') >= 0 || span_index(rest, '?') >= 0)
        return bad_upstream(err);
    long end = rest.n && rest.p[0] == '[' ? span_index(rest, ']') : -1, colon = span_index(span_sub(rest, (size_t)(end + 1), rest.n), ':');
    if (colon >= 0) {
        host = span_sub(rest, 0, (size_t)(end + 1 + colon));
        port = span_sub(rest, (size_t)(end + 1 + colon) + 1, rest.n);
    }
    uint64_t number = *tls ? 443 : 80;
    if (host.n == 0 || (colon >= 0 && (!span_to_u64(port, &number) || number == 0 || number > 65535)))
        return bad_upstream(err);
    struct span plain = end > 0 ? span_sub(host, 1, (size_t)end - 1) : host;
    r->host = strndup((const char *)plain.p, plain.n);
    r->authority = strndup((const char *)rest.p, rest.n);
    if (!r->host || !r->authority)
        return err_set(err, MUSTER_ENOMEM, NULL);
    r->origin.host = r->host;
    r->origin.port = (uint16_t)number;
    return 0;
}

static int read_tls(struct route *r, struct err *err) {
    const struct route_settings *s = r->settings;
    CLEANUP(buf_fini) struct buf ca = BUF_INIT(PEM_MAX);
    CLEANUP(buf_fini) struct buf chain = BUF_INIT(PEM_MAX);
    CLEANUP(buf_wipe) struct buf key = BUF_INIT(PEM_MAX);
    if (!s->tls_certificate[0] != !s->tls_key[0])
        return err_set(err, MUSTER_ECONFIG, "tls_certificate and tls_key belong together.");
    int rc = file_read(AT_FDCWD, s->tls_ca[0] ? s->tls_ca : SYSTEM_CAS, &ca, err);
    if (!rc && s->tls_key[0] && !(rc = file_read(AT_FDCWD, s->tls_certificate, &chain, err)))
        rc = file_read(AT_FDCWD, s->tls_key, &key, err);
    r->origin.tls_name = s->tls_name[0] ? s->tls_name : r->host;
    return rc ? rc : tls_client_new(buf_span(&ca), buf_span(&chain), buf_span(&key), &r->origin.tls, err);
}

static int read_route(struct route *r, struct err *err) {
    const struct route_settings *s = r->settings;
    bool tls;
    r->prefix = strcmp(s->prefix, "/") ? span_str(s->prefix) : SPAN_LIT("");
    r->origin = (struct http_origin){.connect_ms = (int)s->connect_timeout * 1000, .response_ms = (int)s->response_timeout * 1000,
                                     .idle_ms = (int)s->idle_timeout * 1000, .connections = (size_t)s->connections};
    for (size_t i = 0; i < sizeof OWN / sizeof *OWN; i++)
        if (lies_under(r->prefix, span_str(OWN[i])))
            return err_set(err, MUSTER_ECONFIG, "%s is Muster's own.", OWN[i]);
    int rc = read_upstream(r, &tls, err);
    if (!rc && s->path[0])
        rc = check_template(r, err);
    if (!rc && tls)
        rc = read_tls(r, err);
    else if (!rc && (s->tls_ca[0] || s->tls_key[0] || s->tls_certificate[0] || s->tls_name[0]))
        rc = err_set(err, MUSTER_ECONFIG, "tls_… is for an upstream with https://.");
    return rc;
}

/* --- the table -------------------------------------------------------------------------------------------------------------------------- */

static bool has_word(const char *list, struct span word) {
    for (struct span rest = span_str(list); rest.n;) {
        long blank = span_index(rest, ' ');
        if (span_eq(blank < 0 ? rest : span_sub(rest, 0, (size_t)blank), word))
            return true;
        rest = blank < 0 ? SPAN_NONE : span_sub(rest, (size_t)blank + 1, rest.n);
    }
    return false;
}

/* Longest prefix first; of the same, those for certain accounts. */
static int by_prefix(const void *a, const void *b) {
    const struct route *left = a, *right = b;
    if (left->prefix.n != right->prefix.n)
        return left->prefix.n < right->prefix.n ? 1 : -1;
    return (left->settings->accounts[0] == '\0') - (right->settings->accounts[0] == '\0');
}

static int check_twins(const struct upstreams *r, struct err *err) {
    for (size_t i = 1; i < r->n; i++) {
        const struct route *a = &r->at[i - 1], *b = &r->at[i];
        if (span_eq(a->prefix, b->prefix) && !strcmp(a->settings->accounts, b->settings->accounts))
            return err_set(err, MUSTER_ECONFIG, "There are two routes [route %s] for the same accounts.", a->settings->prefix);
    }
    return 0;
}

void upstreams_free(struct upstreams *r) {
    for (size_t i = 0; r && i < r->n; i++) {
        SSL_CTX_free(r->at[i].origin.tls);
        free(r->at[i].host);
        free(r->at[i].authority);
    }
    if (r)
        free(r->at);
    free(r);
}

int upstreams_new(const struct settings *s, struct upstreams **out, struct err *err) {
    CLEANUP(upstreams_free) struct upstreams *r = calloc(1, sizeof *r);
    if (!r || !(r->at = calloc(s->n_routes + 1, sizeof *r->at)))
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (size_t i = 0; i < s->n_routes; i++) {
        r->n = i + 1;
        r->at[i].settings = &s->routes[i];
        int rc = read_route(&r->at[i], err);
        if (rc) {
            err_prefix(err, "[route %s]", s->routes[i].prefix);
            return rc;
        }
    }
    qsort(r->at, r->n, sizeof *r->at, by_prefix);
    int rc = check_twins(r, err);
    if (!rc)
        *out = TAKE(r);
    return rc;
}

bool upstreams_have_names(const struct upstreams *r) {
    uint8_t any[16];
    for (size_t i = 0; i < r->n; i++)
        if (inet_pton(AF_INET, r->at[i].host, any) != 1 && inet_pton(AF_INET6, r->at[i].host, any) != 1 && strcmp(r->at[i].host, "localhost"))
            return true;
    return false;
}

const struct route *upstreams_find(const struct upstreams *r, struct span path, struct span account) {
    for (size_t i = 0; i < sizeof OWN / sizeof *OWN; i++)
        if (lies_under(path, span_str(OWN[i])))
            return NULL;
    for (size_t i = 0; i < r->n; i++)
        if (lies_under(path, r->at[i].prefix) && (!r->at[i].settings->accounts[0] || has_word(r->at[i].settings->accounts, account)))
            return &r->at[i];
    return NULL;
}
