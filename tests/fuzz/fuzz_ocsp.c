/* OCSP requests, which anybody may send, and certificates as they are read beside them.  What is read lies inside of what came and within its bounds;
 * libcrypto takes it too, and reads the same in it. */
#include <openssl/err.h>
#include <openssl/ocsp.h>

#include "fuzz.h"
#include "pki/der_read.h"
#include "pki/ocsp_read.h"

static bool same(const ASN1_STRING *theirs, struct span ours) { return span_eq(span_of(ASN1_STRING_get0_data(theirs), (size_t)ASN1_STRING_length(theirs)), ours); }

/* libcrypto keeps the magnitude of an INTEGER, and its sign beside it. */
static bool same_serial(const ASN1_INTEGER *theirs, struct span ours) {
    unsigned char *der = NULL;
    int n = i2d_ASN1_INTEGER((ASN1_INTEGER *)theirs, &der);
    bool yes = n == (int)ours.n + 2 && memcmp(der + 2, ours.p, ours.n) == 0;
    OPENSSL_free(der);
    return yes;
}

static void check_one(OCSP_REQUEST *theirs, size_t i, const struct ocsp_id *id, struct span all) {
    ASN1_OCTET_STRING *name, *key;
    ASN1_OBJECT *algorithm;
    ASN1_INTEGER *serial;
    MUST(OCSP_id_get0_info(&name, &algorithm, &key, &serial, OCSP_onereq_get0_id(OCSP_request_onereq_get0(theirs, (int)i))) == 1);
    MUST(same(name, id->name) && same(key, id->key) && same_serial(serial, id->serial));
    MUST(span_inside(id->name, all) && span_inside(id->key, all) && span_inside(id->serial, all) && id->serial.n >= 1 && id->serial.n <= OCSP_SERIAL_MAX);
    const int nid = OBJ_obj2nid(algorithm);
    MUST(id->hash == OCSP_OTHER || nid == (id->hash == OCSP_SHA1 ? NID_sha1 : NID_sha256));
    MUST(id->hash == OCSP_OTHER || (id->name.n == id->key.n && id->name.n == (id->hash == OCSP_SHA1 ? 20 : 32)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const struct span all = span_of(data, n);
    struct ocsp_request rq;
    struct der_certificate cert;
    struct err err = ERR_INIT;
    if (der_certificate_read(all, &cert))
        MUST(cert.serial.n >= 1 && span_inside(cert.serial, all) && span_inside(cert.subject, all) && span_inside(cert.key_bits, all) && span_inside(cert.extensions, all));
    int rc = ocsp_request_read(all, &rq, &err);
    MUST(rc == 0 ? !err.code : rc == MUSTER_EINVALID && err.code == rc);
    if (rc)
        return 0;
    const unsigned char *p = data;
    OCSP_REQUEST *theirs = d2i_OCSP_REQUEST(NULL, &p, (long)n);
    MUST(rq.n >= 1 && rq.n <= OCSP_SINGLES_MAX && rq.nonce.n <= OCSP_NONCE_MAX && span_inside(rq.nonce, all));
    if (theirs) { /* not where a requestor's name, a signature or an OID is none, which we pass over */
        MUST(p == data + n && OCSP_request_onereq_count(theirs) == (int)rq.n);
        for (size_t i = 0; i < rq.n; i++)
            check_one(theirs, i, &rq.at[i], all);
    }
    OCSP_REQUEST_free(theirs);
    ERR_clear_error();
    return 0;
}
