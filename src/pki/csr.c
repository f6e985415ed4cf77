/* csr: see csr.h. */
#include "pki/csr.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "pki/library.h"
#include "pki/key_weak.h"
#include "pki/pki.h"

#define DER_MAX (16 * 1024)
#define FILE_MAX (1024 * 1024)
#define SAN_MAX 255 /* bytes of a name */

DEFINE_CLEANUP(X509_REQ_free, X509_REQ *)
DEFINE_CLEANUP(GENERAL_NAME_free, GENERAL_NAME *)
static inline void extensions_free(STACK_OF(X509_EXTENSION) *s) { sk_X509_EXTENSION_pop_free(s, X509_EXTENSION_free); }
DEFINE_CLEANUP(extensions_free, STACK_OF(X509_EXTENSION) *)

/* --- reading ---------------------------------------------------------------------------------------------------------------- */

static int wrong(struct err *err, const char *what) { return err_set(err, MUSTER_ECSR, "The request cannot be signed: %s.", what); }

/* The signature shows that whoever asks has the key.  With a hash that can be forged it shows nothing. */
static int check_signature(X509_REQ *r, EVP_PKEY *key, struct err *err) {
    int hash = NID_undef;
    if (OBJ_find_sigid_algs(X509_REQ_get_signature_nid(r), &hash, NULL) != 1)
        return wrong(err, "the kind of its signature is not known");
    if (hash == NID_md5 || hash == NID_sha1 || hash == NID_md4 || hash == NID_md5_sha1)
        return wrong(err, "its signature uses a hash that is too weak (SHA-256 is good)");
    if (X509_REQ_verify(r, key) == 1)
        return 0;
    ERR_clear_error();
    return wrong(err, "its signature is not its own key's, or it was changed");
}

static X509_REQ *read_in(OSSL_LIB_CTX *library, struct span der, const unsigned char **end) {
    X509_REQ *r = X509_REQ_new_ex(library, NULL);
    *end = der.p;
    return r && d2i_X509_REQ(&r, end, (long)der.n) ? r : NULL; /* d2i frees it where it fails */
}

static int parse(struct span der, X509_REQ **out, struct err *err) {
    if (der.n == 0 || der.n > DER_MAX)
        return err_set(err, MUSTER_ECSR, "The request has %zu bytes; at most %d are accepted.", der.n, DER_MAX);
    const unsigned char *p;
    CLEANUP(X509_REQ_free) X509_REQ *r = read_in(pki_library(), der, &p);
    if (r && !X509_REQ_get0_pubkey(r)) { /* of a kind that is refused, with its name */
        X509_REQ_free(r);
        r = read_in(NULL, der, &p);
    }
    if (!r)
        return pki_err(err, MUSTER_ECSR, "Reading a request");
    if (p != der.p + der.n)
        return wrong(err, "bytes follow it");
    *out = TAKE(r);
    return 0;
}

static int csr_new(X509_REQ *r, const struct key_facts *facts, struct csr **out, struct err *err) {
    struct csr *c = calloc(1, sizeof *c);
    if (!c) {
        X509_REQ_free(r);
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    *c = (struct csr){.r = r, .key = *facts};
    *out = c;
    return 0;
}

int csr_from_der_unsigned(struct span der, struct csr **out, struct err *err) {
    static const struct key_facts none;
    X509_REQ *r = NULL;
    int rc = parse(der, &r, err);
    ERR_clear_error(); /* of a key that cannot be read */
    return rc ? rc : csr_new(r, &none, out, err);
}

static int check_prime(const EVP_PKEY *key, const struct key_facts *facts, struct err *err) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(DER_MAX);
    int rc = facts->kind == KEY_RSA ? key_public_der(key, &der, err) : 0;
    return rc ? rc : key_check_prime(buf_span(&der), facts, err);
}

/* dear: with what takes long. */
static int read_der(struct span der, bool dear, struct csr **out, struct err *err) {
    CLEANUP(X509_REQ_free) X509_REQ *r = NULL;
    int rc = parse(der, &r, err);
    if (rc)
        return rc;
    EVP_PKEY *key = X509_REQ_get0_pubkey(r);
    struct key_facts facts;
    struct err weak = ERR_INIT;
    if (!key || key_facts(key, &facts, NULL)) {
        ERR_clear_error();
        return wrong(err, "its public key cannot be read");
    }
    if (key_acceptable(&facts, &weak) || key_weak_fault(key, &facts, &weak))
        return err_set(err, MUSTER_ECSR, "The request cannot be signed: %s", err_text(&weak));
    if ((rc = check_signature(r, key, err)) || (dear && (rc = check_prime(key, &facts, err))))
        return rc;
    return csr_new(TAKE(r), &facts, out, err);
}

int csr_from_der(struct span der, struct csr **out, struct err *err) { return read_der(der, false, out, err); }

