/* crl_sign: see crl_sign.h. */
#include "pki/crl_sign.h"

#include <openssl/pem.h>

#include "base/clock.h"
#include "pki/pki.h"

DEFINE_CLEANUP(X509_CRL_free, X509_CRL *)
DEFINE_CLEANUP(X509_REVOKED_free, X509_REVOKED *)
DEFINE_CLEANUP(ASN1_TIME_free, ASN1_TIME *)
DEFINE_CLEANUP(ASN1_INTEGER_free, ASN1_INTEGER *)
DEFINE_CLEANUP(ASN1_ENUMERATED_free, ASN1_ENUMERATED *)
DEFINE_CLEANUP(AUTHORITY_KEYID_free, AUTHORITY_KEYID *)
DEFINE_CLEANUP(BN_free, BIGNUM *)

/* By text, not by time_t: that has 32 bits on some targets. */
static ASN1_TIME *time_of(int64_t t) {
    int year, month, day, hour, minute, second;
    char text[32];
    CLEANUP(ASN1_TIME_free) ASN1_TIME *time = ASN1_TIME_new();
    clock_to_civil(t, &year, &month, &day, &hour, &minute, &second);
    snprintf(text, sizeof text, "%04d%02d%02d%02d%02d%02dZ", year, month, day, hour, minute, second);
    return time && ASN1_TIME_set_string_X509(time, text) == 1 ? TAKE(time) : NULL;
}

static bool add_entry(X509_CRL *crl, const struct crl_entry *e, int64_t this_update) {
    CLEANUP(X509_REVOKED_free) X509_REVOKED *r = X509_REVOKED_new();
    CLEANUP(BN_free) BIGNUM *n = BN_bin2bn(e->serial, sizeof e->serial, NULL);
    CLEANUP(ASN1_INTEGER_free) ASN1_INTEGER *serial = n ? BN_to_ASN1_INTEGER(n, NULL) : NULL;
    CLEANUP(ASN1_TIME_free) ASN1_TIME *when = time_of(e->revoked && e->revoked < this_update ? e->revoked : this_update);
    if (!r || !serial || !when || X509_REVOKED_set_serialNumber(r, serial) != 1 || X509_REVOKED_set_revocationDate(r, when) != 1)
        return false;
    if (e->reason) {
        CLEANUP(ASN1_ENUMERATED_free) ASN1_ENUMERATED *reason = ASN1_ENUMERATED_new();
        if (!reason || ASN1_ENUMERATED_set(reason, e->reason) != 1 || X509_REVOKED_add1_ext_i2d(r, NID_crl_reason, reason, 0, 0) != 1)
            return false;
    }
    if (X509_CRL_add0_revoked(crl, r) != 1)
        return false;
    r = NULL;
    return true;
}

static bool add_extensions(X509_CRL *crl, const struct crl_sign *rq) {
    CLEANUP(AUTHORITY_KEYID_free) AUTHORITY_KEYID *aki = AUTHORITY_KEYID_new();
    CLEANUP(ASN1_INTEGER_free) ASN1_INTEGER *number = ASN1_INTEGER_new();
    const ASN1_OCTET_STRING *key_id = X509_get0_subject_key_id(rq->ca->x);
    if (!aki || !number || ASN1_INTEGER_set_uint64(number, rq->number) != 1 || (key_id && !(aki->keyid = ASN1_OCTET_STRING_dup(key_id))))
        return false;
    return (!key_id || X509_CRL_add1_ext_i2d(crl, NID_authority_key_identifier, aki, 0, 0) == 1) && X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, 0) == 1;
}

static const EVP_MD *digest_of(const struct cert *ca) { return ca->key.kind == KEY_ED25519 ? NULL : ca->key.kind == KEY_P384 ? EVP_sha384() : pki_sha256(); }

static int write_out(X509_CRL *crl, bool pem, struct buf *out, struct err *err) {
    CLEANUP(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());
    if (!bio || (pem ? PEM_write_bio_X509_CRL(bio, crl) : i2d_X509_CRL_bio(bio, crl)) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Encoding a revocation list");
    buf_add(out, bio_span(bio));
    return buf_check(out, err);
}

int crl_sign(const struct crl_sign *rq, bool pem, struct buf *out, struct err *err) {
    CLEANUP(X509_CRL_free) X509_CRL *crl = X509_CRL_new();
    CLEANUP(ASN1_TIME_free) ASN1_TIME *last = time_of(rq->this_update);
    CLEANUP(ASN1_TIME_free) ASN1_TIME *next = time_of(rq->next_update);
    if (rq->next_update <= rq->this_update)
        return err_set(err, MUSTER_EINVALID, "A revocation list cannot end before it begins.");
    bool good = crl && last && next && X509_CRL_set_version(crl, X509_CRL_VERSION_2) == 1 && X509_CRL_set_issuer_name(crl, X509_get_subject_name(rq->ca->x)) == 1 &&
                X509_CRL_set1_lastUpdate(crl, last) == 1 && X509_CRL_set1_nextUpdate(crl, next) == 1;
    for (size_t i = 0; good && i < rq->n; i++)
        good = add_entry(crl, &rq->entries[i], rq->this_update);
    if (!good || X509_CRL_sort(crl) != 1 || !add_extensions(crl, rq) || X509_CRL_sign(crl, rq->key, digest_of(rq->ca)) <= 0)
        return pki_err(err, MUSTER_ECRYPTO, "Building a revocation list");
    return write_out(crl, pem, out, err);
}
