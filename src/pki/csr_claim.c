/* csr_claim: see csr_claim.h. */
#include "pki/csr_claim.h"

#include <openssl/err.h>

#include "pki/csr.h"
#include "pki/csr_fast.h"
#include "pki/device_uri.h"
#include "pki/pki.h"

#define NAMES_MAX 16    /* in subjectAltName */
#define NAME_SHOWN 100  /* bytes of a name in an error */

static inline void extensions_free(STACK_OF(X509_EXTENSION) *s) { sk_X509_EXTENSION_pop_free(s, X509_EXTENSION_free); }
DEFINE_CLEANUP(extensions_free, STACK_OF(X509_EXTENSION) *)
DEFINE_CLEANUP(ASN1_OBJECT_free, ASN1_OBJECT *)

void csr_claim_fini(struct csr_claim *c) {
    buf_fini(&c->public_der);
    buf_fini(&c->device_id);
    buf_fini(&c->other_cn);
}

static int wrong(struct err *err, const char *what) { return err_set(err, MUSTER_ECSR, "The request cannot be signed: %s.", what); }

/* --- names ---------------------------------------------------------------------------------------------------------------------- */

static struct span text_of(const ASN1_STRING *s) { return span_of(ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s)); }

static const ASN1_STRING *text_name(const GENERAL_NAME *name) {
    int kind;
    const void *value = GENERAL_NAME_get0_value(name, &kind);
    return kind == GEN_URI || kind == GEN_DNS ? value : NULL;
}

/* The ID of the one URI that names a device; it stays empty where there is none. */
static int find_urn(GENERAL_NAMES *names, struct buf *id, struct err *err) {
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const ASN1_STRING *value = text_name(sk_GENERAL_NAME_value(names, i));
        struct span text = value ? text_of(value) : SPAN_NONE;
        if (!device_uri_is(text))
            continue;
        if (id->n)
            return wrong(err, "several URIs in its subjectAltName name a device");
        if (device_uri_read(text, id))
            return wrong(err, "the URI in its subjectAltName does not hold a device ID of 1 to 128 bytes of UTF-8, percent-encoded");
    }
    return 0;
}

static int foreign(struct err *err, const char *kind, struct span name) {
    bool shown = name.n && name.n <= NAME_SHOWN && span_is_utf8(name) && !span_has_control(name);
    return err_set(err, MUSTER_ECSR, "The request cannot be signed: it asks for a name that is not its sender's (%s%s%.*s in subjectAltName).", kind, shown ? " " : "", shown ? (int)name.n : 0,
                   (const char *)name.p);
}

static bool stands_in(const X509 *x, int type, struct span text) {
    CLEANUP(GENERAL_NAMES_free) GENERAL_NAMES *names = x ? X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL) : NULL;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        const ASN1_STRING *value = text_name(name);
        if (value && name->type == type && span_eq(text_of(value), text))
            return true;
    }
    return false;
}

/* No name but the device's own, or one that its certificate has. */
static int check_names(GENERAL_NAMES *names, struct span id, const X509 *renews, struct err *err) {
    static const char *const kinds[] = {[GEN_OTHERNAME] = "another name", [GEN_EMAIL] = "an e-mail address", [GEN_DNS] = "the DNS name", [GEN_X400] = "an X.400 address",
                                        [GEN_DIRNAME] = "a directory name", [GEN_EDIPARTY] = "an EDI party", [GEN_URI] = "the URI", [GEN_IPADD] = "an IP address", [GEN_RID] = "a registered ID"};
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        const ASN1_STRING *value = text_name(name);
        struct span text = value ? text_of(value) : SPAN_NONE;
        if (!value || (!device_uri_is(text) && !span_eq(text, id) && !stands_in(renews, name->type, text)))
            return foreign(err, kinds[name->type], text);
    }
    return 0;
}

