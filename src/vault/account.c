/* vault/account: see account.h. */
#include "vault/account.h"

#include "base/clock.h"
#include "base/hex.h"
#include "base/log.h"
#include "vault/count.h"
#include "vault/crl_number.h"
#include "vault/policy.h"
#include "vault/trail.h"
#include "vault/wire.h"

#define FORMAT 5        /* 1: without fleet roots that were rotated out; 2: without a profile; 3: without a backend, which is sealed; 4: without former provisioning CAs */
#define CACHE_MAX 128
#define CERT_MAX (16 * 1024)
#define RECORD_PREFIX "account-"

#define LABEL_ROOT "fleet-root"
#define LABEL_ISSUING "issuing-ca"
#define LABEL_PROVISIONING "provisioning-ca"

struct accounts {
    struct records *records;
    struct {
        struct account *account; /* owned; NULL: free */
        uint64_t used;           /* the clock when it was last asked for */
    } cache[CACHE_MAX];
    uint64_t clock;
};

static void record_name(const char *account, char out[RECORD_NAME_MAX + 1]) { snprintf(out, RECORD_NAME_MAX + 1, RECORD_PREFIX "%s", account); }

/* --- one account ------------------------------------------------------------------------------------------------------------ */

void account_free(struct account *a) {
    if (!a)
        return;
    authority_free(a->fleet_root);
    authority_free(a->issuing_ca);
    authority_free(a->provisioning_ca);
    for (size_t i = 0; i < a->n_superseded; i++)
        authority_free(a->superseded[i]);
    for (size_t i = 0; i < a->n_former; i++)
        former_root_fini(&a->former[i]);
    for (size_t i = 0; i < a->n_former_provisioning; i++)
        cert_free(a->former_provisioning[i]);
    key_store_free(a->keys);
    secret_fini(&a->data_key);
    free(a);
}

static int account_named(struct span name, struct account **out, struct err *err) {
    int rc = policy_account_name(name, err);
    if (rc)
        return rc;
    struct account *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(err, MUSTER_ENOMEM, NULL);
    memcpy(a->name, name.p, name.n);
    policy_default(&a->policy);
    a->backend = KEY_BACKEND_SEALED;
    *out = a;
    return 0;
}

int account_new(struct span name, struct account **out, struct err *err) {
    CLEANUP(account_free) struct account *a = NULL;
    int rc = account_named(name, &a, err);
    if (rc)
        return rc;
    if (records_new_key(&a->data_key))
        return err_set(err, MUSTER_ENOMEM, NULL);
    if ((rc = key_store_mixed_new(secret_span(&a->data_key), trail_oracle(), &a->keys, err)))
        return rc;
    *out = TAKE(a);
    return 0;
}

/* Names of CAs differ even within an account: verifiers that look an issuer up by name find the right one. */
static void ca_name(const char *account, const char *what, char *out, size_t n) {
    uint8_t unique[4];
    char digits[2 * sizeof unique + 1];
    trail_name(unique);
    hex_encode(span_of(unique, sizeof unique), digits);
    snprintf(out, n, "%s %s %s", account, what, digits);
}

static int make_ca(struct account *a, enum cert_profile profile, const char *label, const char *what, struct authority *issuer, int64_t now, int64_t end,
                   struct authority **out, struct err *err) {
    char name[80];
    ca_name(a->name, what, name, sizeof name);
    return authority_make(a->keys, profile, label, name, span_str(a->name), issuer, now, end, out, err);
}

int account_make_cas(struct account *a, const struct vault_lives *lives, int64_t now, struct err *err) {
    CLEANUP(authority_free) struct authority *root = NULL;
    CLEANUP(authority_free) struct authority *issuing = NULL;
    CLEANUP(authority_free) struct authority *provisioning = NULL;
    int rc = make_ca(a, PROFILE_FLEET_ROOT, LABEL_ROOT, "fleet root", NULL, now, life_end(now, policy_ca_life(&a->policy, lives->fleet_root)), &root, err);
    if (rc ||
        (rc = make_ca(a, PROFILE_ISSUING_CA, LABEL_ISSUING, "issuing CA", root, now, life_end(now, policy_ca_life(&a->policy, lives->issuing_ca)), &issuing, err)) ||
        (rc = make_ca(a, PROFILE_PROVISIONING_CA, LABEL_PROVISIONING, "provisioning CA", NULL, now, life_end(now, lives->provisioning_ca), &provisioning, err)))
        return rc;
    a->fleet_root = TAKE(root);
    a->issuing_ca = TAKE(issuing);
    a->provisioning_ca = TAKE(provisioning);
    return 0;
}