static int from_pem(struct span file, struct csr **out, struct err *err) {
    CLEANUP(BIO_free_all) BIO *bio = BIO_new_mem_buf(file.p, (int)file.n);
    char *name = NULL, *header = NULL;
    unsigned char *data = NULL;
    long n = 0;
    if (!bio)
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (PEM_read_bio(bio, &name, &header, &data, &n) != 1)
        return pki_err(err, MUSTER_ECSR, "Reading a PEM file");
    int rc;
    if (strstr(name, "PRIVATE KEY"))
        rc = wrong(err, "the file holds a private key, which stays on the device; take the request alone");
    else if (strcmp(name, PEM_STRING_X509_REQ) && strcmp(name, PEM_STRING_X509_REQ_OLD))
        rc = wrong(err, "the file holds something else than a certificate request");
    else
        rc = read_der(span_of(data, (size_t)n), true, out, err);
    OPENSSL_clear_free(data, (size_t)n);
    OPENSSL_free(name);
    OPENSSL_free(header);
    return rc;
}

int csr_from_file(struct span file, struct csr **out, struct err *err) {
    if (file.n == 0 || file.n > FILE_MAX)
        return err_set(err, MUSTER_ECSR, "The file cannot be a request: it has %zu bytes.", file.n);
    long first = span_find(file, SPAN_LIT("-----BEGIN "));
    if (first < 0)
        return read_der(file, true, out, err);
    if (span_find(span_sub(file, (size_t)first + 11, file.n), SPAN_LIT("-----BEGIN ")) >= 0)
        return wrong(err, "the file holds more than one block");
    return from_pem(file, out, err);
}

void csr_free(struct csr *c) {
    if (!c)
        return;
    X509_REQ_free(c->r);
    free(c);
}

int csr_device_id(const struct csr *c, struct buf *out, struct err *err) {
    return pki_name_value(X509_REQ_get_subject_name(c->r), NID_commonName, "request", "subject CN", out, err);
}

static bool subject_is(X509_NAME *name, int nid, struct span is) {
    int at = X509_NAME_get_index_by_NID(name, nid, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(name, nid, at) >= 0)
        return false;
    const ASN1_STRING *s = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
    return span_eq(span_of(ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s)), is);
}

bool csr_is_of(const struct csr *c, struct span organisation, struct span organisational_unit) {
    X509_NAME *name = X509_REQ_get_subject_name(c->r);
    return subject_is(name, NID_organizationName, organisation) && subject_is(name, NID_organizationalUnitName, organisational_unit);
}

int csr_public_der(const struct csr *c, struct buf *out, struct err *err) {
    return key_public_der(X509_REQ_get0_pubkey(c->r), out, err);
}

/* --- making ----------------------------------------------------------------------------------------------------------------- */

static int push_names(GENERAL_NAMES *names, int type, const char *const *values, struct err *err) {
    for (size_t i = 0; values && values[i]; i++) {
        struct span value = span_str(values[i]);
        bool good = value.n > 0 && value.n <= SAN_MAX;
        for (size_t k = 0; k < value.n; k++)
            good = good && value.p[k] > 0x20 && value.p[k] < 0x7f; /* IA5String, and no blanks in either kind of name */
        if (!good)
            return err_set(err, MUSTER_EINVALID, "A %s for subjectAltName has 1 to %d ASCII characters without blanks.", type == GEN_URI ? "URI" : "DNS name", SAN_MAX);
        CLEANUP(GENERAL_NAME_free) GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_IA5STRING *text = ASN1_IA5STRING_new();
        if (!name || !text || ASN1_STRING_set(text, value.p, (int)value.n) != 1) {
            ASN1_IA5STRING_free(text);
            return err_set(err, MUSTER_ENOMEM, NULL);
        }
        GENERAL_NAME_set0_value(name, type, text);
        if (sk_GENERAL_NAME_push(names, name) <= 0)
            return err_set(err, MUSTER_ENOMEM, NULL);
        name = NULL;
    }
    return 0;
}

static int add_san(X509_REQ *r, const struct csr_request *rq, struct err *err) {
    CLEANUP(GENERAL_NAMES_free) GENERAL_NAMES *names = GENERAL_NAMES_new();
    CLEANUP(extensions_free) STACK_OF(X509_EXTENSION) *extensions = NULL;
    if (!names)
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = push_names(names, GEN_URI, rq->uris, err);
    if (rc || (rc = push_names(names, GEN_DNS, rq->dns, err)) || sk_GENERAL_NAME_num(names) == 0)
        return rc;
    if (X509V3_add1_i2d(&extensions, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) != 1 || X509_REQ_add_extensions(r, extensions) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Building a request");
    return 0;
}

int csr_make(const struct csr_request *rq, EVP_PKEY *key, struct buf *pem, struct err *err) {
    CLEANUP(X509_REQ_free) X509_REQ *r = X509_REQ_new();
    CLEANUP(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());
    struct key_facts facts;
    if (!r || !bio)
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = key_facts(key, &facts, err);
    if (rc || (rc = pki_name_fill(X509_REQ_get_subject_name(r), &rq->subject, err)) || (rc = add_san(r, rq, err)))
        return rc;
    const EVP_MD *md = facts.kind == KEY_ED25519 ? NULL : facts.kind == KEY_P384 ? EVP_sha384() : pki_sha256();
    if (X509_REQ_set_version(r, X509_REQ_VERSION_1) != 1 || X509_REQ_set_pubkey(r, key) != 1 || X509_REQ_sign(r, key, md) <= 0 || PEM_write_bio_X509_REQ(bio, r) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Building a request");
    buf_add(pem, bio_span(bio));
    return buf_check(pem, err);
}
