/* vault/wire_answer: what the vault answers; see wire.h. */
#include "vault/wire.h"

static void get_issued(struct cursor *c, struct vault_issued *i) {
    i->der = wire_get_bytes(c);
    wire_get_fixed(c, i->issuer.b, sizeof i->issuer.b);
    wire_get_fixed(c, i->serial, sizeof i->serial);
    i->not_before = (int64_t)cursor_u64(c);
    i->not_after = (int64_t)cursor_u64(c);
}

static void put_issued(struct buf *b, const struct vault_issued *i) {
    wire_put_bytes(b, i->der);
    buf_add(b, hash_span(&i->issuer));
    buf_add(b, span_of(i->serial, sizeof i->serial));
    buf_add_u64(b, (uint64_t)i->not_before);
    buf_add_u64(b, (uint64_t)i->not_after);
}

static void get_view(struct cursor *c, struct vault_account_view *v) {
    v->version = cursor_u64(c);
    v->changed = wire_get_bool(c);
    v->kind = cursor_u8(c);
    v->method = cursor_u8(c);
    v->backend = cursor_u8(c);
    wire_get_policy(c, &v->policy);
    v->fleet_root = wire_get_bytes(c);
    v->issuing_ca = wire_get_bytes(c);
    v->provisioning_ca = wire_get_bytes(c);
    v->former = wire_get_bytes(c);
    v->crosses = wire_get_bytes(c);
    v->former_provisioning = wire_get_bytes(c);
}

static void put_view(struct buf *b, const struct vault_account_view *v) {
    buf_add_u64(b, v->version);
    buf_addc(b, v->changed);
    buf_addc(b, (uint8_t)v->kind);
    buf_addc(b, (uint8_t)v->method);
    buf_addc(b, (uint8_t)v->backend);
    wire_put_policy(b, &v->policy);
    wire_put_bytes(b, v->fleet_root);
    wire_put_bytes(b, v->issuing_ca);
    wire_put_bytes(b, v->provisioning_ca);
    wire_put_bytes(b, v->former);
    wire_put_bytes(b, v->crosses);
    wire_put_bytes(b, v->former_provisioning);
}

static void get_server_view(struct cursor *c, struct vault_server_view *v) {
    v->version = cursor_u64(c);
    v->changed = wire_get_bool(c);
    v->backend = cursor_u8(c);
    v->current = wire_get_bytes(c);
    v->former = wire_get_bytes(c);
    v->crosses = wire_get_bytes(c);
}

static void put_server_view(struct buf *b, const struct vault_server_view *v) {
    buf_add_u64(b, v->version);
    buf_addc(b, v->changed);
    buf_addc(b, (uint8_t)v->backend);
    wire_put_bytes(b, v->current);
    wire_put_bytes(b, v->former);
    wire_put_bytes(b, v->crosses);
}

static void get_result(struct cursor *c, struct wire_answer *a) {
    switch (a->type) {
    case WIRE_HELLO:
    case WIRE_ACCOUNT_DELETE:
        a->version.version = cursor_u64(c);
        a->version.changed = wire_get_bool(c);
        return;
    case WIRE_TIME:
        a->time = (int64_t)cursor_u64(c);
        return;
    case WIRE_TIME_SIGN:
        a->time_signed.time = (int64_t)cursor_u64(c);
        a->time_signed.signature = wire_get_bytes(c);
        a->time_signed.certificate = wire_get_bytes(c);
        return;
    case WIRE_ISSUE:
    case WIRE_KEY_ISSUE:
    case WIRE_LINE_ISSUE:
    case WIRE_SERVER_ISSUE:
        get_issued(c, &a->issued);
        return;
    case WIRE_ACCOUNT_CREATE:
    case WIRE_ACCOUNT_POLICY:
    case WIRE_ACCOUNT_SHOW:
    case WIRE_ISSUING_RENEW:
    case WIRE_ROOT_ROTATE:
        get_view(c, &a->view);
        return;
    case WIRE_SERVER_CA:
    case WIRE_SERVER_ROTATE:
    case WIRE_SERVER_RETIRE:
        get_server_view(c, &a->server);
        return;
    case WIRE_AUDIT_KEY:
    case WIRE_CRL_ENTRIES:
        a->der = wire_get_bytes(c);
        return;
    case WIRE_HEADS_SIGN:
        a->heads.time = (int64_t)cursor_u64(c);
        a->heads.signature = wire_get_bytes(c);
        return;
    case WIRE_CRL_BEGIN:
        a->begun.number = cursor_u64(c);
        a->begun.this_update = (int64_t)cursor_u64(c);
        a->begun.next_update = (int64_t)cursor_u64(c);
        a->begun.head = wire_get_bytes(c);
        return;
    case WIRE_CRL_SIGN:
        a->crl.front = wire_get_bytes(c);
        a->crl.tail = wire_get_bytes(c);
        return;
    case WIRE_OCSP_SIGN:
        a->ocsp.this_update = (int64_t)cursor_u64(c);
        a->ocsp.next_update = (int64_t)cursor_u64(c);
        a->ocsp.der = wire_get_bytes(c);
        return;
    case WIRE_EXPORT_ANSWER:
        return;
    }
    c->failed = true;
}

