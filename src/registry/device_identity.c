/* device_identity: see device_identity.h. */
#include "registry/device_identity.h"

#include "pki/cert.h"
#include "pki/crl_make.h"
#include "registry/device_chain.h"

bool device_identity_is_certificate(const struct device *d, const struct cert *leaf) {
    return d->has_certificate && d->method == METHOD_SHARED && hash_eq(&d->certificate, &leaf->fingerprint);
}

bool device_identity_is_key(const struct device *d, const struct cert *leaf) {
    return d->has_certificate && d->method == METHOD_DEVICE && hash_eq(&d->spki, &leaf->key.spki);
}

static int busy(struct err *err) { return err_retry(err, MUSTER_EBUSY, 1, "The device's key was registered a moment ago."); }

static int add_key(struct store_tx *tx, int64_t account, int64_t device, const struct hash *spki, int64_t now, struct err *err) {
    int rc = store_exec(tx, NULL, err, SQL_DKEY_ADD, "ibiii", account, hash_span(spki), device, I(1), now);
    return rc == MUSTER_EEXISTS ? busy(err) : rc;
}

/* The key is the device's already where Muster made it, or certified it before. */
static int hold_key(struct store_tx *tx, int64_t account, int64_t device, const struct hash *spki, int64_t now, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_DKEY_GET, "ib", account, hash_span(spki));
    if (found < 0)
        return found;
    if (!found)
        return add_key(tx, account, device, spki, now, err);
    bool own = store_int(row, 0) == device && store_int(row, 1) && !store_int(row, 2);
    store_row_end(row);
    return own ? 0 : busy(err);
}

int device_identity_take(struct store_tx *tx, const struct device *d, const struct device_identity *to, struct err *err) {
    const struct cert *c = to->leaf;
    const int64_t now = clock_now();
    int rc = hold_key(tx, d->account, d->row, &c->key.spki, now, err);
    if (!rc)
        rc = store_exec(tx, NULL, err, SQL_DKEY_BAR_OTHERS, "ib", d->row, hash_span(&c->key.spki));
    if (!rc && to->cert)
        rc = store_exec(tx, NULL, err, SQL_CERT_FIRST_USE, "ii", to->cert, now);
    if (!rc)
        rc = store_exec(tx, NULL, err, SQL_CERT_END_OTHERS, "ii", d->row, to->cert);
    if (!rc && to->cert)
        rc = store_exec(tx, NULL, err, SQL_DEVICE_IDENTITY, "iirnbibisiiii", d->row, I(METHOD_SHARED), to->prov_key, hash_span(&c->fingerprint), c->not_after, hash_span(&c->key.spki), now, to->address, I(0), I(to->renews), to->anchor, to->cert);
    else if (!rc)
        rc = store_exec(tx, NULL, err, SQL_DEVICE_IDENTITY, "iinibibisiiii", d->row, I(METHOD_DEVICE), to->root, hash_span(&c->fingerprint), c->not_after, hash_span(&c->key.spki), now, to->address, to->chain, I(0), to->root, I(0));
    if (!rc && d->chain != to->chain)
        rc = device_chain_release(tx, d->chain, err);
    /* What waited for its first use was never let in, but a connection with the identity so far may be open and judged. */
    return rc || !d->has_certificate ? rc : epoch_raise(tx, err);
}

int device_identity_superseded(struct store_tx *tx, const struct device *d, int64_t cert, int64_t *since, struct err *err) {
    *since = 0;
    return d->has_certificate && d->method == METHOD_SHARED ? one_int(tx, since, 0, err, SQL_CERT_REPLACED_AT, "ii", d->row, cert) : 0;
}

int device_identity_superseded_key(struct store_tx *tx, const struct device *d, const struct hash *spki, int64_t *since, struct err *err) {
    *since = 0;
    return d->has_certificate && d->method == METHOD_SHARED ? one_int(tx, since, 0, err, SQL_DKEY_REPLACED_AT, "ib", d->row, hash_span(spki)) : 0;
}

int device_identity_renew(struct store_tx *tx, const struct device *d, const struct cert *leaf, int64_t root, int64_t chain, struct err *err) {
    int rc = store_exec(tx, NULL, err, SQL_DEVICE_CERT, "ibiii", d->row, hash_span(&leaf->fingerprint), leaf->not_after, root, chain);
    return rc || chain == d->chain ? rc : device_chain_release(tx, d->chain, err);
}

