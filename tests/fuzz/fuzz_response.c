/* Answers from behind, head and body, as client.c takes them: what one reading says, every reading in pieces says as well; one meaning alone;
 * what is taken for the answer is all that was read, so that nothing of it is left to be taken for the next one. */
#include "base/buf.h"
#include "fuzz.h"
#include "http/chunked.h"
#include "http/response.h"

#define BODY_MAX 4096

static const struct head_limits LIMITS = {.bytes = 2048, .target = 512, .fields = 16};

static int scan(struct span in, size_t step, struct head_scan *st) {
    *st = (struct head_scan){0};
    for (size_t n = step < in.n ? step : in.n;; n = n + step < in.n ? n + step : in.n) {
        struct err err = ERR_INIT;
        int rc = head_scan(st, span_sub(in, 0, n), &LIMITS, &err);
        MUST(rc == 0 || (rc == err.code && err.text[0]));
        MUST(st->at <= n && st->end <= n && st->end <= LIMITS.bytes);
        if (rc || st->end || n == in.n)
            return rc;
    }
}

/* The answer as it was understood, written down again. */
static void write_head(const struct http_response *h, bool old, struct buf *out) {
    buf_addf(out, "HTTP/1.%d %03d Phrase\r\n", !old, h->status);
    for (size_t i = 0; i < h->n_fields; i++) {
        buf_add(out, h->fields[i].name);
        buf_adds(out, ": ");
        buf_add(out, h->fields[i].value);
        buf_adds(out, " \r\n");
    }
    buf_adds(out, "\r\n");
}

