/* Chunked bodies: the same in pieces of any size; what comes out, sent again in one chunk, comes out again; never more than the maximum. */
#include "fuzz.h"
#include "http/chunked.h"

#define BODY_MAX 300

/* The code, with the bytes that were used in all and the body in out. */
static int feed(struct span in, size_t step, struct chunked *c, size_t *total, struct buf *out) {
    *total = 0;
    *c = (struct chunked){0};
    while (c->state != CHUNKED_DONE && *total < in.n) {
        struct err err = ERR_INIT;
        struct span piece = span_sub(in, *total, step);
        size_t used = piece.n + 1;
        int rc = chunked_feed(c, piece, &used, out, &err);
        MUST(out->n <= BODY_MAX && buf_ok(out));
        if (rc) {
            MUST(rc == err.code && err.text[0] && (rc == MUSTER_EHTTPBODY || rc == MUSTER_EHTTPMALFORMED));
            return rc;
        }
        MUST(used == piece.n || (c->state == CHUNKED_DONE && used < piece.n));
        *total += used;
    }
    return 0;
}

/* A body that streams: its maximum is of the whole, not of what is in hand; trailers are read over, or refused. */
static int stream(struct span in, size_t step, uint64_t max, bool skip, size_t *total, struct buf *all) {
    struct chunked c = {.max = max, .skip_trailers = skip};
    CLEANUP(buf_fini) struct buf piece = BUF_INIT(BODY_MAX);
    *total = 0;
    while (c.state != CHUNKED_DONE && *total < in.n) {
        struct err err = ERR_INIT;
        struct span part = span_sub(in, *total, step);
        size_t used = 0;
        buf_clear(&piece);
        int rc = chunked_feed(&c, part, &used, &piece, &err);
        buf_add(all, buf_span(&piece));
        MUST(all->n <= max && piece.n <= part.n && c.skipped <= CHUNKED_TRAILERS_MAX + 1);
        if (rc) {
            MUST(rc == err.code && (rc == MUSTER_EHTTPBODY || rc == MUSTER_EHTTPMALFORMED));
            return rc;
        }
        *total += used;
    }
    return c.state == CHUNKED_DONE;
}

static void check_stream(struct span in) {
    size_t strictly, leniently, used;
    CLEANUP(buf_fini) struct buf strict = BUF_INIT(BODY_MAX);
    CLEANUP(buf_fini) struct buf lenient = BUF_INIT(BODY_MAX);
    int rc = stream(in, 3, BODY_MAX, false, &strictly, &strict), skipping = stream(in, 5, BODY_MAX, true, &leniently, &lenient);
    if (rc >= 0) /* what the strict one takes has no trailers */
        MUST(skipping == rc && leniently == strictly && span_eq(buf_span(&strict), buf_span(&lenient)));
    if (skipping == 1)
        MUST(span_ends(span_sub(in, 0, leniently), SPAN_LIT("\r\n\r\n")));
    if (skipping == 1 && lenient.n > 1) { /* one byte less is too little */
        CLEANUP(buf_fini) struct buf short_of = BUF_INIT(BODY_MAX);
        MUST(stream(in, 2, lenient.n - 1, true, &used, &short_of) == MUSTER_EHTTPBODY);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n < 700 ? n : 700);
    check_stream(in);
    in = span_of(data, n);
    struct chunked whole, pieces;
    size_t used, again;
    CLEANUP(buf_fini) struct buf body = BUF_INIT(BODY_MAX);
    int rc = feed(in, n ? n : 1, &whole, &used, &body);
    for (size_t step = 1; step <= 5; step += 2) {
        CLEANUP(buf_fini) struct buf other = BUF_INIT(BODY_MAX);
        int code = feed(in, step, &pieces, &again, &other);
        MUST(code == rc && span_eq(buf_span(&body), buf_span(&other)));
        if (rc == 0)
            MUST(again == used && pieces.state == whole.state && pieces.left == whole.left);
    }
    if (rc || whole.state != CHUNKED_DONE)
        return 0;
    MUST(used >= 5 && span_ends(span_sub(in, 0, used), SPAN_LIT("0\r\n\r\n")));
    CLEANUP(buf_fini) struct buf text = BUF_INIT(2 * BODY_MAX);
    CLEANUP(buf_fini) struct buf same = BUF_INIT(BODY_MAX);
    if (body.n)
        buf_addf(&text, "%zx\r\n", body.n);
    buf_add(&text, buf_span(&body));
    buf_addf(&text, "%s0\r\n\r\n", body.n ? "\r\n" : "");
    MUST(feed(buf_span(&text), text.n, &pieces, &again, &same) == 0 && pieces.state == CHUNKED_DONE && again == text.n);
    MUST(span_eq(buf_span(&body), buf_span(&same)));
    return 0;
}
