/* ocsp_make: see ocsp_make.h.  Parts are written last to first. */
#include "pki/ocsp_make.h"

#include <openssl/evp.h>

#include "base/clock.h"
#include "pki/der.h"
#include "pki/der_read.h"
#include "pki/pki.h"

#define SINGLE_MAX 256  /* bytes of a SingleResponse: 13 + 2 * 34 + 34 of its CertID, 33 of its status, 36 of dates, and headers */
#define TBS_MAX (OCSP_SINGLES_MAX * SINGLE_MAX + 256)
#define SIGNATURE_MAX 80 /* of ECDSA with P-256: 72 at most */
#define CERT_MAX 2048

#define ECDSA_WITH_SHA256 DER_BYTES(0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02)
#define OID_SHA1 DER_BYTES(0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a)
#define OID_SHA256 DER_BYTES(0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01)
#define NULL_ELEMENT DER_BYTES(0x05, 0x00)
#define ID_BASIC DER_BYTES(0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01)
#define ID_NONCE DER_BYTES(0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02)

/* --- hashes -------------------------------------------------------------------------------------------------------------------------------- */

size_t ocsp_hash_length(enum ocsp_hash hash) { return hash == OCSP_SHA1 ? 20 : hash == OCSP_SHA256 ? 32 : 0; }

static int digest(enum ocsp_hash hash, struct span s, uint8_t out[OCSP_HASH_MAX], struct err *err) {
    unsigned n = 0;
    if (EVP_Digest(s.p, s.n, out, &n, hash == OCSP_SHA1 ? EVP_sha1() : pki_sha256(), NULL) != 1 || n != ocsp_hash_length(hash))
        return pki_err(err, MUSTER_ECRYPTO, "Hashing a CA's name and key");
    return 0;
}

int ocsp_issuer_of(struct span ca_der, struct ocsp_issuer *out, struct err *err) {
    struct der_certificate ca;
    *out = (struct ocsp_issuer){{{0}}};
    if (!der_certificate_read(ca_der, &ca))
        return err_set(err, MUSTER_ECERTMALFORMED, "The certificate of a CA cannot be read.");
    for (int hash = OCSP_SHA1; hash < OCSP_HASHES; hash++) {
        int rc = digest((enum ocsp_hash)hash, ca.subject, out->name[hash], err);
        if (rc || (rc = digest((enum ocsp_hash)hash, ca.key_bits, out->key[hash], err)))
            return rc;
    }
    return 0;
}

int ocsp_key_hash(struct span spki, uint8_t out[OCSP_KEY_HASH_LEN], struct err *err) {
    uint8_t hash[OCSP_HASH_MAX];
    if (!key_is_p256_der(spki))
        return err_set(err, MUSTER_EINVALID, "The key of an OCSP responder is of P-256.");
    int rc = digest(OCSP_SHA1, key_p256_point(spki), hash, err);
    memcpy(out, hash, OCSP_KEY_HASH_LEN);
    return rc;
}

/* --- the parts ----------------------------------------------------------------------------------------------------------------------------- */

static void put_time(struct der_writer *w, int64_t t) {
    int year, month, day, hour, minute, second;
    char text[40];
    clock_to_civil(t, &year, &month, &day, &hour, &minute, &second);
    snprintf(text, sizeof text, "%04d%02d%02d%02d%02d%02dZ", year, month, day, hour, minute, second);
    der_element(w, DER_GENERALIZED_TIME, span_str(text));
}

static void put_id(struct der_writer *w, const struct ocsp_issuer *ca, const struct ocsp_single *s) {
    const size_t end = der_end(w), length = ocsp_hash_length(s->hash);
    der_element(w, DER_INTEGER, span_of(s->serial, s->serial_n));
    der_element(w, DER_OCTET_STRING, span_of(ca->key[s->hash], length));
    der_element(w, DER_OCTET_STRING, span_of(ca->name[s->hash], length));
    const size_t algorithm = der_end(w);
    der_put(w, s->null ? NULL_ELEMENT : SPAN_NONE);
    der_put(w, s->hash == OCSP_SHA1 ? OID_SHA1 : OID_SHA256);
    der_wrap(w, DER_SEQUENCE, algorithm);
    der_wrap(w, DER_SEQUENCE, end);
}

static void put_status(struct der_writer *w, const struct ocsp_single *s, int64_t this_update) {
    const size_t end = der_end(w);
    if (s->status != OCSP_REVOKED) {
        der_element(w, DER_IMPLICIT(s->status), SPAN_NONE);
        return;
    }
    if (s->reason) {
        der_element(w, DER_ENUMERATED, DER_BYTES(s->reason));
        der_wrap(w, DER_CONTEXT(0), end);
    }
    put_time(w, s->revoked && s->revoked < this_update ? s->revoked : this_update); /* there are verifiers to whom what was revoked in the future is not revoked */
    der_wrap(w, DER_CONTEXT(OCSP_REVOKED), end);
}

