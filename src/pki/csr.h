/* csr: requests for a certificate (PKCS#10, RFC 2986), read and made.  Of what a request asks for, Muster takes the public key and the device ID
 * and nothing else: extensions come from the profile of whoever signs. */
#ifndef MUSTER_PKI_CSR_H
#define MUSTER_PKI_CSR_H

#include <openssl/x509.h>

#include "pki/key.h"
#include "pki/subject.h"

struct csr {
    X509_REQ *r;          /* owned */
    struct key_facts key; /* acceptable */
};

/* The one request of a PEM or DER file, at most 16 KiB of DER: its signature is its own key's, by a hash that is strong enough, and the key is
 * acceptable; else MUSTER_ECSR with what is wrong.  A private key in the file is refused with a text that says so. */
int csr_from_file(struct span file, struct csr **out, struct err *err) MUSTER_MUST_CHECK;
/* The same of DER alone, without key_check_prime() (key_weak.h). */
int csr_from_der(struct span der, struct csr **out, struct err *err) MUSTER_MUST_CHECK;
/* For whom the key is made by somebody else (RFC 7030, 4.4.1): key and signature of the request are not looked at, and ->key is empty. */
int csr_from_der_unsigned(struct span der, struct csr **out, struct err *err) MUSTER_MUST_CHECK;
void csr_free(struct csr *c);
/* Exactly one subject CN, by the rules of cert_device_id (MUSTER_EIDNONE, _EIDSEVERAL, _EIDUNDECODABLE). */
int csr_device_id(const struct csr *c, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
/* Whether its subject has one O and one OU, and they are these. */
bool csr_is_of(const struct csr *c, struct span organisation, struct span organisational_unit);
/* SubjectPublicKeyInfo. */
int csr_public_der(const struct csr *c, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

struct csr_request {
    struct subject subject;
    const char *const *uris; /* NULL-terminated, or NULL: SAN uniformResourceIdentifier */
    const char *const *dns;  /* likewise dNSName */
};
/* Appends the request in PEM, signed with `key` (SHA-256; P-384 SHA-384). */
int csr_make(const struct csr_request *rq, EVP_PKEY *key, struct buf *pem, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(csr_free, struct csr *)

#endif
