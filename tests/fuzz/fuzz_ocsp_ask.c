/* The messages between the gateway's loops and control about OCSP: no reader looks beyond its message, and one that was read is written back byte for byte. */
#include "fuzz.h"
#include "registry/ocsp_ask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n);
    struct ocsp_question q;
    struct ocsp_told t;
    CLEANUP(buf_fini) struct buf out = BUF_INIT(OCSP_TOLD_MAX);
    if (n > OCSP_TOLD_MAX)
        return 0;
    if (ocsp_question_read(in, &q) == 0) {
        MUST(q.id && span_inside(q.account, in) && span_inside(q.der, in) && q.account.n <= ACCOUNT_NAME_MAX && q.der.n <= OCSP_REQUEST_MAX);
        MUST(ocsp_question_write(&q, &out) == 0 && span_eq(buf_span(&out), in));
    }
    buf_clear(&out);
    if (ocsp_told_read(in, &t) == 0) {
        MUST(t.id && span_inside(t.der, in));
        MUST(ocsp_told_write(&t, &out) == 0 && span_eq(buf_span(&out), in));
    }
    return 0;
}