static void supersede_issuing(struct account *a, struct authority *fresh) {
    if (a->n_superseded == ACCOUNT_SUPERSEDED_MAX) {
        authority_free(a->superseded[0]);
        memmove(a->superseded, a->superseded + 1, --a->n_superseded * sizeof a->superseded[0]);
    }
    a->superseded[a->n_superseded++] = a->issuing_ca;
    a->issuing_ca = fresh;
}

int account_renew_issuing(struct account *a, int64_t now, int64_t end, struct err *err) {
    struct authority *fresh = NULL;
    int rc = make_ca(a, PROFILE_ISSUING_CA, LABEL_ISSUING, "issuing CA", a->fleet_root, now, end, &fresh, err);
    if (!rc)
        supersede_issuing(a, fresh);
    return rc;
}

/* To another backend, or out of days to come, where it was made while the clock ran ahead.  Provisioning keys that are out go on: their certificates are in the registry, and so is the CA's. */
static int move_provisioning(struct account *a, const struct vault_lives *lives, int64_t now, struct authority **out, struct err *err) {
    bool there = key_ref_in_token(buf_span(&a->provisioning_ca->ref)) == (a->backend == KEY_BACKEND_PKCS11);
    return there && a->provisioning_ca->cert->not_before <= now ? 0 : make_ca(a, PROFILE_PROVISIONING_CA, LABEL_PROVISIONING, "provisioning CA", NULL, now, life_end(now, lives->provisioning_ca), out, err);
}

int account_rotate_root(struct account *a, const struct vault_lives *lives, int64_t now, struct err *err) {
    CLEANUP(authority_free) struct authority *root = NULL;
    CLEANUP(authority_free) struct authority *issuing = NULL;
    CLEANUP(authority_free) struct authority *provisioning = NULL;
    if (a->n_former == VAULT_FORMER_MAX)
        return err_set(err, MUSTER_EINVALID, "The account %s has had %d fleet roots before; the vault keeps no more.", a->name, VAULT_FORMER_MAX);
    int rc = make_ca(a, PROFILE_FLEET_ROOT, LABEL_ROOT, "fleet root", NULL, now, life_end(now, policy_ca_life(&a->policy, lives->fleet_root)), &root, err);
    if (rc || (rc = make_ca(a, PROFILE_ISSUING_CA, LABEL_ISSUING, "issuing CA", root, now, life_end(now, policy_ca_life(&a->policy, lives->issuing_ca)), &issuing, err)) ||
        (rc = move_provisioning(a, lives, now, &provisioning, err)) ||
        (rc = former_root_make(a->keys, PROFILE_FLEET_ROOT, span_str(a->name), a->fleet_root, root, now, &a->former[a->n_former], err)))
        return rc;
    a->n_former++;
    a->fleet_root = TAKE(root);
    supersede_issuing(a, TAKE(issuing));
    if (provisioning) { /* at most once a rotation: there is room */
        a->former_provisioning[a->n_former_provisioning++] = TAKE(a->provisioning_ca->cert);
        authority_free(a->provisioning_ca);
        a->provisioning_ca = TAKE(provisioning);
    }
    return 0;
}

void account_make_in(struct account *a, enum key_backend backend) {
    a->backend = backend;
    key_store_mixed_make_in(a->keys, backend);
}

static bool is_ca(const struct authority *ca, const uint8_t key_id[CRL_KEY_ID_LEN]) {
    uint8_t own[CRL_KEY_ID_LEN];
    return ca && crl_key_id(ca->cert, own) && memcmp(own, key_id, sizeof own) == 0;
}

