/* vault/core: see core.h. */
#include "vault/core.h"

#include "base/clock.h"
#include "vault/trail.h"
#include "vault/wire.h"

#define RECORD "core"
#define FORMAT 2 /* 1: without server CAs that were rotated out */
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
    for (size_t i = 0; i < c->n_former; i++)
        former_root_fini(&c->former[i]);
    EVP_PKEY_free(c->audit_key);
    buf_fini(&c->audit_ref);
    key_store_free(c->keys);
    secret_fini(&c->data_key);
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

static struct core *core_new(void) {
    struct core *c = calloc(1, sizeof *c);
    if (c)
        c->audit_ref = BUF_INIT(KEY_REF_MAX);
    return c;
}

/* One name for all of them (RFC 4210, 4.4): what one certifies of another's key is self-issued, and so does not count where the one says how many CAs may stand
 * below it.  Server CAs that were made before there was a second one say none. */
static int make_server_ca(struct core *c, int64_t now, struct authority **out, struct err *err) {
    return authority_make(c->keys, PROFILE_SERVER_CA, LABEL_SERVER_CA, VAULT_SERVER_CA_NAME, SPAN_NONE, NULL, now, life_end(now, c->lives.server_ca), out, err);
}

int core_make(struct records *r, const struct vault_lives *lives, struct core **out, struct err *err) {
    CLEANUP(core_free) struct core *core = core_new();
    if (!core || records_new_key(&core->data_key))
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = set_lives(&core->lives, lives, err);
    if (rc || (rc = key_store_mixed_new(secret_span(&core->data_key), trail_oracle(), &core->keys, err)) || (rc = make_server_ca(core, clock_now(), &core->server_ca, err)) ||
        (rc = key_store_make(core->keys, AUDIT_KEY_KIND, 0, SPAN_LIT(LABEL_AUDIT), &core->audit_ref, &core->audit_key, err)) || (rc = core_store(r, core, err)))
        return rc;
    *out = TAKE(core);
    return 0;
}

/* --- its record ------------------------------------------------------------------------------------------------------------- */

int core_store(struct records *r, const struct core *c, struct err *err) {
    CLEANUP(buf_fini) struct buf body = BUF_INIT(RECORD_BODY_MAX);
    buf_addc(&body, FORMAT);
    put_lives(&body, &c->lives);
    authority_write(c->server_ca, &body);
    wire_put_bytes(&body, buf_span(&c->audit_ref));
    buf_add_u16(&body, (uint16_t)c->n_former);
    for (size_t i = 0; i < c->n_former; i++)
        former_root_write(&c->former[i], &body);
    int rc = buf_check(&body, err);
    return rc ? rc : records_store(r, RECORD, secret_span(&c->data_key), buf_span(&body), err);
}

static int get_former(struct cursor *cursor, struct core *c, struct err *err) {
    uint16_t n = cursor_u16(cursor);
    int rc = 0;
    if (n > VAULT_SERVER_FORMER_MAX)
        cursor->failed = true;
    while (!rc && c->n_former < n && !cursor->failed)
        rc = former_root_read(cursor, LABEL_SERVER_CA, &c->former[c->n_former++], err);
    return rc;
}

static int get_core(struct span body, struct core *c, struct err *err) {
    struct cursor cursor = cursor_of(body);
    uint8_t format = cursor_u8(&cursor);
    if (format < 1 || format > FORMAT)
        return err_set(err, MUSTER_EVERSION, "The vault's record has format %u; this version of Muster knows formats up to %u.", format, FORMAT);
    get_lives(&cursor, &c->lives);
    int rc = authority_read(&cursor, LABEL_SERVER_CA, &c->server_ca, err);
    if (rc)
        return rc;
    buf_add(&c->audit_ref, wire_get_bytes(&cursor));
    if (format > 1 && (rc = get_former(&cursor, c, err)))
        return rc;
    return cursor_done(&cursor) && buf_ok(&c->audit_ref) ? 0 : err_set(err, MUSTER_ECORRUPT, "The vault's record does not have the shape that it was written with.");
}

int core_load(struct records *r, struct core **out, struct err *err) {
    CLEANUP(core_free) struct core *core = core_new();
    CLEANUP(secret_fini) struct secret body = SECRET_INIT;
    if (!core)
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = records_load(r, RECORD, &core->data_key, &body, err);
    if (rc || (rc = key_store_mixed_new(secret_span(&core->data_key), trail_oracle(), &core->keys, err)) || (rc = get_core(secret_span(&body), core, err)) ||
        (rc = key_store_open(core->keys, SPAN_LIT(LABEL_AUDIT), buf_span(&core->audit_ref), &core->audit_key, err)))
        return rc;
    *out = TAKE(core);
    return 0;
}

