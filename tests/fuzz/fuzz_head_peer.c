/* A second opinion on heads of requests: http-parser, which node, haproxy's tests and many proxies read them with.  We refuse much that it takes;
 * what we take it takes as well and reads as the same request, and where it ends and how long its body is are the same. */
#include <http_parser.h>
#include <limits.h>

#include "base/buf.h"
#include "fuzz.h"
#include "http/head.h"

static const struct head_limits LIMITS = {.bytes = 2048, .target = 512, .fields = 16};

struct reading {
    struct span target;
    struct http_field fields[HEAD_FIELDS_MAX];
    size_t n;
    bool in_value, complete, chunked, close;
    uint64_t length; /* ULLONG_MAX: none said */
};

/* Parts come in one piece, because the bytes do; where a part is empty it may not come at all. */
static int on_target(http_parser *p, const char *at, size_t n) {
    ((struct reading *)p->data)->target = span_of(at, n);
    return 0;
}

static int on_name(http_parser *p, const char *at, size_t n) {
    struct reading *r = p->data;
    if (r->n == HEAD_FIELDS_MAX) /* more than we take: an end, and a difference where we take it */
        return 1;
    r->fields[r->n++] = (struct http_field){.name = span_of(at, n)};
    return 0;
}

static int on_value(http_parser *p, const char *at, size_t n) {
    struct reading *r = p->data;
    MUST(r->n > 0);
    r->fields[r->n - 1].value = span_of(at, n);
    return 0;
}

static int on_complete(http_parser *p) {
    struct reading *r = p->data;
    r->complete = true;
    r->chunked = p->flags & F_CHUNKED;
    r->close = !http_should_keep_alive(p);
    r->length = p->content_length;
    return 2; /* whatever follows is none of it */
}

/* It takes a longer name that begins with Transfer-Encoding for that one. */
static bool mistakes_a_name(const struct http_head *h) {
    static const struct span coding = SPAN_LIT("transfer-encoding");
    for (size_t i = 0; i < h->n_fields; i++)
        if (h->fields[i].name.n > coding.n && span_eq_nocase(span_sub(h->fields[i].name, 0, coding.n), coding))
            return true;
    return false;
}

/* Behind the number it knows spaces alone; optional white space is spaces and tabs (RFC 9110, section 5.6.3). */
static bool tab_behind_the_length(struct span in, const struct http_head *h) {
    static const struct span length = SPAN_LIT("content-length");
    for (size_t i = 0; i < h->n_fields; i++) {
        if (!span_eq_nocase(h->fields[i].name, length))
            continue;
        const uint8_t *at = h->fields[i].value.p + h->fields[i].value.n, *end = in.p + in.n;
        while (at < end && *at == ' ')
            at++;
        if (at < end && *at == '\t')
            return true;
    }
    return false;
}

static void same(const struct http_head *h, const struct reading *r) {
    MUST(span_eq(h->target, r->target) && h->n_fields == r->n);
    for (size_t i = 0; i < r->n; i++)
        MUST(span_eq(h->fields[i].name, r->fields[i].name) && span_eq(h->fields[i].value, span_trim(r->fields[i].value)));
    MUST(h->chunked == r->chunked);
    MUST(h->close || !r->close); /* it overlooks "close" behind what begins like another word that it knows ("ke, close") */
    MUST(h->has_length ? r->length == h->length : r->length == ULLONG_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const http_parser_settings settings = {.on_url = on_target, .on_header_field = on_name, .on_header_value = on_value, .on_headers_complete = on_complete};
    struct span in = span_of(data, n);
    struct head_scan scan = {0};
    struct http_field fields[HEAD_FIELDS_MAX];
    struct http_head h = {.fields = fields};
    bool complete = head_scan(&scan, in, &LIMITS, NULL) == 0 && scan.end;
    bool ours = complete && head_read(span_sub(in, 0, scan.end), &LIMITS, &h, NULL) == 0;
    struct reading r = {.length = ULLONG_MAX};
    http_parser p = {.data = &r};
    http_parser_init(&p, HTTP_REQUEST);
    p.data = &r;
    size_t read = http_parser_execute(&p, &settings, (const char *)data, n);
    if (!ours)
        return 0;
    if (HTTP_PARSER_ERRNO(&p) == HPE_INVALID_METHOD || mistakes_a_name(&h)) /* it knows those methods that have a name */
        return 0;
    if (HTTP_PARSER_ERRNO(&p) == HPE_INVALID_CONTENT_LENGTH && tab_behind_the_length(in, &h))
        return 0;
    if (!r.complete || HTTP_PARSER_ERRNO(&p) != HPE_OK) {
        fprintf(stderr, "http-parser: %s\n", http_errno_description(HTTP_PARSER_ERRNO(&p)));
        MUST(!"taken by us alone");
    }
    MUST(read == scan.end || read + 1 == scan.end);
    same(&h, &r);
    return 0;
}