struct authority *account_ca(const struct account *a, const uint8_t key_id[CRL_KEY_ID_LEN]) {
    if (is_ca(a->fleet_root, key_id))
        return a->fleet_root;
    if (is_ca(a->issuing_ca, key_id))
        return a->issuing_ca;
    for (size_t i = 0; i < a->n_superseded; i++)
        if (is_ca(a->superseded[i], key_id))
            return a->superseded[i];
    for (size_t i = 0; i < a->n_former; i++)
        if (is_ca(a->former[i].root, key_id))
            return a->former[i].root;
    return NULL;
}

/* --- its record ------------------------------------------------------------------------------------------------------------- */

static void put_cert(const struct cert *c, struct buf *b) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(CERT_MAX);
    if (cert_der(c, &der))
        b->failed = true;
    wire_put_bytes(b, buf_span(&der));
}

static void put_account(const struct account *a, struct buf *b) {
    buf_addc(b, FORMAT);
    buf_addc(b, (uint8_t)a->kind);
    buf_addc(b, (uint8_t)a->method);
    wire_put_policy(b, &a->policy);
    buf_addc(b, (uint8_t)a->backend);
    buf_addc(b, a->fleet_root != NULL);
    if (!a->fleet_root)
        return;
    authority_write(a->fleet_root, b);
    authority_write(a->issuing_ca, b);
    authority_write(a->provisioning_ca, b);
    buf_add_u16(b, (uint16_t)a->n_superseded);
    for (size_t i = 0; i < a->n_superseded; i++)
        authority_write(a->superseded[i], b);
    buf_add_u16(b, (uint16_t)a->n_former);
    for (size_t i = 0; i < a->n_former; i++)
        former_root_write(&a->former[i], b);
    buf_add_u16(b, (uint16_t)a->n_former_provisioning);
    for (size_t i = 0; i < a->n_former_provisioning; i++)
        put_cert(a->former_provisioning[i], b);
}

static int get_former(struct cursor *c, struct account *a, struct err *err) {
    uint16_t n = cursor_u16(c);
    if (n > VAULT_FORMER_MAX)
        c->failed = true;
    int rc = 0;
    while (!rc && a->n_former < n && !c->failed)
        rc = former_root_read(c, LABEL_ROOT, &a->former[a->n_former++], err);
    return rc;
}

static int get_former_provisioning(struct cursor *c, struct account *a, struct err *err) {
    uint16_t n = cursor_u16(c);
    if (n > VAULT_FORMER_MAX)
        c->failed = true;
    for (; a->n_former_provisioning < n && !c->failed; a->n_former_provisioning++)
        if (cert_from_der(wire_get_bytes(c), &a->former_provisioning[a->n_former_provisioning], NULL))
            return err_set(err, MUSTER_ECORRUPT, "The certificate of a former provisioning CA in the vault cannot be read.");
    return 0;
}

static int get_cas(struct cursor *c, struct account *a, uint8_t format, struct err *err) {
    int rc = authority_read(c, LABEL_ROOT, &a->fleet_root, err);
    if (rc || (rc = authority_read(c, LABEL_ISSUING, &a->issuing_ca, err)) || (rc = authority_read(c, LABEL_PROVISIONING, &a->provisioning_ca, err)))
        return rc;
    uint16_t n = cursor_u16(c);
    if (n > ACCOUNT_SUPERSEDED_MAX)
        c->failed = true;
    for (; a->n_superseded < n && !c->failed; a->n_superseded++)
        if ((rc = authority_read(c, LABEL_ISSUING, &a->superseded[a->n_superseded], err)))
            return rc;
    if (format > 1 && !c->failed && (rc = get_former(c, a, err)))
        return rc;
    return format > 4 && !c->failed ? get_former_provisioning(c, a, err) : 0;
}

static int get_account(struct span body, struct account *a, struct err *err) {
    struct cursor c = cursor_of(body);
    uint8_t format = cursor_u8(&c);
    if (format < 1 || format > FORMAT)
        return err_set(err, MUSTER_EVERSION, "The record of account %s has format %u; this version of Muster knows format %u.", a->name, format, FORMAT);
    a->kind = cursor_u8(&c);
    a->method = cursor_u8(&c);
    if (format > 2)
        wire_get_policy(&c, &a->policy);
    else
        wire_get_policy_before_profiles(&c, &a->policy);
    account_make_in(a, format > 3 ? cursor_u8(&c) : KEY_BACKEND_SEALED);
    if (a->backend != KEY_BACKEND_SEALED && a->backend != KEY_BACKEND_PKCS11)
        c.failed = true;
    int rc = wire_get_bool(&c) ? get_cas(&c, a, format, err) : 0;
    if (rc)
        return rc;
    return cursor_done(&c) ? 0 : err_set(err, MUSTER_ECORRUPT, "The record of account %s does not have the shape that it was written with.", a->name);
}

