/* vault/wire: the fields of all messages, and requests; see wire.h. */
#include "vault/wire.h"

#include "pki/make.h"

_Static_assert(VAULT_SERIAL_LEN == MAKE_SERIAL_LEN, "serial length");

/* --- fields -------------------------------------------------------------------------------------------------------------- */

void wire_put_bytes(struct buf *b, struct span s) {
    if (s.n > UINT16_MAX) {
        b->failed = true;
        return;
    }
    buf_add_u16(b, (uint16_t)s.n);
    buf_add(b, s);
}

struct span wire_get_bytes(struct cursor *c) {
    uint16_t n = cursor_u16(c);
    return cursor_bytes(c, n);
}

bool wire_get_bool(struct cursor *c) {
    uint8_t v = cursor_u8(c);
    if (v > 1)
        c->failed = true;
    return v == 1;
}

void wire_get_fixed(struct cursor *c, uint8_t *out, size_t n) {
    struct span s = cursor_bytes(c, n);
    memset(out, 0, n);
    if (s.n)
        memcpy(out, s.p, s.n);
}

void wire_put_policy(struct buf *b, const struct vault_policy *p) {
    buf_add_u32(b, p->set);
    buf_add_u64(b, (uint64_t)p->device_life);
    buf_add_u64(b, (uint64_t)p->device_life_max);
    buf_addc(b, p->rsa_allowed);
    buf_add_u32(b, p->ceiling);
    CLEANUP(buf_fini) struct buf profile = BUF_INIT(PROFILE_TEXT_MAX);
    device_profile_write(&p->profile, &profile);
    b->failed = b->failed || profile.failed;
    wire_put_bytes(b, buf_span(&profile));
}

void wire_get_policy(struct cursor *c, struct vault_policy *p) {
    wire_get_policy_before_profiles(c, p);
    struct span profile = wire_get_bytes(c);
    if (c->failed || device_profile_read(profile, &p->profile, NULL))
        c->failed = true;
}

void wire_get_policy_before_profiles(struct cursor *c, struct vault_policy *p) {
    p->set = cursor_u32(c);
    p->device_life = (int64_t)cursor_u64(c);
    p->device_life_max = (int64_t)cursor_u64(c);
    p->rsa_allowed = wire_get_bool(c);
    p->ceiling = cursor_u32(c);
    p->profile = (struct device_profile){0};
}

int wire_get_end(const struct cursor *c) { return cursor_done(c) ? 0 : MUSTER_EINVALID; }

int wire_get_code(struct cursor *c) {
    struct span name = wire_get_bytes(c);
    char text[64];
    if (name.n == 0)
        return 0;
    if (name.n >= sizeof text || memchr(name.p, 0, name.n)) {
        c->failed = true;
        return MUSTER_EINTERNAL;
    }
    memcpy(text, name.p, name.n);
    text[name.n] = '\0';
    int code = err_from_code(text);
    return code ? code : MUSTER_EINTERNAL;
}

void wire_put_code(struct buf *b, int rc) { wire_put_bytes(b, rc ? span_str(err_code(rc)) : SPAN_NONE); }

/* --- requests ------------------------------------------------------------------------------------------------------------- */

bool wire_peek(struct span message, uint32_t *id, uint16_t *number) {
    struct cursor c = cursor_of(message);
    *id = cursor_u32(&c);
    *number = cursor_u16(&c);
    return !c.failed;
}

const char *wire_name(uint16_t number) {
    switch (number) {
#define R(NAME, name, number, channels, needs)                                                                                 \
    case number:                                                                                                               \
        return #name;
#include "vault/requests.def"
#undef R
    }
    return NULL;
}

static void get_server(struct cursor *c, struct wire_request *rq) {
    rq->server.n = cursor_u16(c);
    if (rq->server.n < 1 || rq->server.n > VAULT_NAMES_MAX)
        c->failed = true;
    for (size_t i = 0; i < rq->server.n && !c->failed; i++)
        rq->server.names[i] = wire_get_bytes(c);
    rq->server.public_key = wire_get_bytes(c);
}

static void get_heads(struct cursor *c, struct wire_request *rq) {
    rq->heads.n = cursor_u16(c);
    if (rq->heads.n < 1 || rq->heads.n > VAULT_HEADS_MAX)
        c->failed = true;
    for (size_t i = 0; i < rq->heads.n && !c->failed; i++) {
        struct vault_head *h = &rq->heads.at[i];
        h->chain = wire_get_bytes(c);
        if (h->chain.n > VAULT_ACCOUNT_MAX)
            c->failed = true;
        h->seq = cursor_u64(c);
        wire_get_fixed(c, h->hash.b, sizeof h->hash.b);
    }
}

