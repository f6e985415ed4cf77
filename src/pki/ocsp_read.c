/* ocsp_read: see ocsp_read.h. */
#include "pki/ocsp_read.h"

#include "pki/der.h"
#include "pki/der_read.h"

#define SHA1 DER_BYTES(0x2b, 0x0e, 0x03, 0x02, 0x1a)
#define SHA256 DER_BYTES(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01)
#define ID_NONCE DER_BYTES(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02)
#define PARAMETERS_NULL DER_BYTES(0x05, 0x00)

/* --- CertID ------------------------------------------------------------------------------------------------------------------------------ */

static enum ocsp_hash hash_of_oid(struct span oid, size_t *length) {
    if (span_eq(oid, SHA1)) {
        *length = 20;
        return OCSP_SHA1;
    }
    *length = 32;
    return span_eq(oid, SHA256) ? OCSP_SHA256 : OCSP_OTHER;
}

static bool take_id(struct span id, struct ocsp_id *out) {
    struct span algorithm, oid;
    size_t length;
    if (!der_take(&id, DER_SEQUENCE, &algorithm) || !der_take(&algorithm, DER_OID, &oid) || !der_take(&id, DER_OCTET_STRING, &out->name) ||
        !der_take(&id, DER_OCTET_STRING, &out->key) || !der_take_integer(&id, &out->serial) || id.n || out->serial.n > OCSP_SERIAL_MAX)
        return false;
    out->hash = hash_of_oid(oid, &length);
    out->null = span_eq(algorithm, PARAMETERS_NULL);
    if (out->name.n != length || out->key.n != length || (algorithm.n && !out->null))
        out->hash = OCSP_OTHER; /* of no CA */
    return true;
}

/* --- extensions -------------------------------------------------------------------------------------------------------------------------- */

static bool take_critical(struct span *extension, bool *critical) {
    struct span value;
    *critical = false;
    if (!der_next_is(*extension, DER_BOOLEAN))
        return true;
    if (!der_take(extension, DER_BOOLEAN, &value) || value.n != 1 || (value.p[0] != 0 && value.p[0] != 0xff))
        return false;
    *critical = value.p[0] != 0;
    return true;
}

/* RFC 8954, 2.1: a nonce of no byte, or of more than 32, makes the request malformed. */
static bool take_nonce(struct span value, struct ocsp_request *out) {
    return !out->nonce.p && der_take(&value, DER_OCTET_STRING, &out->nonce) && value.n == 0 && out->nonce.n >= 1 && out->nonce.n <= OCSP_NONCE_MAX;
}

/* The SEQUENCE OF Extension inside an explicit tag.  request NULL: of one certificate, where none is known. */
static bool take_extensions(struct span tagged, struct ocsp_request *request) {
    struct span all, one, oid, value;
    bool critical;
    if (!der_take(&tagged, DER_SEQUENCE, &all) || tagged.n || !all.n)
        return false;
    while (all.n) {
        if (!der_take(&all, DER_SEQUENCE, &one) || !der_take(&one, DER_OID, &oid) || !take_critical(&one, &critical) || !der_take(&one, DER_OCTET_STRING, &value) || one.n)
            return false;
        if (request && span_eq(oid, ID_NONCE) ? !take_nonce(value, request) : critical)
            return false;
    }
    return true;
}

/* --- the request -------------------------------------------------------------------------------------------------------------------------- */

static bool take_list(struct span list, struct ocsp_request *out) {
    while (list.n) {
        struct span one, id, extensions;
        if (out->n == OCSP_SINGLES_MAX || !der_take(&list, DER_SEQUENCE, &one) || !der_take(&one, DER_SEQUENCE, &id) || !take_id(id, &out->at[out->n]))
            return false;
        if (one.n && (!der_take(&one, DER_CONTEXT(0), &extensions) || one.n || !take_extensions(extensions, NULL)))
            return false;
        out->n++;
    }
    return out->n > 0;
}

/* Version 1 is the default; who writes it all the same means nothing else. */
static bool take_version(struct span *tbs) {
    struct span tagged, version;
    if (!der_next_is(*tbs, DER_CONTEXT(0)))
        return true;
    return der_take(tbs, DER_CONTEXT(0), &tagged) && der_take_integer(&tagged, &version) && tagged.n == 0 && version.n == 1 && version.p[0] == 0;
}

static bool take_tbs(struct span tbs, struct ocsp_request *out) {
    struct span requestor, list, extensions;
    if (!take_version(&tbs) || (der_next_is(tbs, DER_CONTEXT(1)) && !der_take(&tbs, DER_CONTEXT(1), &requestor)) || !der_take(&tbs, DER_SEQUENCE, &list) || !take_list(list, out))
        return false;
    return tbs.n == 0 || (der_take(&tbs, DER_CONTEXT(2), &extensions) && tbs.n == 0 && take_extensions(extensions, out));
}

int ocsp_request_read(struct span der, struct ocsp_request *out, struct err *err) {
    struct span whole, tbs, signature;
    *out = (struct ocsp_request){.n = 0};
    bool good = der.n <= OCSP_REQUEST_MAX && der_take(&der, DER_SEQUENCE, &whole) && der.n == 0 && der_take(&whole, DER_SEQUENCE, &tbs) && take_tbs(tbs, out) &&
                (whole.n == 0 || (der_take(&whole, DER_CONTEXT(0), &signature) && whole.n == 0));
    return good ? 0 : err_set(err, MUSTER_EINVALID, "That is no OCSP request.");
}
