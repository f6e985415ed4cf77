/* PROXY headers: in pieces of any size the same verdict; what was accepted is one header of version 2 and nothing behind it, and says the
 * same when it is written again without its type-length-values. */
#include <arpa/inet.h>

#include "base/buf.h"
#include "fuzz.h"
#include "http/proxy_header.h"

/* As balancer.c reads: never more than the header has.  0 whole, 1 more is needed, or the refusal. */
static int take(struct span in, size_t step, size_t *total, struct proxy_header *out) {
    struct err err = ERR_INIT;
    size_t have = 0;
    for (;;) {
        int rc = proxy_header_scan(span_sub(in, 0, have), total, &err);
        if (rc) {
            MUST(rc == MUSTER_EINVALID && err.text[0]);
            return rc;
        }
        MUST(*total >= PROXY_HEADER_LEAST && *total <= PROXY_HEADER_MAX && have <= *total);
        if (have == *total)
            break;
        if (have == in.n)
            return 1;
        size_t left = *total - have, piece = step < left ? step : left;
        have = have + piece < in.n ? have + piece : in.n;
    }
    int rc = proxy_header_read(span_sub(in, 0, *total), out, &err);
    MUST(rc == 0 || (rc == MUSTER_EINVALID && err.text[0]));
    return rc;
}

static void check_again(const struct proxy_header *h, struct span in) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(PROXY_HEADER_MAX);
    struct proxy_header again;
    size_t total;
    bool v4 = h->source.sa.sa_family == AF_INET;
    MUST(v4 || h->source.sa.sa_family == AF_INET6);
    MUST(v4 == (in.p[13] == 0x11));
    buf_add(&b, span_of(in.p, 14));
    buf_add_u16(&b, v4 ? 12 : 36);
    buf_add(&b, v4 ? span_of(&h->source.in4.sin_addr, 4) : span_of(&h->source.in6.sin6_addr, 16));
    for (int i = 0; i < (v4 ? 4 : 16); i++)
        buf_addc(&b, 0);
    buf_add_u16(&b, ntohs(v4 ? h->source.in4.sin_port : h->source.in6.sin6_port));
    buf_add_u16(&b, 443);
    MUST(span_eq(span_sub(buf_span(&b), 0, 14), span_sub(in, 0, 14)));
    MUST(take(buf_span(&b), b.n, &total, &again) == 0 && total == b.n && !again.local);
    MUST(again.source.sa.sa_family == h->source.sa.sa_family && memcmp(&again.source, &h->source, v4 ? sizeof h->source.in4 : sizeof h->source.in6) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n);
    struct proxy_header whole = {0}, pieces = {0};
    size_t total = 0, other = 0;
    int rc = take(in, n ? n : 1, &total, &whole);
    for (size_t step = 1; step <= 5; step += 2)
        MUST(take(in, step, &other, &pieces) == rc && (rc || other == total));
    if (rc)
        return 0;
    MUST(in.p[12] >> 4 == 2 && memcmp(in.p, "\r\n\r\n\0\r\nQUIT\n", 12) == 0 && whole.local == pieces.local);
    if (!whole.local)
        check_again(&whole, in);
    return 0;
}
