/* The vault's messages: no reader looks beyond its message, and a message that was read is written back byte for byte. */
#include "fuzz.h"
#include "vault/wire.h"

static void check_request(struct span in) {
    static struct wire_request rq;
    uint32_t id;
    uint16_t number;
    if (wire_request_read(in, &rq))
        return;
    MUST(wire_peek(in, &id, &number) && id == rq.id && number == rq.type && id != 0 && wire_name(number));
    CLEANUP(buf_fini) struct buf out = BUF_INIT(WIRE_MESSAGE_MAX);
    MUST(wire_request_write(&rq, &out) == 0 && span_eq(buf_span(&out), in));
}

/* An unknown code is read as internal_error, and a wait of more than 68 years as 68 years: such an answer settles after one round. */
static bool answer_is_exact(const struct wire_answer *a, struct span in) {
    if (!a->rc)
        return true;
    struct cursor c = cursor_of(in);
    cursor_bytes(&c, 6);
    struct span code = wire_get_bytes(&c);
    return span_eq_str(code, err_code(a->rc)) && cursor_u32(&c) <= INT32_MAX;
}

static void check_answer(struct span in) {
    struct wire_answer a, same;
    if (wire_answer_read(in, &a))
        return;
    CLEANUP(buf_fini) struct buf out = BUF_INIT(WIRE_MESSAGE_MAX + 64);
    CLEANUP(buf_fini) struct buf again = BUF_INIT(WIRE_MESSAGE_MAX + 64);
    MUST(a.id && wire_answer_write(&a, &out) == 0);
    if (answer_is_exact(&a, in))
        MUST(span_eq(buf_span(&out), in));
    MUST(wire_answer_read(buf_span(&out), &same) == 0 && same.rc == a.rc && same.retry_after == a.retry_after);
    MUST(wire_answer_write(&same, &again) == 0 && span_eq(buf_span(&out), buf_span(&again)));
}

static void check_export(struct span in) {
    struct vault_export wanted;
    struct span account, passphrase;
    struct wire_export_answer a;
    CLEANUP(buf_fini) struct buf out = BUF_INIT(2 * WIRE_MESSAGE_MAX);
    if (wire_wanted_read(in, &wanted) == 0)
        MUST(wire_wanted_write(&wanted, &out) == 0 && span_eq(buf_span(&out), in));
    buf_clear(&out);
    if (wire_export_read(in, &account, &passphrase) == 0)
        MUST(wire_export_write(account, passphrase, &out) == 0 && span_eq(buf_span(&out), in));
    buf_clear(&out);
    if (wire_export_answer_read(in, &a) == 0) {
        struct cursor c = cursor_of(in);
        struct span code = wire_get_bytes(&c);
        MUST(wire_export_answer_write(&a, &out) == 0);
        if (span_eq_str(code, a.rc ? err_code(a.rc) : ""))
            MUST(span_eq(buf_span(&out), in));
    }
}

static void check_local(struct span in) {
    struct wire_local_request rq;
    struct vault_status status;
    CLEANUP(buf_fini) struct buf out = BUF_INIT(WIRE_MESSAGE_MAX);
    if (wire_local_read(in, &rq) == 0)
        MUST(wire_local_write(&rq, &out) == 0 && span_eq(buf_span(&out), in));
    buf_clear(&out);
    if (wire_status_read(in, &status) == 0)
        MUST(wire_status_write(&status, &out) == 0 && span_eq(buf_span(&out), in));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n);
    if (n > WIRE_MESSAGE_MAX)
        return 0;
    check_request(in);
    check_answer(in);
    check_export(in);
    check_local(in);
    return 0;
}