/* Its issuing CA's row.  The vault replaces an issuing CA by itself; until the operators' process has written the new one down, no gateway
 * would let its devices in. */
static int issuer_of(struct store_tx *tx, int64_t account, struct span der, int64_t *ca, struct err *err) {
    uint8_t id[CRL_KEY_ID_LEN];
    *ca = 0;
    if (!crl_issuer_key_id(der, id))
        return 0;
    int rc = one_int(tx, ca, 0, err, SQL_CA_BY_KEY_ID, "ib", account, span_of(id, sizeof id));
    return rc || *ca ? rc : err_retry(err, MUSTER_EUNAVAILABLE, 1, "The account's issuing CA was replaced a moment ago.");
}

int device_identity_issued(struct store_tx *tx, const struct device_issued *i, int64_t now, struct err *err) {
    const struct made_cert *c = i->cert;
    int64_t ca;
    if (llabs(c->not_before + DEVICE_ISSUED_BACK - now) > DEVICE_ISSUED_WITHIN)
        return err_retry(err, MUSTER_EUNAVAILABLE, 1, "The server's clock was set while the certificate was made.");
    int rc = issuer_of(tx, i->account, c->der, &ca, err);
    if (!rc && i->comes_back)
        rc = store_exec(tx, NULL, err, SQL_DKEY_COME_BACK, "ibi", i->account, hash_span(&c->spki), i->device);
    if (rc)
        return rc;
    rc = (i->own_key ? hold_key : add_key)(tx, i->account, i->device, &c->spki, now, err);
    return rc ? rc : store_exec(tx, NULL, err, SQL_CERT_ADD, "bbiirbbiiiiirbi", c->serial, hash_span(&c->fingerprint), i->account, i->device, i->prov_key, hash_span(&c->spki), c->der,
                                c->not_before, c->not_after, now, i->enrolled ? i->enrolled : now, I(i->renews), ca, i->server_ca ? hash_span(i->server_ca) : SPAN_NONE, I(i->keeps_server_ca ? -1 : 0));
}

int device_identity_waiting(struct store_tx *tx, int64_t device, int64_t *prov_key, struct err *err) {
    return one_int(tx, prov_key, 0, err, SQL_CERT_WAITING, "i", device);
}

int device_identity_revoke(struct store_tx *tx, const struct device *d, struct err *err) { return store_exec(tx, NULL, err, SQL_CERT_REVOKE, "ii", d->row, clock_now()); }

/* What is revoked beside an identity that goes on is void or superseded, as if that one had ended it: a provisioning key's devices are
 * counted by the others. */
static enum cert_state state_revoked(const struct device *d, enum cert_state before) {
    if (before == CERT_CURRENT || (before == CERT_ISSUED && !d->has_certificate))
        return CERT_REVOKED;
    return before == CERT_ISSUED ? CERT_VOID : before;
}

int device_identity_revoke_line(struct store_tx *tx, struct device *d, const struct device_revoked *r, struct err *err) {
    int rc = 0;
    if (r->state == CERT_CURRENT) {
        rc = store_exec(tx, NULL, err, SQL_DEVICE_IDENTITY_NONE, "i", d->row);
        d->has_certificate = false;
    }
    return rc || !r->bar ? rc : store_exec(tx, NULL, err, SQL_DKEY_BAR, "ib", d->row, hash_span(&r->spki));
}

int device_identity_revoke_one(struct store_tx *tx, struct device *d, const struct device_revoked *r, struct err *err) {
    int rc = store_exec(tx, NULL, err, SQL_CERT_REVOKE_ONE, "iiii", r->cert, I(state_revoked(d, r->state)), clock_now(), I(r->reason));
    return rc ? rc : device_identity_revoke_line(tx, d, r, err);
}

int device_identity_release(struct store_tx *tx, const struct device *d, bool same_key, struct err *err) {
    int rc = store_exec(tx, NULL, err, SQL_CERT_ORPHAN, "iis", d->row, clock_now(), d->device_id);
    if (!rc && same_key && d->has_certificate)
        rc = store_exec(tx, NULL, err, SQL_DKEY_FREE, "ib", d->row, hash_span(&d->spki));
    return rc ? rc : store_exec(tx, NULL, err, SQL_DKEY_RELEASE_BAR, "i", d->row);
}
