/* cert: see cert.h.  Values of names are device_id.c's. */
#include "pki/cert.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/clock.h"
#include "base/hex.h"
#include "pki/library.h"
#include "pki/pki.h"

#define FILE_MAX (1024 * 1024)

static int time_of(const ASN1_TIME *t, int64_t *out) {
    struct tm tm;
    if (ASN1_TIME_to_tm(t, &tm) != 1)
        return MUSTER_ECERTMALFORMED;
    *out = clock_from_civil(tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    return 0;
}

static int fill_key(struct cert *c) {
    unsigned char *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(c->x), &der);
    if (n <= 0)
        return MUSTER_ECERTMALFORMED;
    struct span spki = span_of(der, (size_t)n);
    EVP_PKEY *key = X509_get0_pubkey(c->x); /* NULL: of a kind that libcrypto does not know */
    const bool plain = key && key_is_p256_der(spki); /* no encoder has to say so */
    if (plain || !key || key_facts(key, &c->key, NULL)) {
        c->key = plain ? (struct key_facts){.kind = KEY_P256, .bits = 256} : (struct key_facts){.kind = KEY_OTHER};
        hash_of(spki, &c->key.spki);
    }
    OPENSSL_free(der);
    ERR_clear_error();
    return 0;
}

int cert_fingerprint(const X509 *x, struct hash *out) {
    unsigned int n = sizeof out->b;
    return X509_digest(x, pki_sha256(), out->b, &n) == 1 ? 0 : MUSTER_ECERTMALFORMED;
}

static int fill(struct cert *c, struct err *err) {
    if (cert_fingerprint(c->x, &c->fingerprint))
        return pki_err(err, MUSTER_ECERTMALFORMED, "Reading a certificate");
    if (time_of(X509_get0_notBefore(c->x), &c->not_before) || time_of(X509_get0_notAfter(c->x), &c->not_after))
        return err_set(err, MUSTER_ECERTMALFORMED, "The certificate's validity cannot be read.");
    if (fill_key(c))
        return pki_err(err, MUSTER_ECERTMALFORMED, "Reading a certificate's public key");
    /* Decodes the extensions. What is wrong with them is chain.c's to say, with the name of the certificate. */
    X509_check_purpose(c->x, -1, 0);
    int ca = X509_check_ca(c->x);
    c->ca = ca == 1 || ca == 3;
    c->self_signed = X509_self_signed(c->x, 1) == 1;
    ERR_clear_error();
    return 0;
}

