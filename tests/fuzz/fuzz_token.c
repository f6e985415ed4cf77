/* The messages between the vault and the token's process: no reader looks beyond its message, and one that was read is written back byte for byte. */
#include "fuzz.h"
#include "keys/token_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n);
    struct token_request rq;
    struct token_answer a;
    CLEANUP(buf_fini) struct buf out = BUF_INIT(TOKEN_MESSAGE_MAX);
    if (n > TOKEN_MESSAGE_MAX)
        return 0;
    if (token_request_read(in, &rq) == 0) {
        MUST(strlen(rq.label) <= TOKEN_LABEL_MAX);
        MUST(token_request_write(&rq, &out) == 0 && span_eq(buf_span(&out), in));
    }
    buf_clear(&out);
    if (token_answer_read(in, &a) == 0) {
        MUST(strlen(a.text) <= TOKEN_TEXT_MAX);
        MUST(token_answer_write(&a, &out) == 0 && span_eq(buf_span(&out), in));
    }
    return 0;
}
