/* pki: what the files of this layer share: cleanups of libcrypto's types and two small helpers.  Nobody else includes it. */
#ifndef MUSTER_PKI_PKI_H
#define MUSTER_PKI_PKI_H

#include <openssl/bio.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"

DEFINE_CLEANUP(BIO_free_all, BIO *)
DEFINE_CLEANUP(X509_free, X509 *)
DEFINE_CLEANUP(EVP_MD_CTX_free, EVP_MD_CTX *)
DEFINE_CLEANUP(GENERAL_NAMES_free, GENERAL_NAMES *)

/* What was written to a memory BIO. */
static inline struct span bio_span(BIO *b) {
    char *p = NULL;
    long n = BIO_get_mem_data(b, &p);
    return span_of(p, n > 0 ? (size_t)n : 0);
}

/* The one value of an attribute of a name, by the rules of cert_device_id; `of` is what has the name ("certificate"), `where` how errors call the attribute. */
int pki_name_value(const X509_NAME *name, int nid, const char *of, const char *where, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

/* Fills an empty name, in the order C, ST, L, O, OU, serialNumber, CN; empty values are left out. */
struct subject;
int pki_name_fill(X509_NAME *name, const struct subject *s, struct err *err) MUSTER_MUST_CHECK;

/* SHA-256, fetched once: an implicit fetch costs more than hashing a certificate. */
const EVP_MD *pki_sha256(void);

#endif
