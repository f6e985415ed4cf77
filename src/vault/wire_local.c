/* vault/wire_local: the messages of `musterd vault status` and `musterd vault rekey`; see wire.h. */
#include "vault/wire.h"

int wire_local_read(struct span message, struct wire_local_request *out) {
    struct cursor c = cursor_of(message);
    *out = (struct wire_local_request){.op = cursor_u8(&c)};
    if (out->op == WIRE_LOCAL_REKEY) {
        out->kind = cursor_u8(&c);
        wire_get_fixed(&c, out->costs.salt, sizeof out->costs.salt);
        out->costs.operations = cursor_u32(&c);
        out->costs.memory = cursor_u64(&c);
        out->key = cursor_bytes(&c, KEY_MASTER_LEN);
    } else if (out->op != WIRE_LOCAL_STATUS) {
        c.failed = true;
    }
    return cursor_done(&c) ? 0 : MUSTER_EINVALID;
}

int wire_local_write(const struct wire_local_request *rq, struct buf *out) {
    buf_addc(out, (uint8_t)rq->op);
    if (rq->op == WIRE_LOCAL_REKEY) {
        buf_addc(out, (uint8_t)rq->kind);
        buf_add(out, span_of(rq->costs.salt, sizeof rq->costs.salt));
        buf_add_u32(out, rq->costs.operations);
        buf_add_u64(out, rq->costs.memory);
        buf_add(out, rq->key);
    }
    return buf_check(out, NULL);
}

int wire_status_read(struct span message, struct vault_status *out) {
    struct cursor c = cursor_of(message);
    wire_get_fixed(&c, out->id, sizeof out->id);
    out->kind = cursor_u8(&c);
    out->rekeys = cursor_u32(&c);
    out->rekeyed = (int64_t)cursor_u64(&c);
    out->version = cursor_u64(&c);
    for (size_t i = 0; i < VAULT_KEYS_N; i++)
        out->keys[i] = cursor_u32(&c);
    out->token = cursor_u8(&c);
    return cursor_done(&c) ? 0 : MUSTER_EINVALID;
}

int wire_status_write(const struct vault_status *s, struct buf *out) {
    buf_add(out, span_of(s->id, sizeof s->id));
    buf_addc(out, (uint8_t)s->kind);
    buf_add_u32(out, s->rekeys);
    buf_add_u64(out, (uint64_t)s->rekeyed);
    buf_add_u64(out, s->version);
    for (size_t i = 0; i < VAULT_KEYS_N; i++)
        buf_add_u32(out, s->keys[i]);
    buf_addc(out, (uint8_t)s->token);
    return buf_check(out, NULL);
}