static int read_names(const struct csr *c, GENERAL_NAMES **out, struct err *err) {
    int critical = -1, first = X509_REQ_get_attr_by_NID(c->r, NID_ext_req, -1);
    if (first >= 0 && X509_REQ_get_attr_by_NID(c->r, NID_ext_req, first) >= 0)
        return wrong(err, "it has the attribute extensionRequest twice");
    CLEANUP(extensions_free) STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(c->r);
    ERR_clear_error();
    *out = extensions ? X509V3_get_d2i(extensions, NID_subject_alt_name, &critical, NULL) : NULL;
    if (!*out && critical == -2)
        return wrong(err, "it asks for the extension subjectAltName twice");
    if (!*out && critical >= 0) {
        ERR_clear_error();
        return wrong(err, "its subjectAltName cannot be decoded");
    }
    if (first >= 0 && !extensions)
        return wrong(err, "its extensionRequest cannot be decoded");
    return sk_GENERAL_NAME_num(*out) > NAMES_MAX ? wrong(err, "it asks for too many names") : 0;
}

/* --- the whole ------------------------------------------------------------------------------------------------------------------- */

/* The subject's CN; empty where there is none. */
static int read_cn(const struct csr *c, struct buf *cn, struct err *err) {
    struct err why = ERR_INIT;
    int rc = csr_device_id(c, cn, &why);
    if (!rc || rc == MUSTER_ENOMEM)
        return rc;
    bool none = rc == MUSTER_EIDNONE && X509_NAME_get_index_by_NID(X509_REQ_get_subject_name(c->r), NID_commonName, -1) < 0;
    return none ? 0 : err_set(err, MUSTER_ECSR, "%s", why.text);
}

static int claim_names(const struct csr *c, struct csr_claim *out, struct err *err) {
    CLEANUP(GENERAL_NAMES_free) GENERAL_NAMES *names = NULL;
    CLEANUP(buf_fini) struct buf cn = BUF_INIT(1024);
    int rc = read_names(c, &names, err);
    if (rc || (rc = read_cn(c, &cn, err)) || (rc = find_urn(names, &out->device_id, err)))
        return rc;
    bool by_urn = out->device_id.n > 0;
    if (!by_urn)
        buf_add(&out->device_id, buf_span(&cn));
    else if (!span_eq(buf_span(&cn), buf_span(&out->device_id)))
        buf_add(&out->other_cn, buf_span(&cn));
    if (!out->device_id.n)
        return wrong(err, "it names no device; the subject's CN has to be the device ID");
    return (rc = check_names(names, buf_span(&out->device_id), out->renews, err)) ? rc : buf_check(&out->device_id, err);
}

static int read_library(struct span der, struct csr_claim *out, struct err *err) {
    CLEANUP(csr_free) struct csr *c = NULL;
    int rc = csr_from_der(der, &c, err);
    if (rc || (rc = claim_names(c, out, err)) || (rc = csr_public_der(c, &out->public_der, err)))
        return rc;
    out->key = c->key;
    return 0;
}

/* RFC 7030, 4.4.1.1 and 4.4.1.2: id-smime-aa-decryptKeyID, id-smime-aa-asymmDecryptKeyID. */
static int asks_for_encryption(const struct csr *c, struct err *err) {
    static const char *const oids[] = {"1.2.840.113549.1.9.16.2.37", "1.2.840.113549.1.9.16.2.54"};
    for (size_t i = 0; i < sizeof oids / sizeof *oids; i++) {
        CLEANUP(ASN1_OBJECT_free) ASN1_OBJECT *o = OBJ_txt2obj(oids[i], 1);
        if (!o)
            return err_set(err, MUSTER_ENOMEM, NULL);
        if (X509_REQ_get_attr_by_OBJ(c->r, o, -1) >= 0)
            return wrong(err, "it asks for a private key that is encrypted beyond TLS, which is not offered");
    }
    return 0;
}

int csr_claim_read_names(struct span der, struct csr_claim *out, struct err *err) {
    CLEANUP(csr_free) struct csr *c = NULL;
    int rc = csr_from_der_unsigned(der, &c, err);
    if (rc || (rc = asks_for_encryption(c, err)))
        return rc;
    return claim_names(c, out, err);
}

int csr_claim_read(struct span der, struct csr_claim *out, struct err *err) {
    struct csr_fast fast;
    if (!csr_fast_read(der, &fast))
        return read_library(der, out, err);
    out->key = fast.key;
    buf_add(&out->public_der, fast.public_der);
    buf_add(&out->device_id, fast.common_name);
    int rc = buf_check(&out->public_der, err);
    return rc ? rc : buf_check(&out->device_id, err);
}
