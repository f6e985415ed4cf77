/* ocsp_ask: see ocsp_ask.h. */
#include "registry/ocsp_ask.h"

#include "base/cursor.h"

int ocsp_question_read(struct span message, struct ocsp_question *out) {
    struct cursor c = cursor_of(message);
    out->id = cursor_u32(&c);
    out->account = cursor_bytes(&c, cursor_u8(&c));
    out->der = cursor_bytes(&c, cursor_u16(&c));
    return cursor_done(&c) && out->id && out->account.n <= ACCOUNT_NAME_MAX && out->der.n <= OCSP_REQUEST_MAX ? 0 : MUSTER_EINVALID;
}

int ocsp_question_write(const struct ocsp_question *q, struct buf *out) {
    if (q->account.n > ACCOUNT_NAME_MAX || q->der.n > OCSP_REQUEST_MAX)
        return MUSTER_EINVALID;
    buf_add_u32(out, q->id);
    buf_addc(out, (uint8_t)q->account.n);
    buf_add(out, q->account);
    buf_add_u16(out, (uint16_t)q->der.n);
    buf_add(out, q->der);
    return buf_check(out, NULL);
}

int ocsp_told_read(struct span message, struct ocsp_told *out) {
    struct cursor c = cursor_of(message);
    *out = (struct ocsp_told){.id = cursor_u32(&c), .what = (enum ocsp_answer)cursor_u8(&c)};
    if (c.failed || !out->id)
        return MUSTER_EINVALID;
    if (out->what != OCSP_SUCCESSFUL)
        return cursor_done(&c) && (out->what == OCSP_INTERNAL || out->what == OCSP_LATER || out->what == OCSP_UNAUTHORIZED || out->what == OCSP_MALFORMED) ? 0 : MUSTER_EINVALID;
    out->this_update = (int64_t)cursor_u64(&c);
    out->next_update = (int64_t)cursor_u64(&c);
    struct span said = cursor_bytes(&c, sizeof out->said.b);
    if (said.n)
        memcpy(out->said.b, said.p, said.n);
    uint8_t all = cursor_u8(&c);
    out->all = all == 1;
    out->der = cursor_bytes(&c, cursor_u16(&c));
    return cursor_done(&c) && all <= 1 ? 0 : MUSTER_EINVALID;
}

int ocsp_told_write(const struct ocsp_told *t, struct buf *out) {
    buf_add_u32(out, t->id);
    buf_addc(out, (uint8_t)t->what);
    if (t->what == OCSP_SUCCESSFUL) {
        if (t->der.n > UINT16_MAX)
            return MUSTER_ENOMEM;
        buf_add_u64(out, (uint64_t)t->this_update);
        buf_add_u64(out, (uint64_t)t->next_update);
        buf_add(out, hash_span(&t->said));
        buf_addc(out, t->all);
        buf_add_u16(out, (uint16_t)t->der.n);
        buf_add(out, t->der);
    }
    return buf_check(out, NULL);
}
