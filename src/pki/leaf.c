/* leaf: see leaf.h.  Fields are written last to first, in the order of RFC 5280, 4.1, read backwards. */
#include "pki/leaf.h"

#include "base/clock.h"
#include "pki/der.h"
#include "pki/pki.h"

#define TEXT_MAX 64 /* characters of a part of a name: RFC 5280, appendix A.1 */
#define TBS_MAX 3072
#define SIGNATURE_MAX 80 /* of ECDSA with P-256: 72 at most */
#define KEY_ID_LEN 20
#define NAME_MAX_BYTES 1024

#define ECDSA_WITH_SHA256 DER_BYTES(0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02)
#define VERSION_3 DER_BYTES(0xa0, 0x03, 0x02, 0x01, 0x02)
/* What the two profiles fix: basicConstraints (critical, not a CA), keyUsage (critical, digitalSignature), extKeyUsage clientAuth. */
#define EXTENSIONS                                                                                                             \
    DER_BYTES(0x30, 0x0c, 0x06, 0x03, 0x55, 0x1d, 0x13, 0x01, 0x01, 0xff, 0x04, 0x02, 0x30, 0x00, 0x30, 0x0e, 0x06, 0x03, 0x55, 0x1d, 0x0f, \
              0x01, 0x01, 0xff, 0x04, 0x04, 0x03, 0x02, 0x07, 0x80, 0x30, 0x13, 0x06, 0x03, 0x55, 0x1d, 0x25, 0x04, 0x0c, 0x30, 0x0a, 0x06,  \
              0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02)
#define ID_SUBJECT_KEY DER_BYTES(0x06, 0x03, 0x55, 0x1d, 0x0e)
#define ID_AUTHORITY_KEY DER_BYTES(0x06, 0x03, 0x55, 0x1d, 0x23)
#define ID_INFO_ACCESS DER_BYTES(0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01)
#define ID_AD_OCSP DER_BYTES(0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01)
enum { AT_CN = 3, AT_O = 10, AT_OU = 11 }; /* id-at */

struct leaf_ca {
    EVP_MD_CTX *ready; /* copied for each signature: making one costs as much as signing */
    struct buf name;   /* DER */
    uint8_t key_id[KEY_ID_LEN];
};

void leaf_ca_free(struct leaf_ca *ca) {
    if (!ca)
        return;
    EVP_MD_CTX_free(ca->ready);
    buf_fini(&ca->name);
    free(ca);
}

static int take_name(struct leaf_ca *ca, const struct cert *cert, struct err *err) {
    unsigned char *name = NULL;
    int n = i2d_X509_NAME(X509_get_subject_name(cert->x), &name);
    if (n <= 0)
        return pki_err(err, MUSTER_ECRYPTO, "Encoding a CA's name");
    buf_add(&ca->name, span_of(name, (size_t)n));
    OPENSSL_free(name);
    return buf_check(&ca->name, err);
}

