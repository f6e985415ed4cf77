/* revocation_file: see revocation_file.h. */
#include "pki/revocation_file.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/clock.h"

struct revocation_file {
    X509_CRL *x[REVOCATION_FILE_LISTS];
    size_t n;
};

DEFINE_CLEANUP(BIO_free, BIO *)

void revocation_file_free(struct revocation_file *c) {
    for (size_t i = 0; c && i < c->n; i++)
        X509_CRL_free(c->x[i]);
    free(c);
}

static int bad(struct err *err, const char *what) { return err_set(err, MUSTER_EINVALID, "The revocation list cannot be taken: %s.", what); }

/* Takes x over. */
static int add(struct revocation_file *c, X509_CRL *x, struct err *err) {
    if (c->n == REVOCATION_FILE_LISTS) {
        X509_CRL_free(x);
        return bad(err, "there are more than 64 in the file");
    }
    c->x[c->n++] = x;
    if (X509_CRL_get_ext_by_NID(x, NID_delta_crl, -1) >= 0)
        return bad(err, "it is a delta, which tells a part alone");
    return X509_CRL_get_ext_by_critical(x, 1, -1) >= 0 ? bad(err, "it has a critical extension") : 0;
}

static int read_pem(struct revocation_file *c, struct span file, struct err *err) {
    CLEANUP(BIO_free) BIO *in = BIO_new_mem_buf(file.p, (int)file.n);
    X509_CRL *x;
    int rc = 0;
    while (!rc && in && (x = PEM_read_bio_X509_CRL(in, NULL, NULL, NULL)))
        rc = add(c, x, err);
    /* At its end the reader says that nothing begins any more; anything else is a list that cannot be read. */
    bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    return rc || end ? rc : bad(err, "one of them cannot be read");
}

static int read_der(struct revocation_file *c, struct span file, struct err *err) {
    const unsigned char *p = file.p;
    X509_CRL *x = d2i_X509_CRL(NULL, &p, (long)file.n);
    ERR_clear_error();
    int rc = x ? add(c, x, err) : 0;
    return rc || !x || p == file.p + file.n ? rc : bad(err, "something stands behind it");
}

int revocation_file_read(struct span file, struct revocation_file **out, struct err *err) {
    CLEANUP(revocation_file_free) struct revocation_file *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (file.n == 0 || file.n > REVOCATION_FILE_MAX)
        return bad(err, "it is empty, or longer than 16 MiB");
    int rc = file.p[0] == 0x30 ? read_der(c, file, err) : read_pem(c, file, err);
    if (rc)
        return rc;
    if (!c->n)
        return bad(err, "it is no CRL in PEM or DER");
    *out = TAKE(c);
    return 0;
}

size_t revocation_file_lists(const struct revocation_file *c) { return c->n; }

bool revocation_file_is_of(const struct revocation_file *c, size_t i, const struct cert *ca) {
    EVP_PKEY *key = X509_get0_pubkey(ca->x);
    bool yes = key && X509_NAME_cmp(X509_CRL_get_issuer(c->x[i]), X509_get_subject_name(ca->x)) == 0 && X509_CRL_verify(c->x[i], key) == 1;
    ERR_clear_error();
    return yes;
}

bool revocation_file_key_id(const struct revocation_file *c, size_t i, uint8_t out[CRL_KEY_ID_LEN]) {
    AUTHORITY_KEYID *id = X509_CRL_get_ext_d2i(c->x[i], NID_authority_key_identifier, NULL, NULL);
    bool there = id && id->keyid && ASN1_STRING_length(id->keyid) == CRL_KEY_ID_LEN;
    if (there)
        memcpy(out, ASN1_STRING_get0_data(id->keyid), CRL_KEY_ID_LEN);
    AUTHORITY_KEYID_free(id);
    ERR_clear_error();
    return there;
}