/* What a record holds, read without its certificates. */
struct keys_seen {
    bool is_account;
    uint16_t superseded, former;
    uint8_t (*ids)[TOKEN_ID_LEN]; /* NULL: they are counted alone */
    size_t in_token;
};

static void pass_authority(struct cursor *c, struct keys_seen *seen) {
    uint8_t id[TOKEN_ID_LEN];
    struct span ref = wire_get_bytes(c);
    wire_get_bytes(c);
    if (c->failed || !key_ref_token_id(ref, id))
        return;
    if (seen->ids && seen->in_token < ACCOUNT_TOKEN_KEYS_MAX)
        memcpy(seen->ids[seen->in_token], id, sizeof id);
    seen->in_token++;
}

static void pass_cas(struct cursor *c, uint8_t format, struct keys_seen *seen) {
    seen->is_account = true;
    for (int i = 0; i < 3; i++)
        pass_authority(c, seen);
    seen->superseded = cursor_u16(c);
    for (uint16_t i = 0; i < seen->superseded && !c->failed; i++)
        pass_authority(c, seen);
    seen->former = format > 1 ? cursor_u16(c) : 0;
    for (uint16_t i = 0; i < seen->former && !c->failed; i++) {
        pass_authority(c, seen);
        wire_get_bytes(c);
        wire_get_bytes(c);
    }
    for (uint16_t i = 0, n = format > 4 ? cursor_u16(c) : 0; i < n && !c->failed; i++)
        wire_get_bytes(c);
}

static int see_keys(struct records *r, const char *record, struct keys_seen *seen, struct err *err) {
    CLEANUP(secret_fini) struct secret data_key = SECRET_INIT, body = SECRET_INIT;
    struct vault_policy policy;
    if (strncmp(record, RECORD_PREFIX, sizeof RECORD_PREFIX - 1))
        return 0;
    int rc = records_load(r, record, &data_key, &body, err);
    if (rc)
        return rc;
    struct cursor c = cursor_of(secret_span(&body));
    uint8_t format = cursor_u8(&c);
    cursor_u16(&c); /* kind and method */
    if (format > 2)
        wire_get_policy(&c, &policy);
    else
        wire_get_policy_before_profiles(&c, &policy);
    if (format > 3)
        cursor_u8(&c); /* backend */
    if (wire_get_bool(&c))
        pass_cas(&c, format, seen);
    return cursor_done(&c) ? 0 : err_set(err, MUSTER_ECORRUPT, "The vault's record %s does not have the shape that it was written with.", record);
}

int account_count_keys(struct records *r, const char *record, uint32_t *keys, struct err *err) {
    struct keys_seen seen = {0};
    int rc = see_keys(r, record, &seen, err);
    if (rc || !seen.is_account)
        return rc;
    keys[VAULT_KEYS_FLEET_ROOT]++;
    keys[VAULT_KEYS_ISSUING_CA]++;
    keys[VAULT_KEYS_PROVISIONING_CA]++;
    keys[VAULT_KEYS_FORMER_ISSUING] += seen.superseded;
    keys[VAULT_KEYS_FORMER_ROOT] += seen.former;
    keys[VAULT_KEYS_IN_TOKEN] += (uint32_t)seen.in_token;
    return 0;
}

int account_token_keys(struct records *r, const char *record, uint8_t ids[ACCOUNT_TOKEN_KEYS_MAX][TOKEN_ID_LEN], size_t *n, struct err *err) {
    struct keys_seen seen = {.ids = ids};
    int rc = see_keys(r, record, &seen, err);
    *n = seen.in_token > ACCOUNT_TOKEN_KEYS_MAX ? ACCOUNT_TOKEN_KEYS_MAX : seen.in_token;
    return rc;
}