/* --- the server CAs ----------------------------------------------------------------------------------------------------------- */

int core_rotate(struct core *c, enum key_backend backend, int64_t now, struct err *err) {
    CLEANUP(authority_free) struct authority *next = NULL;
    if (c->n_former == VAULT_SERVER_FORMER_MAX)
        return err_set(err, MUSTER_EINVALID, "%d former server CAs are in use besides, and devices take no more; retire the oldest first.", VAULT_SERVER_FORMER_MAX);
    key_store_mixed_make_in(c->keys, backend);
    int rc = make_server_ca(c, now, &next, err);
    if (rc || (rc = former_root_make(c->keys, PROFILE_SERVER_CA, SPAN_NONE, c->server_ca, next, now, &c->former[c->n_former], err)))
        return rc;
    c->n_former++;
    c->server_ca = TAKE(next);
    return 0;
}

/* By one that was made while the clock ran ahead nobody comes to those behind it until its day, and under it everybody would refuse the gateway, operators too. */
static int check_follows(const struct cert *next, int64_t now, struct err *err) {
    char begin[CLOCK_RFC3339_LEN + 1];
    clock_rfc3339(next->not_before, begin);
    return next->not_before <= now ? 0 : err_set(err, MUSTER_ESTATE, "The server CA that follows begins at %s: the clock ran ahead when it was made, or is behind now. Whoever knows no other would refuse the gateway until then, so this one stays that long.", begin);
}

int core_retire(struct core *c, const struct hash *spki, int64_t now, bool *gone, struct err *err) {
    *gone = false;
    if (hash_eq(spki, &c->server_ca->cert->key.spki))
        return err_set(err, MUSTER_EINVALID, "This server CA is the current one; `muster server-ca rotate` makes the next one.");
    for (size_t i = 1; i < c->n_former; i++)
        if (hash_eq(spki, &c->former[i].root->cert->key.spki))
            return err_set(err, MUSTER_EINVALID, "An older server CA is still in use; the oldest is retired first.");
    if (!c->n_former || !hash_eq(spki, &c->former[0].root->cert->key.spki))
        return 0;
    int rc = check_follows(c->n_former > 1 ? c->former[1].root->cert : c->server_ca->cert, now, err);
    if (rc)
        return rc;
    former_root_fini(&c->former[0]);
    memmove(c->former, c->former + 1, --c->n_former * sizeof c->former[0]);
    *gone = true;
    return 0;
}

struct authority *core_time_ca(const struct core *c, int64_t now) {
    for (size_t i = 0; i < c->n_former; i++)
        if (c->former[i].root->cert->not_after > now)
            return c->former[i].root;
    return c->server_ca;
}

struct authority *core_gateway_ca(const struct core *c, int64_t now) {
    const struct cert *cas[VAULT_SERVER_FORMER_MAX + 1];
    for (size_t i = 0; i < c->n_former; i++)
        cas[i] = c->former[i].root->cert;
    cas[c->n_former] = c->server_ca->cert;
    const size_t i = server_cas_signing(cas, c->n_former + 1, now);
    return i < c->n_former ? c->former[i].root : c->server_ca;
}

int core_server_cas(const struct core *c, struct buf *pem, struct err *err) {
    int rc = cert_pem(c->server_ca->cert, pem);
    for (size_t i = c->n_former; !rc && i-- > 0;)
        rc = cert_pem(c->former[i].root->cert, pem);
    return rc ? err_set(err, rc, NULL) : 0;
}

enum key_backend core_backend(const struct core *c) { return key_ref_in_token(buf_span(&c->server_ca->ref)) ? KEY_BACKEND_PKCS11 : KEY_BACKEND_SEALED; }

int core_keys(struct records *r, const char *record, uint32_t *keys, uint8_t ids[CORE_TOKEN_KEYS_MAX][TOKEN_ID_LEN], size_t *n, struct err *err) {
    CLEANUP(core_free) struct core *c = NULL;
    *n = 0;
    if (strcmp(record, RECORD))
        return 0;
    int rc = core_load(r, &c, err);
    if (rc)
        return rc;
    for (size_t i = 0; i <= c->n_former; i++)
        if (key_ref_token_id(buf_span(i < c->n_former ? &c->former[i].root->ref : &c->server_ca->ref), ids[*n]))
            ++*n;
    if (keys) {
        keys[VAULT_KEYS_SERVER_CA] += 1;
        keys[VAULT_KEYS_AUDIT] += 1;
        keys[VAULT_KEYS_FORMER_SERVER] += (uint32_t)c->n_former;
        keys[VAULT_KEYS_IN_TOKEN] += (uint32_t)*n;
    }
    return 0;
}