static bool is_weak(int signature) {
    int hash = NID_undef;
    if (!OBJ_find_sigid_algs(signature, &hash, NULL))
        return true;
    return hash == NID_md5 || hash == NID_sha1 || hash == NID_md4 || hash == NID_md2 || hash == NID_ripemd160;
}

/* *out as it is where there is none. */
static int take_time(const ASN1_TIME *t, int64_t *out) {
    struct tm tm;
    if (!t)
        return 0;
    if (ASN1_TIME_to_tm(t, &tm) != 1)
        return MUSTER_EINVALID;
    *out = clock_from_civil(tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    return 0;
}

static bool take_number(const X509_CRL *x, struct revocation_file_facts *out) {
    int found = 0;
    ASN1_INTEGER *number = X509_CRL_get_ext_d2i(x, NID_crl_number, &found, NULL);
    const size_t n = number ? (size_t)ASN1_STRING_length(number) : 0;
    bool good = number ? ASN1_STRING_type(number) == V_ASN1_INTEGER && n >= 1 && n <= sizeof out->number : found == -1; /* -1: there is none */
    if (good && number) {
        memcpy(out->number, ASN1_STRING_get0_data(number), n);
        out->number_n = n;
    }
    ASN1_INTEGER_free(number);
    return good;
}

int revocation_file_facts(const struct revocation_file *c, size_t i, struct revocation_file_facts *out, struct err *err) {
    unsigned char *der = NULL;
    const X509_CRL *x = c->x[i];
    *out = (struct revocation_file_facts){.weak = is_weak(X509_CRL_get_signature_nid(x))};
    bool good = take_number(x, out) && X509_CRL_get0_lastUpdate(x) && !take_time(X509_CRL_get0_lastUpdate(x), &out->this_update) && !take_time(X509_CRL_get0_nextUpdate(x), &out->next_update);
    int n = i2d_X509_CRL((X509_CRL *)x, &der);
    ERR_clear_error();
    if (n > 0)
        hash_of(span_of(der, (size_t)n), &out->hash);
    OPENSSL_free(der);
    return good && n > 0 ? 0 : bad(err, "its number or its dates cannot be read");
}

static STACK_OF(X509_REVOKED) *entries_of(const struct revocation_file *c, size_t i) { return X509_CRL_get_REVOKED(c->x[i]); } /* NULL: none */

size_t revocation_file_entries(const struct revocation_file *c, size_t i) {
    STACK_OF(X509_REVOKED) *all = entries_of(c, i);
    return all ? (size_t)sk_X509_REVOKED_num(all) : 0;
}

int revocation_file_entry_at(const struct revocation_file *c, size_t i, size_t k, struct revocation_file_entry *out, struct err *err) {
    const X509_REVOKED *r = sk_X509_REVOKED_value(entries_of(c, i), (int)k);
    const ASN1_INTEGER *serial = r ? X509_REVOKED_get0_serialNumber(r) : NULL;
    int found = 0;
    if (!serial || ASN1_STRING_type(serial) != V_ASN1_INTEGER || ASN1_STRING_length(serial) < 1 || ASN1_STRING_length(serial) > REVOCATION_FILE_SERIAL_MAX)
        return bad(err, "an entry has no serial number of a certificate");
    if (X509_REVOKED_get_ext_by_critical(r, 1, -1) >= 0)
        return bad(err, "an entry has a critical extension");
    ASN1_ENUMERATED *reason = X509_REVOKED_get_ext_d2i(r, NID_crl_reason, &found, NULL);
    long number = reason ? ASN1_ENUMERATED_get(reason) : found == -1 ? REVOCATION_FILE_UNSPECIFIED : -1; /* found -1: there is none */
    ASN1_ENUMERATED_free(reason);
    ERR_clear_error();
    if (number < 0 || number > 10)
        return bad(err, "an entry has no reason of RFC 5280");
    *out = (struct revocation_file_entry){.serial = span_of(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial)), .reason = (int)number};
    return 0;
}
