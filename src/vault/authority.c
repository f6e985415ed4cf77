/* vault/authority: see authority.h. */
#include "vault/authority.h"

#include "base/clock.h"
#include "vault/ocsp_signer.h"
#include "vault/trail.h"
#include "vault/wire.h"

#define CERT_MAX (16 * 1024)

int64_t life_end(int64_t now, int64_t life) {
    if (life >= CLOCK_NO_EXPIRY - now) /* VAULT_LIFE_NONE among them */
        return CLOCK_NO_EXPIRY;
    return now + life;
}

static struct authority *authority_new(const char *label) {
    struct authority *a = calloc(1, sizeof *a);
    if (a) {
        a->label = label;
        buf_init(&a->ref, KEY_REF_MAX);
    }
    return a;
}

void authority_free(struct authority *a) {
    if (!a)
        return;
    cert_free(a->cert);
    buf_fini(&a->ref);
    EVP_PKEY_free(a->key);
    leaf_ca_free(a->leaf);
    ocsp_signer_free(a->ocsp);
    free(a);
}

int authority_key(struct authority *a, struct key_store *keys, EVP_PKEY **key, struct err *err) {
    int rc = a->key ? 0 : key_store_open(keys, span_str(a->label), buf_span(&a->ref), &a->key, err);
    *key = a->key;
    return rc;
}

int authority_sign(struct authority *a, struct key_store *keys, const struct make_request *rq, struct buf *der, struct err *err) {
    EVP_PKEY *key;
    int rc = authority_key(a, keys, &key, err);
    if (rc)
        return rc;
    if (!leaf_fits(rq))
        return make_cert(rq, a->cert, key, der, err);
    if (!a->leaf && (rc = leaf_ca_new(a->cert, key, &a->leaf, err)))
        return rc;
    return a->leaf ? leaf_make(a->leaf, rq, der, err) : make_cert(rq, a->cert, key, der, err);
}

/* A sealed one is the same one again where the request is run again. */
static int make_key(struct authority *a, struct key_store *keys, const char *label, struct err *err) {
    bool sealed = key_store_backend(keys) == KEY_BACKEND_SEALED;
    if (sealed && trail_sealed(&a->ref, &a->key))
        return 0;
    int rc = key_store_make(keys, KEY_P256, 0, span_str(label), &a->ref, &a->key, err);
    return rc || !sealed ? rc : trail_keep_sealed(buf_span(&a->ref), a->key, err);
}

int authority_make(struct key_store *keys, enum cert_profile profile, const char *label, const char *common_name, struct span organisation,
                   struct authority *issuer, int64_t now, int64_t not_after, struct authority **out, struct err *err) {
    CLEANUP(authority_free) struct authority *a = authority_new(label);
    if (!a)
        return err_set(err, MUSTER_ENOMEM, NULL);
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    CLEANUP(buf_fini) struct buf der = BUF_INIT(CERT_MAX);
    int rc = make_key(a, keys, label, err);
    if (rc || (rc = key_public_der(a->key, &spki, err)))
        return rc;
    EVP_PKEY *signer = a->key;
    if (issuer && (rc = authority_key(issuer, keys, &signer, err)))
        return rc;
    struct make_request rq = {
        .profile = profile,
        .subject.common_name = span_str(common_name),
        .subject.organisation = organisation,
        .public_key = buf_span(&spki),
        .not_before = now - CLOCK_DAY,
        .not_after = issuer && issuer->cert->not_after < not_after ? issuer->cert->not_after : not_after,
    };
    trail_serial(rq.serial);
    if ((rc = make_cert(&rq, issuer ? issuer->cert : NULL, signer, &der, err)) || (rc = cert_from_der(buf_span(&der), &a->cert, err)))
        return rc;
    *out = TAKE(a);
    return 0;
}