static void put_single(struct der_writer *w, const struct ocsp_issuer *ca, const struct ocsp_single *s, const struct ocsp_plan *plan) {
    const size_t end = der_end(w);
    put_time(w, plan->next_update);
    der_wrap(w, DER_CONTEXT(0), end);
    put_time(w, plan->this_update);
    put_status(w, s, plan->this_update);
    put_id(w, ca, s);
    der_wrap(w, DER_SEQUENCE, end);
}

static void put_nonce(struct der_writer *w, struct span nonce) {
    const size_t end = der_end(w);
    if (!nonce.n)
        return;
    der_element(w, DER_OCTET_STRING, nonce);
    der_wrap(w, DER_OCTET_STRING, end);
    der_put(w, ID_NONCE);
    der_wrap(w, DER_SEQUENCE, end);
    der_wrap(w, DER_SEQUENCE, end);
    der_wrap(w, DER_CONTEXT(1), end);
}

/* ResponseData */
static void put_tbs(struct der_writer *w, const struct ocsp_issuer *ca, const struct ocsp_responder *by, const struct ocsp_plan *plan) {
    const size_t all = der_end(w);
    put_nonce(w, plan->nonce);
    const size_t list = der_end(w);
    for (size_t i = plan->n; i-- > 0;)
        put_single(w, ca, &plan->at[i], plan);
    der_wrap(w, DER_SEQUENCE, list);
    put_time(w, plan->produced);
    const size_t id = der_end(w);
    der_element(w, DER_OCTET_STRING, span_of(by->key_hash, sizeof by->key_hash));
    der_wrap(w, DER_CONTEXT(2), id);
    der_wrap(w, DER_SEQUENCE, all);
}

/* --- an answer ----------------------------------------------------------------------------------------------------------------------------- */

static bool makes_sense(const struct ocsp_plan *p) {
    if (p->n < 1 || p->n > OCSP_SINGLES_MAX || p->nonce.n > OCSP_NONCE_MAX || p->this_update <= 0 || p->this_update > p->produced || p->next_update <= p->produced ||
        p->next_update > CLOCK_NO_EXPIRY)
        return false;
    for (size_t i = 0; i < p->n; i++) {
        const struct ocsp_single *s = &p->at[i];
        uint8_t integer[2 + OCSP_SERIAL_MAX] = {DER_INTEGER, s->serial_n};
        struct span encoded = span_of(integer, 2U + s->serial_n), content;
        if (s->serial_n < 1 || s->serial_n > OCSP_SERIAL_MAX || !ocsp_hash_length(s->hash) || s->status > OCSP_UNKNOWN || s->reason > 10 || s->reason == 7 || s->reason == 8 || s->revoked < 0)
            return false;
        memcpy(integer + 2, s->serial, s->serial_n);
        if (!der_take_integer(&encoded, &content)) /* in more bytes than it takes: not what anybody asked about */
            return false;
    }
    return true;
}

int ocsp_make(const struct ocsp_issuer *ca, const struct ocsp_responder *by, const struct ocsp_plan *plan, struct buf *der, struct err *err) {
    uint8_t room[TBS_MAX], whole[TBS_MAX + SIGNATURE_MAX + CERT_MAX + 128];
    struct der_writer tbs = der_writer_of(room, sizeof room), w = der_writer_of(whole, sizeof whole);
    CLEANUP(buf_fini) struct buf signature = BUF_INIT(SIGNATURE_MAX);
    if (!makes_sense(plan))
        return err_set(err, MUSTER_EINVALID, "An OCSP answer cannot be made of this.");
    put_tbs(&tbs, ca, by, plan);
    int rc = tbs.failed ? err_set(err, MUSTER_EINTERNAL, "An OCSP answer is longer than %d bytes.", TBS_MAX) : key_sign(by->key, der_written(&tbs), &signature, err);
    if (rc)
        return rc;
    const size_t all = der_end(&w);
    der_put(&w, by->cert);
    der_wrap(&w, DER_SEQUENCE, all);
    der_wrap(&w, DER_CONTEXT(0), all);
    der_bits(&w, buf_span(&signature));
    der_put(&w, ECDSA_WITH_SHA256);
    der_put(&w, der_written(&tbs));
    der_wrap(&w, DER_SEQUENCE, all);
    der_wrap(&w, DER_OCTET_STRING, all);
    der_put(&w, ID_BASIC);
    der_wrap(&w, DER_SEQUENCE, all);
    der_wrap(&w, DER_CONTEXT(0), all);
    der_element(&w, DER_ENUMERATED, DER_BYTES(OCSP_SUCCESSFUL));
    der_wrap(&w, DER_SEQUENCE, all);
    if (w.failed)
        return err_set(err, MUSTER_EINTERNAL, "An OCSP answer does not fit.");
    buf_add(der, der_written(&w));
    return buf_check(der, err);
}

void ocsp_error(enum ocsp_answer why, uint8_t out[OCSP_ERROR_LEN]) { memcpy(out, (const uint8_t[OCSP_ERROR_LEN]){0x30, 3, DER_ENUMERATED, 1, (uint8_t)why}, OCSP_ERROR_LEN); }