int leaf_ca_new(const struct cert *cert, EVP_PKEY *key, struct leaf_ca **out, struct err *err) {
    const ASN1_OCTET_STRING *id = X509_get0_subject_key_id(cert->x);
    *out = NULL;
    if (cert->key.kind != KEY_P256 || !id || ASN1_STRING_length(id) != KEY_ID_LEN || i2d_X509_NAME(X509_get_subject_name(cert->x), NULL) > NAME_MAX_BYTES)
        return 0;
    CLEANUP(leaf_ca_free) struct leaf_ca *ca = calloc(1, sizeof *ca);
    if (!ca)
        return err_set(err, MUSTER_ENOMEM, NULL);
    ca->name = BUF_INIT(NAME_MAX_BYTES);
    ca->ready = EVP_MD_CTX_new();
    memcpy(ca->key_id, ASN1_STRING_get0_data(id), KEY_ID_LEN);
    if (!ca->ready || EVP_DigestSignInit(ca->ready, NULL, pki_sha256(), NULL, key) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Preparing a CA's key");
    int rc = take_name(ca, cert, err);
    if (rc)
        return rc;
    *out = TAKE(ca);
    return 0;
}

/* --- what fits ---------------------------------------------------------------------------------------------------------------- */

static bool plain_text(struct span s) { return s.n <= 4 * TEXT_MAX && span_is_utf8(s) && !span_has_control(s) && make_characters(s) <= TEXT_MAX; }

static struct span common_name(const struct make_request *rq) { return rq->device_id.n ? rq->device_id : rq->subject.common_name; }

bool leaf_fits(const struct make_request *rq) {
    const struct subject *s = &rq->subject;
    bool profile = rq->profile == PROFILE_DEVICE || (rq->profile == PROFILE_PROVISIONING_KEY && rq->device_id.n == 0);
    return profile && rq->ocsp.n <= MAKE_URL_MAX && !rq->n_san && !rq->usages && key_is_p256_der(rq->public_key) && common_name(rq).n && plain_text(common_name(rq)) && plain_text(s->organisation) &&
           plain_text(s->organisational_unit) && !s->country.n && !s->state.n && !s->locality.n && !s->serial_number.n && rq->serial[0] > 0 && rq->serial[0] < 0x80 &&
           rq->not_before <= rq->not_after;
}

/* --- the parts ------------------------------------------------------------------------------------------------------------------ */

static void put_extension(struct der_writer *w, struct span id, size_t value_end) {
    der_wrap(w, DER_OCTET_STRING, value_end);
    der_put(w, id);
    der_wrap(w, DER_SEQUENCE, value_end);
}

static void put_ocsp(struct der_writer *w, struct span url) {
    const size_t end = der_end(w);
    if (!url.n)
        return;
    der_element(w, DER_IMPLICIT(6), url);
    der_put(w, ID_AD_OCSP);
    der_wrap(w, DER_SEQUENCE, end);
    der_wrap(w, DER_SEQUENCE, end);
    put_extension(w, ID_INFO_ACCESS, end);
}

static void put_extensions(struct der_writer *w, const struct leaf_ca *ca, const struct make_request *rq, const uint8_t own_id[KEY_ID_LEN]) {
    const size_t all = der_end(w);
    put_ocsp(w, rq->profile == PROFILE_DEVICE ? rq->ocsp : SPAN_NONE);
    size_t end = der_end(w);
    der_element(w, DER_IMPLICIT(0), span_of(ca->key_id, KEY_ID_LEN));
    der_wrap(w, DER_SEQUENCE, end);
    put_extension(w, ID_AUTHORITY_KEY, end);
    end = der_end(w);
    der_element(w, DER_OCTET_STRING, span_of(own_id, KEY_ID_LEN));
    put_extension(w, ID_SUBJECT_KEY, end);
    der_put(w, EXTENSIONS);
    der_wrap(w, DER_SEQUENCE, all);
    der_wrap(w, DER_CONTEXT(3), all);
}

static void put_name_part(struct der_writer *w, uint8_t which, struct span value) {
    size_t end = der_end(w);
    if (value.n == 0)
        return;
    der_element(w, DER_UTF8_STRING, value);
    der_put(w, DER_BYTES(0x06, 0x03, 0x55, 0x04, which));
    der_wrap(w, DER_SEQUENCE, end);
    der_wrap(w, DER_SET, end);
}

static void put_subject(struct der_writer *w, const struct make_request *rq) {
    size_t end = der_end(w);
    put_name_part(w, AT_CN, common_name(rq));
    put_name_part(w, AT_OU, rq->subject.organisational_unit);
    put_name_part(w, AT_O, rq->subject.organisation);
    der_wrap(w, DER_SEQUENCE, end);
}

/* RFC 5280, 4.1.2.5: UTCTime through 2049, GeneralizedTime from then on. */
static void put_time(struct der_writer *w, int64_t t) {
    int year, month, day, hour, minute, second;
    char text[40];
    clock_to_civil(t, &year, &month, &day, &hour, &minute, &second);
    snprintf(text, sizeof text, "%04d%02d%02d%02d%02d%02dZ", year, month, day, hour, minute, second);
    bool utc = year >= 1950 && year < 2050;
    der_element(w, utc ? DER_UTC_TIME : DER_GENERALIZED_TIME, span_str(utc ? text + 2 : text));
}

static void put_tbs(struct der_writer *w, const struct leaf_ca *ca, const struct make_request *rq) {
    struct hash own;
    size_t all = der_end(w);
    hash_of(key_p256_point(rq->public_key), &own); /* RFC 7093, method 1 */
    put_extensions(w, ca, rq, own.b);
    der_put(w, rq->public_key);
    put_subject(w, rq);
    size_t end = der_end(w);
    put_time(w, rq->not_after);
    put_time(w, rq->not_before);
    der_wrap(w, DER_SEQUENCE, end);
    der_put(w, buf_span(&ca->name));
    der_put(w, ECDSA_WITH_SHA256);
    der_element(w, DER_INTEGER, span_of(rq->serial, sizeof rq->serial));
    der_put(w, VERSION_3);
    der_wrap(w, DER_SEQUENCE, all);
}

static int sign(const struct leaf_ca *ca, struct span tbs, uint8_t signature[SIGNATURE_MAX], size_t *n, struct err *err) {
    CLEANUP(EVP_MD_CTX_free) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    *n = SIGNATURE_MAX;
    if (!ctx || EVP_MD_CTX_copy_ex(ctx, ca->ready) != 1 || EVP_DigestSign(ctx, signature, n, tbs.p, tbs.n) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Signing a certificate");
    return 0;
}

int leaf_make(struct leaf_ca *ca, const struct make_request *rq, struct buf *der, struct err *err) {
    uint8_t room[TBS_MAX], signature[SIGNATURE_MAX];
    size_t n;
    struct der_writer tbs = der_writer_of(room, sizeof room);
    if (!leaf_fits(rq))
        return err_set(err, MUSTER_EINTERNAL, "A certificate that is not made this way.");
    put_tbs(&tbs, ca, rq);
    struct span body = der_written(&tbs);
    if (!body.n)
        return err_set(err, MUSTER_EINTERNAL, "A certificate is longer than %d bytes.", TBS_MAX);
    int rc = sign(ca, body, signature, &n, err);
    if (rc)
        return rc;
    uint8_t whole[TBS_MAX + 128];
    struct der_writer w = der_writer_of(whole, sizeof whole);
    der_bits(&w, span_of(signature, n));
    der_put(&w, ECDSA_WITH_SHA256);
    der_put(&w, body);
    der_wrap(&w, DER_SEQUENCE, sizeof whole);
    buf_add(der, der_written(&w));
    return buf_check(der, err);
}
