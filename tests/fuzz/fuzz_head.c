/* Heads of requests: what one reading says, every reading in pieces says as well; what is accepted says one thing only. */
#include "base/buf.h"
#include "fuzz.h"
#include "http/head.h"
#include "http/uri.h"

static const struct head_limits LIMITS = {.bytes = 2048, .target = 512, .fields = 16};
static const struct head_limits OPERATORS = {.bytes = 2048, .target = 512, .fields = 16, .names_in_path = true};
static const struct head_limits ANYBODY = {.bytes = 2048, .target = 512, .fields = 16, .old_version = true};

static int scan(struct span in, size_t step, struct head_scan *st) {
    struct err err = ERR_INIT;
    *st = (struct head_scan){0};
    for (size_t n = step < in.n ? step : in.n;; n = n + step < in.n ? n + step : in.n) {
        int rc = head_scan(st, span_sub(in, 0, n), &LIMITS, &err);
        MUST(rc == 0 || (rc == err.code && err.text[0]));
        MUST(st->at <= n && st->end <= n);
        if (rc || st->end || n == in.n)
            return rc;
    }
}

/* The request as it was understood, written down again. */
static void write_head(const struct http_head *h, struct buf *out) {
    buf_add(out, h->method);
    buf_addc(out, ' ');
    buf_add(out, h->target);
    buf_adds(out, " HTTP/1.1\r\n");
    for (size_t i = 0; i < h->n_fields; i++) {
        buf_add(out, h->fields[i].name);
        buf_addc(out, ':');
        buf_add(out, h->fields[i].value);
        buf_adds(out, "\r\n");
    }
    buf_adds(out, "\r\n");
}

static void check_accepted(const struct http_head *h, struct span head) {
    MUST(head_is_token(h->method) && h->method.n <= HEAD_METHOD_MAX);
    MUST(h->target.n >= 1 && h->target.n <= LIMITS.target && h->target.p[0] == '/');
    MUST(uri_check_path(h->path, NULL) == 0 && uri_check_query(h->query, NULL) == 0);
    MUST(h->path.n + h->query.n <= h->target.n && span_inside(h->target, head));
    MUST(span_index(h->path, '?') < 0 && span_index(h->target, '#') < 0);
    MUST(!(h->has_length && h->chunked));
    MUST(h->host.n > 0 && span_inside(h->host, head));
    MUST(h->n_fields >= 1 && h->n_fields <= LIMITS.fields);
    size_t hosts = 0, lengths = 0, codings = 0;
    for (size_t i = 0; i < h->n_fields; i++) {
        struct span value = h->fields[i].value;
        MUST(head_is_token(h->fields[i].name) && span_inside(h->fields[i].name, head) && span_inside(value, head));
        MUST(span_eq(value, span_trim(value)) && span_index(value, '\r') < 0 && span_index(value, '\n') < 0 && span_index(value, 0) < 0);
        for (size_t j = 0; j < i; j++) { /* whoever takes them for one takes them for one either way round */
            bool alike = head_names_alike(h->fields[i].name, h->fields[j].name);
            MUST(alike == head_names_alike(h->fields[j].name, h->fields[i].name));
            MUST(alike || !span_eq_nocase(h->fields[i].name, h->fields[j].name));
        }
        hosts += span_eq_nocase(h->fields[i].name, SPAN_LIT("host"));
        lengths += span_eq_nocase(h->fields[i].name, SPAN_LIT("content-length"));
        codings += span_eq_nocase(h->fields[i].name, SPAN_LIT("transfer-encoding"));
    }
    MUST(hosts == 1 && lengths == h->has_length && codings == h->chunked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n);
    struct head_scan whole, pieces;
    int rc = scan(in, n ? n : 1, &whole);
    for (size_t step = 1; step <= 3; step += 2) {
        int again = scan(in, step, &pieces);
        MUST(again == rc && (rc || pieces.end == whole.end));
    }
    bool complete = rc == 0 && whole.end;
    /* Bytes that head_scan refused or never saw: an empty line missing, or too much behind it. */
    struct http_field fields[HEAD_FIELDS_MAX], others[HEAD_FIELDS_MAX];
    struct http_head h = {.fields = fields}, same = {.fields = others};
    struct err err = ERR_INIT;
    rc = head_read(in, &LIMITS, &h, &err);
    MUST(rc == 0 || rc == err.code);
    if (!complete)
        return 0;
    struct span head = span_sub(in, 0, whole.end);
    MUST(whole.end <= LIMITS.bytes && span_ends(head, SPAN_LIT("\r\n\r\n")));
    h = (struct http_head){.fields = fields};
    err = ERR_INIT;
    rc = head_read(head, &LIMITS, &h, &err);
    MUST(rc == 0 || rc == err.code);
    /* The operators' listener takes the same, and in a path encoded slashes, backslashes and dots besides. */
    int theirs = head_read(head, &OPERATORS, &same, NULL);
    MUST(rc ? theirs != 0 || uri_check_path(same.path, NULL) != 0 : theirs == 0);
    /* The plain listener takes the same, and HTTP/1.0 besides: once a connection, and never in pieces. */
    struct http_head old = {.fields = others};
    int plain = head_read(head, &ANYBODY, &old, NULL);
    MUST(rc ? plain != 0 || (old.old && old.close && !old.chunked && !old.expect_continue) : plain == 0 && !old.old && old.close == h.close);
    if (rc)
        return 0;
    check_accepted(&h, head);
    CLEANUP(buf_fini) struct buf text = BUF_INIT(2 * LIMITS.bytes);
    write_head(&h, &text);
    same = (struct http_head){.fields = others};
    MUST(buf_ok(&text) && head_read(buf_span(&text), &LIMITS, &same, NULL) == 0);
    MUST(span_eq(h.target, same.target) && span_eq(h.host, same.host) && h.n_fields == same.n_fields && h.has_length == same.has_length &&
         h.length == same.length && h.chunked == same.chunked && h.close == same.close && h.expect_continue == same.expect_continue);
    return 0;
}