static void get_crl(struct cursor *c, struct vault_crl_begin *b) {
    b->account = wire_get_bytes(c);
    wire_get_fixed(c, b->key_id, sizeof b->key_id);
    b->life = (int64_t)cursor_u64(c);
    b->counts.entries = cursor_u32(c);
    b->counts.undated = cursor_u32(c);
    b->counts.late = cursor_u32(c);
    b->counts.reasons = cursor_u32(c);
}

static void get_entries(struct cursor *c, struct wire_request *rq) {
    rq->entries.n = cursor_u16(c);
    if (rq->entries.n < 1 || rq->entries.n > VAULT_CRL_PIECE)
        c->failed = true;
    for (size_t i = 0; i < rq->entries.n && !c->failed; i++) {
        struct crl_entry *e = &rq->entries.at[i];
        wire_get_fixed(c, e->serial, sizeof e->serial);
        e->revoked = (int64_t)cursor_u64(c);
        e->reason = cursor_u8(c);
    }
}

static void get_request(struct cursor *c, struct wire_request *rq) {
    switch (rq->type) {
    case WIRE_HELLO:
        rq->log_version = cursor_u64(c);
        return;
    case WIRE_TIME_SIGN:
        rq->nonce = wire_get_bytes(c);
        return;
    case WIRE_ISSUE:
        rq->issue.account = wire_get_bytes(c);
        rq->issue.device_id = wire_get_bytes(c);
        wire_get_fixed(c, rq->issue.uuid.b, sizeof rq->issue.uuid.b);
        rq->issue.public_key = wire_get_bytes(c);
        rq->issue.life = (int64_t)cursor_u64(c);
        rq->issue.narrow = wire_get_bytes(c);
        return;
    case WIRE_ACCOUNT_CREATE:
    case WIRE_ACCOUNT_POLICY:
        rq->account.name = wire_get_bytes(c);
        rq->account.kind = cursor_u8(c);
        rq->account.method = cursor_u8(c);
        rq->account.backend = cursor_u8(c);
        wire_get_policy(c, &rq->account.policy);
        return;
    case WIRE_ACCOUNT_SHOW:
    case WIRE_ACCOUNT_DELETE:
    case WIRE_ISSUING_RENEW:
        rq->name = wire_get_bytes(c);
        return;
    case WIRE_KEY_ISSUE:
        rq->key.account = wire_get_bytes(c);
        wire_get_fixed(c, rq->key.key.b, sizeof rq->key.key.b);
        rq->key.public_key = wire_get_bytes(c);
        rq->key.life = (int64_t)cursor_u64(c);
        return;
    case WIRE_LINE_ISSUE:
        rq->line.account = wire_get_bytes(c);
        rq->line.line = wire_get_bytes(c);
        rq->line.public_key = wire_get_bytes(c);
        rq->line.life = (int64_t)cursor_u64(c);
        return;
    case WIRE_SERVER_ISSUE:
        get_server(c, rq);
        return;
    case WIRE_HEADS_SIGN:
        get_heads(c, rq);
        return;
    case WIRE_ROOT_ROTATE:
        rq->rotate.account = wire_get_bytes(c);
        wire_get_fixed(c, rq->rotate.from.b, sizeof rq->rotate.from.b);
        rq->rotate.backend = cursor_u8(c);
        return;
    case WIRE_EXPORT_ANSWER:
        wire_get_fixed(c, rq->export.nonce, sizeof rq->export.nonce);
        rq->export.allowed = wire_get_bool(c);
        return;
    case WIRE_CRL_BEGIN:
        get_crl(c, &rq->crl);
        return;
    case WIRE_CRL_ENTRIES:
        get_entries(c, rq);
        return;
    case WIRE_OCSP_SIGN:
        wire_get_ocsp(c, &rq->ocsp);
        return;
    case WIRE_SERVER_ROTATE:
        wire_get_fixed(c, rq->server_rotate.from.b, sizeof rq->server_rotate.from.b);
        rq->server_rotate.backend = cursor_u8(c);
        return;
    case WIRE_SERVER_RETIRE:
        wire_get_fixed(c, rq->spki.b, sizeof rq->spki.b);
        return;
    case WIRE_TIME:
    case WIRE_SERVER_CA:
    case WIRE_AUDIT_KEY:
    case WIRE_CRL_SIGN:
        return;
    }
    c->failed = true;
}

int wire_request_read(struct span message, struct wire_request *out) {
    struct cursor c = cursor_of(message);
    out->id = cursor_u32(&c);
    uint16_t number = cursor_u16(&c);
    if (c.failed || out->id == 0 || !wire_name(number) || message.n > WIRE_MESSAGE_MAX)
        return MUSTER_EINVALID;
    out->type = (enum wire_type)number;
    get_request(&c, out);
    return wire_get_end(&c);
}