static void put_result(struct buf *b, const struct wire_answer *a) {
    switch (a->type) {
    case WIRE_HELLO:
    case WIRE_ACCOUNT_DELETE:
        buf_add_u64(b, a->version.version);
        buf_addc(b, a->version.changed);
        return;
    case WIRE_TIME:
        buf_add_u64(b, (uint64_t)a->time);
        return;
    case WIRE_TIME_SIGN:
        buf_add_u64(b, (uint64_t)a->time_signed.time);
        wire_put_bytes(b, a->time_signed.signature);
        wire_put_bytes(b, a->time_signed.certificate);
        return;
    case WIRE_ISSUE:
    case WIRE_KEY_ISSUE:
    case WIRE_LINE_ISSUE:
    case WIRE_SERVER_ISSUE:
        put_issued(b, &a->issued);
        return;
    case WIRE_ACCOUNT_CREATE:
    case WIRE_ACCOUNT_POLICY:
    case WIRE_ACCOUNT_SHOW:
    case WIRE_ISSUING_RENEW:
    case WIRE_ROOT_ROTATE:
        put_view(b, &a->view);
        return;
    case WIRE_SERVER_CA:
    case WIRE_SERVER_ROTATE:
    case WIRE_SERVER_RETIRE:
        put_server_view(b, &a->server);
        return;
    case WIRE_AUDIT_KEY:
    case WIRE_CRL_ENTRIES:
        wire_put_bytes(b, a->der);
        return;
    case WIRE_HEADS_SIGN:
        buf_add_u64(b, (uint64_t)a->heads.time);
        wire_put_bytes(b, a->heads.signature);
        return;
    case WIRE_CRL_BEGIN:
        buf_add_u64(b, a->begun.number);
        buf_add_u64(b, (uint64_t)a->begun.this_update);
        buf_add_u64(b, (uint64_t)a->begun.next_update);
        wire_put_bytes(b, a->begun.head);
        return;
    case WIRE_CRL_SIGN:
        wire_put_bytes(b, a->crl.front);
        wire_put_bytes(b, a->crl.tail);
        return;
    case WIRE_OCSP_SIGN:
        buf_add_u64(b, (uint64_t)a->ocsp.this_update);
        buf_add_u64(b, (uint64_t)a->ocsp.next_update);
        wire_put_bytes(b, a->ocsp.der);
        return;
    case WIRE_EXPORT_ANSWER:
        return;
    }
}

int wire_answer_read(struct span message, struct wire_answer *out) {
    struct cursor c = cursor_of(message);
    *out = (struct wire_answer){.id = cursor_u32(&c)};
    uint16_t number = cursor_u16(&c);
    if (c.failed || out->id == 0 || !(number & WIRE_ANSWER_BIT) || !wire_name(number & ~WIRE_ANSWER_BIT))
        return MUSTER_EINVALID;
    out->type = (enum wire_type)(number & ~WIRE_ANSWER_BIT);
    out->rc = wire_get_code(&c);
    if (out->rc) {
        uint32_t seconds = cursor_u32(&c);
        out->retry_after = seconds > INT32_MAX ? INT32_MAX : (int)seconds;
        out->text = wire_get_bytes(&c);
    } else {
        get_result(&c, out);
    }
    return wire_get_end(&c);
}

int wire_answer_write(const struct wire_answer *a, struct buf *out) {
    buf_add_u32(out, a->id);
    buf_add_u16(out, (uint16_t)(a->type | WIRE_ANSWER_BIT));
    wire_put_code(out, a->rc);
    if (a->rc) {
        buf_add_u32(out, a->retry_after > 0 ? (uint32_t)a->retry_after : 0);
        wire_put_bytes(out, a->text);
    } else {
        put_result(out, a);
    }
    return buf_check(out, NULL);
}