int authority_read(struct cursor *c, const char *label, struct authority **out, struct err *err) {
    CLEANUP(authority_free) struct authority *a = authority_new(label);
    if (!a)
        return err_set(err, MUSTER_ENOMEM, NULL);
    buf_add(&a->ref, wire_get_bytes(c));
    struct span der = wire_get_bytes(c);
    if (c->failed || !buf_ok(&a->ref))
        return err_set(err, MUSTER_ECORRUPT, "A CA in the vault does not have the shape that it was written with.");
    if (cert_from_der(der, &a->cert, err))
        return err_set(err, MUSTER_ECORRUPT, "The certificate of a CA in the vault cannot be read.");
    *out = TAKE(a);
    return 0;
}

void authority_write(const struct authority *a, struct buf *out) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(CERT_MAX);
    if (cert_der(a->cert, &der))
        out->failed = true;
    wire_put_bytes(out, buf_span(&a->ref));
    wire_put_bytes(out, buf_span(&der));
}

/* --- between two roots ------------------------------------------------------------------------------------------------------- */

void former_root_fini(struct former_root *f) {
    authority_free(f->root);
    cert_free(f->next_by_it);
    cert_free(f->it_by_next);
    *f = (struct former_root){0};
}

/* `of`, by its own name and key, under `by`. */
static int cross_certify(struct key_store *keys, enum cert_profile profile, struct span organisation, struct authority *of, struct authority *by, int64_t now, struct cert **out,
                         struct err *err) {
    CLEANUP(buf_fini) struct buf name = BUF_INIT(512), spki = BUF_INIT(4096), der = BUF_INIT(CERT_MAX);
    EVP_PKEY *key, *signer;
    int rc = cert_common_name(of->cert, &name, err);
    if (rc || (rc = authority_key(of, keys, &key, err)) || (rc = key_public_der(key, &spki, err)) || (rc = authority_key(by, keys, &signer, err)))
        return rc;
    struct make_request rq = {
        .profile = profile,
        .subject = {.common_name = buf_span(&name), .organisation = organisation},
        .public_key = buf_span(&spki),
        .not_before = now - CLOCK_DAY,
        .not_after = of->cert->not_after < by->cert->not_after ? of->cert->not_after : by->cert->not_after,
    };
    trail_serial(rq.serial);
    rc = make_cert(&rq, by->cert, signer, &der, err);
    return rc ? rc : cert_from_der(buf_span(&der), out, err);
}

int former_root_make(struct key_store *keys, enum cert_profile profile, struct span organisation, struct authority *old, struct authority *next, int64_t now, struct former_root *out,
                     struct err *err) {
    CLEANUP(former_root_fini) struct former_root f = {0};
    int rc = cross_certify(keys, profile, organisation, next, old, now, &f.next_by_it, err);
    if (rc || (rc = cross_certify(keys, profile, organisation, old, next, now, &f.it_by_next, err)))
        return rc;
    f.root = old;
    *out = f;
    f = (struct former_root){0};
    return 0;
}

int former_root_read(struct cursor *c, const char *label, struct former_root *out, struct err *err) {
    int rc = authority_read(c, label, &out->root, err);
    if (rc)
        return rc;
    struct span next = wire_get_bytes(c), it = wire_get_bytes(c);
    if (c->failed || cert_from_der(next, &out->next_by_it, NULL) || cert_from_der(it, &out->it_by_next, NULL))
        return err_set(err, MUSTER_ECORRUPT, "A certificate between two CAs in the vault cannot be read.");
    return 0;
}

static void put_cert(const struct cert *c, struct buf *b) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(CERT_MAX);
    if (cert_der(c, &der))
        b->failed = true;
    wire_put_bytes(b, buf_span(&der));
}

void former_root_write(const struct former_root *f, struct buf *out) {
    authority_write(f->root, out);
    put_cert(f->next_by_it, out);
    put_cert(f->it_by_next, out);
}

int former_roots_der(const struct former_root *f, size_t n, struct buf *roots, struct buf *crosses, struct err *err) {
    int rc = 0;
    buf_clear(roots);
    buf_clear(crosses);
    for (size_t i = 0; !rc && i < n; i++)
        if (!(rc = cert_der(f[i].root->cert, roots)) && !(rc = cert_der(f[i].next_by_it, crosses)))
            rc = cert_der(f[i].it_by_next, crosses);
    return rc ? err_set(err, rc, NULL) : 0;
}
