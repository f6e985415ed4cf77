/* vault/wire_export: the messages of `musterd vault export`; see wire.h. */
#include "vault/wire.h"

int wire_wanted_read(struct span message, struct vault_export *out) {
    struct cursor c = cursor_of(message);
    uint32_t id = cursor_u32(&c);
    uint16_t number = cursor_u16(&c);
    if (id != 0 || number != WIRE_EXPORT_WANTED)
        return MUSTER_EINVALID;
    wire_get_fixed(&c, out->nonce, sizeof out->nonce);
    out->account = wire_get_bytes(&c);
    out->uid = cursor_u32(&c);
    out->pid = cursor_u32(&c);
    return wire_get_end(&c);
}

int wire_wanted_write(const struct vault_export *w, struct buf *out) {
    buf_add_u32(out, 0);
    buf_add_u16(out, WIRE_EXPORT_WANTED);
    buf_add(out, span_of(w->nonce, sizeof w->nonce));
    wire_put_bytes(out, w->account);
    buf_add_u32(out, w->uid);
    buf_add_u32(out, w->pid);
    return buf_check(out, NULL);
}

int wire_export_read(struct span message, struct span *account, struct span *passphrase) {
    struct cursor c = cursor_of(message);
    *account = wire_get_bytes(&c);
    *passphrase = wire_get_bytes(&c);
    return wire_get_end(&c);
}

int wire_export_write(struct span account, struct span passphrase, struct buf *out) {
    wire_put_bytes(out, account);
    wire_put_bytes(out, passphrase);
    return buf_check(out, NULL);
}

int wire_export_answer_read(struct span message, struct wire_export_answer *out) {
    struct cursor c = cursor_of(message);
    out->rc = wire_get_code(&c);
    out->text = wire_get_bytes(&c);
    return wire_get_end(&c);
}

int wire_export_answer_write(const struct wire_export_answer *a, struct buf *out) {
    wire_put_code(out, a->rc);
    wire_put_bytes(out, a->text);
    return buf_check(out, NULL);
}
