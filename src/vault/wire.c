/* vault/wire: see wire.h. */
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

/* What follows the id and the number, once a message is done with. */
static int finish_read(const struct cursor *c) { return cursor_done(c) ? 0 : MUSTER_EINVALID; }

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
    return finish_read(&c);
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

/* --- answers -------------------------------------------------------------------------------------------------------------- */

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

/* Codes travel by their stable names: two ends of different builds must not take one error for another. */
static int get_code(struct cursor *c) {
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

static void put_code(struct buf *b, int rc) { wire_put_bytes(b, rc ? span_str(err_code(rc)) : SPAN_NONE); }

int wire_answer_read(struct span message, struct wire_answer *out) {
    struct cursor c = cursor_of(message);
    *out = (struct wire_answer){.id = cursor_u32(&c)};
    uint16_t number = cursor_u16(&c);
    if (c.failed || out->id == 0 || !(number & WIRE_ANSWER_BIT) || !wire_name(number & ~WIRE_ANSWER_BIT))
        return MUSTER_EINVALID;
    out->type = (enum wire_type)(number & ~WIRE_ANSWER_BIT);
    out->rc = get_code(&c);
    if (out->rc) {
        uint32_t seconds = cursor_u32(&c);
        out->retry_after = seconds > INT32_MAX ? INT32_MAX : (int)seconds;
        out->text = wire_get_bytes(&c);
    } else {
        get_result(&c, out);
    }
    return finish_read(&c);
}

int wire_answer_write(const struct wire_answer *a, struct buf *out) {
    buf_add_u32(out, a->id);
    buf_add_u16(out, (uint16_t)(a->type | WIRE_ANSWER_BIT));
    put_code(out, a->rc);
    if (a->rc) {
        buf_add_u32(out, a->retry_after > 0 ? (uint32_t)a->retry_after : 0);
        wire_put_bytes(out, a->text);
    } else {
        put_result(out, a);
    }
    return buf_check(out, NULL);
}

/* --- export ------------------------------------------------------------------------------------------------------------------ */

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
    return finish_read(&c);
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
    return finish_read(&c);
}

int wire_export_write(struct span account, struct span passphrase, struct buf *out) {
    wire_put_bytes(out, account);
    wire_put_bytes(out, passphrase);
    return buf_check(out, NULL);
}

int wire_export_answer_read(struct span message, struct wire_export_answer *out) {
    struct cursor c = cursor_of(message);
    out->rc = get_code(&c);
    out->text = wire_get_bytes(&c);
    return finish_read(&c);
}

int wire_export_answer_write(const struct wire_export_answer *a, struct buf *out) {
    put_code(out, a->rc);
    wire_put_bytes(out, a->text);
    return buf_check(out, NULL);
}
