/* vault/wire_ocsp: the fields of OCSP_SIGN; see wire.h. */
#include "vault/wire.h"

void wire_get_ocsp(struct cursor *c, struct vault_ocsp *o) {
    o->account = wire_get_bytes(c);
    wire_get_fixed(c, o->key_id, sizeof o->key_id);
    o->life = (int64_t)cursor_u64(c);
    o->nonce = wire_get_bytes(c);
    o->n = cursor_u16(c);
    if (o->n < 1 || o->n > OCSP_SINGLES_MAX || o->nonce.n > OCSP_NONCE_MAX)
        c->failed = true;
    for (size_t i = 0; i < o->n && !c->failed; i++) {
        struct ocsp_single *s = &o->at[i];
        const uint8_t hash = cursor_u8(c);
        s->null = wire_get_bool(c);
        const uint8_t status = cursor_u8(c);
        const struct span serial = wire_get_bytes(c);
        if (hash < OCSP_SHA1 || hash > OCSP_SHA256 || status > OCSP_UNKNOWN || serial.n < 1 || serial.n > OCSP_SERIAL_MAX) {
            c->failed = true;
            return;
        }
        s->hash = (enum ocsp_hash)hash;
        s->status = (enum ocsp_status)status;
        memcpy(s->serial, serial.p, serial.n);
        s->serial_n = (uint8_t)serial.n;
        s->revoked = (int64_t)cursor_u64(c);
        s->reason = cursor_u8(c);
    }
}

void wire_put_ocsp(struct buf *b, const struct vault_ocsp *o) {
    wire_put_bytes(b, o->account);
    buf_add(b, span_of(o->key_id, sizeof o->key_id));
    buf_add_u64(b, (uint64_t)o->life);
    wire_put_bytes(b, o->nonce);
    buf_add_u16(b, (uint16_t)o->n);
    for (size_t i = 0; i < o->n; i++) {
        const struct ocsp_single *s = &o->at[i];
        buf_addc(b, (uint8_t)s->hash);
        buf_addc(b, s->null);
        buf_addc(b, (uint8_t)s->status);
        wire_put_bytes(b, span_of(s->serial, s->serial_n));
        buf_add_u64(b, (uint64_t)s->revoked);
        buf_addc(b, s->reason);
    }
}