int cert_from_x509(X509 *x, struct cert **out, struct err *err) {
    struct cert *c = calloc(1, sizeof *c);
    if (!c || X509_up_ref(x) != 1) {
        free(c);
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    c->x = x;
    int rc = fill(c, err);
    if (rc) {
        cert_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

int cert_from_x509_known(X509 *x, const struct cert *facts, struct cert **out) {
    struct cert *c = malloc(sizeof *c);
    if (!c || X509_up_ref(x) != 1) {
        free(c);
        return MUSTER_ENOMEM;
    }
    *c = *facts;
    c->x = x;
    *out = c;
    return 0;
}

static X509 *read_in(OSSL_LIB_CTX *library, struct span der, const unsigned char **end) {
    X509 *x = X509_new_ex(library, NULL);
    *end = der.p;
    return x && d2i_X509(&x, end, (long)der.n) ? x : NULL; /* d2i frees it where it fails */
}

int cert_from_der(struct span der, struct cert **out, struct err *err) {
    if (der.n == 0 || der.n > CERT_DER_MAX)
        return err_set(err, MUSTER_ECERTMALFORMED, "The certificate has %zu bytes; at most %d are accepted.", der.n, CERT_DER_MAX);
    const unsigned char *p;
    CLEANUP(X509_free) X509 *x = read_in(pki_library(), der, &p);
    if (x && !X509_get0_pubkey(x)) { /* of a kind that nobody is let in with: whoever is refused is told which */
        X509_free(x);
        x = read_in(NULL, der, &p);
    }
    if (!x)
        return pki_err(err, MUSTER_ECERTMALFORMED, "Reading a certificate");
    if (p != der.p + der.n)
        return err_set(err, MUSTER_ECERTMALFORMED, "Bytes follow the certificate.");
    return cert_from_x509(x, out, err);
}

int cert_from_der_next(struct span *all, struct cert **out, struct err *err) {
    const unsigned char *p = all->p;
    CLEANUP(X509_free) X509 *x = all->n <= LONG_MAX ? d2i_X509(NULL, &p, (long)all->n) : NULL;
    if (!x)
        return pki_err(err, MUSTER_ECERTMALFORMED, "Reading a certificate");
    int rc = cert_from_x509(x, out, err);
    if (!rc)
        *all = span_sub(*all, (size_t)(p - all->p), all->n - (size_t)(p - all->p));
    return rc;
}

/* One block of a PEM file: 1 and *out, 0 at the end. */
static int next_pem(BIO *bio, struct cert **out, struct err *err) {
    char *name = NULL, *header = NULL;
    unsigned char *data = NULL;
    long n = 0;
    if (PEM_read_bio(bio, &name, &header, &data, &n) != 1) {
        bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
        return end ? (ERR_clear_error(), 0) : pki_err(err, MUSTER_EINVALID, "Reading a PEM file");
    }
    int rc;
    if (strstr(name, "PRIVATE KEY"))
        rc = err_set(err, MUSTER_EINVALID, "The file holds a private key, which must never be sent anywhere; take the certificate alone.");
    else if (strcmp(name, "CERTIFICATE") == 0 || strcmp(name, "X509 CERTIFICATE") == 0)
        rc = cert_from_der(span_of(data, (size_t)n), out, err);
    else
        rc = err_set(err, MUSTER_EINVALID, "The file holds a block that is not a certificate.");
    OPENSSL_clear_free(data, (size_t)n);
    OPENSSL_free(name);
    OPENSSL_free(header);
    return rc ? rc : 1;
}

static void free_all(struct cert **certs, size_t n) {
    for (size_t i = 0; i < n; i++)
        cert_free(TAKE(certs[i]));
}

static int read_pem(struct span file, struct cert **out, size_t max, size_t *n, struct err *err) {
    CLEANUP(BIO_free_all) BIO *bio = BIO_new_mem_buf(file.p, (int)file.n);
    if (!bio)
        return err_set(err, MUSTER_ENOMEM, NULL);
    *n = 0;
    for (;;) {
        struct cert *c = NULL;
        int rc = next_pem(bio, &c, err);
        if (rc == 0)
            return *n ? 0 : err_set(err, MUSTER_EINVALID, "The file holds no certificate.");
        if (rc > 0 && *n == max) {
            cert_free(c);
            rc = err_set(err, MUSTER_EINVALID, "The file holds more than %zu certificate%s.", max, max == 1 ? "" : "s");
        }
        if (rc < 0) {
            free_all(out, *n);
            return rc;
        }
        out[(*n)++] = c;
    }
}

int cert_chain_from_file(struct span file, struct cert **out, size_t max, size_t *n, struct err *err) {
    if (file.n == 0 || file.n > FILE_MAX || max == 0)
        return err_set(err, MUSTER_EINVALID, "The file cannot be a certificate: it has %zu bytes.", file.n);
    if (span_find(file, SPAN_LIT("-----BEGIN ")) >= 0)
        return read_pem(file, out, max, n, err);
    *n = 1;
    struct err why = ERR_INIT;
    int rc = cert_from_der(file, out, &why);
    return rc ? err_set(err, MUSTER_EINVALID, "The file is neither PEM nor one certificate in DER: %s", err_text(&why)) : 0;
}

int cert_from_file(struct span file, struct cert **out, struct err *err) {
    size_t n = 0;
    return cert_chain_from_file(file, out, 1, &n, err);
}

void cert_free(struct cert *c) {
    if (!c)
        return;
    X509_free(c->x);
    free(c);
}

int cert_der(const struct cert *c, struct buf *out) {
    unsigned char *der = NULL;
    int n = i2d_X509(c->x, &der);
    if (n <= 0)
        return MUSTER_ENOMEM;
    buf_add(out, span_of(der, (size_t)n));
    OPENSSL_free(der);
    return buf_check(out, NULL);
}

int cert_pem(const struct cert *c, struct buf *out) {
    CLEANUP(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());
    if (!bio || PEM_write_bio_X509(bio, c->x) != 1)
        return MUSTER_ENOMEM;
    buf_add(out, bio_span(bio));
    return buf_check(out, NULL);
}

static void name_text(const X509_NAME *name, struct buf *out) {
    CLEANUP(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());
    /* UTF-8 as it is; control characters and RFC 2253's specials escaped. */
    if (bio && X509_NAME_print_ex(bio, name, 0, (XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) | ASN1_STRFLGS_UTF8_CONVERT) >= 0)
        buf_add(out, bio_span(bio));
    ERR_clear_error();
}

void cert_subject_text(const struct cert *c, struct buf *out) { name_text(X509_get_subject_name(c->x), out); }
void cert_issuer_text(const struct cert *c, struct buf *out) { name_text(X509_get_issuer_name(c->x), out); }

void cert_serial_hex(const struct cert *c, struct buf *out) {
    const ASN1_INTEGER *serial = X509_get0_serialNumber(c->x);
    if (ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER)
        buf_addc(out, '-');
    hex_add(out, span_of(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial)));
}

void cert_ski_hex(const struct cert *c, struct buf *out) {
    const ASN1_OCTET_STRING *ski = X509_get0_subject_key_id(c->x);
    if (ski)
        hex_add(out, span_of(ASN1_STRING_get0_data(ski), (size_t)ASN1_STRING_length(ski)));
}

bool cert_allows_client(const struct cert *c) {
    uint32_t flags = X509_get_extension_flags(c->x);
    if ((flags & EXFLAG_KUSAGE) && !(X509_get_key_usage(c->x) & (KU_DIGITAL_SIGNATURE | KU_KEY_AGREEMENT)))
        return false;
    return !(flags & EXFLAG_XKUSAGE) || (X509_get_extended_key_usage(c->x) & (XKU_SSL_CLIENT | XKU_ANYEKU));
}

bool cert_signed_by(const struct cert *c, const struct cert *issuer) {
    EVP_PKEY *key = X509_get0_pubkey(issuer->x);
    bool ok = key && X509_verify(c->x, key) == 1;
    ERR_clear_error();
    return ok;
}
