/* vault/core: see core.h. */
#include "vault/core.h"

#include "base/clock.h"
#include "vault/wire.h"

#define RECORD "core"
#define FORMAT 1
#define LABEL_SERVER_CA "server-ca"
#define LABEL_AUDIT "audit"
#define AUDIT_KEY_KIND KEY_ED25519

static const struct vault_lives default_lives = {
    .server_ca = 40 * CLOCK_YEAR,
    .server = CLOCK_YEAR,
    .fleet_root = 40 * CLOCK_YEAR,
    .issuing_ca = 35 * CLOCK_YEAR,
    .provisioning_ca = 40 * CLOCK_YEAR,
    .provisioning_key = 10 * CLOCK_YEAR,
};

void core_free(struct core *c) {
    if (!c)
        return;
    authority_free(c->server_ca);
    EVP_PKEY_free(c->audit_key);
    key_store_free(c->keys);
    free(c);
}

static int set_life(int64_t given, int64_t otherwise, int64_t *out) {
    *out = given ? given : otherwise;
    return given < 0 ? MUSTER_EINVALID : 0;
}

static int set_lives(struct vault_lives *out, const struct vault_lives *given, struct err *err) {
    static const struct vault_lives none;
    const struct vault_lives *g = given ? given : &none, *d = &default_lives;
    if (set_life(g->server_ca, d->server_ca, &out->server_ca) || set_life(g->server, d->server, &out->server) ||
        set_life(g->fleet_root, d->fleet_root, &out->fleet_root) || set_life(g->issuing_ca, d->issuing_ca, &out->issuing_ca) ||
        set_life(g->provisioning_ca, d->provisioning_ca, &out->provisioning_ca) ||
        set_life(g->provisioning_key, d->provisioning_key, &out->provisioning_key))
        return err_set(err, MUSTER_EINVALID, "The life of a certificate cannot be negative.");
    return 0;
}

static void put_lives(struct buf *b, const struct vault_lives *l) {
    buf_add_u64(b, (uint64_t)l->server_ca);
    buf_add_u64(b, (uint64_t)l->server);
    buf_add_u64(b, (uint64_t)l->fleet_root);
    buf_add_u64(b, (uint64_t)l->issuing_ca);
    buf_add_u64(b, (uint64_t)l->provisioning_ca);
    buf_add_u64(b, (uint64_t)l->provisioning_key);
}

static void get_lives(struct cursor *c, struct vault_lives *l) {
    l->server_ca = (int64_t)cursor_u64(c);
    l->server = (int64_t)cursor_u64(c);
    l->fleet_root = (int64_t)cursor_u64(c);
    l->issuing_ca = (int64_t)cursor_u64(c);
    l->provisioning_ca = (int64_t)cursor_u64(c);
    l->provisioning_key = (int64_t)cursor_u64(c);
}

int core_make(struct records *r, const struct vault_lives *lives, struct core **out, struct err *err) {
    CLEANUP(core_free) struct core *core = calloc(1, sizeof *core);
    CLEANUP(secret_fini) struct secret data_key = SECRET_INIT;
    CLEANUP(buf_fini) struct buf body = BUF_INIT(RECORD_BODY_MAX);
    CLEANUP(buf_fini) struct buf audit_ref = BUF_INIT(KEY_REF_MAX);
    if (!core || records_new_key(&data_key))
        return err_set(err, MUSTER_ENOMEM, NULL);
    int64_t now = clock_now();
    int rc = set_lives(&core->lives, lives, err);
    if (rc || (rc = key_store_sealed_new(secret_span(&data_key), &core->keys, err)) ||
        (rc = authority_make(core->keys, PROFILE_SERVER_CA, LABEL_SERVER_CA, VAULT_SERVER_CA_NAME, SPAN_NONE, NULL, now, life_end(now, core->lives.server_ca),
                             &core->server_ca, err)) ||
        (rc = key_store_make(core->keys, AUDIT_KEY_KIND, 0, SPAN_LIT(LABEL_AUDIT), &audit_ref, &core->audit_key, err)))
        return rc;
    buf_addc(&body, FORMAT);
    put_lives(&body, &core->lives);
    authority_write(core->server_ca, &body);
    wire_put_bytes(&body, buf_span(&audit_ref));
    if ((rc = buf_check(&body, err)) || (rc = records_store(r, RECORD, secret_span(&data_key), buf_span(&body), err)))
        return rc;
    *out = TAKE(core);
    return 0;
}

int core_load(struct records *r, struct core **out, struct err *err) {
    CLEANUP(core_free) struct core *core = calloc(1, sizeof *core);
    CLEANUP(secret_fini) struct secret data_key = SECRET_INIT, body = SECRET_INIT;
    if (!core)
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = records_load(r, RECORD, &data_key, &body, err);
    if (rc || (rc = key_store_sealed_new(secret_span(&data_key), &core->keys, err)))
        return rc;
    struct cursor c = cursor_of(secret_span(&body));
    uint8_t format = cursor_u8(&c);
    if (format != FORMAT)
        return err_set(err, MUSTER_EVERSION, "The vault's record has format %u; this version of Muster knows format %u.", format, FORMAT);
    get_lives(&c, &core->lives);
    if ((rc = authority_read(&c, LABEL_SERVER_CA, &core->server_ca, err)))
        return rc;
    struct span audit_ref = wire_get_bytes(&c);
    if (!cursor_done(&c))
        return err_set(err, MUSTER_ECORRUPT, "The vault's record does not have the shape that it was written with.");
    if ((rc = key_store_open(core->keys, SPAN_LIT(LABEL_AUDIT), audit_ref, &core->audit_key, err)))
        return rc;
    *out = TAKE(core);
    return 0;
}