/* --- the cache ----------------------------------------------------------------------------------------------------------------- */

int accounts_new(struct records *r, struct accounts **out, struct err *err) {
    struct accounts *as = calloc(1, sizeof *as);
    if (!as)
        return err_set(err, MUSTER_ENOMEM, NULL);
    as->records = r;
    *out = as;
    return 0;
}

void accounts_free(struct accounts *as) {
    if (!as)
        return;
    for (size_t i = 0; i < CACHE_MAX; i++)
        account_free(as->cache[i].account);
    free(as);
}

static size_t cache_find(const struct accounts *as, struct span name) {
    size_t i = 0;
    while (i < CACHE_MAX && !(as->cache[i].account && span_eq_str(name, as->cache[i].account->name)))
        i++;
    return i;
}

static void cache_add(struct accounts *as, struct account *a) {
    size_t at = 0;
    for (size_t i = 1; i < CACHE_MAX; i++)
        if (as->cache[at].account && (!as->cache[i].account || as->cache[i].used < as->cache[at].used))
            at = i;
    account_free(as->cache[at].account);
    as->cache[at].account = a;
    as->cache[at].used = ++as->clock;
}

/* Takes it out without freeing it. */
static void cache_take(struct accounts *as, const struct account *a) {
    for (size_t i = 0; i < CACHE_MAX; i++)
        if (as->cache[i].account == a)
            as->cache[i].account = NULL;
}

int account_get(struct accounts *as, struct span name, struct account **out, struct err *err) {
    size_t at = cache_find(as, name);
    if (at < CACHE_MAX) {
        as->cache[at].used = ++as->clock;
        *out = as->cache[at].account;
        return 0;
    }
    CLEANUP(account_free) struct account *a = NULL;
    CLEANUP(secret_fini) struct secret body = SECRET_INIT;
    char record[RECORD_NAME_MAX + 1];
    int rc = account_named(name, &a, err);
    if (rc)
        return rc;
    record_name(a->name, record);
    if (!records_has(as->records, record))
        return err_set(err, MUSTER_ENOTFOUND, "The vault has no account %s.", a->name);
    if ((rc = records_load(as->records, record, &a->data_key, &body, err)) ||
        (rc = key_store_mixed_new(secret_span(&a->data_key), trail_oracle(), &a->keys, err)) || (rc = get_account(secret_span(&body), a, err)))
        return rc;
    *out = a;
    cache_add(as, TAKE(a));
    return 0;
}

int account_put(struct accounts *as, struct account *a, struct err *err) {
    CLEANUP(account_free) struct account *mine = a;
    CLEANUP(buf_fini) struct buf body = BUF_INIT(RECORD_BODY_MAX);
    char record[RECORD_NAME_MAX + 1];
    cache_take(as, a);
    record_name(a->name, record);
    put_account(a, &body);
    int rc = buf_check(&body, err);
    /* A counter that an account of this name left behind is sealed under a key that is gone. */
    if (!rc && !records_has(as->records, record) && !(rc = count_drop(as->records, a->name, err)))
        rc = crl_number_drop(as->records, a->name, err);
    if (rc || (rc = records_store(as->records, record, secret_span(&a->data_key), buf_span(&body), err)))
        return rc;
    cache_add(as, TAKE(mine));
    return 0;
}

int account_drop(struct accounts *as, struct span name, bool *existed, struct err *err) {
    CLEANUP(account_free) struct account *a = NULL;
    char record[RECORD_NAME_MAX + 1];
    int rc = account_named(name, &a, err);
    if (rc)
        return rc;
    record_name(a->name, record);
    *existed = records_has(as->records, record);
    if (!*existed)
        return 0;
    size_t at = cache_find(as, name);
    if (at < CACHE_MAX) {
        account_free(as->cache[at].account);
        as->cache[at].account = NULL;
    }
    if ((rc = records_drop(as->records, record, err)))
        return rc;
    struct err ignored = ERR_INIT; /* what is left is removed by the next account of this name, or the next opening */
    if (count_drop(as->records, a->name, &ignored) || crl_number_drop(as->records, a->name, &ignored))
        log_err(LOG_WARN, "vault_counter_kept", &ignored, "account", a->name, NULL);
    return 0;
}