static bool is_digits(struct span s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

static void check_accepted(const struct http_response *h, struct span head, bool to_head) {
    size_t lengths = 0, codings = 0;
    bool none = to_head || h->status < 200 || h->status == 204 || h->status == 304;
    MUST(h->status >= 100 && h->status <= 599 && h->n_fields <= LIMITS.fields);
    for (size_t i = 0; i < h->n_fields; i++) {
        struct span name = h->fields[i].name, value = h->fields[i].value;
        MUST(head_is_token(name) && span_inside(name, head) && span_inside(value, head) && span_eq(value, span_trim(value)));
        MUST(span_index(value, '\r') < 0 && span_index(value, '\n') < 0 && span_index(value, 0) < 0);
        if (span_eq_nocase(name, SPAN_LIT("content-length"))) {
            lengths++;
            MUST(is_digits(value) && h->length >= 0);
        }
        if (span_eq_nocase(name, SPAN_LIT("transfer-encoding"))) {
            codings++;
            MUST(span_eq_nocase(value, SPAN_LIT("chunked")));
        }
    }
    MUST(lengths + codings <= 1 && (lengths == 1) == (h->length >= 0));
    MUST((h->body == RESPONSE_NONE) == none);
    MUST(none || h->body == (codings ? RESPONSE_CHUNKED : lengths ? RESPONSE_LENGTH : RESPONSE_UNTIL_CLOSE));
    MUST(h->close || h->body != RESPONSE_UNTIL_CLOSE);
    MUST(h->close || h->status != 204 || (!codings && h->length <= 0)); /* another reader would see a body there */
    MUST(!codings || span_starts(head, SPAN_LIT("HTTP/1.1 ")));
}

/* What follows the head, decoded as client.c does; -1 refused, 0 more is needed, 1 complete. */
static int read_body(const struct http_response *h, struct span in, size_t step, size_t *total, struct buf *out) {
    struct chunked c = {.max = UINT64_MAX, .skip_trailers = true};
    CLEANUP(buf_fini) struct buf piece = BUF_INIT(BODY_MAX);
    *total = 0;
    if (h->body != RESPONSE_CHUNKED) {
        *total = h->body == RESPONSE_NONE ? 0 : h->body == RESPONSE_LENGTH && (uint64_t)h->length < in.n ? (size_t)h->length : in.n;
        buf_add(out, span_sub(in, 0, *total));
        return h->body == RESPONSE_NONE || (h->body == RESPONSE_LENGTH && *total == (uint64_t)h->length);
    }
    while (c.state != CHUNKED_DONE && *total < in.n) {
        struct err err = ERR_INIT;
        struct span part = span_sub(in, *total, step);
        size_t used = part.n + 1;
        buf_clear(&piece);
        int rc = chunked_feed(&c, part, &used, &piece, &err);
        MUST(piece.n <= part.n && buf_ok(&piece)); /* a piece never grows, so that client.c's buffer is always enough */
        if (rc) {
            MUST(rc == err.code && err.text[0]);
            buf_add(out, buf_span(&piece));
            return -1;
        }
        MUST(used == part.n || (c.state == CHUNKED_DONE && used < part.n));
        buf_add(out, buf_span(&piece));
        *total += used;
    }
    return c.state == CHUNKED_DONE;
}

static void check_body(const struct http_response *h, struct span rest) {
    CLEANUP(buf_fini) struct buf whole = BUF_INIT(BODY_MAX);
    size_t used, again;
    int rc = read_body(h, rest, rest.n ? rest.n : 1, &used, &whole);
    MUST(buf_ok(&whole) && used <= rest.n);
    for (size_t step = 1; step <= 7; step += 3) {
        CLEANUP(buf_fini) struct buf pieces = BUF_INIT(BODY_MAX);
        MUST(read_body(h, rest, step, &again, &pieces) == rc && span_eq(buf_span(&whole), buf_span(&pieces)));
        MUST(rc < 0 || again == used);
    }
    if (rc == 1 && h->body == RESPONSE_CHUNKED)
        MUST(used >= 5 && span_ends(span_sub(rest, 0, used), SPAN_LIT("\r\n\r\n")));
}

static void check_same(const struct http_response *a, const struct http_response *b) {
    MUST(a->status == b->status && a->body == b->body && a->length == b->length && a->close == b->close && a->n_fields == b->n_fields);
    for (size_t i = 0; i < a->n_fields; i++)
        MUST(span_eq(a->fields[i].name, b->fields[i].name) && span_eq(a->fields[i].value, b->fields[i].value));
}

static void check_head(struct span head, struct span rest, bool to_head) {
    struct http_field fields[16], fields_again[16];
    struct http_response h = {.fields = fields}, same = {.fields = fields_again};
    struct err err = ERR_INIT;
    int rc = response_read(head, &LIMITS, to_head, &h, &err);
    if (rc) {
        MUST(rc == MUSTER_EUPSTREAM && rc == err.code && err.text[0]);
        return;
    }
    check_accepted(&h, head, to_head);
    check_body(&h, rest);
    CLEANUP(buf_fini) struct buf text = BUF_INIT(8192);
    bool old = span_starts(head, SPAN_LIT("HTTP/1.0"));
    write_head(&h, old, &text);
    MUST(buf_ok(&text));
    struct head_limits more = LIMITS;
    more.bytes = 8192;
    struct head_scan st = {0};
    MUST(head_scan(&st, buf_span(&text), &more, &err) == 0 && st.end == text.n);
    MUST(response_read(buf_span(&text), &more, to_head, &same, &err) == 0);
    check_same(&h, &same);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n < BODY_MAX ? n : BODY_MAX);
    struct head_scan whole, pieces;
    int rc = scan(in, in.n ? in.n : 1, &whole);
    for (size_t step = 1; step <= 3; step += 2) {
        MUST(scan(in, step, &pieces) == rc);
        if (rc == 0)
            MUST(pieces.end == whole.end);
    }
    if (rc || !whole.end)
        return 0;
    struct span head = span_sub(in, 0, whole.end), rest = span_sub(in, whole.end, in.n);
    check_head(head, rest, false);
    check_head(head, rest, true);
    return 0;
}