static void put_request(struct buf *b, const struct wire_request *rq) {
    switch (rq->type) {
    case WIRE_HELLO:
        buf_add_u64(b, rq->log_version);
        return;
    case WIRE_TIME_SIGN:
        wire_put_bytes(b, rq->nonce);
        return;
    case WIRE_ISSUE:
        wire_put_bytes(b, rq->issue.account);
        wire_put_bytes(b, rq->issue.device_id);
        buf_add(b, uuid_span(&rq->issue.uuid));
        wire_put_bytes(b, rq->issue.public_key);
        buf_add_u64(b, (uint64_t)rq->issue.life);
        wire_put_bytes(b, rq->issue.narrow);
        return;
    case WIRE_ACCOUNT_CREATE:
    case WIRE_ACCOUNT_POLICY:
        wire_put_bytes(b, rq->account.name);
        buf_addc(b, (uint8_t)rq->account.kind);
        buf_addc(b, (uint8_t)rq->account.method);
        buf_addc(b, (uint8_t)rq->account.backend);
        wire_put_policy(b, &rq->account.policy);
        return;
    case WIRE_ACCOUNT_SHOW:
    case WIRE_ACCOUNT_DELETE:
    case WIRE_ISSUING_RENEW:
        wire_put_bytes(b, rq->name);
        return;
    case WIRE_KEY_ISSUE:
        wire_put_bytes(b, rq->key.account);
        buf_add(b, uuid_span(&rq->key.key));
        wire_put_bytes(b, rq->key.public_key);
        buf_add_u64(b, (uint64_t)rq->key.life);
        return;
    case WIRE_LINE_ISSUE:
        wire_put_bytes(b, rq->line.account);
        wire_put_bytes(b, rq->line.line);
        wire_put_bytes(b, rq->line.public_key);
        buf_add_u64(b, (uint64_t)rq->line.life);
        return;
    case WIRE_SERVER_ISSUE:
        buf_add_u16(b, (uint16_t)rq->server.n);
        for (size_t i = 0; i < rq->server.n; i++)
            wire_put_bytes(b, rq->server.names[i]);
        wire_put_bytes(b, rq->server.public_key);
        return;
    case WIRE_HEADS_SIGN:
        buf_add_u16(b, (uint16_t)rq->heads.n);
        for (size_t i = 0; i < rq->heads.n; i++) {
            wire_put_bytes(b, rq->heads.at[i].chain);
            buf_add_u64(b, rq->heads.at[i].seq);
            buf_add(b, hash_span(&rq->heads.at[i].hash));
        }
        return;
    case WIRE_ROOT_ROTATE:
        wire_put_bytes(b, rq->rotate.account);
        buf_add(b, hash_span(&rq->rotate.from));
        buf_addc(b, (uint8_t)rq->rotate.backend);
        return;
    case WIRE_EXPORT_ANSWER:
        buf_add(b, span_of(rq->export.nonce, sizeof rq->export.nonce));
        buf_addc(b, rq->export.allowed);
        return;
    case WIRE_CRL_BEGIN:
        wire_put_bytes(b, rq->crl.account);
        buf_add(b, span_of(rq->crl.key_id, sizeof rq->crl.key_id));
        buf_add_u64(b, (uint64_t)rq->crl.life);
        buf_add_u32(b, rq->crl.counts.entries);
        buf_add_u32(b, rq->crl.counts.undated);
        buf_add_u32(b, rq->crl.counts.late);
        buf_add_u32(b, rq->crl.counts.reasons);
        return;
    case WIRE_CRL_ENTRIES:
        buf_add_u16(b, (uint16_t)rq->entries.n);
        for (size_t i = 0; i < rq->entries.n; i++) {
            buf_add(b, span_of(rq->entries.at[i].serial, sizeof rq->entries.at[i].serial));
            buf_add_u64(b, (uint64_t)rq->entries.at[i].revoked);
            buf_addc(b, rq->entries.at[i].reason);
        }
        return;
    case WIRE_OCSP_SIGN:
        wire_put_ocsp(b, &rq->ocsp);
        return;
    case WIRE_SERVER_ROTATE:
        buf_add(b, hash_span(&rq->server_rotate.from));
        buf_addc(b, (uint8_t)rq->server_rotate.backend);
        return;
    case WIRE_SERVER_RETIRE:
        buf_add(b, hash_span(&rq->spki));
        return;
    case WIRE_TIME:
    case WIRE_SERVER_CA:
    case WIRE_AUDIT_KEY:
    case WIRE_CRL_SIGN:
        return;
    }
}

int wire_request_write(const struct wire_request *rq, struct buf *out) {
    buf_add_u32(out, rq->id);
    buf_add_u16(out, (uint16_t)rq->type);
    put_request(out, rq);
    return buf_check(out, NULL);
}
